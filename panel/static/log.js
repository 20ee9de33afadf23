// The log: writes of control on their way (requested, seen, applied), deploy steps, and what this page saw happen.

import { $, each, fillRow, row } from "./dom.js";
import { wordOf } from "./pages/deploys.js";
import { moment, short, span } from "./format.js";
import { follow, steps, summary } from "./progress.js";
import { entriesOf } from "./verdict.js";

const MAX_SHOWN = 60;
const MAX_OBSERVED = 100;
const WORTH_SAYING = new Set(["queued", "healthy", "taken", "confirmed", "failed", "taken-back", "cancelled", "answered"]);

const LEVELS = { warn: ["warn", "bad"], bad: ["bad"] };

// By the level that is chosen and the words that are searched for.
function isWanted({ level, main, sub = "" }) {
  const levels = LEVELS[$("log-level").value];
  const words = $("log-search").value.trim().toLowerCase();
  return (!levels || levels.includes(level)) && `${main} ${sub}`.toLowerCase().includes(words);
}

export class Log {
  constructor() {
    this.observed = [];
    this.reached = new Map(); // generation -> {seen, applied}: when this page saw it reach that
    this.before = null;
  }

  observe(at, level, text) {
    this.observed.unshift({ at, level, text, key: `${at}-${text}` });
    this.observed.length = Math.min(this.observed.length, MAX_OBSERVED);
  }

  // Called with every new status: notices takes and generations.
  notice(status, now) {
    const before = this.before;
    this.before = status;
    if (!before) return;
    if (status.epoch !== before.epoch) {
      this.observe(now, "good", `${status.color} ${short(status.sha)} took: epoch ${before.epoch} → ${status.epoch}`);
    }
    if (entriesOf(status) !== entriesOf(before)) {
      const open = entriesOf(status) === "open";
      this.observe(now, open ? "good" : "warn", `Entries ${open ? "open" : `closed: ${status.entries}`}`);
    }
    for (const step of ["seen", "applied"]) {
      const generation = status.control[step];
      if (generation !== null && generation !== before.control[step]) {
        this.reached.set(generation, { ...this.reached.get(generation), [step]: now });
        if (this.reached.size > MAX_OBSERVED) this.reached.delete(this.reached.keys().next().value);
      }
    }
  }

  render({ status: view, writes, deploys }, now) {
    const entries = [
      ...(writes?.writes ?? []).map((write) => this.describeWrite(write, view?.status)),
      ...(deploys?.deploys ?? []).flatMap((deploy) => deploy.steps.filter((step) => WORTH_SAYING.has(step.step)).map(describeStep)),
      ...this.observed.map((one) => ({ ...one, mark: "·", main: one.text })),
    ];
    const wanted = entries.filter(isWanted).sort((a, b) => b.at - a.at);
    wanted.length = Math.min(wanted.length, MAX_SHOWN);
    each($("log"), wanted, (one) => one.key, row, (li, one) => fillRow(li, { ...one, side: moment(one.at, now) }));
    $("log-empty").hidden = wanted.length > 0;
  }

  describeWrite(write, status) {
    const { generation, time_ms: at, by, origin } = write;
    if (write.request) return { at, key: `write-${write.request}`, mark: "›", main: `Asked the deployer: ${write.action}`, sub: `${by} from ${origin}` };
    const progress = follow(write, status);
    const after = this.reached.get(generation)?.applied;
    const bad = progress.stage === "refused" || progress.reasons.length > 0;
    const words = [
      `${steps(progress)}${after ? ` +${span(Math.max(1, after - at))}` : ""}`,
      summary(progress.actions),
      progress.actions.length === 1 ? "" : progress.reasons.join("; "),
      `${by} from ${origin}`,
      changes(write),
    ];
    return {
      at,
      key: `write-${generation}-${at}`,
      mark: bad ? "✕" : progress.settled ? "✓" : "○",
      level: bad ? "bad" : progress.settled ? "" : "warn",
      main: `Generation ${generation}: ${write.action}`,
      sub: words.filter(Boolean).join(" · "),
    };
  }
}

// What a write changed, as before → after, but for what its name says.
const SAID = new Set(["manual", "pause_until_ms", "why"]);
function changes({ before, after }, path = "") {
  const said = [];
  for (const name of Object.keys(after)) {
    if (SAID.has(name)) continue;
    const [old, now] = [before[name], after[name]];
    if (now && typeof now === "object") said.push(changes({ before: old ?? {}, after: now }, `${path}${name}.`));
    else if (old !== now) said.push(`${path}${name}: ${old ?? "–"} → ${now ?? "–"}`);
  }
  return said.filter(Boolean).join(", ");
}

function describeStep(step) {
  const word = wordOf(step);
  const level = step.step === "failed" || step.step === "taken-back" ? "bad" : step.step === "confirmed" ? "good" : "";
  return {
    at: step.time_ms,
    key: `deploy-${step.deploy}-${step.step}-${step.time_ms}`,
    mark: level === "bad" ? "✕" : level === "good" ? "✓" : "›",
    level,
    main: `Deploy ${short(step.sha) === "–" ? step.deploy : short(step.sha)} ${word}`,
    sub: step.text,
  };
}
