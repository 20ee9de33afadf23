"""`bot record` against a running exchange: what its public streams send, as a recording that can be read back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bot.cli import main
from recording import Frame, MarketEvent, Reader, decode


def test_record_writes_what_the_public_streams_send(
    start_paper: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Markets, books, both prices: each source is there, the file is whole, and no key was needed."""
    paper = start_paper(timeframes="60s")
    for name in ("BOT_KEY_FILE", "BOT_VENUE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("BOT_PAPER_URL", paper.url)
    monkeypatch.setenv("BOT_TIMEFRAMES", "60s")
    monkeypatch.setenv("BOT_ASSETS", "BTC,ETH")
    assert main(["record", "--out", str(tmp_path / "recording"), "--seconds", "15"]) == 0
    reader = Reader(tmp_path / "recording")
    frames = [item for item in reader if isinstance(item, Frame)]
    assert {"clob", "rtds", "binance", "gamma", "clob_market", "klines"} == {frame.source for frame in frames}
    markets = [event for frame in frames for event in decode(frame) if isinstance(event, MarketEvent)]
    assert {market.asset for market in markets} == {"BTC", "ETH"}
    assert reader.counts == {}
    assert f"{len(frames)} frames" in capfd.readouterr().out


def test_record_says_in_one_line_what_cannot_be_reached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, and nothing is left running."""
    monkeypatch.delenv("BOT_VENUE", raising=False)
    monkeypatch.setenv("BOT_PAPER_URL", "http://127.0.0.1:9")
    assert main(["record", "--out", str(tmp_path / "recording"), "--seconds", "5"]) == 2
    assert "cannot be reached" in capfd.readouterr().err
