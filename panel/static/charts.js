// Charts as SVG of our own: drawn anew only when their numbers changed, sized by their box, readable without color.

import { $, set, text } from "./dom.js";
import { moment, percent, price, signed } from "./format.js";

const NS = "http://www.w3.org/2000/svg";
const [WIDTH, HEIGHT, TOP, BOTTOM] = [600, 160, 14, 20];
const WINDOWS = 20; // of a win rate
const drawn = new Map();

// found: of ledger/performance, for the time that is chosen; the curve ends at the whole ledger's PnL.
export function renderEquity(found, now) {
  const points = found?.equity ?? [];
  const totals = points.map((one) => Number(one.total));
  text($("pnl-sub"), found?.problem ?? (found ? `${signed(found.all?.pnl ?? 0)} in this time, ${signed(found.total)} in all` : "asking"));
  $("charts-empty").hidden = points.length > 0;
  const reach = Math.max(1, ...totals.map(Math.abs));
  const [low, high] = [Math.min(0, ...totals), Math.max(0, ...totals)];
  const margin = (high - low || reach) * 0.08;
  chart("pnl-chart", points, totals, { low: low - margin, high: high + margin, lines: [0], label: signed, now });
}

export function renderRate(ledger, now) {
  const points = ledger?.curve ?? [];
  const rates = points.map((_, index) => {
    const recent = points.slice(Math.max(0, index + 1 - WINDOWS), index + 1);
    return recent.filter((one) => one.won).length / recent.length;
  });
  text($("rate-sub"), points.length ? `the newest ${points.length} windows` : "");
  chart("rate-chart", points.slice(4), rates.slice(4), { low: 0, high: 1, lines: [0.5, 1], label: (v) => percent(v, 0), now });
}

// points: {time_ms, lead} of one window; the strike is a line, where it is known.
export function renderTrail(points, strike, now) {
  const prices = points.map((one) => one.lead);
  const all = strike == null ? prices : [...prices, strike];
  const [low, high] = [Math.min(...all), Math.max(...all)];
  const margin = (high - low || Math.abs(high) * 1e-4) * 0.15;
  chart("trail-chart", points, prices, { low: low - margin, high: high + margin, lines: strike == null ? [] : [strike], label: price, now });
}

function chart(id, points, values, { low, high, lines, label, now }) {
  const state = JSON.stringify([values, low, high]);
  if (drawn.get(id) === state) return;
  drawn.set(id, state);
  const svg = $(id);
  set(svg, "viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  if (!points.length) return svg.replaceChildren();
  const y = (value) => TOP + ((high - value) / (high - low)) * (HEIGHT - TOP - BOTTOM);
  const x = (index) => (points.length === 1 ? WIDTH / 2 : (index / (points.length - 1)) * WIDTH);
  const path = values.map((value, index) => `${index ? "L" : "M"}${x(index).toFixed(1)} ${y(value).toFixed(1)}`).join("");
  const base = y(Math.max(low, 0)).toFixed(1);
  const last = values.at(-1);
  svg.replaceChildren(
    ...lines.map((value) => element("line", { x1: 0, x2: WIDTH, y1: y(value), y2: y(value), class: "grid" })),
    ...lines.map((value) => element("text", { x: 2, y: y(value) + (value ? -3 : 11), class: "tick" }, label(value))),
    element("path", { d: `${path}L${x(points.length - 1).toFixed(1)} ${base}L${x(0).toFixed(1)} ${base}Z`, class: "area" }),
    element("path", { d: path, class: "line" }),
    element("circle", { cx: x(points.length - 1), cy: y(last), r: 3.5, class: "dot" }),
    element("text", { x: 2, y: HEIGHT - 4, class: "tick" }, moment(points[0].time_ms, now)),
    element("text", { x: WIDTH - 2, y: HEIGHT - 4, class: "tick end" }, moment(points.at(-1).time_ms, now)),
  );
  set(svg, "aria-label", `from ${label(values[0])} to ${label(last)}, lowest ${label(Math.min(...values))}, highest ${label(Math.max(...values))}`);
}

function element(name, attributes, content = "") {
  const made = document.createElementNS(NS, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, typeof value === "number" ? value.toFixed(1) : value);
  made.textContent = content;
  return made;
}
