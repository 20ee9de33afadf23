// Instances, feeds, deploys, outcomes.

import { $, each, fillRow, row, text } from "./dom.js";
import { count, moment, short, signed, span } from "./format.js";

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

const GOOD = new Set(["confirmed", "retired"]);
const BAD = new Set(["failed", "taken-back", "cancelled"]);

export function renderDeploys(view, now) {
  const deploys = (view?.deploys ?? []).slice(0, 6);
  text($("deploys-sub"), view?.problem ?? "");
  list("deploys", deploys, (one) => one.deploy, (one) => {
    const last = one.steps[one.steps.length - 1];
    return {
      mark: GOOD.has(one.step) ? "✓" : BAD.has(one.step) ? "✕" : "›",
      level: GOOD.has(one.step) ? "good" : BAD.has(one.step) ? "bad" : "",
      main: `${short(one.sha)}${one.by ? ` by ${one.by}` : ""}`,
      side: one.step,
      sub: [moment(one.started_ms, now), last.ms == null ? "" : `after ${span(last.ms)}`, one.text].filter(Boolean).join(" · "),
    };
  });
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

