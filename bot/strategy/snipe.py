"""The snipe strategy: late in a window the lead price may know more than the book. Pure: equal inputs give equal decisions.

What it believes is in `bot.strategy.model`, in floats; what leaves it (price, size) is Decimal on the market's tick and integer
base units. docs/explanation/model.md says what recordings say of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import ROUND_DOWN, Decimal

from bot.reasons import Reason, ReasonCode, code_of
from bot.strategy.api import SIZE_STEP, Decision, Inputs, number
from bot.strategy.model import believe, distance, floored, market_up, probability_up
from bot.strategy.selling import sale
from bot.venue.types import BASE_UNITS, Level
from ledger.values import Outcome

MIN_STAKE = Decimal(1)  # marketable orders are at least 1 pUSD (venue.md 2.3)


@dataclass(frozen=True, slots=True)
class Parameters:
    """What control may change without a deploy.

    snipe_fraction: the snipe window, as a part of the window's length. min_edge: probability above the price, fee included,
    that an entry needs. exit_edge: how far the price must be above the probability for an exit. take_profit, stop_price: a
    position is sold when the best bid is at least, or at most, that price; 1 and 0 never. confirmations: evaluations in a row
    that must agree upon an entry or an exit, each on a price at least confirm_ms newer than the data of the one before, and on
    books that were told again since: no single message suffices. kelly: fraction of the Kelly stake.
    bankroll, max_stake: pUSD; where the account has less than bankroll, it is what the account has.
    max_price: the dearest entry. min_volatility: floor of the volatility, per sqrt(second). market_weight: how much the middle
    of the market counts as evidence beside the model. noise: nothing is entered nearer to the strike than so many deviations of
    the basis. ahead_fraction: a window that has not begun is traded in this last part of its strike's average.
    """

    snipe_fraction: float = number(0.3, most=1, unit="of the window")
    min_edge: float = number(0.03, unit="pUSD a share")
    exit_edge: float = number(0.05, unit="pUSD a share")
    take_profit: float = number(1.0, most=1, unit="pUSD a share")
    stop_price: float = number(0.0, most=1, unit="pUSD a share")
    confirmations: int = number(2, least=1, unit="evaluations")
    confirm_ms: int = number(250, least=1, unit="ms")
    kelly: float = number(0.25, most=1, unit="of the Kelly stake")
    bankroll: float = number(1000.0, unit="pUSD")
    max_stake: float = number(25.0, unit="pUSD")
    max_price: float = number(0.97, most=1, unit="pUSD a share")
    min_volatility: float = number(2e-5, unit="per √s")
    market_weight: float = number(0.5, most=1, unit="of the log odds")
    noise: float = number(1.5, unit="deviations")
    ahead_fraction: float = number(0.25, most=1, unit="of the strike's average")


class Snipe:
    """The strategy that trades unless BOT_STRATEGY names another."""

    parameters = Parameters

    def decide(self, inputs: Inputs, parameters: Parameters) -> Decision:
        """What to do in one slot now."""
        return decide(inputs, parameters)


def decide(inputs: Inputs, parameters: Parameters) -> Decision:
    """What to do in one slot now."""
    snipe_from = inputs.end_ms - int(parameters.snipe_fraction * (inputs.end_ms - inputs.start_ms))
    in_snipe = snipe_from <= inputs.now_ms < inputs.end_ms
    every_price_from_ms = snipe_from
    if (
        inputs.now_ms < inputs.start_ms
    ):  # as far as its strike is known: before that, and to its snipe window, it is a coin
        every_price_from_ms = inputs.start_ms - int(parameters.ahead_fraction * inputs.average_ms)
        in_snipe = every_price_from_ms <= inputs.now_ms
    model, market = probability_up(inputs, parameters.min_volatility), market_up(inputs)
    belief = None if model is None else believe(model, market, parameters.market_weight)
    base = Decision(
        "none",
        "",
        probability_up=model,
        market_up=market,
        belief_up=belief,
        in_snipe=in_snipe,
        every_price_from_ms=every_price_from_ms,
    )
    if inputs.held is not None and inputs.held_shares > 0:
        return _exit(inputs, parameters, base, inputs.held, belief)
    if belief is None:
        return _none(base, ReasonCode.NO_DATA, f"no {_missing(inputs)} yet")
    return _entry(inputs, parameters, base, belief)


def _entry(inputs: Inputs, parameters: Parameters, base: Decision, probability: float) -> Decision:
    outcome, chance, asks = _better_side(inputs, probability)
    if not asks:
        return _none(base, ReasonCode.NO_OFFERS, "no offers")
    best = asks[0].price
    # Up to the price at which the edge is used up, never past it.
    limit = _highest_price(inputs, chance - parameters.min_edge, parameters)
    size, mean = _entry_size(inputs, parameters, outcome, chance, limit, asks)
    edge = chance - mean - _fee(inputs, mean)
    base = replace(base, edge=edge, outcome=outcome, mean_price=mean)
    if not base.in_snipe:
        return _none(base, ReasonCode.BEFORE_SNIPE, "before the snipe window")
    if (near := _within_noise(inputs, parameters)) is not None:
        return replace(base, reason=near)
    if float(best) > parameters.max_price:
        return _none(base, ReasonCode.PRICE, f"{outcome} costs {best}, more than {parameters.max_price:g}")
    if edge < parameters.min_edge:
        return _none(base, ReasonCode.EDGE, f"edge {edge:+.3f} is below {parameters.min_edge:g}")
    streak, counted_ms = _confirmed(inputs, parameters, outcome)
    base = replace(base, streak_window=inputs.window, streak_outcome=outcome, streak=streak, streak_ms=counted_ms)
    if streak < parameters.confirmations:
        return _none(base, ReasonCode.CONFIRMING, f"confirmation {streak} of {parameters.confirmations}")
    if inputs.blocked:
        return replace(base, reason=inputs.blocked)
    if size < inputs.min_size or Decimal(size) / BASE_UNITS * limit < MIN_STAKE:
        text = f"size {Decimal(size) / BASE_UNITS:.2f} is below the venue's minimum"
        return _none(base, ReasonCode.SIZE, text)
    why = Reason(ReasonCode.EDGE, f"edge {edge:+.3f} at {mean:.3f}")
    return replace(base, action="enter", price=limit, size=size, reason=why)


def _none(base: Decision, code: ReasonCode, text: str) -> Decision:
    return replace(base, reason=Reason(code, text))


def _within_noise(inputs: Inputs, parameters: Parameters) -> Reason | None:
    """Why the basis' noise decides this window and not what is known of it, or None.

    Recorded: within 1 bp of the strike the model's Brier score was 0.25 to 0.27, that of a coin.
    """
    found = distance(floored(inputs, parameters.min_volatility))
    if found is None or abs(found[0]) >= parameters.noise * found[2]:
        return None
    above, _, basis_sd = found
    return Reason(
        ReasonCode.NOISE,
        f"within the noise of the basis: {above * 1e4:+.1f} bp from the strike, {parameters.noise * basis_sd * 1e4:.1f} needed",
    )


def _missing(inputs: Inputs) -> str:
    return "strike" if inputs.strike is None else "lead price" if inputs.lead_price is None else "volatility"


def _confirmed(inputs: Inputs, parameters: Parameters, outcome: str) -> tuple[int, int]:
    """The length of the streak with this evaluation, and the time of the data that was counted last.

    Data confirms once: a price or books of when the last confirmation was counted, or a price of too little later, count no
    further.
    """
    book_ms = inputs.book_ms
    newest_ms = max(inputs.seen_ms, book_ms or 0)
    if inputs.streak_window != inputs.window or inputs.streak_outcome != outcome or inputs.streak < 1:
        return 1, newest_ms
    if inputs.streak >= parameters.confirmations or inputs.seen_ms < inputs.streak_ms + parameters.confirm_ms:
        return inputs.streak, inputs.streak_ms
    if book_ms is not None and book_ms <= inputs.streak_ms:
        return inputs.streak, inputs.streak_ms
    return inputs.streak + 1, newest_ms


def _exit(
    inputs: Inputs, parameters: Parameters, base: Decision, outcome: Outcome, probability: float | None
) -> Decision:
    """Out where the bid pays more than the shares are worth; at the profit limit and at the stop, whatever they are worth."""
    bids = inputs.bids_up if outcome is Outcome.UP else inputs.bids_down
    if not bids:
        return replace(base, outcome=outcome, reason=Reason(ReasonCode.HOLDING, "holding; no bids"))
    best = bids[0].price
    chance = None if probability is None else probability if outcome is Outcome.UP else 1 - probability
    gain = None if chance is None else float(best) - _fee(inputs, float(best)) - chance
    base = replace(base, outcome=outcome, edge=None if gain is None else -gain)
    floor = inputs.tick
    if chance is not None and gain is not None and gain >= parameters.exit_edge:
        why = Reason(ReasonCode.EDGE, f"the bid pays {gain:.3f} more than it is worth")
        worth = chance + parameters.exit_edge
        floor = _lowest(bids, lambda price: float(price) - _fee(inputs, float(price)) >= worth)
    elif float(best) >= parameters.take_profit:
        why = Reason(ReasonCode.PRICE, f"the bid {best} reached the profit limit {parameters.take_profit:g}")
        floor = _lowest(bids, lambda price: float(price) >= parameters.take_profit)
    elif float(best) <= parameters.stop_price:
        why = Reason(ReasonCode.PRICE, f"the bid {best} fell to the stop {parameters.stop_price:g}")
    elif chance is None:
        return _none(base, ReasonCode.HOLDING, f"holding; no {_missing(inputs)} yet, bid {best}")
    else:
        return _none(base, ReasonCode.HOLDING, f"holding; worth {chance:.3f}, bid {best}")
    key, needed = f"exit {outcome}", parameters.confirmations
    streak, counted_ms = _confirmed(inputs, parameters, key)
    base = replace(base, streak_window=inputs.window, streak_outcome=key, streak=streak, streak_ms=counted_ms)
    # The next price confirms it, before the snipe window as well.
    base = replace(base, every_price_from_ms=min(inputs.now_ms, base.every_price_from_ms or inputs.now_ms))
    if streak < needed:
        return _none(base, ReasonCode.CONFIRMING, f"{why}: confirmation {streak} of {needed}")
    offer = sale(bids, inputs.held_shares, min_size=inputs.min_size, tick=inputs.tick, floor=floor)
    if offer is None:
        return _none(base, ReasonCode.HOLDING, "holding; too small to sell")
    if inputs.blocked:
        return _none(base, code_of(inputs.blocked), f"exit waits: {inputs.blocked}")
    mean = _mean_price(bids, offer.size)
    return replace(base, action="exit", price=offer.price, size=offer.size, mean_price=mean, reason=why)


def _lowest(bids: tuple[Level, ...], suffices: Callable[[Decimal], bool]) -> Decimal:
    """The lowest bid that suffices; the best one does."""
    return min((level.price for level in bids if suffices(level.price)), default=bids[0].price)


def _better_side(inputs: Inputs, probability: float) -> tuple[Outcome, float, tuple[Level, ...]]:
    edge_up = probability - float(inputs.asks_up[0].price) if inputs.asks_up else -1.0
    edge_down = (1 - probability) - float(inputs.asks_down[0].price) if inputs.asks_down else -1.0
    if edge_up >= edge_down:
        return Outcome.UP, probability, inputs.asks_up
    return Outcome.DOWN, 1 - probability, inputs.asks_down


def _entry_size(
    inputs: Inputs,
    parameters: Parameters,
    outcome: Outcome,
    chance: float,
    limit: Decimal,
    asks: tuple[Level, ...],
) -> tuple[int, float]:
    """The size in base units, and its mean price: the Kelly stake at the price of the whole size, not of its first share.

    What is at stake in other windows and would be lost with this one counts as a part of the same bet.
    """
    bankroll = parameters.bankroll if inputs.bankroll is None else min(parameters.bankroll, inputs.bankroll)
    beside = max(0.0, inputs.correlated if outcome is Outcome.UP else -inputs.correlated)
    offered = sum(level.size for level in asks if level.price <= limit)
    size, mean = 0, float(asks[0].price)
    for _ in range(3):  # a larger size costs more a share, and a dearer share wants a smaller size: it settles at once
        price = mean + _fee(inputs, mean)
        kelly = max(0.0, (chance - price) / (1 - price)) if price < 1 else 0.0
        stake = max(0.0, min(bankroll * kelly * parameters.kelly - beside, parameters.max_stake))
        size = min(int(Decimal(stake) / limit * BASE_UNITS), offered) // SIZE_STEP * SIZE_STEP
        mean = _mean_price(asks, size)
    return size, mean


def _mean_price(asks: tuple[Level, ...], size: int) -> float:
    """What a share costs on average where so many base units are bought; the best price where none is."""
    left, paid = size, Decimal(0)
    for level in asks:
        taken = min(left, level.size)
        left, paid = left - taken, paid + taken * level.price
    return float(paid / (size - left)) if size > left else float(asks[0].price)


def _highest_price(inputs: Inputs, worth: float, parameters: Parameters) -> Decimal:
    """The highest price on the tick at which price + fee is at most `worth`."""
    price = min(worth, parameters.max_price)
    for _ in range(4):  # the fee is a small, smooth function of the price: this has settled well before
        price = min(worth - _fee(inputs, price), parameters.max_price)
    limit = inputs.tick * (Decimal(price) / inputs.tick).to_integral_value(ROUND_DOWN)
    while limit > inputs.tick and float(limit) + _fee(inputs, float(limit)) > worth:
        limit -= inputs.tick
    return min(max(limit, inputs.tick), 1 - inputs.tick)


def _fee(inputs: Inputs, price: float) -> float:
    """Taker fee a share (venue.md 2.3)."""
    inside = max(0.0, price * (1 - price))
    return float(inputs.fee_rate * inside**inputs.fee_exponent)
