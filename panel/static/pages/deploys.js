// Deploys as a time line: each with its steps, what it would have decided otherwise, and the way back to it.

import { $, each, make, part, set, text } from "../dom.js";
import { moment, short, span } from "../format.js";

const GOOD = new Set(["confirmed", "retired"]);
const BAD = new Set(["failed", "taken-back", "cancelled"]);
const HELD = new Set(["held"]);
const QUIET = new Set(["answered"]);
const MAX_SHOWN = 8;

// A deploy that changes nothing that runs is cancelled in the file, so that earlier releases take it for ended.
export const wordOf = (step) => (step.step === "cancelled" && step.data?.unchanged ? "unchanged" : step.step);

export const running = (deploys) => deploys.find((one) => one.steps.some((step) => step.step === "confirmed"));

export function renderDeploys(view, now, { onRollback, onApprove, confirmed }) {
  const deploys = (view?.deploys ?? []).slice(0, MAX_SHOWN);
  text($("deploys-sub"), view?.problem ?? "");
  $("rollback").disabled = deploys.length === 0;
  each($("deploys"), deploys, (one) => one.deploy, () => createDeploy(onRollback, onApprove), (li, one) => updateDeploy(li, one, now, confirmed));
  $("deploys-empty").hidden = deploys.length > 0;
}

function createDeploy(onRollback, onApprove) {
  const named = (tag, name, className = name) => {
    const made = make(tag, className);
    made.dataset.part = name;
    return made;
  };
  const [back, approve] = [named("button", "back", "small"), named("button", "approve", "small primary")];
  const li = make("li", "deploy", named("span", "mark"), named("b", "sha"), named("span", "result"), named("span", "about", "about sub"),
    make("span", "buttons", approve, back), named("ol", "steps", "line"));
  back.type = approve.type = "button";
  back.dataset.writes = approve.dataset.writes = "";
  back.textContent = "Roll back to this";
  approve.textContent = "Approve";
  back.addEventListener("click", () => onRollback(li.dataset.sha));
  approve.addEventListener("click", () => onApprove(li.dataset.sha));
  return li;
}

function updateDeploy(li, one, now, confirmed) {
  const result = one.step === "retired" ? "confirmed" : one.step; // retired is what the one before it was then
  const level = GOOD.has(one.step) ? "good" : BAD.has(one.step) ? "bad" : "";
  set(li, "data-level", level);
  set(li, "data-sha", one.sha);
  text(part(li, "mark"), { good: "✓", bad: "✕" }[level] ?? "›");
  text(part(li, "sha"), short(one.sha));
  text(part(li, "result"), result);
  text(part(li, "about"), [moment(one.started_ms, now), one.by, one.text].filter(Boolean).join(" · "));
  part(li, "back").hidden = one.sha === confirmed || !one.steps.some((step) => step.step === "confirmed");
  part(li, "approve").hidden = !HELD.has(one.step);
  const steps = one.steps.filter((step) => !QUIET.has(step.step));
  each(part(li, "steps"), steps, (step) => `${step.step}-${step.time_ms}`, () => make("li"), (item, step) => {
    const differences = step.data?.differences ?? [];
    text(item, [wordOf(step), step.ms == null ? "" : span(step.ms), differences.length ? `${step.data.differ} differ` : ""].filter(Boolean).join(" "));
    set(item, "title", [step.text, ...differences.map((found) => found.text)].filter(Boolean).join("\n"));
    set(item, "data-level", BAD.has(wordOf(step)) ? "bad" : differences.length ? "warn" : null);
  });
}
