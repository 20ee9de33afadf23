"""Walk, tapes, feed and candles."""

from __future__ import annotations

import dataclasses
import math
import random
import statistics
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paper.engine.feed import TICK_MS, Bar, Feed, Tape, bridge, load_tape, shift_ms
from paper.engine.prices import ASSETS, SPECS, Mood, sigma_second, step
from paper.errors import UsageError

NOW = 1_795_000_200_000  # a full minute
TAPES = Path(__file__).resolve().parents[4].parent / "shared" / "data" / "tapes"
needs_tapes = pytest.mark.skipif(not TAPES.is_dir(), reason=f"optional: the real tapes are not at {TAPES}")


@st.composite
def bars(draw: st.DrawFn) -> Bar:
    low, high = sorted((draw(st.floats(0.5, 1e5)), draw(st.floats(0.5, 1e5))))
    inside = st.floats(low, high)
    return Bar(0, draw(inside), high, low, draw(inside))


@given(bar=bars(), count=st.sampled_from([10, 600]), seed=st.integers(0, 99))
def test_bridge_reproduces_the_bar_exactly(bar: Bar, count: int, seed: int) -> None:
    """Ticks inside a bar open, peak, bottom and close at exactly its four prices."""
    path = bridge(bar, count, random.Random(seed))
    assert (len(path), path[0], max(path), min(path), path[-1]) == (count, bar.open, bar.high, bar.low, bar.close)


def _walk(seed: int, steps: int, dt_s: float) -> dict[str, list[float]]:
    """Log returns of all assets."""
    rng, mood, prices = random.Random(seed), Mood(), {asset: spec.start for asset, spec in SPECS.items()}
    returns: dict[str, list[float]] = {asset: [] for asset in ASSETS}
    for _ in range(steps):
        moved, mood = step(prices, mood, dt_s, rng)
        for asset in ASSETS:
            returns[asset].append(math.log(moved[asset] / prices[asset]))
        prices = moved
    return returns


def _deviation(values: list[float]) -> float:
    return math.sqrt(sum(value * value for value in values) / len(values))


def _correlation(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True)) / len(a) / _deviation(a) / _deviation(b)


@pytest.mark.parametrize("seed", [1, 2])
def test_walk_has_its_volatility_and_correlation(seed: int) -> None:
    """Over days, returns have the asset's volatility within 15 %, and its correlation with BTC within 0.08."""
    returns = _walk(seed, 4_000, 60.0)
    for asset, spec in SPECS.items():
        assert _deviation(returns[asset]) == pytest.approx(sigma_second(asset) * math.sqrt(60), rel=0.15)
        assert _correlation(returns["BTC"], returns[asset]) == pytest.approx(spec.correlation, abs=0.08)


def test_volatility_clusters_and_markets_jump() -> None:
    """Sizes of moves stay alike for minutes while their directions do not, and rare moves are far out of the ordinary."""
    moves = _walk(3, 6_000, 10.0)["BTC"]
    sizes = [abs(move) - sum(map(abs, moves)) / len(moves) for move in moves]
    assert _correlation(sizes[:-6], sizes[6:]) > 0.05
    assert abs(_correlation(moves[:-6], moves[6:])) < 0.05
    # Of as many draws of a normal distribution the largest is about 3.8 deviations.
    assert max(map(abs, moves)) > 8 * _deviation(moves)


def test_same_seed_same_prices() -> None:
    """Two feeds of one seed agree in every tick; another seed does not."""
    first, same, other = (Feed(seed, {}, 0) for seed in (1, 1, 2))
    for feed in (first, same, other):
        feed.begin(NOW, [])
    ticks = [feed.advance(NOW + 500) for feed in (first, same, other)]
    assert ticks[0] == ticks[1]
    assert ticks[0] != ticks[2]


def test_made_up_past_leads_to_the_start_prices() -> None:
    """A first start has 1000 candles of each interval behind it, and stands at the assets' start prices."""
    feed = Feed(3, {}, 0)
    feed.begin(NOW, [])
    for asset, spec in SPECS.items():
        assert feed.lead[asset] == pytest.approx(spec.start, rel=1e-3)
        assert len(feed.history[asset].seconds.items) == len(feed.history[asset].minutes.items) == 1000


@pytest.mark.parametrize("gap_s", [0.3, 45, 3_000])
def test_prices_are_continuous_over_a_restart(gap_s: float) -> None:
    """A feed that takes over a recorded past goes on from its last price, and knows what was before."""
    before = Feed(4, {}, 0)
    past = before.begin(NOW, []) + before.advance(NOW + 5_000)
    after = Feed(4, {}, 0)
    filled = after.begin(NOW + 5_000 + round(gap_s * 1000), past)
    first = next(tick for tick in filled if tick.asset == "BTC")
    jump = abs(math.log(first.price / before.lead["BTC"]))
    assert jump < 8 * sigma_second("BTC") * math.sqrt(15)
    assert after.history["BTC"].at(NOW) == pytest.approx(before.history["BTC"].at(NOW) or 0, rel=1e-4)


