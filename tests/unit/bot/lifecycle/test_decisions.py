"""Small pure parts: slots, the venue's clock, averages, when to ask again, control, the venue's mode."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from decimal import Decimal

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.market_data.basis import BasisState
from bot.market_data.binance_messages import PriceUpdate, Source
from bot.market_data.markets import AHEAD_MS, Markets, retry_after_ms, wanted_windows
from bot.market_data.prices import Prices
from bot.market_data.rtds import SettlementPrice
from bot.operator.control import judge, to_apply
from bot.orders.limits import HOLD_MS, VenueModes
from bot.orders.order_plan import worst_cost
from bot.slots import DEFAULT_ASSETS, DEFAULT_TIMEFRAMES, Slot, make_slots, parse_slug, timeframe_seconds
from bot.strategy.snipe import Parameters
from bot.venue.account_watch import RETRY_S, UNKNOWN, VENUE_CLOCK_ERROR_MS, Offset
from bot.venue.types import Market, VenueMode
from bus import Control, DocumentCorruptError, DocumentMissingError
from bus.errors import DocumentTooNewError
from ledger.values import Outcome
from tests.unit.bot.fake_venue import FakeVenue
from tests.unit.bot.making import END_MS, MARKET, SHARE, START_MS, WINDOW, run

SLOTS = make_slots(DEFAULT_ASSETS, DEFAULT_TIMEFRAMES)
slots = st.builds(
    Slot, st.sampled_from(DEFAULT_ASSETS), st.sampled_from(["5s", "10s", "90s", "5m", "15m"]), st.integers(0, 2)
)


# --- slots


def test_there_are_sixteen_slots() -> None:
    """Six assets in two timeframes, and the next windows of BTC and ETH."""
    assert len(SLOTS) == len({slot.id for slot in SLOTS}) == 16
    assert [slot.id for slot in SLOTS if slot.offset] == ["BTC-5m+1", "BTC-15m+1", "ETH-5m+1", "ETH-15m+1"]


@settings(deadline=None)
@given(slots, st.integers(1_600_000_000_000, 2_000_000_000_000))
def test_a_window_holds_its_moment_and_its_slug_names_it(slot: Slot, now_ms: int) -> None:
    """Windows lie on the grid without gap or overlap; the offset counts windows ahead; the slug leads back."""
    window = slot.window(now_ms)
    length = timeframe_seconds(slot.timeframe) * 1000
    assert window.start_ms - slot.offset * length <= now_ms < window.end_ms - slot.offset * length
    assert window.start_ms % length == 0
    assert slot.window(now_ms + length).start_ms == window.end_ms
    assert 1000 <= window.average_ms <= min(60_000, length)
    assert parse_slug(window.slug) == window


@pytest.mark.parametrize("bad", ["", "5", "m5", "0m", "4s", "25h", "1441m", "5m ", "٥m"])
def test_a_timeframe_that_is_none_is_refused_in_words(bad: str) -> None:
    """A timeframe is 5 seconds to a day, such as 30s or 5m."""
    with pytest.raises(ValueError, match="such as 30s"):
        timeframe_seconds(bad)


# --- the venue's clock


@settings(deadline=None)
@given(
    st.integers(-(10**7), 10**7),
    st.lists(
        st.tuples(st.integers(0, 10**6), st.integers(0, 400), st.integers(0, 400), st.integers(-500, 500)), min_size=1
    ),
)
def test_the_venues_clock_is_known_ever_better(true: int, answers: list[tuple[int, int, int, int]]) -> None:
    """Whatever the delays of its answers, the true offset stays inside the bounds, which only get closer."""
    known = UNKNOWN
    for sent, there, back, error in answers:
        told = sent + there + true + error
        narrowed = known.narrowed(told, sent, sent + there + back)
        assert known.low <= narrowed.low <= true <= narrowed.high <= known.high
        known = narrowed
    assert known.best(true) == true
    assert known.disagreement(true) == 0
    assert known.high - known.low <= 2 * VENUE_CLOCK_ERROR_MS + 800


def test_a_clock_that_was_set_is_learned_anew() -> None:
    """An answer that contradicts what was known replaces it, and our own clock's distance is told."""
    known = UNKNOWN.narrowed(1_000_000, 0, 10).narrowed(2_000_000, 20, 30)
    assert known == Offset(2_000_000 - 500 - 30, 2_000_000 + 500 - 20)
    assert known.disagreement(1_000_000) == known.low - 1_000_000
    assert known.best(1_000_000) == known.low


