// Is all well? One answer in words, from everything that is known. Pure.

import { moment, span, wallet } from "./format.js";

export const STALE_MS = 3000;

const isActive = (one) => one.alive && one.document?.role === "active";

// -> {level: good | warn | bad | wait, title, details: [sentence], stale}
export function judge({ status: view, control: desired, instances, notifications }, { age, connected, silence, locked, now }) {
  const status = view?.status;
  if (locked) return { level: "wait", title: "Token needed", details: ["Nothing is shown without one; reload the page to give it."], stale: Boolean(status) };
  if (!connected && silence > STALE_MS) {
    return bad("Panel not reached", [`No news for ${span(silence)}. What you see is old. Trading goes on without the panel.`], true);
  }
  if (!status) return { level: "wait", title: view ? "No status" : "Waiting for status", details: [view?.problem ?? ""], stale: false };
  if (age > STALE_MS) {
    return bad("Status is old", [`Written ${span(age)} ago; no active bot writes it now.`], true);
  }
  const details = concerns(status, desired, instances, notifications);
  if (desired?.halted || desired?.control?.mode === "halt") return bad("Halted", ["No entries. Exits go on.", ...details], false);
  if (modeAt(desired?.control, now) === "pause") return paused(desired.control, now, details);
  if (entriesOf(status) !== "open") return warn("Entries closed", [status.entries, ...details]);
  if (details.length) return warn("Trading, with concerns", details);
  return { level: "good", title: "Trading", details: ["All is well."], stale: false };
}

function concerns(status, desired, instances, notifications) {
  const found = [];
  const say = (condition, sentence) => condition && found.push(sentence);
  say(desired?.problem, `Control: ${desired?.problem}.`);
  say(status.control.problem, `Bot on control: ${status.control.problem}.`);
  for (const refused of status.control.refused) found.push(`Refused: ${refused}.`);
  say(status.totals.in_doubt > 0, `${status.totals.in_doubt} in doubt.`);
  say(status.venue_mode !== "normal", `Venue is ${status.venue_mode}.`);
  const old = status.feeds.filter((feed) => !feed.fresh).map((feed) => feed.name);
  say(old.length, `Feeds not fresh: ${old.join(", ")}.`);
  say(Math.abs(status.clock_offset_ms ?? 0) > 500, `Clock is off by ${status.clock_offset_ms} ms.`);
  const active = (instances?.instances ?? []).filter(isActive);
  say(active.length > 1, "Two instances call themselves active.");
  say(instances && !instances.problem && !instances.instances.some((one) => one.alive && !isActive(one) && one.document?.healthy), "No spare stands by: a crash would cost polls.");
  say(instances && !instances.problem && !instances.deployer, "No deployer runs: nothing is deployed, and nobody who dies is replaced.");
  say(instances?.problem, `${instances?.problem}.`);
  say(status.slots.length && status.slots.every((slot) => !slot.enabled), "Every slot is off.");
  for (const one of active) say(!one.document.healthy, `Active instance unhealthy: ${one.document.why_not ?? "no reason given"}.`);
  const unheard = (notifications?.targets ?? []).filter((one) => one.state === "failing").map((one) => one.name);
  say(unheard.length, `Not notified: ${unheard.join(", ")}.`);
  say(notifications?.problem, "Notifications fail; see the panel's log.");
  return found;
}

// Whose money it is: {mode: paper | rehearsal | live, title, detail}. rehearsal: the server's word for it, empty where it is none.
export function modeOf(status, rehearsal) {
  if (status.venue === "live") return { mode: "live", title: "LIVE", detail: wallet(status.wallet) || "real money" };
  if (rehearsal) return { mode: "rehearsal", title: "REHEARSAL", detail: rehearsal };
  return { mode: "paper", title: "PAPER", detail: "invented prices" };
}

// "open", or the code of why entries are closed; a release before wrote no code.
export const entriesOf = (status) => status.entries_code || status.entries;

// What control wants at a moment: a pause with an end is over by itself, as the bot decides it.
export const modeAt = (control, now) => (control?.mode === "pause" && control.pause_until_ms != null && now >= control.pause_until_ms ? "run" : control?.mode);

function paused({ pause_until_ms: until, why }, now, details) {
  return warn(until == null ? "Paused" : `Paused until ${moment(until, now)}`, [why ? `Why: ${why}.` : "", "No entries. Exits go on.", ...details].filter(Boolean));
}

const bad = (title, details, stale) => ({ level: "bad", title, details, stale });
const warn = (title, details) => ({ level: "warn", title, details, stale: false });
