// The table of slots. Rows are made once and changed in place.

import { $, each, make, part, set, text } from "./dom.js";
import { NONE, basisPoints, cents, countdown, money, percent, price, signed, tone } from "./format.js";

const COLUMNS = [
  ["slot", "Slot"], ["window", "Window"], ["strike", "Strike", "n"], ["lead", "Lead", "n"], ["probability", "P(up)", "n"],
  ["edge", "Edge", "n"], ["up", "Up", "n"], ["down", "Down", "n"], ["position", "Position"], ["pnl", "PnL", "n"],
  ["decision", "Decision"], ["switch", "On"], ["act", "By hand"],
];

export function renderSlots(status, control, now, actions) {
  const slots = status?.slots ?? [];
  each($("slot-rows"), slots, (slot) => slot.slot, (slot) => createRow(slot, actions), (tr, slot) => updateRow(tr, slot, control, now));
  $("slots-empty").hidden = slots.length > 0;
  const open = slots.filter((slot) => slot.in_snipe).length;
  const on = slots.filter((slot) => slot.enabled).length;
  text($("slots-sub"), slots.length ? `${on} of ${slots.length} on · ${open} in their snipe window` : "");
}

function createRow(slot, actions) {
  const tr = make("tr");
  for (const [name, label, kind] of COLUMNS) {
    const cell = make(name === "slot" ? "th" : "td", `${name} ${kind ?? ""}`.trim());
    if (name === "slot") cell.scope = "row";
    cell.dataset.label = label;
    cell.append(...contents(name));
    tr.append(cell);
  }
  const button = part(tr, "switch");
  button.addEventListener("click", () => actions.toggle(slot.slot, button.getAttribute("aria-checked") !== "true"));
  part(tr, "enter").addEventListener("click", () => actions.enter(slot.slot));
  part(tr, "flatten").addEventListener("click", () => actions.flatten(slot.slot));
  return tr;
}

function contents(name) {
  const named = (tag, key, className = "") => {
    const element = make(tag, className);
    element.dataset.part = key;
    return element;
  };
  if (name === "slot") return [named("b", "asset"), named("span", "timeframe", "chip")];
  if (name === "window") return [named("span", "left", "left"), make("span", "bar", named("i", "bar")), named("span", "snipe", "snipe")];
  if (name === "strike") return [named("span", "strike"), named("small", "settles")];
  if (name === "lead") return [named("span", "lead"), named("small", "distance")];
  if (name === "position") return [named("span", "position"), named("small", "cost")];
  if (name === "decision") return [named("b", "decision"), named("small", "reason")];
  if (name === "switch") {
    const button = named("button", "switch", "switch");
    button.type = "button";
    button.setAttribute("role", "switch");
    button.append(make("i"), named("span", "switch-text"));
    return [button];
  }
  if (name === "act") {
    return [["enter", "Buy"], ["flatten", "Sell"]].map(([key, label]) => {
      const button = named("button", key, "small");
      button.type = "button";
      button.textContent = label;
      return button;
    });
  }
  return [named("span", name)];
}

function updateRow(tr, slot, control, now) {
  const show = (name, value) => text(part(tr, name), value);
  set(tr, "data-snipe", slot.in_snipe);
  set(tr, "data-off", !slot.enabled);
  show("asset", slot.asset);
  show("timeframe", slot.start_ms > now ? `${slot.timeframe} +1` : slot.timeframe);
  updateWindow(tr, slot, now);
  show("strike", price(slot.strike));
  show("lead", price(slot.lead_price));
  const distance = slot.strike && slot.lead_price != null ? slot.lead_price / slot.strike - 1 : null;
  show("distance", basisPoints(distance));
  show("probability", percent(slot.probability_up));
  show("edge", slot.edge == null ? NONE : `${slot.edge < 0 ? "−" : "+"}${Math.abs(slot.edge * 100).toFixed(1)} ¢`);
  show("up", book(slot.best_bid_up, slot.best_ask_up));
  show("down", book(slot.best_bid_down, slot.best_ask_down));
  show("settles", slot.settlement_price == null ? "" : `⌀ ${price(slot.settlement_price)}`);
  set(part(tr, "settles"), "title", "the part of the settlement average that is known");
  updatePosition(tr, slot);
  show("pnl", signed(slot.pnl));
  set(part(tr, "pnl"), "data-tone", tone(slot.pnl));
  part(tr, "flatten").disabled = !slot.position && !slot.orders;
  for (const name of ["enter", "flatten"]) set(part(tr, name), "aria-label", `${name === "enter" ? "Buy by hand in" : "Sell all of"} ${slot.slot}`);
  show("decision", slot.in_doubt ? `${slot.decision} · ${slot.in_doubt} in doubt` : slot.decision);
  show("reason", slot.reason);
  set(part(tr, "decision").parentElement, "title", slot.reason || null);
  updateSwitch(tr, slot, control);
}

function updateWindow(tr, slot, now) {
  const show = (name, value) => text(part(tr, name), value);
  show("snipe", slot.in_snipe ? "SNIPE" : "");
  set(tr.querySelector(".window"), "title", slot.window);
  if (slot.start_ms == null || slot.end_ms == null) {
    show("left", NONE);
    part(tr, "bar").style.width = "0";
    return;
  }
  const waits = now < slot.start_ms;
  show("left", waits ? `in ${countdown(slot.start_ms - now)}` : countdown(slot.end_ms - now));
  const done = Math.min(1, Math.max(0, (now - slot.start_ms) / (slot.end_ms - slot.start_ms)));
  part(tr, "bar").style.width = `${(done * 100).toFixed(1)}%`;
}

function updatePosition(tr, { position, orders }) {
  const arrow = { Up: "▲ Up", Down: "▼ Down" }[position?.outcome] ?? position?.outcome;
  text(part(tr, "position"), position ? `${arrow} ${Number(position.shares).toLocaleString("en-GB")}` : NONE);
  set(part(tr, "position"), "data-side", position?.outcome);
  const worth = position?.value == null ? "" : `→${money(position.value)}`;
  const open = orders ? `${orders} ${orders === 1 ? "order" : "orders"} open` : "";
  text(part(tr, "cost"), [position ? `${money(position.cost)}${worth}` : "", open].filter(Boolean).join(" · "));
}

// Bid and ask in cents.
const book = (bid, ask) => (bid == null && ask == null ? NONE : `${cents(bid)} / ${cents(ask)}`);

// The switch shows what is wanted; while the bot has not followed yet it says so.
function updateSwitch(tr, slot, control) {
  const wanted = control?.slots?.[slot.slot]?.enabled ?? (control ? true : slot.enabled);
  const button = part(tr, "switch");
  set(button, "aria-checked", wanted);
  set(button, "aria-label", `${slot.asset} ${slot.timeframe}, slot ${slot.slot}`);
  set(button, "data-pending", wanted !== slot.enabled);
  text(part(tr, "switch-text"), wanted !== slot.enabled ? "…" : wanted ? "on" : "off");
}
