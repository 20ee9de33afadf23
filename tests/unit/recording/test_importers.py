"""Archives as their pages describe them become recordings; what an archive does not have is said, never made up."""

from __future__ import annotations

import csv
import json
import os
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from recording import Frame, Lack, Reader
from recording.cli import main
from recording.importers.common import gamma
from recording.tables import PRICES, QUOTES, TRADES, WINDOWS, rows

START = 1_776_081_900
SLUG = f"btc-updown-5m-{START}"
CONDITION = "0x" + "ab" * 32
# Recordings of real windows, which are no part of the repository.
MARKET = Path(os.environ.get("MARKET_DATA") or Path(__file__).parents[4] / "shared" / "data" / "market")


def parquet(path: Path, **columns: list[Any]) -> None:
    pa = pytest.importorskip("pyarrow", reason="the extra research is not installed")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pa.table(columns), path)


def tables(folder: Path) -> dict[str, list[dict[str, Any]]]:
    made: dict[str, list[dict[str, Any]]] = {QUOTES: [], TRADES: [], PRICES: [], WINDOWS: []}
    for name, row in rows(Reader(folder)):
        made[name].append(row)
    return made


def test_kacho_gives_a_book_of_one_level_a_second(tmp_path: Path) -> None:
    """Sizes and sides where they belong; received at the end of the second; the outcome as the archive inferred it."""
    parquet(tmp_path / "btc_markets.parquet", slug=[SLUG], condition_id=[CONDITION], outcome=["Up"])
    tick = {"bu": 0.48, "au": 0.5, "su": 10.0, "sau": 20.0, "bd": 0.5, "ad": None, "sd": 30.0, "sad": None}
    columns: dict[str, list[Any]] = {"t": [START + 7], "condition_id": [CONDITION]}
    columns |= {name: [value] for name, value in tick.items()}
    parquet(tmp_path / "btc_ticks.parquet", **columns)
    assert main(["import", "kacho", str(tmp_path), "--out", str(tmp_path / "out")]) == 0
    made = tables(tmp_path / "out")
    quote = made[QUOTES][-1]
    assert [quote[name] for name in ("up_bid", "up_bid_size", "up_ask", "up_ask_size")] == [0.48, 10, 0.5, 20]
    assert [quote[name] for name in ("down_bid", "down_bid_size", "down_ask")] == [0.5, 30, None]
    assert quote["recv_ms"] == (START + 7) * 1000 + 999
    window = made[WINDOWS][0]
    assert (window["slug"], window["winner"], window["condition_id"], window["strike"]) == (SLUG, "Up", CONDITION, None)
    contents = Reader(tmp_path / "out").contents
    assert (contents.depth, contents.sampled_ms) == (1, 1_000)
    assert {Lack.TRADES, Lack.LEAD, Lack.STRIKE} <= set(contents.lacks)


def test_kaboomfox_counts_sizes_in_shares_and_lets_a_tie_win_up(tmp_path: Path) -> None:
    """Dollars become shares, cents become dollars, the window follows from the progress, and at the target Up wins."""
    start = START // 900 * 900
    ts = [start * 1000 + 450_000, start * 1000 + 450_100, start * 1000 + 899_000]
    parquet(
        tmp_path / "shard_0001.parquet",
        ts=ts,
        progress=[(at - start * 1000) / 900_000 for at in ts],
        outcome_up=[1.0, 0.0, 1.0],
        outcome_down=[0.0, 1.0, 0.0],
        best_bid=[0.4, 0.58, 0.9],
        best_ask=[0.42, 0.6, 0.92],
        best_bid_size=[8.0, 5.8, 9.0],
        best_ask_size=[4.2, 6.0, 9.2],
        oracle_price=[8_400_000, 8_400_000, 8_390_000],
        binance_price=[8_401_000, 8_401_000, 8_391_000],
        target_price=[8_390_000, 8_390_000, 8_390_000],
    )
    assert main(["import", "kaboomfox", str(tmp_path), "--out", str(tmp_path / "out")]) == 0
    made = tables(tmp_path / "out")
    first = made[QUOTES][0]
    assert (first["up_bid_size"], first["up_ask_size"]) == (20, 10)
    window = made[WINDOWS][0]
    assert (window["slug"], window["strike"], window["winner"]) == (f"btc-updown-15m-{start}", 83900.0, "Up")
    assert {(one["feed"], one["price"]) for one in made[PRICES]} >= {("chainlink", 84000.0), ("binance", 84010.0)}


