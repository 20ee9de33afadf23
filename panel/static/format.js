// Numbers and times as text. Money arrives as decimal strings; here it is only shown, never reckoned with.

export const NONE = "–";

const two = (n) => String(n).padStart(2, "0");

// The zone of shown times: "utc", or "" for that of the device. Kept in the browser.
const ZONE = "never-sleeps-zone";
let chosen = localStorage.getItem(ZONE) === "utc" ? "utc" : "";
export const zone = () => chosen;
export function chooseZone(name) {
  chosen = name;
  localStorage.setItem(ZONE, name);
}

// A date whose UTC fields are those of the zone.
const shifted = (ms) => new Date(ms - (chosen === "utc" ? 0 : new Date(ms).getTimezoneOffset() * 60000));

// UTC ms as 14:03:07.
export function clock(ms) {
  const at = shifted(ms);
  return `${two(at.getUTCHours())}:${two(at.getUTCMinutes())}:${two(at.getUTCSeconds())}`;
}

// A time of day, with the date where it is not today's.
export function moment(ms, now) {
  const at = shifted(ms);
  const today = at.toISOString().slice(0, 10) === shifted(now).toISOString().slice(0, 10);
  return today ? clock(ms) : `${two(at.getUTCDate())}.${two(at.getUTCMonth() + 1)}. ${clock(ms).slice(0, 5)}`;
}

// A length in ms as 4:07 or 1:04:07; for countdowns.
export function countdown(ms) {
  const all = Math.max(0, Math.ceil(ms / 1000));
  const [h, m, s] = [Math.floor(all / 3600), Math.floor(all / 60) % 60, all % 60];
  return h ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
}

// A length in ms in words: 0.3 s, 12 s, 5 min, 2 h 13 min, 3 d 4 h.
export function span(ms) {
  const s = Math.max(0, ms) / 1000;
  if (s < 10) return `${s.toFixed(1)} s`;
  if (s < 90) return `${Math.round(s)} s`;
  const min = Math.floor(s / 60);
  if (min < 60) return `${min} min`;
  const h = Math.floor(min / 60);
  return h < 48 ? `${h} h ${min % 60} min` : `${Math.floor(h / 24)} d ${h % 24} h`;
}

export function count(n) {
  return n == null ? NONE : Number(n).toLocaleString("en-GB");
}

export const shares = (value) => Number(value).toLocaleString("en-GB", { maximumFractionDigits: 2 });

// pUSD with two decimals.
export function money(value) {
  return value == null ? NONE : Number(value).toLocaleString("en-GB", { minimumFractionDigits: 2, maximumFractionDigits: 2 });
}

// pUSD with its sign, so that it reads without color.
export function signed(value) {
  if (value == null) return NONE;
  const n = Number(value);
  const shown = money(Math.abs(n));
  if (shown === "0.00") return shown;
  return (n < 0 ? "−" : "+") + shown;
}

export function tone(value) {
  const n = Number(value ?? 0);
  if (Math.abs(n) < 0.005) return "flat";
  return n < 0 ? "loss" : "gain";
}

// An asset's price: more decimals the smaller it is.
export function price(value) {
  if (value == null) return NONE;
  const decimals = value >= 1000 ? 2 : value >= 10 ? 3 : value >= 1 ? 4 : 5;
  return value.toLocaleString("en-GB", { minimumFractionDigits: decimals, maximumFractionDigits: decimals });
}

// A venue price between 0 and 1, in cents as traders read it: 0.535 is 53.5.
export function cents(value) {
  return value == null ? NONE : (Number(value) * 100).toFixed(1);
}

export function percent(value, decimals = 1) {
  return value == null ? NONE : `${(value * 100).toFixed(decimals)} %`;
}

export function basisPoints(value) {
  if (value == null || !Number.isFinite(value)) return "";
  const n = Math.round(value * 1e5) / 10;
  return `${n < 0 ? "−" : n > 0 ? "+" : ""}${Math.abs(n).toFixed(1)} bp`;
}

export const short = (sha) => (sha ? sha.slice(0, 7) : NONE);

// A wallet as 0xaa17…e9be.
export const wallet = (address) => (address?.length > 14 ? `${address.slice(0, 6)}…${address.slice(-4)}` : address ?? "");

export function milliseconds(ms) {
  return ms == null ? NONE : ms < 10000 ? `${count(ms)} ms` : span(ms);
}

// A share of wins with its interval of 95 %, as Wilson has it: 58 % (46 to 69 %).
export function rate(wins, all) {
  if (!all) return NONE;
  const z = 1.96;
  const [share, whole] = [wins / all, 1 + (z * z) / all];
  const middle = (share + (z * z) / (2 * all)) / whole;
  const half = (z / whole) * Math.sqrt((share * (1 - share)) / all + (z * z) / (4 * all * all));
  const low = Math.max(0, middle - half);
  return `${percent(share, 0)} (${(low * 100).toFixed(0)} to ${percent(Math.min(1, middle + half), 0)})`;
}
