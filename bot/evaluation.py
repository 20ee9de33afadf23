"""One evaluation of all slots: collect what each decision depends on, decide. No I/O but reading what others fetched."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from bot.ledger import Position
from bot.markets import Markets
from bot.prices import Prices
from bot.slots import Slot, Window
from bot.strategy import Decision, Inputs, Parameters, decide
from bot.venue.types import Book, Market, Outcome

State = Mapping[str, tuple[str, str, int]]
"""The evaluation state a slot: window, outcome and length of the streak that a confirmation counts."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One slot at one poll. inputs is None where nothing could be decided (no market yet, slot off).

    error: what the evaluation raised; the slot is skipped then.
    """

    slot: Slot
    window: Window
    market: Market | None
    inputs: Inputs | None
    decision: Decision
    evaluated: bool
    error: Exception | None = None


@dataclass(frozen=True, slots=True)
class View:
    """What an evaluation looks at.

    now_ms: the venue's time. to_boot_ms: added to a UTC time it gives CLOCK_BOOTTIME. blocked: why no order may be placed in
    a slot now ("" when it may).
    """

    now_ms: int
    to_boot_ms: int
    books: Mapping[str, Book]
    positions: tuple[Position, ...]
    state: State
    parameters: Parameters
    enabled: Callable[[Slot], bool]
    blocked: Callable[[Slot, Window, bool], str]


def wanted_tokens(slots: tuple[Slot, ...], markets: Markets, now_ms: int) -> list[str]:
    """The tokens whose books this poll needs."""
    found = (markets.get(slot.window(now_ms)) for slot in slots)
    return list(dict.fromkeys(token for market in found if market for token in (market.up_token, market.down_token)))


def evaluate(slots: tuple[Slot, ...], markets: Markets, prices: Prices, view: View) -> list[Evaluation]:
    """Evaluate every slot once. A slot whose evaluation raises is skipped and says so; the others go on."""
    return [_evaluate_guarded(slot, markets, prices, view) for slot in slots]


def next_state(evaluations: list[Evaluation]) -> dict[str, tuple[str, str, int]]:
    """The evaluation state that the next poll goes on from."""
    return {
        e.slot.id: (e.decision.streak_window, e.decision.streak_outcome, e.decision.streak)
        for e in evaluations
        if e.decision.streak
    }


def read_state(text: str | None) -> dict[str, tuple[str, str, int]]:
    """The evaluation state as it stands in the ledger; what cannot be read counts as none."""
    try:
        found = json.loads(text or "{}")["streaks"]
        return {str(slot): (str(w), str(o), int(n)) for slot, (w, o, n) in found.items()}
    except (ValueError, TypeError, KeyError, AttributeError):
        return {}


def write_state(state: State) -> str:
    """The form that `read_state` reads."""
    return json.dumps({"streaks": dict(state)}, separators=(",", ":"), sort_keys=True)


def _evaluate_guarded(slot: Slot, markets: Markets, prices: Prices, view: View) -> Evaluation:
    try:
        return _evaluate_slot(slot, markets, prices, view)
    except Exception as error:  # noqa: BLE001  whatever a strategy raises must not cost the other slots their poll
        window = slot.window(view.now_ms)
        reason = f"the evaluation failed: {type(error).__name__}: {error}"
        return Evaluation(slot, window, None, None, Decision("none", reason), evaluated=False, error=error)


def _evaluate_slot(slot: Slot, markets: Markets, prices: Prices, view: View) -> Evaluation:
    window = slot.window(view.now_ms)
    market = markets.get(window)
    if not view.enabled(slot):
        return Evaluation(slot, window, market, None, Decision("none", "switched off"), evaluated=True)
    if market is None:
        asked = markets.asked(window)
        reason = "the venue does not list this window yet" if asked else "this window was not looked up yet"
        return Evaluation(slot, window, None, None, Decision("none", reason), evaluated=asked)
    inputs = _inputs(slot, window, market, prices, view)
    decision = decide(inputs, view.parameters)
    if not market.accepting and decision.action != "none":
        decision = replace(decision, action="none", reason="the venue takes no orders in this window")
    return Evaluation(slot, window, market, inputs, decision, evaluated=True)


def _inputs(slot: Slot, window: Window, market: Market, prices: Prices, view: View) -> Inputs:
    held = next((p for p in view.positions if p.window == window.slug and p.shares > 0), None)
    up, down = view.books.get(market.up_token), view.books.get(market.down_token)
    average_from = max(window.start_ms, window.end_ms - window.average_ms)
    seconds, average = 0.0, None
    if view.now_ms > average_from:
        seconds, average = prices.average(slot.asset, average_from + view.to_boot_ms, view.now_ms + view.to_boot_ms)
    streak_window, streak_outcome, streak = view.state.get(slot.id, ("", "", 0))
    return Inputs(
        slot=slot.id,
        window=window.slug,
        now_ms=view.now_ms,
        start_ms=window.start_ms,
        end_ms=window.end_ms,
        average_ms=window.average_ms,
        strike=None if market.strike is None else float(market.strike),
        lead_price=prices.newest(slot.asset),
        volatility=prices.volatility(slot.asset),
        average_seconds=seconds,
        average_price=average,
        asks_up=up.asks[:5] if up else (),
        bids_up=up.bids[:5] if up else (),
        asks_down=down.asks[:5] if down else (),
        bids_down=down.bids[:5] if down else (),
        tick=market.tick,
        min_size=market.min_size,
        fee_rate=float(market.fee_rate),
        fee_exponent=market.fee_exponent,
        held=Outcome(held.outcome) if held else None,
        held_shares=held.shares if held else 0,
        streak_window=streak_window,
        streak_outcome=streak_outcome,
        streak=streak,
        blocked=view.blocked(slot, window, held is not None),
    )
