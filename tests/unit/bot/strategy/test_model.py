"""What is believed of a window: tails, the market as evidence, the basis' noise, a strike that is still being made."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.market_data.prices import Prices
from bot.market_data.rtds import SettlementPrice
from bot.reasons import code_of
from bot.strategy.model import LEAST_BELIEF, believe, distance, market_up, probability_up, tails
from bot.strategy.snipe import Parameters, decide
from bot.venue.decoding import Code, Origin, Skips
from bot.venue.types import Level
from tests.unit.bot.making import END_MS, SHARE, START_MS, inputs

BP = 1e-4
STRIKE = 60_000.0


@given(st.floats(-50, 50), st.floats(0, 5))
def test_the_tails_are_a_distribution_and_symmetric(z: float, more: float) -> None:
    """It rises from 0 to 1, and what is as far below is as likely as what is above."""
    assert 0 <= tails(z) <= tails(z + more) <= 1
    assert tails(z) + tails(-z) == pytest.approx(1)


def test_the_tails_hold_the_frequencies_that_were_recorded() -> None:
    """Beyond 1.96 deviations lay 5 % of moves, and beyond three 0.8 to 1.5 %: a normal distribution has 0.27 %."""
    assert 2 * tails(-1.96) == pytest.approx(0.050, abs=0.001)
    assert 0.008 <= 2 * tails(-3.0) <= 0.015


@given(st.floats(0, 1), st.none() | st.floats(0, 1), st.floats(0, 1))
def test_a_belief_lies_between_model_and_market_and_is_never_certain(
    model: float, market: float | None, weight: float
) -> None:
    """Both are evidence; no weight makes anything likelier than each of them says, nor certain."""
    belief = believe(model, market, weight)
    held = [min(max(value, LEAST_BELIEF), 1 - LEAST_BELIEF) for value in (model, model if market is None else market)]
    assert min(held) - 1e-9 <= belief <= max(held) + 1e-9


def test_the_market_says_what_the_middle_of_both_books_says() -> None:
    """The better of an outcome's own offers and the other one's bids; a side without anybody is its bound; no books, nothing."""

    def level(price: str) -> tuple[Level, ...]:
        return (Level(Decimal(price), SHARE),)

    none: dict[str, tuple[Level, ...]] = {"asks_up": (), "bids_up": (), "asks_down": (), "bids_down": ()}
    assert market_up(inputs(**none)) is None
    assert market_up(inputs(**none | {"asks_up": level("0.61"), "bids_up": level("0.57")})) == pytest.approx(0.59)
    assert market_up(inputs(**none | {"asks_down": level("0.41"), "bids_down": level("0.39")})) == pytest.approx(0.60)
    assert market_up(inputs(**none | {"bids_up": level("0.99")})) == pytest.approx(0.995)


def test_the_middle_of_the_market_is_evidence_and_the_model_is_recorded_beside_it() -> None:
    """Where both say the same nothing is bought; the model alone would find an edge where the market says otherwise."""
    decision = decide(inputs(), Parameters())
    assert decision.probability_up is not None
    assert decision.belief_up is not None
    assert decision.market_up is not None
    assert decision.market_up == pytest.approx(0.59)
    assert decision.market_up < decision.belief_up < decision.probability_up
    alone = decide(inputs(), Parameters(market_weight=0))
    assert alone.edge is not None
    assert decision.edge is not None
    assert decision.edge < alone.edge


@pytest.mark.parametrize(("bp", "enters"), [(0.5, False), (0.89, False), (0.91, True), (-0.5, False), (-1.2, True)])
def test_a_window_that_the_noise_of_the_basis_decides_is_not_entered(bp: float, enters: bool) -> None:
    """Nearer to the strike than 1.5 deviations of the basis the model is a coin, however cheap a side is."""
    cheap = (Level(Decimal("0.02"), 400 * SHARE),)
    given_inputs = inputs(lead_price=STRIKE * math.exp(bp * BP), basis_sd=0.6 * BP, asks_up=cheap, asks_down=cheap)
    decision = decide(given_inputs, Parameters(confirmations=1, market_weight=0))
    assert (decision.action == "enter") == enters
    if not enters:
        assert code_of(decision.reason) == "noise"


def test_the_part_of_the_average_that_is_known_needs_no_basis() -> None:
    """With 45 of 60 s known, the lead's basis counts for a quarter."""
    found = distance(inputs(now_ms=END_MS - 15_000, average_seconds=45.0, average_price=STRIKE, basis_sd=0.6 * BP))
    assert found is not None
    assert found[2] == pytest.approx(0.15 * BP)


@pytest.mark.parametrize(("known_s", "seed"), [(45, 1), (55, 2)])
def test_a_window_that_has_not_begun_is_as_likely_as_a_simulation_says(known_s: int, seed: int) -> None:
    """Its strike is the average that runs now: simulated second by second, the settlement ends above it as often."""
    source, volatility, draws, above = random.Random(seed), 5e-5, 2_000, 2 * BP
    average_ms, rest = 60_000, 60 - known_s
    now_ms = START_MS - rest * 1_000
    wins = 0
    for _ in range(draws):
        log, strike, final = above, 0.0, 0.0
        for second in range(rest + 300):
            before = log
            log += source.gauss(0, volatility)
            if second < rest:
                strike += (before + log) / 2
            if second >= rest + 240:
                final += (before + log) / 2
        wins += final / 60 >= strike / 60
    found = distance(
        inputs(
            now_ms=now_ms,
            average_ms=average_ms,
            strike=None,
            lead_price=STRIKE * math.exp(above),
            volatility=volatility,
            strike_seconds=float(known_s),
            strike_average=STRIKE,
        )
    )
    assert found is not None
    expected = 0.5 * math.erfc(-found[0] / found[1] / math.sqrt(2))
    assert wins / draws == pytest.approx(expected, abs=4 * math.sqrt(expected * (1 - expected) / draws))


