"""Replay on recordings: an order meets the recorded book after its delay, what it took is gone, and profit needs windows."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from bot.cli import main
from bot.strategy.guard import DEFAULT_STRATEGY, GuardedStrategy, load_strategy
from bot.strategy.snipe import Parameters
from bot.tools.replay.recorded import Replayed, headline, recorded_json, recorded_text, replay_events, why_not
from bus import SettingsError
from recording import BookEvent, ChangeEvent, Contents, Event, Feed, Lack, MarketEvent, PriceEvent, Writer
from tests.recorded import events, needs_data

SHARE = 1_000_000
START_MS = 1_800_000_000_000
END_MS = START_MS + 300_000
SLUG = f"btc-updown-5m-{START_MS // 1000}"
PRICE = 60_000.0
BASIS = 1 + 4.6e-4


def cents(*levels: tuple[int, int]) -> tuple[tuple[int, int], ...]:
    """Levels of cents and shares."""
    return tuple((price * 10_000, size * SHARE) for price, size in levels)


def book(at_ms: int, token: str, bids: tuple[tuple[int, int], ...], asks: tuple[tuple[int, int], ...]) -> BookEvent:
    """A snapshot."""
    return BookEvent(at_ms, at_ms, "c", token, bids, asks)


def market(at_ms: int, winner: int | None = None) -> MarketEvent:
    """Gamma's answer."""
    return MarketEvent(
        at_ms, SLUG, "c", ("up", "down"), START_MS, END_MS, average_ms=60_000, delay_ms=150, strike=PRICE, winner=winner
    )


def recording(*more: Event, above: float = 1 + 6e-4) -> list[Event]:
    """A window in which the price rises above the strike after two minutes, whose books do not follow; Up wins."""
    made: list[Event] = [market(START_MS - 60_000)]
    for second in range(-60, 301):
        at = START_MS + second * 1_000
        price = PRICE * (above if second > 120 else 1)
        made += [
            PriceEvent(at + tenth * 100, at + tenth * 100, Feed.BINANCE, "BTC", price * BASIS) for tenth in range(10)
        ]
        made.append(PriceEvent(at + 1_400, at, Feed.CHAINLINK, "BTC", price))
        made.append(book(at + 50, "up", cents((48, 500)), cents((50, 20), (52, 400))))
        made.append(book(at + 60, "down", cents((48, 500)), cents((52, 500))))
    made += [market(END_MS + 2_000, winner=0), *more]
    return sorted(made, key=lambda event: event.recv_ms)


def run(made: list[Event], contents: Contents | None = None, **options: Any) -> Replayed:
    """A replay by the strategy that is shipped."""
    return replay_events(
        made, contents or Contents(), strategy=load_strategy(DEFAULT_STRATEGY), parameters=Parameters(), **options
    )


def test_an_order_is_filled_at_the_recorded_offers_and_paid_by_the_recorded_outcome() -> None:
    """The lead's basis of 4.6 bp is taken off; the trade's PnL is what the balance moved, to the last unit."""
    done = run(recording())
    (trade,) = done.trading.trades
    assert (trade.outcome, trade.winner) == ("Up", "Up")
    assert trade.cost >= 20 * SHARE // 2
    assert done.house.balance == 10_000 * SHARE + trade.pnl
    assert trade.shares > 20 * SHARE, "its money goes on to the second level"
    low = trade.cost / trade.shares
    assert 0.50 < low < 0.52
    fees = 20 * 0.07 * 0.25 + (trade.shares / SHARE - 20) * 0.07 * 0.52 * 0.48
    assert trade.fees / SHARE == pytest.approx(fees, abs=1e-5)


def test_equal_arguments_give_equal_bytes() -> None:
    """Twice the same recording, twice the same report."""
    first, second = (recorded_json(run(recording()), {}) for _ in range(2))
    assert first == second
    assert recorded_text(run(recording()), "x", {}) == recorded_text(run(recording()), "x", {})


def test_under_200_windows_nothing_is_said_of_profit() -> None:
    """The first line says how many windows, and no sum stands anywhere in the text."""
    done = run(recording())
    first, *_ = recorded_text(done, "x", {"gap": 1}).split("\n")
    assert first == "1 windows, 1 traded: too few to speak of profit (200 are the least)"
    assert '"pnl_pusd": null' in recorded_json(done, {})
    assert "not whole: gap 1" in recorded_text(done, "x", {"gap": 1})
    done.windows = {f"w{n}" for n in range(200)} | {SLUG}
    done.house.winners.update(dict.fromkeys(done.windows, done.house.winners[SLUG]))
    assert headline(done).startswith("201 windows, 1 traded: +")
    assert headline(done).endswith("no profit is shown"), "one gain in 201 windows"


