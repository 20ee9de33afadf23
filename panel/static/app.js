// The page: what is pushed goes into one state, the state is drawn; clocks run on twice a second.

import { adoptTokenFromLink, ask, halt, notice, write } from "./actions.js";
import { $, set, text } from "./dom.js";
import { NONE, clock, count, money, moment, percent, short, signed, span, tone } from "./format.js";
import { renderDeploys, renderFeeds, renderInstances, renderOutcomes } from "./lists.js";
import { Live } from "./live.js";
import { Log } from "./log.js";
import { renderSlots } from "./slots.js";
import { judge } from "./verdict.js";

const MARKS = { good: "✓", warn: "!", bad: "✕", wait: "…" };
const REDRAW_MS = 500;
const log = new Log();

adoptTokenFromLink();
const live = new Live((kind) => {
  if (kind === "status" && live.state.status?.status) log.notice(live.state.status.status, live.now());
  schedule();
});
setInterval(schedule, REDRAW_MS);

let drawing = false;
function schedule() {
  if (drawing) return;
  drawing = true;
  // A hidden page gets no animation frames and needs none.
  requestAnimationFrame(() => {
    drawing = false;
    draw();
  });
}

function draw() {
  const { state } = live;
  const status = state.status?.status;
  const control = state.control?.control;
  const now = live.now();
  const age = live.statusAge();
  drawVerdict(judge(state, { age, connected: live.connected, silence: live.silence() }));
  drawButtons(state.control);
  drawFacts(status, state.control, now);
  renderSlots(status, control, now, switchSlot);
  renderFeeds(status, age);
  renderInstances(state.instances, now);
  renderDeploys(state.deploys, now);
  renderOutcomes(status, now);
  log.render(state, now);
}

function drawVerdict({ level, title, details, stale }) {
  set($("verdict"), "data-level", level);
  set(document.body, "data-stale", stale);
  text(document.querySelector("#verdict .mark"), MARKS[level]);
  text($("verdict-title"), title);
  text($("verdict-detail"), details.join(" "));
  set($("verdict"), "title", details.join("\n"));
  text(document.querySelector("title"), `${MARKS[level]} ${title} · Never Sleeps`);
}

function drawButtons(desired) {
  const mode = desired?.control?.mode;
  const halted = desired?.halted || mode === "halt";
  $("pause").disabled = !desired || mode !== "run";
  $("resume").disabled = !desired || (mode === "run" && !halted);
}

function drawFacts(status, desired, now) {
  const fact = (name, value, sub = "") => {
    text($(`fact-${name}`), value);
    text($(`fact-${name}-sub`), sub || "\u00a0");
  };
  drawControl(status, desired);
  if (!status) return;
  const { totals } = status;
  fact("active", `${status.color} ${short(status.sha)}`, `epoch ${status.epoch} · since ${moment(status.since_ms, now)}`);
  set($("fact-active"), "data-color", status.color);
  set($("fact-active"), "title", `${status.instance}, active for ${span(now - status.since_ms)}`);
  fact("entries", status.entries === "open" ? "open" : "closed", `${status.venue || "venue"} · ${status.venue_mode}`);
  set($("fact-entries"), "title", status.entries);
  fact("missed", count(totals.polls_missed), `${count(totals.polls_completed)} done`);
  fact("doubt", count(totals.in_doubt), `${count(totals.orders)} orders`);
  set($("fact-doubt"), "data-tone", totals.in_doubt ? "loss" : null);
  fact("today", signed(totals.pnl_today), `total ${signed(totals.pnl)}`);
  set($("fact-today"), "title", `after fees of ${money(totals.fees)} in all`);
  set($("fact-today"), "data-tone", tone(totals.pnl_today));
  const played = totals.wins + totals.losses;
  fact("wins", `${count(totals.wins)} of ${count(played)}`, played ? `${percent(totals.wins / played, 0)}` : "none resolved");
  fact("balance", money(status.balance), `exposure ${money(totals.exposure)}`);
  set($("fact-balance"), "title", status.wallet || null);
}

// Requested, seen, applied: how far the newest generation has come.
function drawControl(status, desired) {
  if (!desired) return;
  const { generation } = desired;
  const reached = (step) => (status?.control[step] ?? 0) >= generation;
  text($("fact-control"), `${desired.halted ? "halt" : desired.control?.mode ?? NONE} · ${generation}`);
  const how = reached("applied") ? "✓ applied" : reached("seen") ? "○ seen, not applied yet" : "○ requested, not seen yet";
  text($("fact-control-sub"), generation ? how : "no control yet");
  set($("fact-control-sub"), "data-applied", reached("applied"));
  set($("fact-control"), "title", desired.control ? `generation ${generation} by ${desired.control.by}` : desired.problem);
}

const generation = () => live.state.control?.generation ?? 0;

async function pause() {
  if (!$("pause").disabled) await write("pause", { generation: generation() });
}

async function resume() {
  const desired = live.state.control;
  const halted = desired?.halted || desired?.control?.mode === "halt";
  const seen = generation(); // what is agreed to is what was shown when it was asked
  const sure = !halted || (await ask("Resume after a halt?", "The halt file is removed and entries open again. Resume only when you know why it was halted.", "Resume trading"));
  if (sure) await write("resume", { generation: seen, ...(halted ? { confirm: true } : {}) });
}

async function askHalt() {
  if (await ask("Halt?", "No entries from now on, whatever control says, until somebody resumes and confirms it. Exits go on.", "Halt now")) {
    if (await halt(generation())) notice(`Halted at ${clock(live.now())}. Exits go on.`);
  }
}

async function switchSlot(slot, enabled) {
  await write(`slots/${encodeURIComponent(slot)}`, { generation: generation(), enabled });
}

$("pause").addEventListener("click", pause);
$("resume").addEventListener("click", resume);
$("halt").addEventListener("click", askHalt);

// Keys lead towards safety only: there is none for resume.
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  if (event.target.closest("input") || document.querySelector("dialog[open]")) return;
  if (event.key === "p") pause();
  if (event.key === "h") askHalt();
});
