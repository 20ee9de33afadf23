// The few DOM helpers. Elements are made once and changed in place, so that nothing jumps and focus stays.

export const $ = (id) => document.getElementById(id);

export function text(element, value) {
  if (element.textContent !== value) element.textContent = value;
}

export function set(element, name, value) {
  const wanted = value == null || value === false ? null : String(value);
  if (element.getAttribute(name) === wanted) return;
  if (wanted === null) element.removeAttribute(name);
  else element.setAttribute(name, wanted);
}

// make("td", "n") is <td class="n">.
export function make(tag, className = "", ...children) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.append(...children);
  return element;
}

// Bring the children of `parent` in line with `items`: made when new, removed when gone, in the order of the items.
export function each(parent, items, key, create, update) {
  const old = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  let before = parent.firstElementChild;
  for (const item of items) {
    const name = String(key(item));
    let child = old.get(name);
    old.delete(name);
    if (!child) {
      child = create(item);
      child.dataset.key = name;
    }
    if (child === before) before = before.nextElementSibling;
    else parent.insertBefore(child, before);
    update(child, item);
  }
  for (const gone of old.values()) gone.remove();
}

// A part of `root` by its data-part, remembered on it.
export function part(root, name) {
  root.parts ??= {};
  return (root.parts[name] ??= root.querySelector(`[data-part="${name}"]`));
}

// A list row: mark, main line, second line, right-hand text.
export function row() {
  const li = make("li");
  for (const name of ["mark", "main", "side", "sub"]) {
    const span = make("span", name);
    span.dataset.part = name;
    li.append(span);
  }
  return li;
}

export function fillRow(li, { mark, level, main, side = "", sub = "" }) {
  set(li, "data-level", level);
  for (const [name, value] of Object.entries({ mark, main, side, sub })) text(part(li, name), value);
  part(li, "sub").hidden = !sub;
}

// A list of rows by its id, with the sentence that stands there while there are none.
export function list(id, items, key, describe) {
  each($(id), items, key, row, (li, item) => fillRow(li, describe(item)));
  $(`${id}-empty`).hidden = items.length > 0;
}
