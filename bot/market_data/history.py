"""The last minutes of one-second candles over Binance's REST API (GET /api/v3/klines)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

import aiohttp

from bot.market_data.binance_messages import symbol
from bot.venue.decoding import (
    HIGH_PRICE,
    LOW_PRICE,
    Code,
    OddError,
    Origin,
    Skips,
    as_float,
    as_list,
    as_ms,
    clean,
    decode,
    each,
)
from bus import Log

_PATH = "/api/v3/klines"
_MOST_BYTES = 1 << 20  # 1000 candles have 170 kB
_MOST_KLINES = 1_000


@dataclass(frozen=True, slots=True)
class Kline:
    """One second: its start (UTC ms) and the last price in it."""

    open_ms: int
    close: float


async def fetch_history(
    rest_url: str,
    assets: Iterable[str],
    *,
    log: Log,
    seconds: int = 300,
    time_limit_s: float = 5.0,
    skips: Skips | None = None,
) -> dict[str, list[Kline]]:
    """The last `seconds` (1 to 1000) one-second candles of each asset, oldest first.

    An asset whose history does not come within the time limit is left out and logged: history only shortens a cold
    start, and the stream fills in for it.
    """
    timeout, counted = aiohttp.ClientTimeout(total=time_limit_s), skips or Skips()
    # Never compressed: what is to be bounded is what is read.
    async with aiohttp.ClientSession(
        timeout=timeout, auto_decompress=False, headers={"Accept-Encoding": "identity"}
    ) as session:

        async def fetch(asset: str) -> tuple[str, list[Kline] | None]:
            params = {"symbol": symbol(asset), "interval": "1s", "limit": str(seconds)}
            try:
                async with session.get(rest_url.rstrip("/") + _PATH, params=params) as response:
                    body = await _read(response.content)
                    if response.status != 200:
                        raise OddError(
                            Code.SHAPE, "", "status 200", f"{response.status}: {clean(body.decode('latin-1'), 50)}"
                        )
                    return asset, parse_klines(decode(body, _MOST_BYTES), counted)
            except OddError as error:
                counted.count(Origin.BINANCE, error.code)
                log.warning("history_failed", asset=asset, reason=str(error))
            except (aiohttp.ClientError, TimeoutError, ValueError) as error:
                log.warning("history_failed", asset=asset, reason=clean(f"{type(error).__name__}: {error}"))
            return asset, None

        histories = await asyncio.gather(*(fetch(asset) for asset in assets))
    return {asset: klines for asset, klines in histories if klines is not None}


async def _read(content: aiohttp.StreamReader) -> bytes:
    """The body, up to the first byte that is too many."""
    body = bytearray()
    async for piece in content.iter_any():
        body += piece
        if len(body) > _MOST_BYTES:
            raise OddError(Code.SIZE, "", f"at most {_MOST_BYTES} bytes", "more")
    return bytes(body)


def parse_klines(payload: object, skips: Skips | None = None) -> list[Kline]:
    """Binance's arrays ([open time ms, open, high, low, close, ...]) as klines; a candle that cannot be read is left out.

    Raises OddError: it is no list of candles, or none of them can be read.
    """
    odd: list[OddError] = []
    rows = as_list(payload, "candles", _MOST_KLINES)
    klines = list(each(rows, "candles", _kline, odd.append))
    if rows and not klines:
        raise odd[0]
    for error in odd:
        if skips is not None:
            skips.note(Origin.BINANCE, error)
    return klines


def _kline(value: object, where: str) -> Kline:
    row = as_list(value, where, 100)
    if len(row) < 5 or isinstance(row[0], str) or not isinstance(row[4], str):
        raise OddError(Code.SHAPE, where, "[open time, open, high, low, close, ...]", value)
    return Kline(as_ms(row[0], f"{where}[0]"), as_float(row[4], f"{where}[4]", LOW_PRICE, HIGH_PRICE))
