"""The markets that are known: made on demand, opened, closed and resolved on time.

A market comes to be when somebody looks its slug up (from 24 h ago to 24 h ahead) or when it is listed. Its opening
reference is the settlement price at the window's start; its outcome is that of the average at the window's end.
"""

from __future__ import annotations

from dataclasses import dataclass

from paper.candles import History, average
from paper.engine.book import TICK, Book
from paper.engine.matching import Engine
from paper.engine.record import Record
from paper.windows import DAY_MS, Window, parse_slug

__all__ = ["Market", "Markets"]

_LATEST = 1 / 3
_KEEP_MS = 900_000  # in memory after the resolution; the record keeps it for good


@dataclass(slots=True)
class Market:
    """One window's market.

    Attributes:
        reference: opening reference, USD; None before the start.
        final: average settlement price at the end, USD; None before the resolution.
        winner: 0 for Up, 1 for Down; None before the resolution.
        resolved_ms: UTC ms.
        due_ms: when it is to be resolved, UTC ms; None before the end.
        tick: price step, base units.
        announced: whether subscribers were told that it is there.
    """

    window: Window
    reference: float | None = None
    final: float | None = None
    winner: int | None = None
    resolved_ms: int | None = None
    tick: int = TICK
    due_ms: int | None = None
    announced: bool = False

    def accepts_orders(self, now_ms: int) -> bool:
        """Whether order entry is open."""
        return now_ms < self.window.end_ms and self.winner is None


class Markets:
    """All markets in memory, over those in the record.

    Args:
        history: past prices of each asset.
        engine: holds the markets' books.
        late: share of the windows, 0 to 1, whose market appears late: some time after the window's start.
        seed: of which ones.
    """

    def __init__(
        self, record: Record, history: dict[str, History], engine: Engine, *, late: float = 0.0, seed: int = 0
    ) -> None:
        self._record = record
        self._history = history
        self._engine = engine
        self._late = late
        self._seed = seed
        self.by_condition: dict[str, Market] = {}
        self._by_token: dict[str, Market] = {}

    def is_visible(self, window: Window, now_ms: int) -> bool:
        """Whether anybody can see the window's market: a late one appears in the first third of its window."""
        if not self._late or window.draw("late", self._seed) >= self._late:
            return True
        lateness = window.draw("lateness", self._seed) * window.duration_ms * _LATEST
        return now_ms >= window.start_ms + lateness

    def book(self, market: Market) -> Book:
        """Return a market's book; an empty one where the market is resolved."""
        window = market.window
        book = self._engine.books.get(window.condition_id)
        if book is None:
            book = Book(window.condition_id, window.token_ids, window.end_ms, market.tick)
            if market.winner is None:
                self._engine.open(book)
        return book

    def by_slug(self, slug: str, now_ms: int) -> Market | None:
        """Return the market of a slug, made now if its window is within 24 h of now; None if there is none to see."""
        window = parse_slug(slug)
        if window is None or not self.is_visible(window, now_ms):
            return None
        market = self.by_condition.get(window.condition_id) or self._load("slug", slug)
        if market is None and window.end_ms > now_ms - DAY_MS and window.start_ms < now_ms + DAY_MS:
            market = self._make(window, now_ms)
        return market

    def of_condition(self, condition_id: str, now_ms: int) -> Market | None:
        """Return a market that has been made."""
        return self._seen(self.by_condition.get(condition_id) or self._load("condition_id", condition_id), now_ms)

    def of_token(self, token_id: str, now_ms: int) -> Market | None:
        """Return the market of a token, if it has been made."""
        found = self._by_token.get(token_id) or self._load("up", token_id) or self._load("down", token_id)
        return self._seen(found, now_ms)

    def of_number(self, number: int, now_ms: int) -> Market | None:
        """Return a market in memory by its small id."""
        found = next((one for one in self.by_condition.values() if one.window.number == number), None)
        return self._seen(found, now_ms)

    def listed(self, now_ms: int) -> list[Market]:
        """Return the markets in memory that can be seen, by the end of their windows."""
        seen = [one for one in self.by_condition.values() if self.is_visible(one.window, now_ms)]
        return sorted(seen, key=lambda one: (one.window.end_ms, one.window.slug))

    def _seen(self, market: Market | None, now_ms: int) -> Market | None:
        return market if market is not None and self.is_visible(market.window, now_ms) else None

    def load_unresolved(self) -> list[Market]:
        """Bring all markets without a resolution back into memory."""
        rows = self._record.query("SELECT slug FROM markets WHERE winner IS NULL ORDER BY end_ms")
        found = (self._load("slug", str(slug)) for (slug,) in rows)
        return [market for market in found if market is not None]

    def set_reference(self, market: Market) -> bool:
        """Take the opening reference from the past prices; False while they do not reach the start."""
        market.reference = self._history[market.window.asset].at(market.window.start_ms)
        if market.reference is None:
            return False
        values = (market.reference, market.window.condition_id)
        self._record.add("UPDATE markets SET reference = ? WHERE condition_id = ?", values)
        return True

    def refine_tick(self, market: Market) -> bool:
        """Take the finer tick, for good, if the market's book is at an edge; say whether it did now."""
        book = self.book(market)
        if not book.refine_tick():
            return False
        market.tick = book.tick
        values = (market.tick, market.window.condition_id)
        self._record.add("UPDATE markets SET tick = ? WHERE condition_id = ?", values)
        return True

    def averaged(self, market: Market, now_ms: int) -> float | None:
        """Return the mean settlement price of the averaging so far; None before it began."""
        window = market.window
        ticks = self._history[window.asset].between(window.end_ms - window.averaging_ms, min(now_ms, window.end_ms))
        return average(ticks) if ticks else None

    def resolve(self, market: Market, now_ms: int) -> int:
        """Decide the outcome and return it: 0 for Up, which wins a tie, or 1. The opening reference is set."""
        assert market.reference is not None, "a market is resolved after its start"
        final = self.averaged(market, market.window.end_ms)
        if final is None:
            final = self._history[market.window.asset].at(market.window.end_ms) or market.reference
        winner = int(final < market.reference)
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
        market = Market(window)
        self._remember(market)
        up, down = window.token_ids
        values = (window.condition_id, window.slug, up, down, window.end_ms)
        self._record.add("INSERT INTO markets (condition_id, slug, up, down, end_ms) VALUES (?, ?, ?, ?, ?)", values)
        if window.start_ms <= now_ms:
            self.set_reference(market)
        return market

    def _remember(self, market: Market) -> None:
        self.by_condition[market.window.condition_id] = market
        for token in market.window.token_ids:
            self._by_token[token] = market

    def _load(self, column: str, value: str) -> Market | None:
        if not value.isascii():  # as no name here is, and not every text could be asked for
            return None
        sql = f"SELECT slug, reference, final, winner, resolved_ms, tick FROM markets WHERE {column} = ?"
        rows = self._record.query(sql, [value])
        window = parse_slug(str(rows[0][0])) if rows else None
        if window is None:
            return None
        market = Market(window, *rows[0][1:])  # type: ignore[arg-type]  # columns are typed by the schema
        if market.winner is None:
            self._remember(market)
        return market