@settings(deadline=None)
@given(st.sampled_from((-4000, -1500, -700, 700, 1500, 4000)), st.integers(0, 999), st.integers(0, 30))
def test_a_venue_clock_that_was_wrong_is_believed_right_within_a_poll(wrong: int, phase: int, trip: int) -> None:
    """The venue tells whole seconds. After its clock was wrong for some looks, by however little, 5 s of looks set it right."""

    def told(true: int) -> int:
        return true // 1000 * 1000 + VENUE_CLOCK_ERROR_MS

    now, known, every = 10_000_000 + phase, UNKNOWN, round(RETRY_S * 1000) + trip
    for look in range(6 + 5000 // every):
        known = known.narrowed(told(now + (wrong if look < 6 else 0)), now - trip, now)
        now += every
    assert known.disagreement(0) <= 200


# --- prices


def test_the_settlement_average_counts_the_seconds_that_passed() -> None:
    """The mean of the closes inside the part that passed, and how long that part is; nothing where no close is in it."""
    prices = Prices(("BTC",))
    prices.inherit_basis({"BTC": BasisState(0.0, 600.0, 0)}, 0)
    assert prices.average("BTC", 0, 5000) == (0.0, None)
    for at in (-1_500, -100):  # the second one confirms the first
        prices.take(PriceUpdate("BTC", 10000.0, Source.BOOK, None, at))
    prices.settle(SettlementPrice("BTC", 10000.0, 100, 0, 0))
    for second, price in enumerate((10000.0, 10001.0, 10002.0, 10003.0)):
        prices.take(PriceUpdate("BTC", price, Source.BOOK, None, second * 1000 + 200))
    assert prices.average("BTC", 1000, 3000) == (2.0, 10001.5)
    assert prices.average("BTC", 1000, 3500) == (2.5, 10002.0)
    assert prices.average("BTC", 9000, 9500) == (0.0, None)
    assert prices.newest("BTC") == 10003.0
    assert prices.volatility("BTC") is None, "four seconds say nothing"


# --- markets


def test_a_market_is_asked_for_as_often_as_its_news_is_awaited() -> None:
    """Late windows and missing strikes soon, resolutions sooner than a settled description."""
    window = parse_slug(WINDOW)
    resolved = replace(MARKET, winner=Outcome.UP)
    no_strike = replace(MARKET, strike=None)
    before, inside, after = START_MS - 1, START_MS, END_MS
    described = retry_after_ms(window, MARKET, inside)
    assert retry_after_ms(window, no_strike, inside) < retry_after_ms(window, None, inside) < described
    assert retry_after_ms(window, no_strike, before) == described
    assert retry_after_ms(window, MARKET, after) < described
    assert retry_after_ms(window, resolved, after) == described


def test_the_windows_of_all_slots_now_and_soon_and_of_what_is_held_are_wanted() -> None:
    """A window is looked up before it begins, and one that we hold something of until it is resolved."""
    old = Slot("BTC", "5m").window(START_MS - 3_600_000)
    slot = Slot("BTC", "5m")
    assert wanted_windows([slot], [old], START_MS) == {slot.window(START_MS), old}
    assert slot.window(END_MS) in wanted_windows([slot], [], END_MS - AHEAD_MS)


def test_a_look_up_that_hangs_keeps_no_other_window_waiting() -> None:
    """While one window's answer is awaited the others are asked for and asked again; it is not asked for twice."""
    asked: list[str] = []

    class Hanging(FakeVenue):
        async def market(self, slug: str) -> Market | None:
            asked.append(slug)
            if slug.startswith("btc"):
                await asyncio.Event().wait()
            return replace(MARKET, slug=slug, strike=None)

    async def work() -> None:
        slots = make_slots(("BTC", "SOL"), ("5m",))
        markets = Markets(Hanging(), slots, lambda: START_MS, structlog.get_logger())
        clock = 0

        def now() -> int:
            return START_MS + clock

        markets._now_ms = now
        markets.is_trader = True
        task = asyncio.create_task(markets.run())
        for _ in range(4):
            await asyncio.sleep(1)
            clock += 1000
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    run(work())
    assert asked.count(WINDOW) == 1
    assert asked.count(WINDOW.replace("btc", "sol")) >= 3


# --- control


def control(generation: int, **strategy: object) -> Control:
    """A control with strategy parameters."""
    return Control.model_validate({"generation": generation, "by": "test", "strategy": strategy})


IDS = [slot.id for slot in SLOTS]


@pytest.mark.parametrize("error", [DocumentMissingError, DocumentCorruptError, DocumentTooNewError])
def test_a_control_that_cannot_be_read_keeps_the_last_applied_and_closes_entries(error: type[Exception]) -> None:
    """Missing, corrupt or of a newer release: the last applied one stays in force, nothing new is opened, and it is said."""
    problem = error("control.json: whatever")
    assert isinstance(problem, DocumentMissingError | DocumentCorruptError | DocumentTooNewError)
    found = judge(control(3, min_edge=0.2), problem, IDS, Parameters)
    assert found.control is not None
    assert found.control.generation == 3
    assert found.parameters.min_edge == 0.2
    assert "whatever" in (found.closed(0) or "")
    assert not found.apply
    nothing = judge(None, problem, IDS, Parameters)
    assert nothing.control is None
    assert nothing.closed(0) is not None


def test_an_older_control_is_not_followed() -> None:
    """Generations only rise: a control that was put back closes entries and leaves the applied one in force."""
    found = judge(control(5, min_edge=0.2), control(4, min_edge=0.5), IDS, Parameters)
    assert (found.seen, found.parameters.min_edge, found.apply) == (4, 0.2, False)
    assert "older" in (found.closed(0) or "")


def test_a_newer_control_is_applied_and_the_same_one_is_not_again() -> None:
    """What is newer becomes a ledger row, once."""
    newer = judge(control(5), control(6, min_edge=0.5), IDS, Parameters)
    assert (newer.apply, newer.parameters.min_edge, newer.closed(0)) == (True, 0.5, None)
    assert not judge(to_apply(newer), control(6, min_edge=0.5), IDS, Parameters).apply
    assert judge(None, control(1), IDS, Parameters).apply


@pytest.mark.parametrize("mode", ["pause", "halt"])
def test_a_pause_closes_entries(mode: str) -> None:
    """Control's mode closes entries in its own words; a halt knows no end and no reason."""
    found = judge(None, control(1).changed(mode=mode), IDS, Parameters)
    assert found.closed(0) == f"control says {mode}"
    told = control(1).changed(mode=mode, pause_until_ms=1_790_000_000_000, why="CPI at 14:30")
    until = " until 2026-09-21 14:13:20 UTC: CPI at 14:30" if mode == "pause" else ""
    assert judge(None, told, IDS, Parameters).closed(1_789_999_999_999) == f"control says {mode}{until}"


def test_a_wrong_parameter_leaves_the_last_good_value() -> None:
    """A refused value is said, and the one in force before stays: at once, at every later poll, and for a taker."""
    good = judge(None, control(1, min_edge=0.2, kelly=0.5), IDS, Parameters)
    row = to_apply(good)
    for generation in (2, 3):
        on_disk = control(generation, min_edge="much", kelly=0.1, later=7)
        for again in range(3):
            found = judge(row, on_disk, IDS, Parameters)
            assert found.apply == (again == 0)
            assert (found.parameters.min_edge, found.parameters.kelly) == (0.2, 0.1)
            assert [sentence.split(":")[0] for sentence in found.refused] == ["strategy.min_edge", "strategy.later"]
            row = to_apply(found)
            assert row.strategy["later"] == 7, "the next release may know it"
    gone = judge(row, control(4), IDS, Parameters)
    assert gone.parameters == Parameters(), "a value that is not given is the default"


def test_what_this_instance_does_not_have_is_said() -> None:
    """Unknown slots are named; slots that control does not name are on."""
    found = judge(
        None, control(1).changed(slots={"PEPE-5m": {"enabled": True}, "BTC-5m": {"enabled": False}}), IDS, Parameters
    )
    assert found.refused == ("slots.PEPE-5m: this instance has no such slot",)
    assert not found.slot("BTC-5m").enabled
    assert found.slot("ETH-5m").enabled


# --- the venue's mode, and what an order may cost


def test_a_mode_is_believed_for_longer_each_time_it_is_met_again() -> None:
    """Entries try again after 1, 2, 4 ... 15 s, and after one success from the beginning."""
    mode = VenueModes()
    now = 0
    for hold_ms in (*HOLD_MS, HOLD_MS[-1]):
        for late in (0, 1):  # two orders that were sent together
            mode.note(VenueMode.RESTARTING, now + late)
        assert mode.now(now + hold_ms) is VenueMode.RESTARTING
        now += hold_ms + 1
        assert mode.now(now) is VenueMode.NORMAL
    mode.note(VenueMode.NORMAL, now)
    mode.note(VenueMode.DISABLED, now)
    assert mode.now(now + HOLD_MS[0]) is VenueMode.NORMAL


@settings(deadline=None, max_examples=300)
@given(
    st.integers(1, 9_999),
    st.integers(1, 100_000),
    st.integers(1, 9_999),
    st.sampled_from([(0, 0), ("0.07", 1), ("0.25", 2), ("0.02", 3), ("0.001", 0)]),
)
def test_no_fill_costs_more_than_the_worst_cost(limit: int, hundredths: int, at: int, fee: tuple[object, int]) -> None:
    """A market BUY spends its money: at any better price, with all the shares that brings and their fee, within its cost."""
    market = replace(MARKET, fee_rate=Decimal(str(fee[0])), fee_exponent=fee[1])
    price, size = Decimal(limit) / 10_000, hundredths * SHARE // 100
    money, paid = int(price * size), min(Decimal(at) / 10_000, price)
    shares = int(money / paid)
    cost = money + int(shares * market.fee_rate * (paid * (1 - paid)) ** market.fee_exponent)
    assert cost <= worst_cost(price, size, market)


@pytest.mark.parametrize(
    ("limit", "at", "shares"),
    [
        ("0.90", "0.89", 111_120_000),
        ("0.60", "0.57", 100_000_000),
        ("0.999", "0.20", 5_010_000),
        ("0.55", "0.50", 2 * 10**8),
    ],
)
def test_recorded_overfills_stay_within_the_worst_cost(limit: str, at: str, shares: int) -> None:
    """More shares for the same money, as the chain and others recorded it: the fee on them is within the worst cost."""
    price, paid = Decimal(limit), Decimal(at)
    money = int(price * shares)
    got = int(money / paid)
    assert money + int(got * MARKET.fee_rate * paid * (1 - paid)) <= worst_cost(price, shares, MARKET)
