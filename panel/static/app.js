// The page: what is pushed goes into one state, the state is drawn; clocks run on twice a second.

import { adoptCodeFromLink, ask, askToken, drawFollowed, forgetToken, form, get, halt, known, notice, write } from "./actions.js";
import { renderEquity, renderRate } from "./charts.js";
import { $, make, set, text } from "./dom.js";
import { NONE, clock, count, money, moment, rate, short, signed, span, tone, wallet } from "./format.js";
import { Live } from "./live.js";
import { Log } from "./log.js";
import { renderAccess, renderNotifications, startAccess, testNotifications } from "./pages/access.js";
import { renderDeploys } from "./pages/deploys.js";
import { renderDisk, renderFeeds, renderInstances, renderLatency } from "./pages/health.js";
import { offerSlots, renderJournal, startJournal } from "./pages/journal.js";
import { renderDoubt, renderLastDeploy, renderNeeds, renderOutcomes, renderTrades } from "./pages/overview.js";
import { askEquity, askPerformance, equity, renderPerformance, startPerformance } from "./pages/performance.js";
import { askSlot, follow, renderSlot } from "./pages/slot.js";
import { changeRisk, changeStrategy, renderRisk, renderStrategy } from "./pages/strategy.js";
import { renderPositions, renderSlots, startSlots } from "./pages/trade.js";
import { route, startRouter } from "./router.js";
import { entriesOf, judge, modeAt, modeOf } from "./verdict.js";

const MARKS = { good: "✓", warn: "!", bad: "✕", wait: "…" };
const REDRAW_MS = 500;
const REHEARSAL = $("mode").querySelector("span")?.textContent ?? "";
const LAST_TRADES = 8;
const log = new Log();
let fills = null;

const REFUSED = "never-sleeps-refused";
const link = await adoptCodeFromLink();
const live = new Live(known, (kind) => {
  if (kind === "ledger") refresh();
  if (kind === "status" && live.state.status?.status) {
    log.notice(live.state.status.status, live.now());
    follow(live.state.status.status, live.now());
  }
  schedule();
}, accepted, refused);
if (known()) live.start();
else refused(link?.why ?? sessionStorage.getItem(REFUSED) ?? "");
sessionStorage.removeItem(REFUSED);
setInterval(schedule, REDRAW_MS);
startRouter(refresh);

function accepted() {
  set(document.body, "data-locked", null);
  refresh();
}

// Ask for what is not pushed and the shown page needs.
async function refresh() {
  if (!live.accepted) return;
  schedule();
  const { name, argument } = route();
  if (name === "journal") await renderJournal(live.now());
  if (name === "slot") await askSlot(argument);
  if (name === "performance") await askPerformance();
  if (name === "overview") await askEquity();
  if (name === "overview") fills = (await get(`ledger/fills?most=${LAST_TRADES}`))?.body ?? fills;
  schedule();
}
// Browsers give back a page that they had put away as it was: its connection is gone.
addEventListener("pageshow", (event) => event.persisted && known() && live.start());

// A link with a code, opened in a tab that is here already.
addEventListener("hashchange", () => location.hash.startsWith("#code=") && location.reload());