def test_predictionticks_names_a_round_by_its_end(tmp_path: Path) -> None:
    """The window begins a length earlier; the best level is the last one; the last trade near the end tells the winner."""
    close = START + 300
    with (tmp_path / f"btc-updown-5m-{close}.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["timestamp", "datetime", "up_price", "down_price", "remaining_minutes"])
        writer.writerow([close - 200.5, "x", 0.5, 0.5, 3.3])
        writer.writerow([close - 2.25, "x", 0.03, 0.97, 0.04])
    side = {"bids": [[0.3, 5], [0.47, 8]], "asks": [{"price": "0.7", "size": "2"}, {"price": "0.5", "size": "6"}]}
    line = {"timestamp": close - 100.5, "datetime": "x", "remaining_minutes": 1.7, "up": side, "down": None}
    (tmp_path / f"{close}_orderbook.jsonl").write_text(json.dumps(line) + "\n")
    assert main(["import", "predictionticks", str(tmp_path), "--out", str(tmp_path / "out")]) == 0
    made = tables(tmp_path / "out")
    quote = made[QUOTES][0]
    assert [quote[name] for name in ("up_bid", "up_bid_size", "up_ask", "up_ask_size")] == [0.47, 8, 0.5, 6]
    assert (made[WINDOWS][0]["slug"], made[WINDOWS][0]["winner"]) == (SLUG, "Down")


def test_pmxt_gives_the_wanted_markets_frames_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Books, changes, trades and ticks of the markets that Gamma's file names; without that file it says what is needed."""
    pa = pytest.importorskip("pyarrow", reason="the extra research is not installed")
    at = datetime.fromtimestamp(START, tz=UTC)
    other, wanted = bytes(32), bytes.fromhex(CONDITION[2:])
    base = dict.fromkeys(
        ("bids", "asks", "price", "size", "side", "best_bid", "best_ask", "transaction_hash", "new_tick_size")
    )
    levels = {"bids": '[{"price":"0.48","size":"10"}]', "asks": '[["0.5","20"]]'}
    change = {"price": Decimal("0.4900"), "size": Decimal("3.5"), "side": "BUY", "best_bid": Decimal("0.49")}
    rows_ = [
        base | {"market": wanted, "event_type": "book"} | levels,
        base | {"market": wanted, "event_type": "price_change", "best_ask": Decimal("0.5")} | change,
        base
        | {
            "market": wanted,
            "event_type": "last_trade_price",
            "price": Decimal("0.5"),
            "size": Decimal(8),
            "side": "buy",
        },
        base | {"market": wanted, "event_type": "tick_size_change", "new_tick_size": Decimal("0.001")},
        base | {"market": other, "event_type": "book"} | levels,
    ]
    rows_ = [row | {"timestamp_received": at, "timestamp": at, "asset_id": "11"} for row in rows_]
    import pyarrow.parquet as pq

    types = [
        ("market", pa.binary(32)),
        ("timestamp_received", pa.timestamp("ms", "UTC")),
        ("timestamp", pa.timestamp("ms", "UTC")),
    ]
    texts = ("event_type", "asset_id", "bids", "asks", "side", "transaction_hash")
    types += [(name, pa.string()) for name in texts]
    types += [(name, pa.decimal128(18, 6)) for name in ("price", "size", "best_bid", "best_ask", "new_tick_size")]
    hour = tmp_path / "polymarket_orderbook_2026-04-13T12.parquet"
    pq.write_table(pa.Table.from_pylist(rows_, schema=pa.schema(types)), hour)
    assert main(["import", "pmxt", str(hour), "--out", str(tmp_path / "out")]) == 2
    assert "--markets" in capsys.readouterr().err
    events = tmp_path / "markets.jsonl"
    events.write_text(
        gamma(SLUG, condition_id=CONDITION, token_ids=("11", "22"), strike=1.5, final=2.5, winner=0) + "\n"
    )
    assert main(["import", "pmxt", str(hour), "--markets", str(events), "--out", str(tmp_path / "out")]) == 0
    made = tables(tmp_path / "out")
    assert [(one["up_bid"], one["up_bid_size"]) for one in made[QUOTES]] == [(0.48, 10), (0.49, 3.5)]
    assert made[TRADES][0]["side"] == "BUY"
    assert (made[WINDOWS][0]["winner"], made[WINDOWS][0]["final"]) == ("Up", 2.5)
    sources = [item.source for item in Reader(tmp_path / "out") if isinstance(item, Frame)]
    assert sources == ["gamma", "clob", "clob", "clob", "clob", "gamma"]


@pytest.mark.parametrize("kind", ["kacho", "kaboomfox", "pmxt", "predictionticks", "market"])
def test_what_is_no_archive_is_said_in_one_line(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An empty folder, and a missing one."""
    markets = tmp_path / "markets.jsonl"
    markets.write_text(gamma(SLUG, condition_id=CONDITION) + "\n")
    for source in (tmp_path / "missing", tmp_path):
        arguments = ["import", kind, str(source), "--out", str(tmp_path / "out"), "--markets", str(markets)]
        assert main(arguments) == 2
        assert capsys.readouterr().err.startswith("recording: ")


@pytest.mark.skipif(not MARKET.is_dir(), reason="optional: the recordings of real windows are not here (MARKET_DATA)")
def test_real_windows_come_through_as_they_were_recorded(tmp_path: Path) -> None:
    """Sol's one usable window: every row of its quotes, its strike and its outcome are those of the source."""
    pq = pytest.importorskip("pyarrow.parquet", reason="the extra research is not installed")
    assert main(["import", "market", str(MARKET), "--assets", "SOL", "--out", str(tmp_path / "out")]) == 0
    made = tables(tmp_path / "out")
    window = made[WINDOWS][0]
    recorded = {row["slug"]: row for row in pq.read_table(MARKET / "windows.parquet").to_pylist()}[window["slug"]]
    assert (window["winner"], window["strike"]) == (recorded["winner"], recorded["strike"])
    source = [
        (
            row["venue_ms"],
            *(None if row[n] is None else round(row[n], 2) for n in ("up_bid", "up_ask", "down_bid", "down_ask")),
        )
        for row in pq.read_table(MARKET / "quotes.parquet").to_pylist()
        if row["asset"] == "SOL" and row["window_start_ms"] == recorded["start_ms"]
    ]
    ours = {
        (
            row["venue_ms"],
            *(None if row[n] is None else round(row[n], 2) for n in ("up_bid", "up_ask", "down_bid", "down_ask")),
        )
        for row in made[QUOTES]
    }
    changed = [
        row for before, row in zip([None, *source], source, strict=False) if before is None or before[1:] != row[1:]
    ]
    assert len(changed) > 100
    assert sum(row in ours for row in changed) / len(changed) > 0.9  # where a size is missing, its level is no offer
