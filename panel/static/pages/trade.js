// Trade: the table of slots, and what is held. Rows are made once and changed in place.

import { $, each, fillRow, make, part, row, set, text } from "../dom.js";
import { NONE, basisPoints, cents, countdown, money, percent, price, shares, signed, tone } from "../format.js";
import { toSlot } from "../router.js";

const COLUMNS = [
  ["slot", "Slot"], ["window", "Window"], ["strike", "Strike", "n"], ["lead", "Lead", "n"], ["probability", "P(up)", "n"],
  ["edge", "Edge", "n"], ["up", "Up", "n"], ["down", "Down", "n"], ["position", "Position"], ["pnl", "PnL", "n"],
  ["decision", "Decision"], ["switch", "On"], ["act", "By hand"],
];

// What the table is sorted by: a column's name, how it reads, and its value in a slot. Slots without one come last.
const SORTS = {
  "": ["as configured", () => 0],
  slot: ["slot", (slot) => slot.slot],
  window: ["time left", (slot) => slot.end_ms],
  probability: ["P(up)", (slot) => slot.probability_up, true],
  edge: ["edge", (slot) => slot.edge, true],
  pnl: ["PnL of the position", (slot) => slot.position?.pnl && Number(slot.position.pnl), true],
  decision: ["decision", (slot) => slot.decision],
};

function sorted(slots) {
  const [, value, falls] = SORTS[$("slots-sort").value];
  const order = (a, b) => (a == null || b == null ? (a == null) - (b == null) : (a > b) - (a < b) && (a > b === Boolean(falls) ? -1 : 1));
  return [...slots].sort((a, b) => order(value(a), value(b)));
}

function filtered(slots) {
  const [asset, timeframe] = [$("slots-asset").value, $("slots-timeframe").value];
  return slots.filter((slot) => (!asset || slot.asset === asset) && (!timeframe || slot.timeframe === timeframe) && (!$("slots-open").checked || slot.position));
}

const offer = (id, values, all) =>
  each($(id), ["", ...new Set(values)], (value) => value, () => make("option"), (option, value) => {
    set(option, "value", value);
    text(option, value || all);
  });

// onChange: another order, or other slots, are wanted.
export function startSlots(onChange) {
  each($("slots-sort"), Object.entries(SORTS), ([name]) => name, () => make("option"), (option, [name, [label]]) => {
    set(option, "value", name);
    text(option, name ? `by ${label}` : label);
  });
  for (const id of ["slots-sort", "slots-asset", "slots-timeframe", "slots-open"]) $(id).addEventListener("change", onChange);
  for (const [index, [name]] of COLUMNS.entries()) {
    if (!SORTS[name]) continue;
    const heading = document.querySelectorAll("#slots thead th")[index];
    const button = make("button", "", heading.textContent);
    button.type = "button";
    button.addEventListener("click", () => {
      $("slots-sort").value = $("slots-sort").value === name ? "" : name;
      onChange();
    });
    heading.replaceChildren(button);
    heading.dataset.sort = name;
  }
}

function drawSort() {
  const by = $("slots-sort").value;
  for (const heading of document.querySelectorAll("#slots [data-sort]")) {
    set(heading, "aria-sort", heading.dataset.sort !== by ? null : SORTS[by][2] ? "descending" : "ascending");
  }
}

// What is held, also in windows that are over and not resolved: a position's PnL is what it would bring less what it cost.
export function renderPositions(status, now, actions) {
  const bySlot = (status?.slots ?? []).filter((slot) => slot.position).map((slot) => ({ slot, position: slot.position }));
  const name = ({ window, outcome }) => `${window} ${outcome}`;
  const shown = new Set(bySlot.map(({ position }) => name(position)));
  const others = (status?.positions ?? []).filter((position) => !shown.has(name(position))).map((position) => ({ position }));
  const rows = [...bySlot, ...others];
  text($("positions-sub"), rows.length ? `${rows.length} held` : "");
  each($("positions"), rows, ({ position }) => name(position), ({ slot }) => createPosition(slot, actions), (li, one) => updatePosition(li, one, now));
  $("positions-empty").hidden = rows.length > 0;
}

function createPosition(slot, actions) {
  const li = row();
  li.classList.add("held");
  if (!slot) return li;
  const button = make("button", "small", "Sell");
  button.type = "button";
  button.dataset.writes = "";
  button.setAttribute("aria-label", `Sell what is held of ${slot.slot}`);
  button.addEventListener("click", () => actions.flatten(slot.slot));
  li.append(button);
  return li;
}

function updatePosition(li, { slot, position }, now) {
  const { average, cost, value, pnl } = position;
  fillRow(li, {
    mark: ARROWS[position.outcome] ?? "·",
    level: pnl == null ? "" : tone(pnl),
    main: `${slot?.slot ?? position.window} ${position.outcome} ${shares(position.shares)}`,
    side: pnl == null ? NONE : signed(pnl),
    sub: [
      average == null ? "" : `average ${cents(average)} ¢`,
      `cost ${money(cost)}`,
      value == null ? "no bid" : `value at the bid ${money(value)}`,
      slot?.end_ms == null ? "waits for its outcome" : `${countdown(slot.end_ms - now)} left`,
    ].filter(Boolean).join(" · "),
  });
}