async function refused(why = "The one before was not accepted.") {
  forgetToken();
  if (Object.keys(live.state).length) {
    // What was shown under a token that holds no longer goes with the page.
    sessionStorage.setItem(REFUSED, why);
    location.reload();
    return;
  }
  set(document.body, "data-locked", true);
  if (await askToken(why)) live.start();
  else schedule();
}

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
  const verdict = judge(state, { age, connected: live.connected, silence: live.silence(), locked: !known(), now });
  drawVerdict(verdict);
  drawMode(status);
  drawButtons(state.control, now);
  drawFacts(status, state.control, now);
  renderNeeds(verdict, state);
  renderTrades(fills, now);
  renderLastDeploy(state.deploys, now);
  renderSlots(status, control, now, slotActions);
  renderPositions(status, now, slotActions);
  const { name, argument } = route();
  if (name === "slot") renderSlot(argument, status, now, status?.venue === "live" || Boolean(REHEARSAL));
  renderFeeds(status, age);
  renderInstances(state.instances, now);
  renderRisk(status, control, state.writes, now);
  renderStrategy(status, control, state.writes, now);
  renderLatency(state.ledger);
  renderDoubt(state.ledger, now);
  renderOutcomes(status, now);
  renderEquity(equity(), now);
  renderRate(state.ledger, now);
  const slots = (status?.slots ?? []).map((one) => one.slot);
  offerSlots(slots);
  renderPerformance(slots, now);
  renderDeploys(state.deploys, now, { onRollback: rollback, onApprove: approve, confirmed: state.instances?.confirmed_sha });
  renderNotifications(state.notifications, now);
  renderDisk(state.instances);
  renderAccess(live.access, now);
  log.render(state, now);
  // Last of all: whoever may look alone can press nothing that changes anything.
  if (live.access?.scope === "read") for (const button of document.querySelectorAll("[data-writes]")) button.disabled = true;
  drawFollowed(status);
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

function drawMode(status) {
  if (!status) return;
  const { mode, title, detail } = modeOf(status, REHEARSAL);
  if (!$("mode").firstElementChild) $("mode").append(make("strong"), " ", make("span"));
  set($("mode"), "hidden", null);
  set($("mode"), "data-mode", mode);
  text($("mode").querySelector("strong"), title);
  text($("mode").querySelector("span"), detail);
  set($("who"), "hidden", null);
  set($("who"), "data-color", status.color);
  text($("who").querySelector("strong"), status.color);
  text($("who").querySelector("span"), short(status.sha));
  set($("who"), "title", `${status.instance} trades since ${moment(status.since_ms, live.now())}, epoch ${status.epoch}`);
}

function drawButtons(desired, now) {
  const mode = modeAt(desired?.control, now);
  const halted = desired?.halted || mode === "halt";
  $("pause").disabled = !desired || mode !== "run";
  $("flatten").disabled = !desired;
  $("resume").disabled = !desired || (mode === "run" && !halted);
}

function drawFacts(status, desired, now) {
  const fact = (name, value, sub = "") => {
    text($(`fact-${name}`), value);
    text($(`fact-${name}-sub`), sub || "\u00a0");
  };
  drawControl(status, desired, now);
  drawContinuity(fact, status, now);
  if (!status) return;
  const { totals } = status;
  fact("active", `${status.color} ${short(status.sha)}`, `epoch ${status.epoch} · since ${moment(status.since_ms, now)}`);
  set($("fact-active"), "data-color", status.color);
  set($("fact-active"), "title", `${status.instance}, active for ${span(now - status.since_ms)}`);
  fact("entries", entriesOf(status) === "open" ? "open" : "closed", `${status.venue || "venue"} · ${status.venue_mode}`);
  set($("fact-entries"), "title", status.entries);
  drawOther(fact, status);
  fact("doubt", count(totals.in_doubt), `${count(totals.orders)} orders`);
  set($("fact-doubt"), "data-tone", totals.in_doubt ? "loss" : null);
  fact("today", signed(totals.pnl_today), "since midnight UTC");
  set($("fact-today"), "data-tone", tone(totals.pnl_today));
  fact("total", signed(totals.pnl), `after fees of ${money(totals.fees)}`);
  set($("fact-total"), "data-tone", tone(totals.pnl));
  const played = totals.wins + totals.losses;
  fact("wins", `${count(totals.wins)} of ${count(played)}`, played ? rate(totals.wins, played) : "none resolved");
  set($("fact-wins"), "title", "of the windows with a gain or a loss; the interval holds in 95 of 100 cases (Wilson)");
  const most = desired?.control?.risk.max_total;
  fact("exposure", money(totals.exposure), most == null ? "" : `at most ${money(most)}`);
  fact("balance", money(status.balance), wallet(status.wallet));
  set($("fact-balance"), "title", status.wallet || null);
}

