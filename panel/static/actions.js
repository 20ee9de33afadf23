// The buttons: asking, the token, and writing control based on the generation that is shown.

import { $ } from "./dom.js";

const TOKEN = "never-sleeps-token";
const NOTICE_MS = 12000;
const HALT_TRIES = 4;

// A link with #token=... (the panel prints it at its start) is used once and taken out of the address bar.
export function adoptTokenFromLink() {
  const found = /^#token=([\w-]+)$/.exec(location.hash);
  if (!found) return;
  sessionStorage.setItem(TOKEN, found[1]);
  history.replaceState(null, "", location.pathname);
}

let hideNotice;
export function notice(text) {
  $("notice-text").textContent = text;
  $("notice").hidden = false;
  clearTimeout(hideNotice);
  hideNotice = setTimeout(() => ($("notice").hidden = true), NOTICE_MS);
}
$("notice-close").addEventListener("click", () => ($("notice").hidden = true));

// Questions, by the dialog that asks them. Not answered by the close event: it comes late, and a quick second question
// would take the first one's for its own.
const asking = new Map();

function dialog(element) {
  answer(element, false);
  return new Promise((resolve) => {
    asking.set(element, resolve);
    element.showModal();
  });
}

function answer(element, yes) {
  const resolve = asking.get(element);
  asking.delete(element);
  if (element.open) element.close();
  resolve?.(yes);
}

for (const element of document.querySelectorAll("dialog")) {
  element.querySelector("form").addEventListener("submit", (event) => {
    event.preventDefault();
    answer(element, event.submitter?.value === "yes");
  });
  element.addEventListener("cancel", () => answer(element, false));
  element.addEventListener("close", () => element.open || answer(element, false));
}

export async function ask(title, text, yes) {
  $("ask-title").textContent = title;
  $("ask-text").textContent = text;
  $("ask-yes").textContent = yes;
  const answered = dialog($("ask"));
  $("ask-yes").focus();
  return answered;
}

async function token() {
  const known = sessionStorage.getItem(TOKEN);
  if (known) return known;
  $("token-input").value = "";
  const used = await dialog($("token"));
  const given = $("token-input").value.trim();
  if (!used || !given) return null;
  sessionStorage.setItem(TOKEN, given);
  return given;
}
// Enter in the input uses it, as the first button of a form would otherwise cancel.
$("token-input").addEventListener("keydown", (event) => {
  if (event.key !== "Enter") return;
  event.preventDefault();
  answer($("token"), true);
});

// Returns the answer's body, or null when it was refused or given up; what happened is said in a notice.
export async function write(path, body, tries = 1) {
  const bearer = await token();
  if (!bearer) return null;
  let response, said;
  try {
    response = await fetch(`/api/${path}`, {
      method: "POST",
      headers: { "content-type": "application/json", authorization: `Bearer ${bearer}` },
      body: JSON.stringify(body),
      signal: AbortSignal.timeout(10000),
    });
    said = await response.json();
  } catch {
    notice("The panel did not answer. Look at the log whether it was done; then try again.");
    return null;
  }
  if (response.ok) {
    if (!said.recorded) notice("Done, but it could not be recorded in writes.jsonl. Is the disk full?");
    return said;
  }
  if (response.status === 401) {
    sessionStorage.removeItem(TOKEN);
    notice("The token was not accepted. Press the button again and give the token from the panel's token file.");
  } else if (response.status === 409 && tries > 1) {
    return write(path, { ...body, generation: said.newest }, tries - 1);
  } else if (response.status === 409 && path === "halt") {
    notice("The halt file is set: no entries are made. Control keeps changing meanwhile; press Halt again to write it there too.");
  } else if (response.status === 409) {
    notice(`Somebody changed control meanwhile (you saw generation ${said.based_on}, now it is ${said.newest}). Nothing was done: look, then press again.`);
  } else {
    notice(said.error ?? `The panel answered ${response.status}.`);
  }
  return null;
}

// A halt is repeated on the newest generation: nobody's change makes it less wanted.
export const halt = (generation) => write("halt", { generation }, HALT_TRIES);
