"""Markets as they are elsewhere: their ids, strikes, outcomes, delays; none is made up."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from paper.engine.markets import Market, Markets, Window
from paper.engine.markets import parse_slug as parse_window
from paper.engine.record import Value
from recording import MarketEvent


@dataclass(frozen=True)
class RealWindow(Window):
    """A window whose market has the ids that the real exchange gave it."""

    condition: str = ""
    tokens: tuple[str, str] = ("", "")

    @property
    def condition_id(self) -> str:
        """As the real exchange has it."""
        return self.condition

    @property
    def token_ids(self) -> tuple[str, str]:
        """As the real exchange has them."""
        return self.tokens


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a window really ended."""

    winner: int
    final: float | None


class MirrorMarkets(Markets):
    """All markets that were heard of."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._by_slug: dict[str, str] = {}
        self.outcomes: dict[str, Outcome] = {}

    def is_visible(self, window: Window, now_ms: int) -> bool:  # noqa: ARG002
        """What was heard of can be seen."""
        return True

    def by_slug(self, slug: str, now_ms: int) -> Market | None:  # noqa: ARG002
        """Return the market of a slug; None where nothing was heard of it."""
        known = self._by_slug.get(slug)
        return self.by_condition.get(known or "") or self._load("slug", slug)

    def take(
        self, event: MarketEvent, window: Window, average_ms: int | None, delay_ms: int | None
    ) -> tuple[Market, bool]:
        """Take what was heard of a market; return it, and whether it is new.

        Args:
            window: where it is shown.
            average_ms, delay_ms: lengths as they are shown; None where nothing was said of them.
        """
        market = self.by_slug(window.slug, 0)
        is_new = market is None
        if market is None:
            real = _real(window, event.condition_id, event.token_ids, event.protocol)
            market = self._new(real)
            self._remember(market)
            self._by_slug[real.slug] = real.condition_id
            values = (real.condition_id, real.slug, *real.token_ids, real.end_ms)
            self._record.add(
                "INSERT INTO markets (condition_id, slug, up, down, end_ms) VALUES (?, ?, ?, ?, ?)", values
            )
        condition = market.window.condition_id
        if average_ms is not None:
            market.averaging_ms = average_ms
        market.delay_ms = delay_ms if delay_ms is not None else market.delay_ms
        if event.strike is not None and event.strike != market.reference and market.winner is None:
            market.reference = event.strike
            self._record.add("UPDATE markets SET reference = ? WHERE condition_id = ?", (event.strike, condition))
        if event.winner is not None:
            self.outcomes[condition] = Outcome(event.winner, event.final)
        return market, is_new

    def set_tick(self, market: Market, tick: int) -> None:
        """Take the price step that the real market has."""
        self.book(market).tick = market.tick = tick
        self._record.add("UPDATE markets SET tick = ? WHERE condition_id = ?", (tick, market.window.condition_id))

    def set_reference(self, market: Market) -> bool:
        """A strike is heard of, never reckoned; say whether it was."""
        return market.reference is not None

    def change_tick(self, market: Market) -> bool:  # noqa: ARG002
        """A tick is heard of, never reckoned."""
        return False

    def resolve(self, market: Market, now_ms: int) -> int:
        """Let a market end as it really did. Its outcome is known."""
        outcome = self.outcomes.pop(market.window.condition_id)
        market.winner, market.resolved_ms = outcome.winner, now_ms
        market.final = outcome.final
        self._record.add(
            "UPDATE markets SET reference = ?, final = ?, winner = ?, resolved_ms = ? WHERE condition_id = ?",
            (market.reference, market.final, market.winner, now_ms, market.window.condition_id),
        )
        return outcome.winner

    def forget_old(self, now_ms: int) -> None:
        """Drop what was resolved a while ago from memory."""
        super().forget_old(now_ms)
        self._by_slug = {slug: one for slug, one in self._by_slug.items() if one in self.by_condition}

    def _new(self, window: Window, *known: Any) -> Market:
        market = super()._new(window, *known)
        market.strike_ms = 0  # it is shown as soon as it was heard of
        return market

    def _load(self, column: str, value: str) -> Market | None:
        if not value.isascii():
            return None
        columns = "condition_id, slug, up, down, reference, final, winner, resolved_ms, tick"
        rows = self._record.query(f"SELECT {columns} FROM markets WHERE {column} = ?", [value])
        return self._restored(rows[0]) if rows else None

    def _restored(self, row: tuple[Value, ...]) -> Market | None:
        window = parse_window(str(row[1]))
        if window is None:
            return None
        known = self.by_condition.get(str(row[0]))
        if known is not None:
            return known
        real = _real(window, str(row[0]), (str(row[2]), str(row[3])), "v1")
        market = self._new(real, *row[4:])
        if market.winner is None:
            self._remember(market)
            self._by_slug[real.slug] = real.condition_id
        return market


def _real(window: Window, condition_id: str, token_ids: tuple[str, str], protocol: str) -> RealWindow:
    shown = replace(window, protocol=protocol)
    return RealWindow(shown.asset, shown.timeframe, shown.start_ms, shown.protocol, condition_id, token_ids)