// The color that does not trade: what would take over, or what is on its way.
function drawOther(fact, status) {
  const others = (live.state.instances?.instances ?? []).filter((one) => one.alive && one.document && one.id !== status.instance);
  const one = others.find((it) => it.document.color !== status.color) ?? others[0];
  if (!one) return fact("other", "none", "a crash would cost polls");
  const { color, sha, role, healthy, why_not: why } = one.document;
  const state = healthy ? "healthy" : why ?? "not healthy yet";
  fact("other", `${color} ${short(sha)}`, `${role} · ${state}`);
  set($("fact-other"), "data-color", color);
  set($("fact-other-sub"), "title", state);
}

// Polls done of polls due, and for how long no poll was missed: what this system is for.
function drawContinuity(fact, status, now) {
  const totals = status?.totals;
  if (totals) {
    const [done, missed] = [totals.polls_completed, totals.polls_missed];
    const offset = status.clock_offset_ms;
    fact("polls", `${count(done)} / ${count(done + missed)}`, `${count(missed)} missed`);
    fact("clock", offset == null ? NONE : `${offset} ms`, "off the venue's");
    fact("status", live.statusAge() == null ? NONE : `${span(live.statusAge())} old`, `a poll every ${span(status.interval_ms)}`);
  }
  const kept = live.state.ledger?.continuity;
  if (kept?.since_ms == null) return;
  const deploys = (live.state.deploys?.deploys ?? []).filter((one) => one.started_ms >= kept.since_ms && one.steps.some((step) => step.step === "confirmed"));
  fact("gap", `for ${span(now - kept.since_ms)}`, `${count(deploys.length)} deploys · ${count(kept.restarts)} restarts`);
  set($("fact-gap"), "title", kept.gap_ms == null ? "none was ever missed" : `the last one at ${moment(kept.gap_ms, now)}: ${kept.gap_reason}`);
}

// Requested, seen, applied: how far the newest generation has come.
function drawControl(status, desired, now) {
  if (!desired) return;
  const { generation } = desired;
  const reached = (step) => (status?.control[step] ?? 0) >= generation;
  text($("fact-control"), `${desired.halted ? "halt" : modeAt(desired.control, now) ?? NONE} · ${generation}`);
  const refusedOnes = reached("applied") ? (status?.control.refused ?? []) : [];
  const how = status?.control.problem ? "✕ refused" : refusedOnes.length ? "! applied in part" : reached("applied") ? "✓ applied" : reached("seen") ? "○ seen, not applied yet" : "○ requested, not seen yet";
  text($("fact-control-sub"), generation ? how : "no control yet");
  set($("fact-control-sub"), "data-applied", reached("applied") && !refusedOnes.length && !status?.control.problem);
  set($("fact-control-sub"), "title", [status?.control.problem, ...refusedOnes].filter(Boolean).join("\n") || null);
  set($("fact-control"), "title", desired.control ? `generation ${generation} by ${desired.control.by}` : desired.problem);
}

const generation = () => live.state.control?.generation ?? 0;

// Who made a generation, for one who finds that it came before theirs.
function who(newest) {
  const made = live.state.writes?.writes?.find((write) => write.generation === newest);
  return made ? `${made.action} by ${made.by} from ${made.origin}` : "";
}
const options = (label) => ({ label, who, onToken: () => live.start() });

async function pause() {
  if (!$("pause").disabled) await write("pause", { generation: generation() }, options("Pause"));
}

async function resume() {
  const desired = live.state.control;
  const halted = desired?.halted || desired?.control?.mode === "halt";
  const seen = generation(); // what is agreed to is what was shown when it was asked
  const sure = !halted || (await ask("Resume after a halt?", "The halt file is removed and entries open again. Resume only when you know why it was halted.", "Resume trading"));
  if (sure) await write("resume", { generation: seen, ...(halted ? { confirm: true } : {}) }, options("Resume"));
}

