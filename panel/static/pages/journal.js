// The journal: orders, fills, outcomes and days, newest first, asked of the panel while it is in view. A row of an order or a
// fill opens all that happened to it.

import { get, known } from "../actions.js";
import { $, each, fillRow, make, part, row, set, text } from "../dom.js";
import { cents, clock, milliseconds, moment, money, shares, signed, tone } from "../format.js";

const MOST = 200; // rows, the panel's own limit
const SAVE_MS = 20000;
const STATES = { done: ["✓", ""], refused: ["✕", "bad"], abandoned: ["✕", "off"], in_doubt: ["?", "warn"] };

const trade = (one) => `${one.slot} ${one.side} ${one.outcome} ${shares(one.size)} at ${cents(one.price)}`;
const said = (...parts) => parts.filter(Boolean).join(" · ");

export const describeOrder = (one, now) => ({
  mark: (STATES[one.state] ?? ["…", ""])[0],
  level: (STATES[one.state] ?? ["…", ""])[1],
  main: trade(one),
  side: `${one.state.replace("_", " ")} · ${moment(one.time_ms, now)}`,
  sub: said(one.reason, `filled ${shares(one.filled)}`, one.text, one.answer_ms == null ? "" : `answered in ${milliseconds(one.answer_ms)}`, one.window, one.order_id.slice(0, 10)),
});

export const describeFill = (one, now) => ({
  mark: one.counts ? "✓" : "✕",
  level: one.counts ? "" : "bad",
  main: trade(one),
  side: `${money(one.price * one.size)} · ${moment(one.time_ms, now)}`,
  sub: said(`fee ${money(one.fee)}`, one.counts ? "" : "failed on chain: it does not count", one.window, `order ${one.order_id.slice(0, 10)}`),
});

export const describeOutcome = (one, now) => ({
  mark: { Up: "▲", Down: "▼" }[one.winner] ?? "·",
  level: tone(one.pnl),
  main: `${one.slot} ${one.winner} won`,
  side: `${signed(one.pnl)} · ${moment(one.time_ms, now)}`,
  sub: said(`paid ${money(one.payout)}`, `fees ${money(one.fees)}`, one.window),
});

// Each kind: where it is asked for, the name of its rows, what tells two apart, and how one is shown.
const KINDS = {
  orders: { path: "orders", key: (one) => one.order_id, show: describeOrder },
  fills: { path: "fills", key: (one) => `${one.trade_id} ${one.order_id}`, show: describeFill },
  outcomes: { path: "outcomes", key: (one) => `${one.window} ${one.slot} ${one.time_ms}`, show: describeOutcome },
  pnl: {
    path: "pnl",
    rows: (body) => body.rows ?? [],
    key: (one) => `${one.day_ms} ${one.slot}`,
    show: (one) => ({
      mark: "",
      level: tone(one.pnl),
      main: `${new Date(one.day_ms).toISOString().slice(0, 10)} ${one.slot}`,
      side: signed(one.pnl),
      sub: said(`${one.windows} windows`, `${one.wins} won, ${one.losses} lost`, `fees ${money(one.fees)}`),
    }),
  },
};

let inView = false;
let asking = false;
let shown = { kind: "", rows: [] };

// onView: the section came into view, or something else is to be shown.
export function startJournal(onView) {
  new IntersectionObserver(([entry]) => (inView = entry.isIntersecting) && onView()).observe($("journal").closest("section"));
  for (const id of ["journal-kind", "journal-slot"]) {
    $(id).addEventListener("change", onView);
  }
  $("journal-save").addEventListener("click", save);
}

export function offerSlots(slots) {
  each($("journal-slot"), ["", ...slots], (slot) => slot, () => document.createElement("option"), (option, slot) => {
    set(option, "value", slot);
    text(option, slot || "every slot");
  });
}

// Ask for what is chosen and show it; nothing while it is out of view or was asked for already.
export async function renderJournal(now) {
  const [kind, slot] = [$("journal-kind").value, $("journal-slot").value];
  if (!inView || asking || !known()) return;
  asking = true;
  const query = new URLSearchParams({ ...(KINDS[kind].rows ? {} : { most: MOST }), ...(slot && kind !== "pnl" ? { slot } : {}) });
  const answer = await get(`ledger/${KINDS[kind].path}?${query}`);
  if (!answer) text($("journal-sub"), "the panel did not answer");
  asking = false;
  if (answer) {
    const rows = KINDS[kind].rows?.(answer.body) ?? answer.body[kind] ?? [];
    draw(kind, kind === "pnl" && slot ? rows.filter((one) => one.slot === slot) : rows, answer.ok ? answer.body.problem : answer.body.error, now);
  }
  if (kind === $("journal-kind").value && slot === $("journal-slot").value) return;
  await renderJournal(now);
}

function draw(kind, rows, problem, now) {
  const { key, show } = KINDS[kind];
  if (shown.kind !== kind) $("journal").replaceChildren();
  shown = { kind, rows };
  text($("journal-sub"), problem ?? (rows.length >= MOST ? `the newest ${MOST}` : String(rows.length)));
  each($("journal"), rows, key, createRow, (li, one) => {
    li.dataset.order = one.order_id ?? "";
    set(part(li, "open"), "aria-label", `Life of order ${String(one.order_id).slice(0, 10)}`);
    set(part(li, "open"), "hidden", one.order_id ? null : "");
    fillRow(li, show(one, now));
  });
  $("journal-empty").hidden = rows.length > 0;
  $("journal-save").disabled = !rows.length;
}

function createRow() {
  const li = row();
  const open = make("button", "small open", "Life");
  open.type = "button";
  open.dataset.part = "open";
  set(open, "aria-expanded", "false");
  open.addEventListener("click", () => toggle(li, open));
  li.append(open);
  return li;
}

// Show or put away all that happened to the row's order.
async function toggle(li, open) {
  const shut = part(li, "open").getAttribute("aria-expanded") === "true";
  set(open, "aria-expanded", !shut);
  li.querySelector(".life")?.remove();
  if (shut) return;
  const life = make("ol", "life");
  li.append(life);
  const answer = await get(`ledger/orders/${li.dataset.order}`);
  const events = answer?.ok ? answer.body.events : [];
  const problem = answer ? answer.body.problem ?? answer.body.error : "the panel did not answer";
  if (problem) life.append(make("li", "", problem));
  let before = events[0]?.time_ms;
  for (const { time_ms: at, what, text: words } of events) {
    const later = at - before;
    before = at;
    life.append(make("li", "", make("time", "", clock(at)), ` ${later > 0 ? `+${milliseconds(later)} ` : ""}`, make("b", "", what.replace("_", " ")), ` ${words}`));
  }
}

// A spreadsheet takes what begins like this, and is no number, for a formula.
const FORMULA = /^[=+\-@\t\r]/;
const cell = (value) => {
  const plain = value == null ? "" : String(value);
  const safe = FORMULA.test(plain) && Number.isNaN(Number(plain)) ? `'${plain}` : plain;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
};

export function csv(rows) {
  const names = Object.keys(rows[0] ?? {});
  return [names, ...rows.map((one) => names.map((name) => one[name]))].map((line) => `${line.map(cell).join(",")}\r\n`).join("");
}

function save() {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([csv(shown.rows)], { type: "text/csv" }));
  link.download = `never-sleeps-${shown.kind}.csv`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), SAVE_MS);
}
