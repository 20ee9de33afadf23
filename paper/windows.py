"""Windows of the Up/Down markets: names, grid, identities. Pure.

A window is named by its slug, ``{asset}-updown-{timeframe}-{start epoch s}`` (venue.md 2.1). Everything that identifies its
market follows from the slug by hashing, so that a restarted exchange knows the same markets.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property

from paper.chance import draw
from paper.evm import keccak

__all__ = ["ASSETS", "DAY_MS", "OUTCOMES", "Window", "parse_slug", "parse_timeframe", "windows_at"]

ASSETS = ("BTC", "ETH", "SOL", "XRP", "DOGE", "BNB")
OUTCOMES = ("Up", "Down")
DAY_MS = 86_400_000
_MIN_TIMEFRAME_S = 5
_TIMEFRAME = re.compile(r"([1-9][0-9]{0,4})([sm])")
_SLUG = re.compile(r"([a-z]+)-updown-([0-9]+[sm])-([1-9][0-9]{0,11})")


def parse_timeframe(text: str) -> int:
    """Return the seconds of a timeframe such as ``10s`` or ``5m`` (5 s to 1 day).

    Raises:
        ValueError: it is malformed or out of range.
    """
    match = _TIMEFRAME.fullmatch(text)
    seconds = int(match[1]) * (60 if match[2] == "m" else 1) if match else 0
    if not _MIN_TIMEFRAME_S <= seconds <= DAY_MS // 1000:
        raise ValueError(f"a timeframe is a number and s or m, from 5s to 1440m, such as 30s or 5m; was {text!r}")
    return seconds


@dataclass(frozen=True)
class Window:
    """One market: [start, end) on its timeframe's grid of unix time.

    Attributes:
        asset: upper case, one of ASSETS.
        timeframe: as it is written in the slug, such as ``5m``.
        start_ms: UTC ms, a multiple of the timeframe.
    """

    asset: str
    timeframe: str
    start_ms: int

    @cached_property
    def duration_ms(self) -> int:
        """Length of the window in ms."""
        return parse_timeframe(self.timeframe) * 1000

    @cached_property
    def end_ms(self) -> int:
        """First ms after the window; order entry closes here."""
        return self.start_ms + self.duration_ms

    @cached_property
    def averaging_ms(self) -> int:
        """The settlement price is averaged over this last part: a fifth of the window, 1 s to 60 s."""
        return max(1_000, min(60_000, self.duration_ms // 5))

    @cached_property
    def slug(self) -> str:
        """The market's name at the venue."""
        return f"{self.asset.lower()}-updown-{self.timeframe}-{self.start_ms // 1000}"

    @cached_property
    def title(self) -> str:
        """What people read."""
        start = datetime.fromtimestamp(self.start_ms / 1000, tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return f"{self.asset} Up or Down - {self.timeframe} from {start}"

    @cached_property
    def condition_id(self) -> str:
        """32 bytes of hex; the first byte is kept clear of the venue's protocol-v2 prefixes (01, 02, 03)."""
        return "0xf0" + keccak(b"condition:" + self.slug.encode())[1:].hex()

    @cached_property
    def token_ids(self) -> tuple[str, str]:
        """Decimal ids of the Up and the Down token; 255 bits, as large as the venue's."""
        return self._token("Up"), self._token("Down")

    @cached_property
    def number(self) -> int:
        """A stable small id, for Gamma's numeric ids."""
        return int.from_bytes(hashlib.sha256(self.slug.encode()).digest()[:5], "big")

    def draw(self, what: str, seed: int) -> float:
        """Return this window's own random number in [0, 1) for a purpose, the same for the same seed."""
        return draw(seed, what, self.slug)

    def _token(self, outcome: str) -> str:
        digest = int.from_bytes(keccak(f"token:{outcome}:{self.slug}".encode()), "big")
        return str(digest & ((1 << 254) - 1) | (1 << 254))


def parse_slug(slug: str) -> Window | None:
    """Return the window that a slug names, or None if it names none (unknown asset, bad timeframe, off the grid)."""
    match = _SLUG.fullmatch(slug)
    if match is None or match[1].upper() not in ASSETS:
        return None
    try:
        seconds = parse_timeframe(match[2])
    except ValueError:
        return None
    start_s = int(match[3])
    return Window(match[1].upper(), match[2], start_s * 1000) if start_s % seconds == 0 else None


def windows_at(now_ms: int, timeframe: str, ahead: int) -> list[Window]:
    """Return the window of each asset that contains ``now_ms``, and the next ``ahead`` ones."""
    duration = parse_timeframe(timeframe) * 1000
    first = now_ms - now_ms % duration
    return [Window(asset, timeframe, first + n * duration) for n in range(ahead + 1) for asset in ASSETS]
