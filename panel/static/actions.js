// Asking, the token, and writing control based on the generation that is shown.

import { $, make } from "./dom.js";
import { follow, steps, summary } from "./progress.js";

const TOKEN = "never-sleeps-token";
const NOTICE_MS = 12000;
const SETTLED_MS = 5000;
const HALT_TRIES = 4;
const READ_MS = 20000;

export const known = () => sessionStorage.getItem(TOKEN);

// A link with #code=... is worth a token once and for minutes: what the browser's history keeps of it opens nothing.
// -> null without such a link, else {accepted, why}.
export async function adoptCodeFromLink() {
  const found = /^#code=([\w-]+)$/.exec(location.hash);
  if (!found) return null;
  history.replaceState(null, "", location.pathname);
  try {
    const response = await fetch("/api/exchange", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ code: found[1] }),
      signal: AbortSignal.timeout(10000),
    });
    const said = await response.json();
    if (!response.ok) return { accepted: false, why: said.error };
    sessionStorage.setItem(TOKEN, said.token);
    return { accepted: true, why: "" };
  } catch {
    return { accepted: false, why: "The panel did not answer." };
  }
}

let hideNotice;
let followed = null;
export function notice(text, level = "", limit = NOTICE_MS) {
  followed = null;
  show(text, level);
  hideNotice = limit ? setTimeout(() => ($("notice").hidden = true), limit) : undefined;
}

function show(text, level) {
  clearTimeout(hideNotice);
  $("notice-text").textContent = text;
  $("notice").dataset.level = level;
  $("notice").hidden = false;
}
$("notice-close").addEventListener("click", () => {
  followed = null;
  $("notice").hidden = true;
});

// The newest write is followed until the bot has applied or refused it.
export function drawFollowed(status) {
  if (!followed) return;
  const progress = follow(followed, status);
  const bad = progress.stage === "refused" || progress.reasons.length > 0;
  const parts = [`${followed.label} · generation ${followed.generation}`, steps(progress), summary(progress.actions), ...(progress.actions.length === 1 ? [] : progress.reasons)];
  const text = parts.filter(Boolean).join(" · ");
  if ($("notice-text").textContent !== text) show(text, bad ? "bad" : progress.settled ? "good" : "");
  if (!progress.settled) return;
  followed = null;
  if (!bad) hideNotice = setTimeout(() => ($("notice").hidden = true), SETTLED_MS);
}

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
  return (await form(title, text, [], yes)) !== null;
}

// fields: {name, label, value, type, options, hint}. -> {name: text}, or null when it was given up.
export async function form(title, text, fields, yes) {
  $("ask-title").textContent = title;
  $("ask-text").textContent = text;
  $("ask-yes").textContent = yes;
  const inputs = fields.map(input);
  $("ask-fields").replaceChildren(...inputs.map(([label]) => label));
  const answered = dialog($("ask"));
  (inputs[0]?.[1] ?? $("ask-yes")).focus();
  if (!(await answered)) return null;
  return Object.fromEntries(inputs.map(([, control], index) => [fields[index].name, control.value.trim()]));
}

function input({ label, value = "", type = "text", options, hint, mode, required, name }) {
  const control = make(options ? "select" : "input");
  control.name = name;
  if (options) control.append(...options.map((one) => new Option(one, one)));
  else Object.assign(control, { type, autocomplete: "off", spellcheck: false, inputMode: mode ?? "", required: Boolean(required) });
  if (value || !options) control.value = value;
  const around = make("label", "", make("span", "", label), control);
  if (hint) around.append(make("small", "", hint));
  return [around, control];
}
// Enter in an input uses it, as the first button of a form would otherwise cancel.
for (const [element, yes] of [["ask", "ask-yes"], ["token", "token-yes"]]) {
  $(element).addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.target.tagName !== "INPUT") return;
    event.preventDefault();
    $(yes).click();
  });
}

// What the panel answers to a read: {ok, body}, or null where it did not answer. path: under /api, with its query.
export async function get(path) {
  try {
    const headers = { authorization: `Bearer ${known()}` };
    const response = await fetch(`/api/${path}`, { headers, cache: "no-store", signal: AbortSignal.timeout(READ_MS) });
    return { ok: response.ok, body: await response.json() };
  } catch {
    return null;
  }
}

let tokenAsked = null;
// Asks until one is given or it is given up; two that ask at once share the answer.
export function askToken(text = "") {
  tokenAsked ??= (async () => {
    $("token-input").value = "";
    $("token-why").textContent = text;
    const used = await dialog($("token"));
    const given = $("token-input").value.trim();
    if (used && given) sessionStorage.setItem(TOKEN, given);
    return used && given ? given : null;
  })().finally(() => (tokenAsked = null));
  return tokenAsked;
}

export function forgetToken() {
  sessionStorage.removeItem(TOKEN);
}

// Returns the answer's body, or null when it was refused or given up; what happened is said in a notice.
// body.generation: the one that was shown. who: says who changed control meanwhile. onToken: another token was given. answers: it
// is no change, and whoever asked says what the answer was.
export async function write(path, body, { label = path, tries = 1, who = () => "", onToken = () => {}, answers = false } = {}) {
  const bearer = known() ?? (await askToken());
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
    notice("The panel did not answer. Look at the log whether it was done; then try again.", "bad");
    return null;
  }
  if (response.ok) {
    if (answers) return said;
    if (!said.recorded) notice("Done, but it could not be recorded in writes.jsonl. Is the disk full?", "bad");
    else if (said.generation) followed = { ...said, label };
    else notice(`${label}: requested of the deployer; the deploys show what becomes of it.`);
    return said;
  }
  if (response.status === 401) {
    forgetToken();
    notice("The token was not accepted. Nothing was done.", "bad");
    if (await askToken("The one before was not accepted.")) onToken();
  } else if (response.status === 409 && tries > 1) {
    return write(path, { ...body, generation: said.newest }, { label, tries: tries - 1, who, onToken });
  } else if (response.status === 409 && path === "halt") {
    notice("The halt file is set: no entries are made. Control keeps changing meanwhile; press Halt again to write it there too.", "bad");
  } else if (response.status === 409) {
    const by = who(said.newest);
    notice(
      `Somebody changed control meanwhile (you saw generation ${said.based_on}, now it is ${said.newest}${by ? `: ${by}` : ""}). ` +
        "Nothing of yours was done: look at what is shown now, then press again.",
      "bad",
      0,
    );
  } else {
    notice(said.error ?? `The panel answered ${response.status}.`, "bad");
  }
  return null;
}

// A halt is repeated on the newest generation: nobody's change makes it less wanted.
export const halt = (generation, options) => write("halt", { generation }, { ...options, tries: HALT_TRIES });