def _tape(minutes: int) -> Tape:
    rng, price, found = random.Random(5), 7_000.0, []
    for number in range(minutes):
        close = round(price * (1 + rng.gauss(0, 0.001)), 2)
        high, low = round(max(price, close) * 1.0005, 2), round(min(price, close) * 0.9995, 2)
        found.append(Bar(1_500_000_000_000 // 60_000 * 60_000 + number * 60_000, price, high, low, close))
        price = close
    return Tape("test", tuple(found), 60_000)


def test_tape_replays_its_bars_as_minute_candles() -> None:
    """Replayed from now, every whole bar of a tape appears as exactly that minute candle of the lead price."""
    tape = _tape(4)
    feed = Feed(1, {"BTC": tape}, shift_ms([tape], None, NOW))
    feed.begin(NOW, [])
    for at in range(NOW, NOW + 250_000, TICK_MS):
        feed.advance(at)
    candles = [one for one in feed.history["BTC"].minutes.items if NOW <= one.start_ms < NOW + 180_000]
    # The tick of the start itself belongs to the past that `begin` filled.
    shown = [(one.open, one.high, one.low, one.close) for one in candles]
    assert shown == [(bar.open, bar.high, bar.low, bar.close) for bar in tape.bars[:3]]


def test_after_its_end_a_tape_is_walked_on() -> None:
    """When a tape ends, its asset walks on from the last close."""
    tape = _tape(2)
    feed = Feed(1, {"BTC": tape}, shift_ms([tape], None, NOW))
    feed.begin(NOW, [])
    for at in range(NOW, NOW + 130_000, TICK_MS):
        feed.advance(at)
    assert feed.lead["BTC"] != tape.bars[-1].close
    assert feed.lead["BTC"] == pytest.approx(tape.bars[-1].close, rel=0.01)


def test_tapes_must_share_their_time() -> None:
    """Tapes of different days, and a start outside of the tapes, are refused."""
    tape = _tape(3)
    later = Tape("later", tuple(dataclasses.replace(bar, time_ms=bar.time_ms + 10**9) for bar in tape.bars), 60_000)
    with pytest.raises(UsageError, match="test, later share no time"):
        shift_ms([tape, later], None, NOW)
    with pytest.raises(UsageError, match="is outside of the tapes"):
        shift_ms([tape], tape.end_ms, NOW)


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ("2018-04-04T00:01:00Z,1,2,0.5", "line 3: expected 6 fields, found 4"),
        ("2018-04-04T00:01:00Z,1,2,x,1,1", "line 3: could not convert string to float: 'x'"),
        ("yesterday,1,2,1,1,1", "line 3: Invalid isoformat string: 'yesterday'"),
        ("2018-04-04T00:01:00Z,1,2,1.5,1,1", "line 3: expected 0 < low <= open, close <= high"),
        ("2018-04-03T00:01:00Z,1,1,1,1,1", "line 3: time 2018-04-03T00:01:00Z is not after the bar before it"),
    ],
)
def test_bad_row_is_named(tmp_path: Path, row: str, fault: str) -> None:
    """A bad row of a tape is refused with the file, the line and what is wrong with it."""
    path = tmp_path / "btc.csv"
    path.write_text(f"time,open,high,low,close,volume\n2018-04-04T00:00:00Z,1,1,1,1,1\n{row}\n")
    with pytest.raises(UsageError) as refused:
        load_tape(path)
    assert str(path) in str(refused.value)
    assert fault in str(refused.value)


@needs_tapes
@pytest.mark.parametrize("name", ["btc-2016-10-08-1s.csv", "btc-2018-04-1m.csv", "btc-2022-01a-1m.csv"])
def test_real_tapes_load(name: str) -> None:
    """The real tapes are read, with their bar length."""
    tape = load_tape(TAPES / name)
    assert tape.length_ms == (1_000 if name.endswith("1s.csv") else 60_000)
    assert tape.price(tape.start_ms, TICK_MS, 1) == tape.bars[0].open
    assert tape.price(tape.end_ms - TICK_MS, TICK_MS, 1) == tape.bars[-1].close


def test_the_basis_is_several_basis_points_and_drifts() -> None:
    """The lead price stands above the settlement price by about what was asked for, and not by the same after hours."""
    feed = Feed(3, {}, 0, basis_bp=4.6, basis_drift_bp=2.0)
    feed.begin(NOW, [])
    found = []
    for hour in range(1, 40):
        feed.basis.advance(3_600)
        feed.advance(NOW + hour * 20_000)
        found.append((feed.lead["BTC"] / feed.settlement["BTC"] - 1) * 1e4)
    assert statistics.mean(found) == pytest.approx(4.6, abs=1.5)
    assert 0.7 < statistics.stdev(found) < 3.5


def test_the_basis_goes_on_over_a_restart() -> None:
    """What the recorded prices stand apart is where it goes on from: the settlement price does not jump."""
    first = Feed(3, {}, 0, basis_bp=5.0, basis_drift_bp=3.0)
    first.begin(NOW, [])
    first.basis.bp = -8.5
    past = first.advance(NOW + 30_000)
    again = Feed(3, {}, 0, basis_bp=5.0, basis_drift_bp=3.0)
    again.begin(NOW + 30_000, past)
    assert again.basis.bp == pytest.approx(-8.5, abs=3.0), "but for the second that the settlement price lags"


def test_prices_without_a_basis_are_as_they_were() -> None:
    """A basis draws from noise of its own: the lead price is the same with and without one."""
    plain, apart = Feed(3, {}, 0), Feed(3, {}, 0, basis_bp=5.0, basis_drift_bp=3.0)
    for feed in (plain, apart):
        feed.begin(NOW, [])
        feed.advance(NOW + 30_000)
    assert plain.lead == apart.lead
    assert plain.settlement["BTC"] > apart.settlement["BTC"]
