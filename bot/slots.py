"""Slots and windows: what is traded, and when. Pure.

A slot is (asset, timeframe, offset); its window at a time is the one on the timeframe's grid, `offset` windows ahead.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache

DEFAULT_ASSETS = ("BTC", "ETH", "SOL", "XRP", "DOGE", "BNB")
DEFAULT_TIMEFRAMES = ("5m", "15m")
AHEAD_ASSETS = ("BTC", "ETH")
SETTLEMENT_AVERAGE_S = 60
MIN_TIMEFRAME_S = 5
MAX_TIMEFRAME_S = 24 * 3600
_SLUG = re.compile(r"([a-z]+)-updown-([0-9]+[smh])-([0-9]+)")
_TIMEFRAME = re.compile(r"([1-9][0-9]{0,4})([smh])")
_SECONDS = {"s": 1, "m": 60, "h": 3600}


@lru_cache(maxsize=64)
def timeframe_seconds(timeframe: str) -> int:
    """The length of a timeframe such as 10s, 5m or 4h, in seconds. Raises ValueError that says what was expected."""
    match = _TIMEFRAME.fullmatch(timeframe)
    seconds = int(match[1]) * _SECONDS[match[2]] if match else 0
    if not MIN_TIMEFRAME_S <= seconds <= MAX_TIMEFRAME_S:
        raise ValueError(f"expected a timeframe of 5 seconds to a day such as 30s, 5m or 4h, found {timeframe!r}")
    return seconds


@dataclass(frozen=True, slots=True, order=True)
class Window:
    """One market of a slot: [start_ms, end_ms) in UTC ms. slug: the venue's name of it (venue.md 2.1)."""

    asset: str
    timeframe: str
    start_ms: int
    end_ms: int
    slug: str = field(init=False, repr=False, compare=False)  # asked for several times a slot and poll: made once

    def __post_init__(self) -> None:
        slug = f"{self.asset.lower()}-updown-{self.timeframe}-{self.start_ms // 1000}"
        object.__setattr__(self, "slug", slug)

    @property
    def average_ms(self) -> int:
        """How long before the end the settlement average begins: a minute, less for short windows (paper's rule)."""
        return max(1000, min(SETTLEMENT_AVERAGE_S * 1000, (self.end_ms - self.start_ms) // 5))


def parse_slug(slug: str) -> Window:
    """The window that a slug names. Raises ValueError."""
    match = _SLUG.fullmatch(slug)
    if match is None:
        raise ValueError(f"expected a slug such as btc-updown-5m-1792638000, found {slug!r}")
    start_ms = int(match[3]) * 1000
    return Window(match[1].upper(), match[2], start_ms, start_ms + timeframe_seconds(match[2]) * 1000)


@dataclass(frozen=True, slots=True, order=True)
class Slot:
    """One place to trade. id: its name in control, status and the ledger: BTC-5m, or BTC-5m+1 for the next window."""

    asset: str
    timeframe: str
    offset: int = 0
    id: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "id", f"{self.asset}-{self.timeframe}" + (f"+{self.offset}" if self.offset else ""))

    def window(self, now_ms: int) -> Window:
        """The window of this slot at `now_ms` (UTC)."""
        length = timeframe_seconds(self.timeframe) * 1000
        start = now_ms // length * length + self.offset * length
        return _window(self.asset, self.timeframe, start, start + length)


@lru_cache(maxsize=8192)  # two for each of the most slots there may be: this one and the one before
def _window(asset: str, timeframe: str, start_ms: int, end_ms: int) -> Window:
    return Window(asset, timeframe, start_ms, end_ms)


def slot_of(window: Window, now_ms: int) -> Slot:
    """The slot whose window is this one at `now_ms`. Of one that has ended it is none that `make_slots` makes."""
    length = window.end_ms - window.start_ms
    return Slot(window.asset, window.timeframe, (window.start_ms - now_ms // length * length) // length)


def make_slots(assets: tuple[str, ...], timeframes: tuple[str, ...]) -> tuple[Slot, ...]:
    """Every asset in every timeframe, and the next window of BTC and ETH: 16 slots by default."""
    now = [Slot(asset, timeframe) for asset in assets for timeframe in timeframes]
    ahead = [Slot(asset, timeframe, 1) for asset in assets if asset in AHEAD_ASSETS for timeframe in timeframes]
    return tuple(now + ahead)