def test_an_order_that_arrives_after_the_end_buys_nothing() -> None:
    """Its delay counts: it is refused, and the window is none that was traded."""
    late = run(recording(), delay_ms=200_000)
    assert late.trading.orders >= 1
    assert late.trading.trades == []
    assert late.house.balance == 10_000 * SHARE


def test_what_we_took_is_not_offered_again_until_its_level_changes() -> None:
    """The same snapshot again brings nothing back; another size is new offers."""
    done = run(recording())
    house = done.house
    house.take(market(END_MS + 3_000))
    house.take(book(END_MS + 3_000, "up", (), cents((50, 20))))
    house._taken[("up", False, 500_000)] = 15 * SHARE
    shown = house._book("up")
    assert [level.size for level in shown.asks] == [5 * SHARE]
    house.take(book(END_MS + 3_100, "up", (), cents((50, 20))))
    assert [level.size for level in house._book("up").asks] == [5 * SHARE]
    house.take(ChangeEvent(END_MS + 3_200, END_MS + 3_200, "c", "up", False, 500_000, 30 * SHARE))
    assert [level.size for level in house._book("up").asks] == [30 * SHARE]
    assert house._book("up").asks[0].price == Decimal("0.5")


def test_books_are_not_believed_after_a_gap_until_they_are_told_anew() -> None:
    """Nothing is entered on what stood before it."""
    cut = [e for e in recording() if not START_MS + 150_000 < e.recv_ms < START_MS + 290_000]
    cut = [e for e in cut if not (isinstance(e, BookEvent) and e.recv_ms > START_MS + 150_000)]
    assert run(cut).trading.trades == []


@pytest.mark.parametrize(
    ("contents", "words"),
    [
        (Contents(depth=0), "no books"),
        (Contents(lacks=(Lack.BOOKS,)), "no books"),
        (Contents(lacks=(Lack.LEAD,)), "--lead settlement"),
        (Contents(lacks=(Lack.SETTLEMENT,)), "basis"),
        (Contents(lacks=(Lack.OUTCOME,)), "outcomes"),
    ],
)
def test_a_strategy_that_needs_what_a_recording_lacks_is_told_so(contents: Contents, words: str) -> None:
    """Before anything is replayed, in one line."""
    with pytest.raises(SettingsError, match=words):
        run(recording(), contents)
    assert why_not(Contents(lacks=(Lack.LEAD,)), "settlement") is None


@needs_data
def test_recorded_windows_go_through_replay_and_calibration() -> None:
    """Three hours of ETH: predictions at every horizon, orders at recorded offers, money that adds up."""
    made = events("rjav1")[:25_000]
    contents = Contents(depth=1, sampled_ms=1_000, average_ms=0, lacks=(Lack.LEAD, Lack.TRADES, Lack.SIZES))
    done = run(made, contents, lead="settlement", delay_ms=0)
    assert len(done.windows) >= 5
    assert {horizon for _, horizon in done.predictions} == {120, 90, 60, 30, 10}
    text = recorded_text(done, "rjav1", {})
    assert "too few to speak of profit" in text
    strategy: GuardedStrategy = done.trading.strategy
    assert strategy.name == DEFAULT_STRATEGY


def test_the_command_says_in_one_line_what_a_recording_lacks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2 for a folder that is none, for one that has no lead price, and for both kinds of data at once."""
    writer = Writer(
        tmp_path / "made", writer="test", wall_ms=lambda: START_MS, mono_ms=None, say=lambda *_, **__: None,
        contents=Contents(lacks=(Lack.LEAD,)),
    )  # fmt: skip
    writer.add("archive", "{}", START_MS)
    writer.close()
    for folder, words in ((tmp_path / "nowhere", "nowhere"), (tmp_path / "made", "--lead settlement")):
        assert main(["replay", "--recording", str(folder)]) == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert words in said.err
    with pytest.raises(SystemExit):
        main(["replay", "--recording", str(tmp_path), "--tape", "x.csv"])
