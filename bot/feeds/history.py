"""The last minutes of one-second candles over Binance's REST API (GET /api/v3/klines)."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import aiohttp

from bot.feeds.messages import symbol
from bus.logs import Log

_PATH = "/api/v3/klines"


@dataclass(frozen=True, slots=True)
class Kline:
    """One second: its start (UTC ms) and the last price in it."""

    open_ms: int
    close: float


async def fetch_history(
    rest_url: str, assets: Iterable[str], *, log: Log, seconds: int = 300, time_limit_s: float = 5.0
) -> dict[str, list[Kline]]:
    """The last `seconds` (1 to 1000) one-second candles of each asset, oldest first.

    An asset whose history does not come within the time limit is left out and logged: history only shortens a cold
    start, and the stream fills in for it.
    """
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=time_limit_s)) as session:

        async def fetch(asset: str) -> tuple[str, list[Kline] | None]:
            params = {"symbol": symbol(asset), "interval": "1s", "limit": str(seconds)}
            try:
                async with session.get(rest_url.rstrip("/") + _PATH, params=params) as response:
                    if response.status != 200:
                        raise ValueError(f"status {response.status}: {(await response.text())[:200]}")
                    return asset, parse_klines(await response.json())
            except (aiohttp.ClientError, TimeoutError, ValueError) as error:
                log.warning("history_failed", asset=asset, reason=f"{type(error).__name__}: {error}")
                return asset, None

        found = await asyncio.gather(*(fetch(asset) for asset in assets))
    return {asset: klines for asset, klines in found if klines is not None}


def parse_klines(payload: Any) -> list[Kline]:
    """Binance's arrays ([open time ms, open, high, low, close, ...]) as klines. Raises ValueError on another form."""
    if not isinstance(payload, list):
        raise ValueError(f"expected a list of candles, found {type(payload).__name__}")
    klines = []
    for row in payload:
        if not isinstance(row, list) or len(row) < 5 or not isinstance(row[0], int) or not isinstance(row[4], str):
            raise ValueError(f"expected [open time, open, high, low, close, ...], found {str(row)[:100]}")
        close = float(row[4])
        if not math.isfinite(close) or close <= 0:
            raise ValueError(f"expected a close above 0, found {row[4]!r}")
        klines.append(Kline(row[0], close))
    return klines
