"""One evaluation of all slots: collect what each decision depends on, decide. No I/O but reading what others fetched."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol

from bot.market_data.basis import Basis, BasisState, read_basis, write_basis
from bot.market_data.books import Books
from bot.market_data.prices import Prices
from bot.reasons import NO_ORDERS, SWITCHED_OFF, MaybeReason, Reason, ReasonCode
from bot.slots import Slot, Window
from bot.strategy.api import Action, Decision, Inputs
from bot.strategy.guard import GuardedStrategy, StrategyError
from bot.venue.types import BASE_UNITS, Market, MarketProblem
from ledger import LastState
from ledger.rows import Position
from ledger.values import Outcome

# A state older than so many intervals, and than so many ms, has a gap behind it: what it counted is not in a row with now.
INTERVALS, LEAST_MS = 2, 5_000

CORRELATION = 0.85
"""Of the moves of two assets. Recorded with ETH's in 1 and 5 minutes: BTC 0.82 and 0.98, SOL 0.84 and 0.85, XRP 0.43 and 0.88."""


class Streak(NamedTuple):
    """The evaluation state of one slot: what a confirmation counts, and the time of the data that it counted last."""

    window: str = ""
    outcome: str = ""
    length: int = 0
    seen_ms: int = 0


State = Mapping[str, Streak]
"""The evaluation state a slot."""

NO_STREAK = Streak()


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One slot at one time. inputs is None where nothing could be decided (no market yet, slot off).

    error: what the evaluation raised; the slot is skipped then. acted: an order was wanted, and placed or refused by risk.
    wanted: the action that the strategy itself decided upon, before the market, risk and limits had their say.
    """

    slot: Slot
    window: Window
    market: Market | None
    inputs: Inputs | None
    decision: Decision
    evaluated: bool
    error: Exception | None = None
    acted: bool = False
    wanted: Action = "none"
    manual: str = ""
    """The id of the person's action that the decision is of; empty of the strategy's."""

    @property
    def awaits_books(self) -> bool:
        """Whether this evaluation counted a confirmation whose next one needs the books to be told again."""
        inputs = self.inputs
        return inputs is not None and self.decision.streak > 0 and self.decision.streak_ms != inputs.streak_ms


@dataclass(frozen=True, slots=True)
class View:
    """What an evaluation looks at.

    now_ms: the venue's time. to_boot_ms: added to a UTC time it gives CLOCK_BOOTTIME. blocked: why no order may be placed in
    a slot now ("" when it may). stale: whether a slot's lead price cannot be relied upon. bankroll: as of `Inputs`.
    """

    now_ms: int
    to_boot_ms: int
    books: Books
    positions: tuple[Position, ...]
    state: State
    strategy: GuardedStrategy
    parameters: Any
    enabled: Callable[[Slot], bool]
    blocked: Callable[[Slot, Window, bool], MaybeReason]
    stale: Callable[[Slot], bool] = lambda _slot: False
    bankroll: float | None = None


class Listing(Protocol):
    """Where markets are looked up."""

    def get(self, window: Window) -> Market | None:
        """The market as last seen; None when the venue does not list it or was not asked yet."""

    def asked(self, window: Window) -> bool:
        """Whether the venue answered about this window at all."""

    def problem(self, window: Window) -> MarketProblem | None:
        """Why nothing of this window is bought, or None."""


def wanted_tokens(slots: tuple[Slot, ...], markets: Listing, now_ms: int) -> list[str]:
    """The tokens whose books this poll needs."""
    markets_now = (markets.get(slot.window(now_ms)) for slot in slots)
    return list(
        dict.fromkeys(token for market in markets_now if market for token in (market.up_token, market.down_token))
    )


def evaluate(slots: Iterable[Slot], markets: Listing, prices: Prices, view: View) -> list[Evaluation]:
    """Evaluate every slot once. A slot whose evaluation raises is skipped and says so; the others go on."""
    return [_evaluate_guarded(slot, markets, prices, view) for slot in slots]


def next_state(evaluations: Iterable[Evaluation]) -> dict[str, Streak]:
    """The evaluation state that the next evaluation of these slots goes on from."""
    return {
        e.slot.id: Streak(e.decision.streak_window, e.decision.streak_outcome, e.decision.streak, e.decision.streak_ms)
        for e in evaluations
        if e.decision.streak
    }


def read_state(text: str, rule: str) -> dict[str, Streak] | None:
    """The evaluation state as it stands in the ledger; None where it cannot be read, or was counted by another rule.

    rule: as `GuardedStrategy.rule` names it. The release before named none: its streaks count, as they did.
    """
    try:
        body = json.loads(text)
        seen_ms = body.get("seen_ms", {})
        streaks = {
            str(slot): Streak(str(w), str(o), int(n), int(seen_ms.get(slot, 0)))
            for slot, (w, o, n) in body["streaks"].items()
        }
        return streaks if body.get("rule", rule) == rule else None
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def read_state_basis(text: str) -> dict[str, BasisState]:
    """The basis of each asset as it stands in the same text, whatever rule counted; what cannot be read is left out."""
    try:
        return read_basis(json.loads(text).get("basis", {}))
    except (ValueError, AttributeError, RecursionError):
        return {}


def write_state(state: State, rule: str, basis: Mapping[str, BasisState] | None = None) -> str:
    """The form that `read_state` and `read_state_basis` read, of this release and of those before it, which know less."""
    body: dict[str, Any] = {
        "streaks": {slot: streak[:3] for slot, streak in state.items()},
        "seen_ms": {slot: streak.seen_ms for slot, streak in state.items()},
        "rule": rule,
        "basis": write_basis(basis or {}),
    }
    return json.dumps(body, separators=(",", ":"), sort_keys=True)


@dataclass(frozen=True, slots=True)
class Own:
    """The evaluation state of an instance's own last shadow poll, the rule that counted it, and when (CLOCK_BOOTTIME, ms)."""

    state: State = field(default_factory=dict)
    rule: str = ""
    boot_ms: int = 0


