"""The markets that are known: made on demand, opened, closed and resolved on time.

A market comes to be when somebody looks its slug up (from 24 h ago to 24 h ahead) or when it is listed. Its opening
reference is the settlement price at the window's start, or the average before it, which is the final price of the window
before; its outcome is that of the average at the window's end.
"""

from __future__ import annotations

import hashlib
import re
from collections import deque
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from eth_hash.auto import keccak

from paper.engine.book import ONE, TICK, Book
from paper.engine.faults import draw
from paper.engine.matching import Engine
from paper.engine.prices import ASSETS, History, average
from paper.engine.record import Record

if TYPE_CHECKING:  # which read what this defines
    from paper.settings import Settings

# Windows of the Up/Down markets: names, grid, identities. Pure.
#
# A window is named by its slug, ``{asset}-updown-{timeframe}-{start epoch s}`` (venue.md 2.1). Everything that identifies its
# market follows from the slug by hashing, so that a restarted exchange knows the same markets.


OUTCOMES = ("Up", "Down")
DAY_MS = 86_400_000
_MIN_TIMEFRAME_S = 5
_UNITS_S = {"s": 1, "m": 60, "h": 3_600}
_TIMEFRAME = re.compile(r"([1-9][0-9]{0,4})([smh])")
_SLUG = re.compile(r"([a-z]+)-updown-([0-9]+[smh])-([1-9][0-9]{0,11})")


def parse_timeframe(text: str) -> int:
    """Return the seconds of a timeframe such as ``10s`` or ``5m`` (5 s to 1 day).

    Raises:
        ValueError: it is malformed or out of range.
    """
    match = _TIMEFRAME.fullmatch(text)
    seconds = int(match[1]) * _UNITS_S[match[2]] if match else 0
    if not _MIN_TIMEFRAME_S <= seconds <= DAY_MS // 1000:
        raise ValueError(f"a timeframe is a number and s, m or h, from 5s to 24h, such as 30s or 5m; was {text!r}")
    return seconds


@dataclass(frozen=True)
class Window:
    """One market: [start, end) on its timeframe's grid of unix time.

    Attributes:
        asset: upper case, one of ASSETS.
        timeframe: as it is written in the slug, such as ``5m``.
        start_ms: UTC ms, a multiple of the timeframe.
        protocol: ``v2`` markets have position ids, which another contract trades (venue-recorded 1).
    """

    asset: str
    timeframe: str
    start_ms: int
    protocol: str = "v1"

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
        """32 bytes of hex; in protocol v1 the first byte is kept clear of the prefixes of v2 (01, 02, 03)."""
        if self.protocol == "v2":
            return "0x" + self._position(0).to_bytes(32, "big").hex()  # the market's 31 bytes, and a zero
        return "0xf0" + keccak(b"condition:" + self.slug.encode())[1:].hex()

    @cached_property
    def token_ids(self) -> tuple[str, str]:
        """Decimal ids of the Up and the Down token; 255 bits, as large as the venue's."""
        if self.protocol == "v2":
            return str(self._position(0)), str(self._position(1))
        return self._token("Up"), self._token("Down")

    @cached_property
    def number(self) -> int:
        """A stable small id, for Gamma's numeric ids."""
        return int.from_bytes(hashlib.sha256(self.slug.encode()).digest()[:5], "big")

    def draw(self, what: str, seed: int) -> float:
        """Return this window's own random number in [0, 1) for a purpose, the same for the same seed."""
        return draw(seed, what, self.slug)

    def _position(self, outcome: int) -> int:
        """A protocol-v2 position id as polymarket-client 0.14 reads them: module, name, 64 reserved bits, outcome."""
        name = keccak(b"condition:" + self.slug.encode())[:18]
        return int.from_bytes(b"\x01" + name + bytes(13), "big") | outcome

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


# The markets that are known: made on demand, opened, closed and resolved on time.


VOID = 2  # a winner that is none: each share pays a half
_MIDDLES = 1_440  # a day of minutes
_LATEST = 1 / 3
_USUAL_MS = 300_000  # the window whose strike delays were recorded; shorter ones have shorter ones
_KEEP_MS = 900_000  # in memory after the resolution; the record keeps it for good