const ARROWS = { Up: "▲", Down: "▼" };

export function renderSlots(status, control, now, actions) {
  const slots = status?.slots ?? [];
  offer("slots-asset", slots.map((slot) => slot.asset), "every asset");
  offer("slots-timeframe", slots.map((slot) => slot.timeframe), "every window");
  drawSort();
  each($("slot-rows"), sorted(filtered(slots)), (slot) => slot.slot, (slot) => createRow(slot, actions), (tr, slot) => updateRow(tr, slot, control, now, staleOf(status, slot.asset)));
  $("slots-empty").hidden = slots.length > 0;
  const open = slots.filter((slot) => slot.in_snipe).length;
  const on = slots.filter((slot) => slot.enabled).length;
  text($("slots-sub"), slots.length ? `${on} of ${slots.length} on · ${open} in their snipe window` : "");
}

// Which of an asset's numbers are old: those of a feed that is not fresh, by the names that the bot gives feeds.
export function staleOf(status, asset) {
  const old = new Set((status?.feeds ?? []).filter((feed) => !feed.fresh).map((feed) => feed.name));
  return { lead: old.has(`binance ${asset}`), books: old.has(`books ${asset}`), settlement: old.has(`settlement ${asset}`) };
}

const FED = { lead: "lead", up: "books", down: "books", pnl: "books", cost: "books", settles: "settlement" };

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
  if (name === "slot") return [named("a", "asset"), named("span", "timeframe", "chip")];
  if (name === "window") return [named("span", "left", "left"), make("span", "bar", named("i", "bar")), named("span", "snipe", "snipe")];
  if (name === "strike") return [named("span", "strike"), named("small", "settles")];
  if (name === "lead") return [named("span", "lead"), named("small", "distance")];
  if (name === "position") return [named("span", "position"), named("small", "cost")];
  if (name === "decision") return [named("b", "decision"), named("small", "why"), named("small", "reason")];
  if (name === "switch") {
    const button = named("button", "switch", "switch");
    button.type = "button";
    button.dataset.writes = "";
    button.setAttribute("role", "switch");
    button.append(make("i"), named("span", "switch-text"));
    return [button];
  }
  if (name === "act") {
    return [["enter", "Buy"], ["flatten", "Sell"]].map(([key, label]) => {
      const button = named("button", key, "small");
      button.type = "button";
      button.dataset.writes = "";
      button.textContent = label;
      return button;
    });
  }
  return [named("span", name)];
}

function updateRow(tr, slot, control, now, stale) {
  const show = (name, value) => text(part(tr, name), value);
  set(tr, "data-snipe", slot.in_snipe);
  set(tr, "data-off", !slot.enabled);
  for (const [cell, feed] of Object.entries(FED)) set(part(tr, cell), "data-old", stale[feed]);
  show("asset", slot.asset);
  set(part(tr, "asset"), "href", toSlot(slot.slot));
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
  updateHeld(tr, slot);
  const pnl = slot.position?.pnl;
  show("pnl", signed(pnl));
  set(part(tr, "pnl"), "data-tone", pnl == null ? null : tone(pnl));
  part(tr, "flatten").disabled = !slot.position && !slot.orders;
  for (const name of ["enter", "flatten"]) set(part(tr, name), "aria-label", `${name === "enter" ? "Buy by hand in" : "Sell all of"} ${slot.slot}`);
  show("decision", slot.in_doubt ? `${slot.decision} · ${slot.in_doubt} in doubt` : slot.decision);
  // A wide table has room for the code alone; the words are on the slot's own page, and here where rows are cards.
  show("why", slot.code.replaceAll("_", " "));
  show("reason", slot.reason);
  set(part(tr, "decision").parentElement, "data-coded", Boolean(slot.code));
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

function updateHeld(tr, { position, orders }) {
  text(part(tr, "position"), position ? `${ARROWS[position.outcome] ?? ""} ${position.outcome} ${shares(position.shares)}`.trim() : NONE);
  set(part(tr, "position"), "data-side", position?.outcome);
  // The column has room for one of both: what it is worth also stands among the open positions.
  const waiting = orders ? `${orders} ${orders === 1 ? "order" : "orders"}` : "";
  const worth = position?.value == null ? "" : `→${money(position.value)}`;
  text(part(tr, "cost"), position ? `${money(position.cost)}${waiting ? ` · ${waiting}` : worth}` : waiting && `${waiting} open`);
}

// Bid and ask in cents.
export const book = (bid, ask) => (bid == null && ask == null ? NONE : `${cents(bid)} / ${cents(ask)}`);

// The switch shows what is wanted; while the bot has not followed yet it says so.
function updateSwitch(tr, slot, control) {
  const wanted = control?.slots?.[slot.slot]?.enabled ?? (control ? true : slot.enabled);
  const button = part(tr, "switch");
  set(button, "aria-checked", wanted);
  set(button, "aria-label", `${slot.asset} ${slot.timeframe}, slot ${slot.slot}`);
  set(button, "data-pending", wanted !== slot.enabled);
  text(part(tr, "switch-text"), wanted !== slot.enabled ? "…" : wanted ? "on" : "off");
}
