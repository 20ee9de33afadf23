// Strategy: its parameters, the risk limits, and the change of both.

import { form, notice, write } from "../actions.js";
import { $, each, fillRow, make, part, row, set, text } from "../dom.js";
import { count, money, moment } from "../format.js";

// What is at stake against its limit: a bar, and the same in words.
export function renderRisk(status, control, writes, now) {
  const usage = status?.usage;
  const risk = control?.risk;
  const rows = usage && risk ? riskRows(usage, risk) : [];
  each($("risk"), rows, (one) => one.name, createBar, (li, one) => {
    const share = Math.min(1, one.used / one.limit || 0);
    set(li, "data-level", share >= 1 ? "bad" : share >= 0.8 ? "warn" : null);
    text(part(li, "main"), one.name);
    text(part(li, "side"), `${one.show(one.used)} of ${one.show(one.limit)}${share >= 1 ? " ✕" : share >= 0.8 ? " !" : ""}`);
    text(part(li, "sub"), lastChange(writes, "risk", one.limitName, now));
    part(li, "bar").style.width = `${(share * 100).toFixed(1)}%`;
  });
  text($("risk-sub"), risk ? `one order at most ${money(risk.max_order)}` : "");
  $("risk-empty").hidden = rows.length > 0;
  $("risk-change").disabled = !risk;
}

function riskRows(usage, risk) {
  const largest = (table) => Object.entries(table).sort((a, b) => b[1] - a[1])[0] ?? ["", 0];
  const [slot, inSlot] = largest(usage.slots);
  const [asset, inAsset] = largest(usage.assets);
  const limited = (name, used, limitName, show = money) => ({ name, used: Number(used), limit: Number(risk[limitName]), limitName, show });
  return [
    limited("At stake in all", usage.total, "max_total"),
    limited(`Largest asset${asset ? ` (${asset})` : ""}`, inAsset, "max_asset"),
    limited(`Largest slot${slot ? ` (${slot})` : ""}`, inSlot, "max_slot"),
    limited("Lost today", usage.loss_today, "daily_loss"),
    ...(risk.hourly_loss == null ? [] : [limited("Lost in an hour", usage.loss_last_hour, "hourly_loss")]),
    ...(risk.max_direction == null ? [] : [limited("Net on one outcome", largest(usage.directions ?? {})[1], "max_direction")]),
    ...(risk.losses_in_a_row == null ? [] : [limited("Losses in a row", usage.losses_in_a_row, "losses_in_a_row", count)]),
    limited("Trades that failed, in an hour", usage.failed_trades_last_hour ?? 0, "failed_trades_per_hour", count),
    limited("Orders in a minute", usage.orders_last_minute, "orders_per_minute", count),
  ];
}

function createBar() {
  const li = make("li", "meter");
  for (const name of ["main", "side", "sub"]) {
    li.append(make("span", name));
    li.lastChild.dataset.part = name;
  }
  const fill = make("i");
  fill.dataset.part = "bar";
  li.append(make("span", "bar", fill));
  return li;
}

const bounds = (about) => {
  if (about?.least == null && about?.most == null) return "";
  return about.most == null ? `at least ${about.least}` : `${about.least ?? "any"} to ${about.most}`;
};

// Who changed it last, and when; the panel shows the newest hundred writes.
function lastChange(writes, table, name, now) {
  const write = writes?.writes?.find((one) => one.after?.[table] && name in one.after[table]);
  return write ? `changed by ${write.by} at ${moment(write.time_ms, now)}` : "";
}

export function renderStrategy(status, control, writes, now) {
  const strategy = status?.strategy;
  const rows = Object.entries(strategy?.parameters ?? {});
  text($("strategy-sub"), strategy?.name ?? "");
  each($("strategy"), rows, ([name]) => name, row, (li, [name, value]) => {
    const wanted = control?.strategy?.[name];
    const pending = wanted !== undefined && wanted !== value;
    const about = strategy.about?.[name];
    fillRow(li, {
      mark: wanted === undefined ? "" : "•",
      main: name,
      side: `${value}${about?.unit ? ` ${about.unit}` : ""}${pending ? ` (wanted ${wanted})` : ""}`,
      sub: [about ? `default ${about.default}` : "", bounds(about), lastChange(writes, "strategy", name, now)].filter(Boolean).join(" · "),
      level: pending ? "warn" : "",
    });
  });
  $("strategy-empty").hidden = rows.length > 0;
  $("strategy-change").disabled = rows.length === 0;
}

const LIMITS = [
  ["max_order", "One order"], ["max_slot", "One slot"], ["max_asset", "One asset"], ["max_total", "Everything"],
  ["daily_loss", "Lost in a day"], ["hourly_loss", "Lost in an hour"], ["max_direction", "Net on one outcome"],
  ["losses_in_a_row", "Losses in a row"], ["cool_down_minutes", "Minutes to wait after them"],
  ["failed_trades_per_hour", "Trades that failed, in an hour"], ["orders_per_minute", "Orders in a minute"],
];
const COUNTS = new Set(["losses_in_a_row", "cool_down_minutes", "failed_trades_per_hour", "orders_per_minute"]);
const MAY_BE_NONE = new Set(["hourly_loss", "max_direction", "losses_in_a_row"]);

// generation: what is shown when it is asked. options: of a write, for its label.
export async function changeRisk({ control, generation }, options) {
  const { risk } = control;
  const shown = (name) => (risk[name] == null ? "" : String(risk[name]));
  const fields = LIMITS.map(([name, label]) => ({
    name, label, value: shown(name), mode: "decimal", required: !MAY_BE_NONE.has(name), hint: MAY_BE_NONE.has(name) ? "empty: no limit" : "",
  }));
  const given = await form("Risk limits", "In pUSD. They hold for the strategy and for entries by hand; exits are never refused.", fields, "Change");
  if (!given) return;
  const changed = Object.entries(given).filter(([name, value]) => value !== shown(name));
  if (!changed.length) return notice("Nothing was changed.");
  const body = Object.fromEntries(changed.map(([name, value]) => [name, value === "" ? null : COUNTS.has(name) ? Number(value) : value]));
  await write("risk", { generation, ...body }, options("Risk limits"));
}

export async function changeStrategy({ control, generation }, { strategy }, options) {
  const wanted = control?.strategy ?? {};
  const inForce = strategy.parameters;
  const shown = (name) => String(wanted[name] ?? inForce[name]);
  const fields = Object.keys(inForce).map((name) => ({ name, label: name, value: shown(name), hint: [bounds(strategy.about?.[name]), name in wanted ? "empty: the default again" : ""].filter(Boolean).join("; ") }));
  const given = await form("Strategy", "Parameters of the strategy that trades; it checks them itself and says what it refuses.", fields, "Change");
  if (!given) return;
  const changed = Object.entries(given).filter(([name, value]) => value !== shown(name));
  if (!changed.length) return notice("Nothing was changed.");
  const parameters = Object.fromEntries(changed.map(([name, value]) => [name, value === "" ? null : typed(value, inForce[name])]));
  await write("strategy", { generation, parameters }, options("Strategy"));
}

// What was typed, as the kind of value that is in force; what is none of that kind goes as it is, and is refused in words.
function typed(value, before) {
  if (typeof before === "boolean") return value === "true" ? true : value === "false" ? false : value;
  if (typeof before === "number") return Number.isFinite(Number(value)) ? Number(value) : value;
  return value;
}
