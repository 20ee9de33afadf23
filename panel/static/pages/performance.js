// Performance: how well it traded in a time that is chosen, by what the windows have in common, and how good the predictions were.

import { get } from "../actions.js";
import { $, each, list, make, part, set, text } from "../dom.js";
import { NONE, cents, count, milliseconds, moment, money, rate, short, signed, tone } from "../format.js";

const EVERY_MS = 60000; // both take the panel a second or two
const WEEKS = 12;
const DAY_MS = 86400000;
const day = (ms) => new Date(ms).toISOString().slice(0, 10);

// What was asked for last, by path: {path, at, body}.
const answers = {};

// The newest answer to a question, asked anew once a minute; what is shown of another question goes at once.
async function asked(name, path) {
  const before = answers[name];
  if (before?.path === path && performance.now() - before.at < EVERY_MS) return;
  const mine = (answers[name] = { path, at: performance.now(), body: before?.path === path ? before.body : null });
  const answer = await get(path);
  mine.body = answer ? { ...answer.body, problem: answer.body.problem ?? answer.body.error } : { problem: "the panel did not answer" };
  if (mine.body.problem) mine.at = -Infinity;
}

const query = (name, value) => (value ? `?${new URLSearchParams({ [name]: value })}` : "");
export const askEquity = () => asked("equity", `ledger/performance${query("days", $("pnl-range").value)}`);
export const equity = () => answers.equity?.body ?? null;

export const askPerformance = () =>
  Promise.all([
    asked("performance", `ledger/performance${query("days", $("performance-range").value)}`),
    asked("calibration", `ledger/calibration${query("slot", $("calibration-slot").value)}`),
  ]);

// onChange: something else is to be asked for.
export function startPerformance(onChange) {
  for (const id of ["pnl-range", "performance-range", "calibration-slot", "groups-by"]) $(id).addEventListener("change", onChange);
}

export function renderPerformance(slots, now) {
  const found = answers.performance?.body;
  text($("performance-sub"), found?.problem ?? (!found ? "asking" : found.whole ? "" : `the newest ${count(found.all?.windows)} windows alone`));
  each($("performance-facts"), facts(found, now), ([label]) => label, ([label]) => createFact(label), (element, [, value, sub, mood]) => {
    text(part(element, "value"), value);
    text(part(element, "sub"), sub || "\u00a0");
    set(part(element, "value"), "data-tone", mood);
  });
  renderCalendar(found, now);
  const by = $("groups-by").value;
  const groups = (found?.groups ?? []).filter((one) => one.by === by);
  list("groups", groups.sort((a, b) => (by === "hour" ? (a.name > b.name ? 1 : -1) : Number(b.pnl) - Number(a.pnl))), (one) => one.name, (one) => ({
    mark: "",
    level: tone(one.pnl),
    main: by === "commit" ? short(one.name) : by === "hour" ? `${one.name}:00 UTC` : one.name,
    side: signed(one.pnl),
    sub: `${count(one.windows)} ${one.windows === 1 ? "window" : "windows"} · won ${rate(one.wins, one.wins + one.losses)} · fees ${money(one.fees)}`,
  }));
  renderCalibration(slots);
}

export function createFact(label) {
  const [value, sub] = [make("dd"), make("dd", "sub")];
  value.dataset.part = "value";
  sub.dataset.part = "sub";
  return make("div", "", make("dt", "", label), value, sub);
}

function facts(found, now) {
  const all = found?.all;
  const [slipped, fall, answer] = [found?.slippage, found?.drawdown, found?.answer];
  return [
    ["PnL", signed(all?.pnl), found ? `${signed(found.total)} in all` : "", all ? tone(all.pnl) : null],
    ["Wins", all ? `${count(all.wins)} of ${count(all.wins + all.losses)}` : NONE, all ? rate(all.wins, all.wins + all.losses) : ""],
    ["Fees", money(all?.fees), all ? `${count(all.windows)} windows` : ""],
    ["Deepest fall", money(fall?.amount), fall?.at_ms == null ? "none" : `at ${moment(fall.at_ms, now)}`],
    ["Slippage", slipped?.orders ? `${cents(slipped.mean)} ¢ a share` : NONE, slipped?.orders ? `${signed(-slipped.cost)} · ${count(slipped.orders)} orders` : "no decision's price yet"],
    ["Orders answered", answer?.count ? milliseconds(answer.p50) : NONE, answer?.count ? `99th of 100 ${milliseconds(answer.p99)}` : "none yet"],
  ];
}