@dataclass(frozen=True, slots=True)
class Moment:
    """When an evaluation goes on from a state. boot_ms: CLOCK_BOOTTIME, of the boot boot_id. interval_ms: between ticks."""

    boot_ms: int
    boot_id: str
    interval_ms: int

    def is_recent(self, boot_ms: int) -> bool:
        """Whether what was counted then is still in a row with now: nobody missed more than a tick since."""
        return 0 <= self.boot_ms - boot_ms <= max(INTERVALS * self.interval_ms, LEAST_MS)


def goes_on_from(last: LastState | None, own: Own, rule: str, now: Moment) -> State:
    """The evaluation state that an instance goes on from: what the trader left in the ledger, else what it counted itself.

    A state counts if it is recent and was counted by the same rule. So a commit whose strategy or parameters are other ones
    begins with the confirmations that it saw in shadow, by its own rule.
    """
    if last is not None and last.boot_id == now.boot_id and now.is_recent(last.boot_ms):
        state = read_state(last.state, rule)
        if state is not None:
            return state
    return own.state if own.rule == rule and now.is_recent(own.boot_ms) else {}


def _evaluate_guarded(slot: Slot, markets: Listing, prices: Prices, view: View) -> Evaluation:
    try:
        return _evaluate_slot(slot, markets, prices, view)
    except Exception as error:  # noqa: BLE001  whatever a strategy raises must not cost the other slots their poll
        return _failed(slot, None, None, slot.window(view.now_ms), error)


def _failed(slot: Slot, market: Market | None, inputs: Inputs | None, window: Window, error: Exception) -> Evaluation:
    code = error.code if isinstance(error, StrategyError) else ReasonCode.FAILED
    reason = Reason(code, f"the evaluation failed: {type(error).__name__}: {error}")
    return Evaluation(slot, window, market, inputs, Decision("none", reason), evaluated=False, error=error)


def _evaluate_slot(slot: Slot, markets: Listing, prices: Prices, view: View) -> Evaluation:
    window = slot.window(view.now_ms)
    market = markets.get(window)
    if not view.enabled(slot):
        return Evaluation(slot, window, market, None, Decision("none", SWITCHED_OFF), evaluated=True)
    if market is None:
        asked, problem = markets.asked(window), markets.problem(window)
        text = "the venue does not list this window yet" if asked else "this window was not looked up yet"
        reason = Reason(ReasonCode.NO_MARKET, text) if problem is None else problem.reason
        return Evaluation(slot, window, None, None, Decision("none", reason), evaluated=asked)
    inputs = _inputs(slot, window, market, prices, view)
    try:
        decision = view.strategy.decide(inputs, view.parameters)
    except Exception as error:  # noqa: BLE001  as above; a person can sell what is held without the strategy
        return _failed(slot, market, inputs, window, error)
    wanted = decision.action
    if not market.accepting and decision.action != "none":
        decision = replace(decision, action="none", reason=NO_ORDERS)
    elif market.problem is not None and decision.action != "exit":
        decision = replace(decision, action="none", reason=market.problem.reason)
    elif decision.action == "none" and (doubt := _doubt(slot, window, market, prices, view)):
        decision = _in_doubt(decision, doubt, is_held=inputs.held is not None)
    return Evaluation(slot, window, market, inputs, decision, evaluated=True, wanted=wanted)


def _in_doubt(decision: Decision, doubt: Reason, *, is_held: bool) -> Decision:
    """What was decided while a price is in doubt, and says so. A confirmation of an entry begins anew after it."""
    if is_held:
        return replace(decision, reason=doubt)
    return replace(decision, reason=doubt, streak_window="", streak_outcome="", streak=0, streak_ms=0)


