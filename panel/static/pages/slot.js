// Slot: what is known of one slot now, why it does what it does, and what was traded in it.

import { get } from "../actions.js";
import { renderTrail } from "../charts.js";
import { $, each, list, part, set, text } from "../dom.js";
import { NONE, basisPoints, countdown, money, percent, price, shares, signed, tone } from "../format.js";
import { describeFill, describeOrder, describeOutcome } from "./journal.js";
import { createFact } from "./performance.js";
import { book, staleOf } from "./trade.js";

const MOST = 50;
const MARKET = "https://polymarket.com/event/"; // a window's slug is its event's (Gamma, GET /events/slug/SLUG)
const NOTHING = { orders: [], fills: [], outcomes: [] };
const SPACING_MS = 500;
const MOST_POINTS = 1800; // of one window
const trails = new Map(); // by slot: {window, points}
let shown = { name: null, ...NOTHING };

// Ask for what was traded in a slot; what is shown of another goes at once.
export async function askSlot(name) {
  if (shown.name !== name) shown = { name, ...NOTHING };
  const answers = await Promise.all(Object.keys(NOTHING).map((kind) => get(`ledger/${kind}?${new URLSearchParams({ slot: name, most: MOST })}`)));
  if (shown.name !== name) return;
  const problem = answers.map((one) => (one ? one.body.problem ?? one.body.error : "the panel did not answer")).find(Boolean);
  shown = { name, problem, ...Object.fromEntries(Object.keys(NOTHING).map((kind, index) => [kind, answers[index]?.body[kind] ?? shown[kind]])) };
}

// The lead price of every slot's window, as this page sees it.
export function follow(status, now) {
  for (const { slot, window, lead_price: lead } of status.slots) {
    if (trails.get(slot)?.window !== window) trails.set(slot, { window, points: [] });
    const { points } = trails.get(slot);
    if (lead == null || now - (points.at(-1)?.time_ms ?? 0) < SPACING_MS) continue;
    points.push({ time_ms: now, lead });
    if (points.length > MOST_POINTS) points.shift();
  }
}

// isReal: the slot's windows are the venue's own, so there is a market to look at.
export function renderSlot(name, status, now, isReal) {
  const slot = status?.slots.find((one) => one.slot === name);
  text($("slot-title"), name);
  text($("slot-sub"), slot ? slot.window ?? "no window yet" : status ? "no such slot trades" : "");
  set($("slot-market"), "hidden", isReal && slot?.window ? null : "");
  set($("slot-market"), "href", slot?.window ? `${MARKET}${slot.window}` : null);
  each($("slot-facts"), slot ? facts(slot, now, staleOf(status, slot.asset)) : [], ([label]) => label, ([label]) => createFact(label), (element, [, value, sub, mood]) => {
    text(part(element, "value"), value);
    text(part(element, "sub"), sub || "\u00a0");
    set(part(element, "value"), "data-tone", mood);
  });
  renderTrail(trails.get(name)?.points ?? [], slot?.strike, now);
  const same = shown.name === name ? shown : NOTHING;
  text($("slot-orders-sub"), same.problem ?? "");
  list("slot-orders", same.orders, (one) => one.order_id, (one) => describeOrder(one, now));
  list("slot-fills", same.fills, (one) => `${one.trade_id} ${one.order_id}`, (one) => describeFill(one, now));
  list("slot-windows", same.outcomes, (one) => `${one.window} ${one.time_ms}`, (one) => describeOutcome(one, now));
}

function facts(slot, now, stale) {
  const said = (words, old) => [words, old ? "old" : ""].filter(Boolean).join(" · ");
  const { strike, position } = slot;
  const apart = (value) => (strike && value != null ? basisPoints(value / strike - 1) : "");
  const begun = slot.start_ms != null && now >= slot.start_ms;
  return [
    ["Window", slot.end_ms == null ? NONE : begun ? countdown(slot.end_ms - now) : `in ${countdown(slot.start_ms - now)}`, slot.in_snipe ? "in its snipe window" : begun ? "left" : "not begun"],
    ["Strike", price(strike), strike == null ? "not known yet" : "settles against it"],
    ["Lead price", price(slot.lead_price), said(apart(slot.lead_price), stale.lead)],
    ["Settlement price", price(slot.settlement_price), said(apart(slot.settlement_price) || "its average has not begun", stale.settlement)],
    ["P(up)", percent(slot.probability_up), slot.edge == null ? "" : `edge ${slot.edge < 0 ? "−" : "+"}${Math.abs(slot.edge * 100).toFixed(1)} ¢`],
    ["Up bid / ask", book(slot.best_bid_up, slot.best_ask_up), said("cents", stale.books)],
    ["Down bid / ask", book(slot.best_bid_down, slot.best_ask_down), said("cents", stale.books)],
    ["Position", position ? `${position.outcome} ${shares(position.shares)}` : NONE, position ? `${money(position.cost)}${position.value == null ? "" : ` → ${money(position.value)}`}` : "nothing is held"],
    ["PnL of the position", signed(position?.pnl), position ? said("if sold at the bid", stale.books) : "", position?.pnl == null ? null : tone(position.pnl)],
    ["PnL of the slot", signed(slot.pnl), "resolved windows, in all", tone(slot.pnl)],
    ["Decision", slot.decision, slot.enabled ? "" : "switched off"],
    ["Why", slot.code || NONE, slot.reason],
    ["Open orders", String(slot.orders), slot.in_doubt ? `${slot.in_doubt} in doubt` : ""],
  ];
}
