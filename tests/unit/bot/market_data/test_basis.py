"""The basis of the lead to the settlement price: learned, doubted, handed over, taken off before anything is decided."""

from __future__ import annotations

import json
import math
import random
from decimal import Decimal
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.market_data.basis import (
    JUMP,
    LEAST_S,
    SHIFT_S,
    STALE_MS,
    BasisState,
    BasisTracker,
    LeadHistory,
    read_basis,
)
from bot.market_data.binance_messages import PriceUpdate, Source
from bot.market_data.history import Kline
from bot.market_data.prices import Prices
from bot.market_data.rtds import SettlementPrice
from bot.reasons import ReasonCode
from bot.slots import Slot
from bot.strategy.evaluation import Evaluation, View, evaluate, read_state, read_state_basis, write_state
from bot.strategy.guard import DEFAULT_STRATEGY, load_strategy
from bot.strategy.snipe import Parameters
from bot.venue.types import Book, Level
from tests.unit.bot.making import END_MS, MARKET, SHARE

STRIKE = float(MARKET.strike or 0)
BP = 1e-4
LATE_MS = 1_400
BEGIN_MS = END_MS - 10 * 60_000
SIGMA = 3.5 * BP / math.sqrt(60)  # BTC's median move in a minute is 2.4 bp


def learned(level: float, seconds: int, source: random.Random | None = None) -> BasisTracker:
    """A tracker that read this level for so many seconds; source: of a recorded reading's noise of 0.7 bp."""
    tracker = BasisTracker("BTC")
    for second in range(seconds):
        noise = source.gauss(0, 0.7 * BP) if source else 0.0
        tracker.read(BEGIN_MS + second * 1_000, STRIKE * math.exp(level + noise), STRIKE)
    return tracker


class Live:
    """Both streams of one asset, the settlement prices 1.4 s late, and the slot that stands on them."""

    def __init__(self) -> None:
        self.prices, self.now_ms = Prices(("BTC",)), BEGIN_MS
        past, price, source = [], STRIKE, random.Random(1)
        for n in range(300):
            price *= math.exp(source.gauss(0, SIGMA))
            past.append(Kline(BEGIN_MS - (300 - n) * 1_000, price))
        self.prices.seed({"BTC": past}, 0)

    def go_on(self, until_ms: int, basis: float, settlement: float = STRIKE) -> None:
        """Until then the lead stands `basis` above this settlement price."""
        while self.now_ms < until_ms:
            self.now_ms += 100
            self.prices.take(PriceUpdate("BTC", settlement * math.exp(basis), Source.BOOK, None, self.now_ms))
            own_ms = self.now_ms - LATE_MS
            if own_ms % 1_000 == 0:
                self.prices.settle(SettlementPrice("BTC", settlement, own_ms, self.now_ms, own_ms))

    def look(self) -> Evaluation:
        """One evaluation; nothing but the prices keeps an entry back. Both outcomes are offered for nearly nothing."""
        cheap = (Level(Decimal("0.03"), 500 * SHARE),)
        books = {token: Book(token, (), cheap, self.now_ms) for token in (MARKET.up_token, MARKET.down_token)}
        shown = SimpleNamespace(get=books.get, told_ms=lambda _: self.now_ms)
        view = View(
            now_ms=self.now_ms,
            to_boot_ms=0,
            books=cast(Any, shown),
            positions=(),
            state={},
            strategy=load_strategy(DEFAULT_STRATEGY).untimed(),
            parameters=Parameters(confirmations=1),
            enabled=lambda _: True,
            blocked=lambda *_: "",
        )
        listing = SimpleNamespace(get=lambda _: MARKET, asked=lambda _: True, problem=lambda _: None)
        (found,) = evaluate((Slot("BTC", "5m"),), cast(Any, listing), self.prices, view)
        return found


@pytest.mark.parametrize("bp", [-8.5, -3.3, -2, 0, 2, 4.6, 5, 16])
@pytest.mark.parametrize("left_s", [90, 60, 30, 10])
def test_a_lead_that_stands_above_a_settlement_price_at_the_strike_says_one_half(bp: float, left_s: int) -> None:
    """Settlement exactly at the strike, Binance bp away for minutes: neither outcome is likelier. (Was 0.02 to 1.0.)"""
    live = Live()
    live.go_on(END_MS - left_s * 1_000, bp * BP)
    probability = live.look().decision.probability_up
    assert probability is not None
    assert abs(probability - 0.5) <= 0.03