def test_a_window_that_has_not_begun_is_traded_at_the_end_of_its_strikes_average_alone() -> None:
    """Before the last quarter of that nothing of it is known: its slot waits, and says why."""
    cheap = (Level(Decimal("0.10"), 400 * SHARE),)
    ahead = inputs(
        strike=None, lead_price=STRIKE * math.exp(4 * BP), asks_up=cheap, bids_up=(), asks_down=(), bids_down=()
    )
    parameters = Parameters(confirmations=1)
    late = replace(ahead, now_ms=START_MS - 5_000, strike_seconds=55.0, strike_average=STRIKE)
    decision = decide(late, parameters)
    assert decision.action == "enter"
    assert decision.every_price_from_ms == START_MS - 15_000
    early = decide(replace(ahead, now_ms=START_MS - 20_000, strike_seconds=40.0, strike_average=STRIKE), parameters)
    assert (early.action, code_of(early.reason)) == ("none", "before_snipe")
    earlier = decide(replace(ahead, now_ms=START_MS - 200_000), parameters)
    assert (earlier.action, code_of(earlier.reason)) == ("none", "no_data")


def test_the_edge_is_that_of_the_whole_size_and_what_is_at_stake_beside_it_counts() -> None:
    """A first share that is cheap makes no edge for the others; the same direction elsewhere is a part of the same bet."""
    asks = (Level(Decimal("0.50"), 10 * SHARE), Level(Decimal("0.60"), 400 * SHARE))
    parameters = Parameters(confirmations=1, market_weight=0, kelly=1, max_stake=60.0)
    alone = decide(inputs(asks_up=asks), parameters)
    assert alone.action == "enter"
    assert alone.edge is not None
    assert alone.probability_up is not None
    mean = (10 * 0.5 + (alone.size / SHARE - 10) * 0.6) / (alone.size / SHARE)
    assert alone.edge == pytest.approx(alone.probability_up - mean - 0.07 * mean * (1 - mean), abs=5e-3)
    small = Parameters(confirmations=1, market_weight=0, bankroll=100.0, kelly=0.25)
    sizes = [decide(inputs(asks_up=asks, correlated=stake), small).size for stake in (-30.0, 0.0, 10.0, 20.0)]
    assert sizes[0] == sizes[1] > sizes[2] > sizes[3]


# --- the strike


def settled(prices: Prices, from_s: int, to_s: int, price: float) -> None:
    """A settlement price each second of (from, to] of the strike's average, as it arrives; the lead stands there, too."""
    for second in range(from_s + 1, to_s + 1):
        at = START_MS + second * 1_000
        prices.settle(SettlementPrice("BTC", price, at, None, None))


def test_the_strike_is_the_average_of_the_stream_before_the_venue_shows_it() -> None:
    """It is known as soon as the stream passed the start; a hole in it, or a bot that came late, leaves it to the venue."""
    prices = Prices(("BTC",))
    settled(prices, -80, -1, STRIKE)
    assert prices.strike("BTC", START_MS, 60_000) is None, "the last second is missing"
    settled(prices, -1, 0, STRIKE + 6)
    assert prices.strike("BTC", START_MS, 60_000) == pytest.approx(STRIKE + 0.1)
    assert prices.strike("BTC", START_MS, 0) == STRIKE + 6, "one price decides"
    settled(prices, 0, 300, STRIKE)
    assert prices.strike("BTC", START_MS, 60_000) == pytest.approx(STRIKE + 0.1), "it is remembered"
    late = Prices(("BTC",))
    settled(late, -30, 10, STRIKE)
    assert late.strike("BTC", START_MS, 60_000) is None


def test_a_strike_that_the_venue_shows_otherwise_is_said_once_and_closes_entries() -> None:
    """Who is wrong is not known, so nothing is entered in that window."""
    skips = Skips()
    prices = Prices(("BTC",), skips)
    settled(prices, -80, 1, STRIKE)
    assert prices.strike_problem("BTC", START_MS, 60_000, STRIKE * (1 + 2 * BP)) == ""
    assert prices.strike_problem("BTC", START_MS, 60_000, None) == ""
    for _ in range(3):
        problem = prices.strike_problem("BTC", START_MS, 60_000, STRIKE * (1 + 4 * BP))
    assert code_of(problem) == "strike_apart"
    assert skips.counts[Origin.GAMMA, Code.DISAGREES] == 1


def test_nothing_is_known_without_a_lead_or_a_volatility() -> None:
    """No number is made up."""
    for missing in ("lead_price", "volatility", "strike"):
        assert probability_up(inputs(**{missing: None}), 1e-6) is None