// A cell of a phone has no room for the cents of what is large.
const brief = (pnl) => (Math.abs(pnl) < 99.995 ? signed(pnl) : `${pnl < 0 ? "−" : "+"}${count(Math.round(Math.abs(pnl)))}`);

// Whole weeks from Monday to Sunday; a day without a resolved window is empty.
function renderCalendar(found, now) {
  const days = new Map((found?.groups ?? []).filter((one) => one.by === "day").map((one) => [one.name, one]));
  const today = Math.floor(now / DAY_MS) * DAY_MS;
  const first = [...days.keys()].sort()[0];
  const monday = (ms) => ms - ((new Date(ms).getUTCDay() + 6) % 7) * DAY_MS;
  const from = Math.max(monday(first ? Date.parse(first) : today), monday(today) - (WEEKS - 1) * 7 * DAY_MS);
  const shown = Array.from({ length: (monday(today) - from) / DAY_MS + 7 }, (_, index) => from + index * DAY_MS);
  each($("calendar"), shown, (ms) => ms, () => {
    const li = make("li", "", make("time"), make("b"), make("small"));
    ["date", "pnl", "windows"].forEach((name, index) => (li.children[index].dataset.part = name));
    return li;
  }, (li, ms) => {
    const one = days.get(day(ms));
    set(li, "data-tone", one ? tone(one.pnl) : null);
    set(li, "data-off", ms > today);
    text(part(li, "date"), day(ms).slice(5));
    text(part(li, "pnl"), one ? brief(one.pnl) : "");
    text(part(li, "windows"), one ? `${one.wins}/${one.wins + one.losses}` : "");
    set(li, "title", one ? `${one.windows} windows, ${one.wins} won, ${one.losses} lost, fees ${money(one.fees)}` : null);
  });
}

function renderCalibration(slots) {
  each($("calibration-slot"), ["", ...slots], (slot) => slot, () => make("option"), (option, slot) => {
    set(option, "value", slot);
    text(option, slot || "every slot");
  });
  const found = answers.calibration?.body;
  text($("calibration-sub"), found?.problem ?? (found ? "" : "asking"));
  const rows = [...(found?.scores ?? []), ...(found?.bins ?? [])];
  list("calibration", rows, (one) => one.name ?? `${one.who} ${one.low}`, (one) => (one.name ? showScore(one) : showBin(one)));
}

const said = (...parts) => parts.filter(Boolean).join(" · ");
const three = (value) => value.toFixed(3);

function showScore({ name, verdict, windows, model, market, belief, worse_by, low, high }) {
  return {
    mark: high < 0 ? "▲" : low > 0 ? "▼" : "·",
    level: windows < 30 ? "" : high < 0 ? "gain" : low > 0 ? "loss" : "",
    main: `${name}: ${verdict}`,
    side: `Brier ${three(model)} against ${three(market)}`,
    sub: said(`${windows} windows`, `worse by ${three(worse_by)} [${three(low)}, ${three(high)}]`, `what was decided upon ${three(belief)}`, "a coin has 0.250"),
  };
}

function showBin({ who, low, high, n, said: average, happened, least, most }) {
  const holds = least <= average && average <= most;
  return {
    mark: holds ? "✓" : "!",
    level: holds ? "" : "warn",
    main: `${who} said ${low} to ${high}, ${three(average)} on average`,
    side: `happened ${three(happened)}`,
    sub: said(`${n} times`, `95 % interval ${three(least)} to ${three(most)}`),
  };
}
