"""Tables say what the frames said, and the same recording gives the same bytes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from recording import Frame, Reader, Writer
from recording.cli import main
from recording.events import Feed
from recording.importers.common import book, gamma, price
from recording.tables import COLUMNS, PRICES, QUOTES, TRADES, WINDOWS, rows
from recording.tapes import HEADER

SLUG = "btc-updown-5m-1790877600"
START = 1_790_877_600_000
UP, DOWN, CONDITION = "11", "22", "0xc"


def gamma_event(**other: Any) -> str:
    return gamma(SLUG, condition_id=CONDITION, token_ids=(UP, DOWN), average_s=60, **other)


def trade(at: int) -> str:
    event = {"event_type": "last_trade_price", "market": CONDITION, "asset_id": DOWN, "timestamp": str(at)}
    return json.dumps(event | {"price": "0.5", "size": "8", "side": "SELL", "transaction_hash": "0x1"})


FRAMES = [
    (0, "gamma", gamma_event(strike=84000.0)),
    (100, "clob", book(CONDITION, UP, START + 50, [(0.48, 10)], [(0.5, 20)])),
    (
        200,
        "clob",
        book(CONDITION, UP, START + 150, [(0.48, 10), (0.4, 5)], [(0.5, 20)]),
    ),  # its best prices are as before
    (300, "clob", trade(START + 250)),
    (400, "binance", json.dumps({"u": 1, "s": "BTCUSDT", "b": "84000.0", "a": "84001.0"})),
    (1_400, "archive", price(Feed.CHAINLINK, "BTC", START, 83999.5)),
    (1_500, "binance", json.dumps({"u": 2, "s": "BTCUSDT", "b": "84002.0", "a": "84003.0"})),
    (299_000, "clob", book(CONDITION, DOWN, START + 298_900, [], [(0.02, 7)])),
    (310_000, "gamma", gamma_event(strike=84000.0, final=84001.0, winner=0)),
]


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    folder = tmp_path / "recording"
    writer = Writer(folder, writer="t", wall_ms=lambda: 0, mono_ms=None, say=lambda event, facts: None)
    for at, source, text in FRAMES:
        writer.add(source, text, START + at)
    writer.close()
    return folder


def test_each_table_has_what_the_frames_said_and_nothing_else() -> None:
    """A quote where a best price changed, with the other token's mirror image; trades, prices, and how the window ended."""
    made: dict[str, list[dict[str, Any]]] = {name: [] for name in COLUMNS}
    for name, row in rows(Frame(START + at, source, text) for at, source, text in FRAMES):
        assert set(row) == set(COLUMNS[name])
        made[name].append(row)
    first, last = made[QUOTES]
    assert [first[name] for name in ("up_bid", "up_ask", "up_ask_size", "down_bid", "down_ask")] == [
        0.48,
        0.5,
        20,
        0.5,
        0.52,
    ]
    assert (first["recorded"], first["seconds_left"], first["recv_ms"]) == ("up", 299.95, START + 100)
    assert (last["down_ask"], last["down_bid"], last["up_bid"], last["recorded"]) == (0.02, None, 0.48, "both")
    sale = made[TRADES][0]
    assert (sale["outcome"], sale["side"], sale["price"], sale["size"]) == ("Down", "SELL", 0.5, 8.0)
    assert [(one["feed"], one["price"], one["time_ms"] - START) for one in made[PRICES]] == [
        ("binance", 84000.5, 400),
        ("chainlink", 83999.5, 0),
        ("binance", 84002.5, 1_500),
    ]
    window = made[WINDOWS][0]
    told = {name: window[name] for name in ("slug", "strike", "final", "winner", "average_ms", "quotes", "whole")}
    assert told == {
        "slug": SLUG,
        "strike": 84000.0,
        "final": 84001.0,
        "winner": "Up",
        "average_ms": 60_000,
        "quotes": 2,
        "whole": False,
    }
    assert window["longest_gap_s"] == 298.75


def test_a_recording_exported_twice_gives_equal_bytes_that_others_can_read(recording: Path, tmp_path: Path) -> None:
    """Parquet of the same frames is the same file; polars, pandas and DuckDB read it where they are installed."""
    pytest.importorskip("pyarrow", reason="the extra research is not installed")
    for name in ("a", "b"):
        assert main(["export", str(recording), "--out", str(tmp_path / name)]) == 0
    for name in COLUMNS:
        assert (tmp_path / "a" / f"{name}.parquet").read_bytes() == (tmp_path / "b" / f"{name}.parquet").read_bytes()
    quotes = tmp_path / "a" / "quotes.parquet"
    readers = 0
    for module, read in (
        ("polars", lambda library: library.read_parquet(quotes)["up_bid"].to_list()),
        ("pandas", lambda library: library.read_parquet(quotes)["up_bid"].tolist()),
        ("duckdb", lambda library: [row[0] for row in library.sql(f"SELECT up_bid FROM '{quotes}'").fetchall()]),
    ):
        try:
            library = __import__(module)
        except ImportError:
            continue
        assert read(library) == [0.48, 0.48]
        readers += 1
    assert readers or not pytest.importorskip("polars", reason="none of the readers is installed")


def test_a_recording_checked_says_what_it_has(recording: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Counts of frames by source; the hole in the middle is said, and the exit code is 1 for it."""
    assert main(["check", str(recording)]) == 1
    said = json.loads(capsys.readouterr().out)
    assert said["frames"] == {"archive": 1, "binance": 2, "clob": 4, "gamma": 2}
    assert said["problems"] == {"gap": 1}
    assert main(["check", str(recording / "missing")]) == 2


def test_lead_prices_become_a_tape(recording: Path, tmp_path: Path) -> None:
    """Bars of a second, of Binance's middle prices alone."""
    assert main(["tape", str(recording), "--out", str(tmp_path / "tapes")]) == 0
    lines = (tmp_path / "tapes" / "btc-1s.csv").read_text().splitlines()
    assert lines[0] == HEADER
    assert [line.split(",")[1] for line in lines[1:]] == ["84000.5", "84002.5"]


def test_without_the_extra_one_line_says_what_to_install(
    recording: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Parquet is no part of trading or recording."""
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    assert main(["export", str(recording), "--out", str(tmp_path / "out")]) == 2
    assert "pip install '.[research]'" in capsys.readouterr().err


def test_reading_a_recording_twice_gives_equal_items(recording: Path) -> None:
    """The same frames with the same times, each time."""
    reader = Reader(recording)
    assert [*reader] == [*reader]