@settings(deadline=None, max_examples=30)
@given(st.floats(-16, 16), st.floats(-16, 16), st.integers(1, 60))
def test_a_step_of_the_basis_is_not_believed_at_once(before: float, step: float, seconds: int) -> None:
    """However far it steps, within a minute the level moves by less than a fifth of that, or nothing is entered."""
    live = Live()
    live.go_on(BEGIN_MS + 300_000, before * BP)
    live.go_on(live.now_ms + seconds * 1_000, (before + step) * BP)
    basis = live.prices.basis("BTC", live.now_ms)
    assert basis.level is not None
    assert abs(basis.level - before * BP) <= abs(step) * BP / 5 + 1e-9
    if abs(step) > 3.2 and seconds >= 3:
        assert basis.problem is not None
        assert basis.problem.code is ReasonCode.BASIS_JUMPED
        e = live.look()
        assert e.decision.action == "none"
        assert e.inputs is not None
        assert e.inputs.lead_price is None
        assert e.decision.code is ReasonCode.BASIS_JUMPED


@pytest.mark.parametrize("step", [-16, -2, 2, 16])
def test_a_basis_that_stays_where_it_stepped_to_is_believed_after_minutes(step: float) -> None:
    """What two minutes show throughout is the level; a slow average would be wrong for a quarter of an hour."""
    live = Live()
    live.go_on(BEGIN_MS + 300_000, 0.0)
    live.go_on(live.now_ms + round(SHIFT_S + 5) * 1_000, step * BP)
    basis = live.prices.basis("BTC", live.now_ms)
    assert basis.problem is None
    assert basis.level == pytest.approx(step * BP, abs=0.1 * BP)


@given(st.floats(-16, 16), st.integers(0, 2**32))
def test_the_level_is_known_to_less_than_its_noise(level: float, seed: int) -> None:
    """Five minutes of readings that stray by 0.7 bp: the level is right to 0.3 bp, and never jumps by noise alone."""
    tracker = learned(level * BP, 300, random.Random(seed))
    basis = tracker.basis(BEGIN_MS + 300_000)
    assert basis.level == pytest.approx(level * BP, abs=0.3 * BP)
    assert basis.sd >= 0.6 * BP


def test_an_unknown_and_a_stale_basis_close_entries_and_say_why() -> None:
    """Before 20 s of readings nothing is entered, nor once the settlement prices are silent for a minute."""
    live = Live()
    live.go_on(BEGIN_MS + 10_000, 4.6 * BP)
    e = live.look()
    assert (e.decision.action, e.decision.probability_up) == ("none", None)
    assert e.decision.code is ReasonCode.BASIS_UNKNOWN
    live.go_on(END_MS - 70_000, 4.6 * BP)
    assert live.look().decision.probability_up == pytest.approx(0.5, abs=0.03)
    tracker = learned(0.0, 100)
    at = BEGIN_MS + 99_000
    assert tracker.basis(at + STALE_MS).problem is None
    stale = tracker.basis(at + STALE_MS + 1)
    unknown = learned(0.0, int(LEAST_S) - 1).basis(BEGIN_MS + 20_000)
    assert [b.problem and b.problem.code for b in (stale, unknown)] == [
        ReasonCode.BASIS_STALE,
        ReasonCode.BASIS_UNKNOWN,
    ]


def test_one_odd_reading_moves_nothing_and_closes_entries_while_it_is_the_newest() -> None:
    """A stream that stands still or is wrong for a second says nothing of the level."""
    tracker = learned(4.6 * BP, 300)
    before = tracker.state()
    at = BEGIN_MS + 300_000
    tracker.read(at, STRIKE * math.exp(4.6 * BP + 1.1 * JUMP), STRIKE)
    after = tracker.state()
    assert before is not None
    assert after is not None
    assert after.level == pytest.approx(before.level, abs=1e-12)
    jumped = tracker.basis(at).problem
    assert jumped is not None
    assert jumped.code is ReasonCode.BASIS_JUMPED
    tracker.read(at + 1_000, STRIKE * math.exp(4.6 * BP), STRIKE)
    assert tracker.basis(at + 1_000).problem is None