def _doubt(slot: Slot, window: Window, market: Market, prices: Prices, view: View) -> MaybeReason:
    """Why the lead price of a slot says nothing of its settlement now, or ""."""
    if prices.newest(slot.asset) is None:
        return ""
    shown = None if market.strike is None else float(market.strike)
    return (
        prices.doubt(slot.asset)
        or prices.basis(slot.asset, view.now_ms).problem
        or prices.strike_problem(slot.asset, window.start_ms, _average_ms(window, market), shown)
    )


def _average_ms(window: Window, market: Market) -> int:
    return window.average_ms if market.average_ms is None else market.average_ms


def _strike(window: Window, market: Market, prices: Prices, now_ms: int) -> float | None:
    """What the venue shows, and until then what the settlement prices say."""
    if market.strike is not None:
        return float(market.strike)
    if now_ms < window.start_ms:
        return None
    return prices.strike(window.asset, window.start_ms, _average_ms(window, market))


def _corrected(price: float | None, basis: Basis) -> float | None:
    """A lead price in terms of the settlement price; None where its basis is not known."""
    if price is None or basis.level is None or basis.problem is not None:
        return None
    return price * math.exp(-basis.level)


def _inputs(slot: Slot, window: Window, market: Market, prices: Prices, view: View) -> Inputs:
    held = next((p for p in view.positions if p.window == window.slug and p.shares > 0), None)
    up, down = view.books.get(market.up_token), view.books.get(market.down_token)
    average_ms = _average_ms(window, market)
    average_from = max(window.start_ms, window.end_ms - average_ms)
    seconds, average = 0.0, None
    if view.now_ms > average_from:
        seconds, average = prices.average(slot.asset, average_from, view.now_ms, view.to_boot_ms)
    strike_seconds, strike_average = 0.0, None
    if window.start_ms - average_ms < view.now_ms < window.start_ms:
        begins = window.start_ms - average_ms
        strike_seconds, strike_average = prices.average(slot.asset, begins, view.now_ms, view.to_boot_ms)
    streak = view.state.get(slot.id, NO_STREAK)
    doubt, basis = _doubt(slot, window, market, prices, view), prices.basis(slot.asset, view.now_ms)
    # An exit is decided on the bid alone where the lead price is old, in doubt or alone; entries are blocked then, or wait.
    by_bid = held is not None and bool(doubt or prices.is_lone(slot.asset) or view.stale(slot))
    book_ms = _told_ms(view, market, None if held is None else Outcome(held.outcome))
    lead_ms = prices.newest_boot_ms(slot.asset)
    seen_ms = book_ms if by_bid else 0 if lead_ms is None else lead_ms - view.to_boot_ms
    return Inputs(
        slot=slot.id,
        window=window.slug,
        now_ms=view.now_ms,
        start_ms=window.start_ms,
        end_ms=window.end_ms,
        average_ms=average_ms,
        strike=_strike(window, market, prices, view.now_ms),
        lead_price=None if by_bid else _corrected(prices.newest(slot.asset), basis),
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
        streak_window=streak.window,
        streak_outcome=streak.outcome,
        streak=streak.length,
        blocked=_blocked(view, slot, window, market, doubt, is_held=held is not None),
        seen_ms=seen_ms,
        streak_ms=streak.seen_ms,
        bankroll=view.bankroll,
        basis=basis.level,
        basis_sd=basis.sd,
        strike_seconds=strike_seconds,
        strike_average=strike_average,
        correlated=_correlated(slot, window, view),
        book_ms=book_ms,
    )


def _correlated(slot: Slot, window: Window, view: View) -> float:
    """What is at stake in other windows and would be lost with Up of this one, less what would be won: pUSD."""
    total = 0.0
    for position in view.positions:
        if position.window == window.slug or position.shares <= 0 or position.window_end_ms <= view.now_ms:
            continue
        sign = 1 if Outcome(position.outcome) is Outcome.UP else -1
        share = 1.0 if position.slot.split("-")[0] == slot.asset else CORRELATION
        total += sign * share * position.cost / BASE_UNITS
    return total


def _told_ms(view: View, market: Market, held: Outcome | None) -> int:
    """When the venue last told the best prices that a decision stands on, UTC ms: of the shares held, else the older of both."""
    tokens = {Outcome.UP: market.up_token, Outcome.DOWN: market.down_token}
    told = [view.books.told_ms(token) for outcome, token in tokens.items() if held in (None, outcome)]
    return min((at - view.to_boot_ms for at in told if at is not None), default=0)


def _blocked(
    view: View, slot: Slot, window: Window, market: Market, doubt: MaybeReason, *, is_held: bool
) -> MaybeReason:
    """Why no order may be placed; what is held may be sold all the same of a market that is not traded, or for its bid alone."""
    problem = None if market.problem is None or is_held else market.problem.reason
    return view.blocked(slot, window, is_held) or problem or ("" if is_held else doubt)
