// Overview: what needs a person, orders in doubt, the newest trades, windows and deploy.

import { $, list, text } from "../dom.js";
import { count, moment, short, signed } from "../format.js";
import { describeFill } from "./journal.js";
import { wordOf } from "./deploys.js";

// Whatever takes the green away, and deploys that wait for somebody.
export function renderNeeds({ level, title, details }, state) {
  const held = (state.deploys?.deploys ?? []).filter((one) => one.step === "held");
  const concerns = level === "good" || level === "wait" ? [] : details.some(Boolean) ? details.filter(Boolean) : [title];
  const needs = [
    ...concerns.map((main) => ({ key: main, mark: level === "bad" ? "✕" : "!", level, main })),
    ...held.map((one) => ({ key: one.deploy, mark: "!", level: "warn", main: `Deploy ${short(one.sha)} waits for an approval.`, sub: one.text })),
  ];
  text($("needs-sub"), needs.length ? "" : "nothing");
  list("needs", needs, (one) => one.key, (one) => one);
}

export function renderDoubt(ledger, now) {
  const orders = ledger?.doubt ?? [];
  text($("doubt-sub"), ledger?.problem ?? (orders.length ? `${orders.length} open` : "none"));
  list("doubt", orders, (one) => one.order_id, (one) => ({
    mark: "!",
    level: "warn",
    main: `${one.slot} ${one.side === "BUY" ? "buy" : "sell"} ${Number(one.size)} ${one.outcome} at ${one.price}`,
    side: moment(one.time_ms, now),
    sub: one.text || "sent, not answered yet",
  }));
}

export function renderOutcomes(status, now) {
  const outcomes = [...(status?.outcomes ?? [])].sort((a, b) => b.resolved_ms - a.resolved_ms).slice(0, 12);
  const totals = status?.totals;
  text($("outcomes-sub"), totals ? `${count(totals.wins)} won · ${count(totals.losses)} lost` : "");
  list("outcomes", outcomes, (one) => `${one.window} ${one.slot}`, (one) => ({
    mark: { Up: "▲", Down: "▼" }[one.winner] ?? "·",
    level: Number(one.pnl) < 0 ? "loss" : "gain",
    main: one.window,
    side: signed(one.pnl),
    sub: `${one.winner} won · ${moment(one.resolved_ms, now)} · fees ${Number(one.fees).toFixed(2)}`,
  }));
}

export function renderTrades(fills, now) {
  text($("trades-sub"), fills?.problem ?? "");
  list("trades", fills?.fills ?? [], (one) => `${one.trade_id} ${one.order_id}`, (one) => describeFill(one, now));
}

export function renderLastDeploy(view, now) {
  const newest = (view?.deploys ?? []).slice(0, 1);
  text($("deploy-sub"), view?.problem ?? "");
  list("deploy", newest, (one) => one.deploy, (one) => ({
    mark: "›",
    main: `${short(one.sha)} ${wordOf(one.steps.findLast((step) => step.step === one.step) ?? one)}`,
    side: moment(one.started_ms, now),
    sub: [one.by, one.text].filter(Boolean).join(" · "),
  }));
}