@dataclass(slots=True)
class Market:
    """One window's market.

    Attributes:
        reference: opening reference, USD; None before the start.
        final: average settlement price at the end, USD; None before the resolution.
        winner: 0 for Up, 1 for Down, VOID for a half each; None before the resolution.
        resolved_ms: UTC ms.
        due_ms: when it is to be resolved, UTC ms; None before the end.
        tick: price step, base units.
        announced: whether subscribers were told that it is there.
        averaging_ms: the settlement price is averaged over this last part of the window; 0: its last price decides.
        strike_ms: when the opening reference is shown, UTC ms; None for never.
        delay_ms: how long a taker's order is held, where the market has a delay of its own.
        last_price, volume: of its book, once it is resolved and the book is gone.
        middles: (unix seconds, price of Up) once a minute, for prices-history.
    """

    window: Window
    reference: float | None = None
    final: float | None = None
    winner: int | None = None
    resolved_ms: int | None = None
    tick: int = TICK
    due_ms: int | None = None
    announced: bool = False
    averaging_ms: int = -1
    strike_ms: int | None = 0
    delay_ms: int | None = None
    last_price: int | None = None
    volume: int = 0
    middles: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=_MIDDLES))

    def __post_init__(self) -> None:
        if self.averaging_ms < 0:
            self.averaging_ms = self.window.averaging_ms

    @property
    def is_void(self) -> bool:
        """Whether it was resolved to a half for each share."""
        return self.winner == VOID

    def payout(self, outcome: int) -> int:
        """What a share pays in base units, once the market is resolved."""
        return ONE // 2 if self.is_void else ONE if self.winner == outcome else 0

    def strike(self, now_ms: int) -> float | None:
        """Return the opening reference as it is shown; None while it is not."""
        return self.reference if self.strike_ms is not None and now_ms >= self.strike_ms else None

    def delay_s(self, settings: Settings) -> float:
        """How long a taker's order is held, in seconds."""
        return settings.taker_delay if self.delay_ms is None else self.delay_ms / 1000

    def note_middle(self, book: Book, now_ms: int) -> None:
        """Keep the middle of its book, once a minute."""
        minute = now_ms // 60_000 * 60
        if not book.is_empty and (not self.middles or self.middles[-1][0] < minute):
            self.middles.append((minute, sum(book.best(0)) // 2))

    def accepts_orders(self, now_ms: int) -> bool:
        """Whether order entry is open."""
        return now_ms < self.window.end_ms and self.winner is None


class Markets:
    """All markets in memory, over those in the record.

    Args:
        history: past prices of each asset.
        engine: holds the markets' books.
        settings: which markets are late, of protocol v2, void; when their strikes are shown; how they are averaged.
    """

    def __init__(self, settings: Settings, record: Record, history: dict[str, History], engine: Engine) -> None:
        self._settings = settings
        self._record = record
        self._history = history
        self._engine = engine
        self.by_condition: dict[str, Market] = {}
        self._by_token: dict[str, Market] = {}

    def is_visible(self, window: Window, now_ms: int) -> bool:
        """Whether anybody can see the window's market: a late one appears in the first third of its window."""
        late, seed = self._settings.late_markets, self._settings.seed
        if not late or window.draw("late", seed) >= late:
            return True
        lateness = window.draw("lateness", seed) * window.duration_ms * _LATEST
        return now_ms >= window.start_ms + lateness

    def book(self, market: Market) -> Book:
        """Return a market's book; an empty one where the market is resolved."""
        window = market.window
        book = self._engine.books.get(window.condition_id)
        if book is None:
            book = Book(window.condition_id, window.token_ids, window.end_ms, market.tick)
            book.last_price, book.volume = market.last_price, market.volume
            if market.winner is None:
                self._engine.open(book)
        return book

    def by_slug(self, slug: str, now_ms: int) -> Market | None:
        """Return the market of a slug, made now if its window is within 24 h of now; None if there is none to see."""
        window = parse_slug(slug)
        if window is None or not self.is_visible(window, now_ms):
            return None
        if window.draw("protocol", self._settings.seed) < self._settings.v2_markets:
            window = replace(window, protocol="v2")
        market = self.by_condition.get(window.condition_id) or self._load("slug", slug)
        if market is None and window.end_ms > now_ms - DAY_MS and window.start_ms < now_ms + DAY_MS:
            market = self._make(window, now_ms)
        return market

    def of_condition(self, condition_id: str, now_ms: int) -> Market | None:
        """Return a market that has been made."""
        return self._seen(self.by_condition.get(condition_id) or self._load("condition_id", condition_id), now_ms)

    def of_token(self, token_id: str, now_ms: int) -> Market | None:
        """Return the market of a token, if it has been made."""
        market = self._by_token.get(token_id) or self._load("up", token_id) or self._load("down", token_id)
        return self._seen(market, now_ms)

    def of_number(self, number: int, now_ms: int) -> Market | None:
        """Return a market in memory by its small id."""
        market = next(
            (candidate for candidate in self.by_condition.values() if candidate.window.number == number), None
        )
        return self._seen(market, now_ms)

    def listed(self, now_ms: int) -> list[Market]:
        """Return the markets in memory that can be seen, by the end of their windows."""
        visible = [market for market in self.by_condition.values() if self.is_visible(market.window, now_ms)]
        return sorted(visible, key=lambda market: (market.window.end_ms, market.window.slug))

    def _seen(self, market: Market | None, now_ms: int) -> Market | None:
        return market if market is not None and self.is_visible(market.window, now_ms) else None

    def load_unresolved(self) -> list[Market]:
        """Bring all markets without a resolution back into memory."""
        rows = self._record.query("SELECT slug FROM markets WHERE winner IS NULL ORDER BY end_ms")
        markets = (self._load("slug", str(slug)) for (slug,) in rows)
        return [market for market in markets if market is not None]

    def set_reference(self, market: Market) -> bool:
        """Take the opening reference from the past prices; False while they do not reach the start."""
        start_ms, history = market.window.start_ms, self._history[market.window.asset]
        market.reference = history.at(start_ms)
        if market.reference is not None and self._settings.strike == "average" and market.averaging_ms:
            ticks = history.between(start_ms - market.averaging_ms, start_ms)
            market.reference = average(ticks) if ticks else market.reference
        if market.reference is None:
            return False
        values = (market.reference, market.window.condition_id)
        self._record.add("UPDATE markets SET reference = ? WHERE condition_id = ?", values)
        return True

    def change_tick(self, market: Market) -> bool:
        """Take the tick that the middle of the market's book asks for; say whether it changed now."""
        book = self.book(market)
        if not book.change_tick():
            return False
        market.tick = book.tick
        values = (market.tick, market.window.condition_id)
        self._record.add("UPDATE markets SET tick = ? WHERE condition_id = ?", values)
        return True

    def averaged(self, market: Market, now_ms: int) -> float | None:
        """Return the mean settlement price of the averaging so far; None before it began."""
        window = market.window
        ticks = self._history[window.asset].between(window.end_ms - market.averaging_ms, min(now_ms, window.end_ms))
        return average(ticks) if ticks else None

    def resolve(self, market: Market, now_ms: int) -> int:
        """Decide the outcome and return it: 0 for Up, which wins a tie, 1, or VOID. The opening reference is set."""
        assert market.reference is not None, "a market is resolved after its start"
        final = self.averaged(market, market.window.end_ms)
        if final is None:
            final = self._history[market.window.asset].at(market.window.end_ms) or market.reference
        winner = int(final < market.reference)
        if market.window.draw("void", self._settings.seed) < self._settings.void_windows:
            winner = VOID
        market.final, market.winner, market.resolved_ms = final, winner, now_ms
        self._record.add(
            "UPDATE markets SET reference = ?, final = ?, winner = ?, resolved_ms = ? WHERE condition_id = ?",
            (market.reference, final, winner, now_ms, market.window.condition_id),
        )
        return winner

    def forget_old(self, now_ms: int) -> None:
        """Drop what was resolved a while ago from memory."""
        for market in [*self.by_condition.values()]:
            if market.resolved_ms is not None and market.resolved_ms < now_ms - _KEEP_MS:
                del self.by_condition[market.window.condition_id]
                for token in market.window.token_ids:
                    del self._by_token[token]

    def _make(self, window: Window, now_ms: int) -> Market:
        market = self._new(window)
        self._remember(market)
        up, down = window.token_ids
        values = (window.condition_id, window.slug, up, down, window.end_ms)
        self._record.add("INSERT INTO markets (condition_id, slug, up, down, end_ms) VALUES (?, ?, ?, ?, ?)", values)
        if window.start_ms <= now_ms:
            self.set_reference(market)
        return market

    def _new(self, window: Window, *known: Any) -> Market:
        """A market with what the settings say of it, and what is known of it: columns of the record."""
        settings, market = self._settings, Market(window, *known)
        seconds = settings.twap_seconds.get(window.timeframe)
        if seconds is not None:
            market.averaging_ms = min(seconds * 1000, window.duration_ms)
        delay_s = settings.strike_delay * (1 + settings.strike_spread * window.draw("strike", settings.seed))
        market.strike_ms = window.start_ms + round(delay_s * 1000 * min(1.0, window.duration_ms / _USUAL_MS))
        if window.draw("no strike", settings.seed) < settings.strike_missing:
            market.strike_ms = None
        return market

    def _remember(self, market: Market) -> None:
        self.by_condition[market.window.condition_id] = market
        for token in market.window.token_ids:
            self._by_token[token] = market

    def _load(self, column: str, value: str) -> Market | None:
        if not value.isascii():  # as no name here is, and not every text could be asked for
            return None
        columns = "condition_id, slug, reference, final, winner, resolved_ms, tick"
        rows = self._record.query(f"SELECT {columns} FROM markets WHERE {column} = ?", [value])
        window = parse_slug(str(rows[0][1])) if rows else None
        if window is None:
            return None
        if window.condition_id != rows[0][0]:  # made as one of protocol v2, whatever the settings say now
            window = replace(window, protocol="v2")
        market = self._new(window, *rows[0][2:])
        if market.winner is None:
            self._remember(market)
        return market