async function askHalt() {
  if ($("halt").disabled) return;
  if (await ask("Halt?", "No entries from now on, whatever control says, until somebody resumes and confirms it. Exits go on.", "Halt now")) {
    if (await halt(generation(), options("Halt"))) notice(`Halted at ${clock(live.now())}. Exits go on.`, "bad");
  }
}

async function flatten(slot = null) {
  if (!slot && $("flatten").disabled) return;
  const seen = generation();
  const held = (live.state.status?.status?.slots ?? []).filter((one) => one.position && (!slot || one.slot === slot));
  const what = held.length ? held.map((one) => `${one.slot}: ${one.position.outcome} ${Number(one.position.shares)}`).join(", ") : "nothing that is shown now";
  const text = `Sells at the best bids, poll by poll, until nothing is held: ${what}. Nothing more is entered in ${slot ? "this window" : "these windows"}; the next ones are traded as before, unless you pause.`;
  if (await ask(slot ? `Sell all of ${slot}?` : "Flatten all?", text, slot ? "Sell" : "Sell everything")) {
    await write("flatten", { generation: seen, ...(slot ? { slot } : {}) }, options(`Flatten ${slot ?? "all"}`));
  }
}

async function enter(slot) {
  const seen = generation();
  const now = live.state.status?.status?.slots.find((one) => one.slot === slot);
  const offer = (value) => (value == null ? "nothing is offered" : `offered at ${value}`);
  const given = await form(`Buy by hand in ${slot}`, `One order in ${now?.window ?? "the present window"}, within the risk limits. Up: ${offer(now?.best_ask_up)}. Down: ${offer(now?.best_ask_down)}.`, [
    { name: "outcome", label: "Outcome", options: ["Up", "Down"] },
    { name: "max_spend", label: "Spend at most, in pUSD, fee included", mode: "decimal", required: true },
    { name: "max_price", label: "Pay at most a share", mode: "decimal", hint: "empty: the best offer" },
  ], "Buy");
  if (!given) return;
  const { outcome, max_spend, max_price } = given;
  await write("enter", { generation: seen, slot, outcome, max_spend, ...(max_price ? { max_price } : {}) }, options(`Buy ${outcome} in ${slot}`));
}

const slotActions = {
  toggle: (slot, enabled) => write(`slots/${encodeURIComponent(slot)}`, { generation: generation(), enabled }, options(`${slot} ${enabled ? "on" : "off"}`)),
  enter,
  flatten,
};

async function rollback(sha = "") {
  const to = sha ? short(sha) : "the commit that was confirmed before the present one";
  if (await ask("Roll back?", `Asks the deployer for ${to}, by the same path as a deploy: it takes over once it is healthy, and no poll is missed. It waits for no approval.`, "Roll back")) {
    await write("rollback", { ref: sha, now: true }, options(`Rollback${sha ? ` to ${short(sha)}` : ""}`));
  }
}

async function approve(sha) {
  if (await ask("Approve?", `Lets the deploy of ${short(sha)} go on.`, "Approve")) await write("approve", { ref: sha }, options("Approve"));
}

startJournal(() => renderJournal(live.now()));
startSlots(schedule);
startPerformance(refresh);
startAccess(() => refused("The one before was forgotten."), schedule);
for (const kind of ["change", "input"]) for (const id of ["log-level", "log-search"]) $(id).addEventListener(kind, schedule);
$("notify-test").addEventListener("click", () => testNotifications({ ...options("Test"), answers: true }));
$("pause").addEventListener("click", pause);
$("resume").addEventListener("click", resume);
$("halt").addEventListener("click", askHalt);
$("flatten").addEventListener("click", () => flatten());
$("risk-change").addEventListener("click", () => changeRisk(live.state.control, options));
$("strategy-change").addEventListener("click", () => changeStrategy(live.state.control, live.state.status.status, options));
$("rollback").addEventListener("click", () => rollback());

// Keys lead towards safety only: there is none for resume. Each but pause asks first.
const KEYS = { p: pause, h: askHalt, f: () => flatten() };
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  if (event.target.closest("input, select") || document.querySelector("dialog[open]")) return;
  KEYS[event.key]?.();
});