# --- handed over


def test_a_successor_is_not_blind_for_minutes() -> None:
    """With what the trader before left in the ledger's row and one reading of its own it knows what that one knew."""
    live = Live()
    live.go_on(BEGIN_MS + 300_000, 4.6 * BP)
    text = write_state({}, "rule", live.prices.basis_states())
    fresh = Live()
    fresh.now_ms = live.now_ms
    fresh.prices.inherit_basis(read_state_basis(text), fresh.now_ms)
    unknown = fresh.prices.basis("BTC", fresh.now_ms).problem
    assert unknown is not None
    assert unknown.code is ReasonCode.BASIS_UNKNOWN, "it saw nothing itself yet"
    fresh.go_on(fresh.now_ms + 3_000, 4.6 * BP)
    basis = fresh.prices.basis("BTC", fresh.now_ms)
    assert basis.problem is None
    assert basis.level == pytest.approx(4.6 * BP, abs=0.01 * BP)
    assert read_state(text, "rule") == {}


def test_who_knows_more_keeps_what_it_knows() -> None:
    """An old basis, or one of few seconds, does not replace one of many; one from the future or beyond all bounds none."""
    at = BEGIN_MS + 300_000
    hour_ms = 3_600_000
    for state in (
        BasisState(9 * BP, 60.0, at),
        BasisState(9 * BP, 1_000.0, at - hour_ms),
        BasisState(9 * BP, 1_000.0, at + hour_ms),
        BasisState(0.5, 1_000.0, at),
    ):
        tracker = learned(4.6 * BP, 300)
        tracker.inherit(state, at)
        assert tracker.basis(at).level == pytest.approx(4.6 * BP)
    tracker = learned(4.6 * BP, 5)
    tracker.inherit(BasisState(4.7 * BP, 1_000.0, at), at)
    assert tracker.basis(at).level == pytest.approx(4.7 * BP)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
        max_leaves=20,
    )
)
def test_whatever_stands_in_the_ledger_a_basis_is_read_or_left_out(body: object) -> None:
    """A row of another release, or a broken one, costs minutes of learning and nothing else."""
    prices = Prices(("BTC",))
    prices.inherit_basis(read_basis({"BTC": body}), BEGIN_MS)
    prices.inherit_basis(read_state_basis(json.dumps({"basis": body})), BEGIN_MS)
    prices.inherit_basis(read_state_basis(json.dumps(body)), BEGIN_MS)
    level = prices.basis("BTC", BEGIN_MS).level
    assert level is None or math.isfinite(level)


# --- the lead price of a moment ago


def test_the_lead_is_compared_at_the_settlement_prices_own_time() -> None:
    """Both move by 20 bp within a second, one arrives 1.4 s late: the basis stays what it is."""
    live = Live()
    live.go_on(BEGIN_MS + 120_000, 4.6 * BP)
    for second in range(20):
        now = live.now_ms + 1_000
        for at in range(live.now_ms + 100, now + 1, 100):
            live.prices.take(PriceUpdate("BTC", fair(at) * math.exp(4.6 * BP), Source.BOOK, None, at))
            own_ms = at - LATE_MS
            if own_ms % 1_000 == 0:
                price = STRIKE if own_ms <= BEGIN_MS + 120_000 else fair(own_ms)
                live.prices.settle(SettlementPrice("BTC", price, own_ms, at, own_ms))
        live.now_ms = now
        basis = live.prices.basis("BTC", now)
        assert basis.problem is None, second
        assert basis.level == pytest.approx(4.6 * BP, abs=0.01 * BP)


def fair(at_ms: int) -> float:
    """It rises by 4 bp a second from the second minute on."""
    return STRIKE * math.exp(4 * BP * max(0, at_ms - BEGIN_MS - 120_000) / 1_000)


def test_a_lead_that_is_too_old_is_not_compared() -> None:
    """Nothing is known of it before the first price, nor 10 s after the last; its memory is bounded."""
    history = LeadHistory()
    assert history.at(1_000) is None
    for n in range(10_000):
        history.add(1_000 + n * 10, float(n))
    assert history.at(100_990) == 9_999.0
    assert history.at(100_000) == 9_909.0
    assert history.at(50_000) is None
    assert history.at(100_990 + 20_000) is None
    assert len(history._prices) <= 120
