// The log: writes of control on their way (requested, seen, applied), deploy steps, and what this page saw happen.

import { $, each, fillRow, row } from "./dom.js";
import { moment, short, span } from "./format.js";

const MAX_SHOWN = 60;
const MAX_OBSERVED = 100;
const WORTH_SAYING = new Set(["queued", "healthy", "taken", "confirmed", "failed", "taken-back", "cancelled", "answered"]);

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
    if (status.entries !== before.entries) {
      const level = status.entries === "open" ? "good" : "warn";
      this.observe(now, level, `Entries ${status.entries === "open" ? "open" : `closed: ${status.entries}`}`);
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
    entries.sort((a, b) => b.at - a.at);
    entries.length = Math.min(entries.length, MAX_SHOWN);
    each($("log"), entries, (one) => one.key, row, (li, one) => fillRow(li, { ...one, side: moment(one.at, now) }));
    $("log-empty").hidden = entries.length > 0;
  }

  describeWrite(write, status) {
    const { generation, time_ms: at } = write;
    const progress = [["requested", true, 0], ...["seen", "applied"].map((step) => this.progress(step, write, status))];
    const words = progress.map(([step, done, after]) => `${done ? "✓" : "○"} ${step}${after ? ` +${span(after)}` : ""}`);
    const applied = progress[2][1];
    return {
      at,
      key: `write-${generation}-${at}`,
      mark: applied ? "✓" : "○",
      level: applied ? "" : "warn",
      main: `Generation ${generation}: ${write.action}`,
      sub: `${words.join("  ")} · ${write.by} from ${write.origin}`,
    };
  }

  progress(step, { generation, time_ms: at }, status) {
    const reached = this.reached.get(generation)?.[step];
    return [step, (status?.control[step] ?? 0) >= generation, reached ? Math.max(1, reached - at) : 0];
  }
}

function describeStep(step) {
  const level = step.step === "failed" || step.step === "taken-back" ? "bad" : step.step === "confirmed" ? "good" : "";
  return {
    at: step.time_ms,
    key: `deploy-${step.deploy}-${step.step}-${step.time_ms}`,
    mark: level === "bad" ? "✕" : level === "good" ? "✓" : "›",
    level,
    main: `Deploy ${short(step.sha) === "–" ? step.deploy : short(step.sha)} ${step.step}`,
    sub: step.text,
  };
}
