// Health: instances, feeds, how fast the loop is, and the log's filter.

import { $, each, fillRow, list, row, set, text } from "../dom.js";
import { NONE, count, milliseconds, short, span } from "../format.js";

const ORDER = ["active", "yielding", "standby", "warming", "retired", "stopped"];
const rank = (one) => (one.alive ? ORDER.indexOf(one.document?.role) : 10);
const MAX_SHOWN_DEAD = 2;
const LITTLE_MIB = 1024;
const gib = (mib) => `${(mib / 1024).toFixed(1)} GiB`;

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

// Space where the bus is, and how old what is shown is.
export function renderDisk(view) {
  const [free, total] = [view?.disk_free_mib, view?.disk_total_mib];
  text($("fact-disk"), free == null ? NONE : `${gib(free)} free`);
  text($("fact-disk-sub"), free == null ? "not known" : `of ${gib(total)}`);
  set($("fact-disk"), "data-tone", free != null && free < LITTLE_MIB ? "loss" : null);
}
