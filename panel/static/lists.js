// Instances, feeds, risk, strategy, latency, orders in doubt, outcomes, notifications.

import { $, each, fillRow, make, part, row, set, text } from "./dom.js";
import { NONE, count, milliseconds, moment, money, short, signed, span } from "./format.js";

function list(id, items, key, describe) {
  each($(id), items, key, row, (li, item) => fillRow(li, describe(item)));
  $(`${id}-empty`).hidden = items.length > 0;
}

const ORDER = ["active", "yielding", "standby", "warming", "retired", "stopped"];
const rank = (one) => (one.alive ? ORDER.indexOf(one.document?.role) : 10);
const MAX_SHOWN_DEAD = 2;

export function renderInstances(view, now) {
  const all = view?.instances ?? [];
  const dead = all.filter((one) => !one.alive).slice(-MAX_SHOWN_DEAD);
  const shown = [...all.filter((one) => one.alive), ...dead].sort((a, b) => rank(a) - rank(b) || (a.id < b.id ? 1 : -1));
  text($("instances-sub"), view?.problem ?? `${all.filter((one) => one.alive).length} alive`);
  list("instances", shown, (one) => one.id, (one) => describeInstance(one, view, now));
}

function describeInstance(one, view, now) {
  const it = one.document;
  if (!it) return { mark: "?", level: "warn", main: one.id, side: one.alive ? "alive" : "dead", sub: "Its document cannot be read." };
  const main = `${it.color} ${short(it.sha)}`;
  const wanted = view.wanted === one.id && it.role !== "active" ? " · named to take" : "";
  if (!one.alive) return { mark: "✕", level: "off", main, side: it.role === "stopped" || it.role === "retired" ? it.role : "dead", sub: one.id };
  const health = it.healthy ? "healthy" : it.why_not ?? "not healthy yet";
  return {
    mark: it.healthy ? "✓" : "!",
    level: it.role === "active" && it.healthy ? "good" : it.healthy ? "" : "warn",
    main,
    side: `${it.role}${wanted}`,
    sub: `${health} · ${count(it.polls)} polls · up ${span(now - it.started_ms)}`,
  };
}

export function renderFeeds(status, age) {
  const feeds = status?.feeds ?? [];
  const fresh = feeds.filter((feed) => feed.fresh).length;
  text($("feeds-sub"), feeds.length ? `${fresh} of ${feeds.length} fresh` : "");
  list("feeds", feeds, (feed) => feed.name, (feed) => ({
    mark: feed.fresh ? "✓" : feed.connected ? "!" : "✕",
    level: feed.fresh ? "good" : feed.connected ? "warn" : "bad",
    main: feed.name,
    side: feed.age_ms == null ? "no data yet" : `${span(feed.age_ms + (age ?? 0))} old`,
    sub: notes(feed),
  }));
}

