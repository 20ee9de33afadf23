// Access: this tab's token, who is notified, and the zone of the times.

import { notice, write } from "../actions.js";
import { $, list, set, text } from "../dom.js";
import { chooseZone, clock, count, moment, zone } from "../format.js";

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

const SCOPES = { control: "may look and change", read: "may look alone: the buttons are off" };

// access: {name, scope} of this tab's token, or null.
export function renderAccess(access, now) {
  text($("tokens-sub"), access?.scope ?? "");
  list("tokens", access ? [access] : [], (one) => one.name, (one) => ({
    mark: one.scope === "control" ? "✓" : "○",
    main: one.name,
    side: one.scope,
    sub: SCOPES[one.scope],
  }));
  $("token-forget").disabled = !access;
  text($("zone-now"), `Now it is ${clock(now)}. Days are counted in UTC, whatever is chosen.`);
}

// onForget: the tab's token is to be forgotten. onZone: times are shown anew.
export function startAccess(onForget, onZone) {
  $("token-forget").addEventListener("click", onForget);
  set($("zone").querySelector(`[value="${zone()}"]`), "selected", "");
  $("zone").addEventListener("change", () => {
    chooseZone($("zone").value);
    onZone();
  });
}

// What each target answered to a test.
export async function testNotifications(options) {
  notice("A test is sent.", "", 0);
  const said = await write("notify-test", {}, { ...options, answers: true });
  if (said) notice(said.targets.map((one) => `${one.name}: ${one.text}`).join(" · "), said.sent ? "good" : "bad", 0);
}