function notes(feed) {
  const said = [];
  if (!feed.connected) said.push("not connected");
  if (feed.reconnects) said.push(`reconnects ${count(feed.reconnects)}`);
  if (feed.gaps) said.push(`gaps ${count(feed.gaps)}`);
  return said.join(" · ");
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


// What is at stake against its limit: a bar, and the same in words.
export function renderRisk(status, control) {
  const usage = status?.usage;
  const risk = control?.risk;
  const rows = usage && risk ? riskRows(usage, risk) : [];
  each($("risk"), rows, (one) => one.name, createBar, (li, one) => {
    const share = Math.min(1, one.used / one.limit || 0);
    set(li, "data-level", share >= 1 ? "bad" : share >= 0.8 ? "warn" : null);
    text(part(li, "main"), one.name);
    text(part(li, "side"), `${one.show(one.used)} of ${one.show(one.limit)}${share >= 1 ? " ✕" : share >= 0.8 ? " !" : ""}`);
    part(li, "bar").style.width = `${(share * 100).toFixed(1)}%`;
  });
  $("risk-empty").hidden = rows.length > 0;
  $("risk-change").disabled = !risk;
}

function riskRows(usage, risk) {
  const largest = (table) => Object.entries(table).sort((a, b) => b[1] - a[1])[0] ?? ["", 0];
  const [slot, inSlot] = largest(usage.slots);
  const [asset, inAsset] = largest(usage.assets);
  const row = (name, used, limit, show = money) => ({ name, used: Number(used), limit: Number(limit), show });
  return [
    row("At stake in all", usage.total, risk.max_total),
    { ...row("Largest asset", inAsset, risk.max_asset), show: money, name: `Largest asset${asset ? ` (${asset})` : ""}` },
    { ...row("Largest slot", inSlot, risk.max_slot), name: `Largest slot${slot ? ` (${slot})` : ""}` },
    row("Lost today", usage.loss_today, risk.daily_loss),
    ...(risk.hourly_loss == null ? [] : [row("Lost in an hour", usage.loss_last_hour, risk.hourly_loss)]),
    ...(risk.max_direction == null ? [] : [row("Net on one outcome", largest(usage.directions ?? {})[1], risk.max_direction)]),
    ...(risk.losses_in_a_row == null ? [] : [row("Losses in a row", usage.losses_in_a_row, risk.losses_in_a_row, count)]),
    row("Trades that failed, in an hour", usage.failed_trades_last_hour ?? 0, risk.failed_trades_per_hour ?? 10, count),
    row("Orders in a minute", usage.orders_last_minute, risk.orders_per_minute, count),
  ];
}

function createBar() {
  const li = make("li", "meter");
  for (const name of ["main", "side"]) li.append(Object.assign(make("span", name), {})), (li.lastChild.dataset.part = name);
  const fill = make("i");
  fill.dataset.part = "bar";
  li.append(make("span", "bar", fill));
  return li;
}

export function renderStrategy(status, control) {
  const strategy = status?.strategy;
  const rows = Object.entries(strategy?.parameters ?? {});
  text($("strategy-sub"), strategy?.name ?? "");
  each($("strategy"), rows, ([name]) => name, row, (li, [name, value]) => {
    const wanted = control?.strategy?.[name];
    const pending = wanted !== undefined && wanted !== value;
    fillRow(li, { mark: wanted === undefined ? "" : "•", main: name, side: pending ? `${value} (wanted ${wanted})` : String(value), level: pending ? "warn" : "" });
  });
  $("strategy-empty").hidden = rows.length > 0;
  $("strategy-change").disabled = rows.length === 0;
}

export function renderLatency(ledger) {
  const latency = ledger?.latency;
  const rows = latency
    ? [["Poll lag", latency.lag], ["Poll duration", latency.duration], ["Order answered", latency.order], ["Handover gap", latency.handover]]
    : [];
  each($("latency"), rows, ([name]) => name, row, (li, [name, spread]) =>
    fillRow(li, {
      mark: "",
      main: name,
      side: spread.count ? `${milliseconds(spread.p50)} · ${milliseconds(spread.p99)}` : NONE,
      sub: spread.count ? `most ${milliseconds(spread.most)} of the last ${count(spread.count)}` : "none yet",
    }));
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

const NOTIFIED = { sent: ["✓", "good"], failing: ["!", "warn"], untried: ["…", ""] };

export function renderNotifications(view, now) {
  const targets = view?.targets ?? [];
  text($("notifications-sub"), view?.problem ?? (view?.on ? (view.quiet ? `quiet ${view.quiet}` : "at any time") : ""));
  list("notifications", targets, (one) => one.name, (one) => {
    const [mark, level] = NOTIFIED[one.state];
    return {
      mark,
      level,
      main: one.name,
      side: one.time_ms == null ? "" : moment(one.time_ms, now),
      sub: one.state === "untried" ? "nothing was sent yet" : one.waiting ? `${one.text} · ${count(one.waiting)} wait` : one.text,
    };
  });
  $("notify-test").disabled = targets.length === 0;
}
