"""Ledger and account held against each other: what the venue shows and the ledger does not know belongs to somebody else.

Nothing is entered while there is such a thing: another trader would share our balance, limits and orders. A person looks at
it with `./ns adopt` and says that it is the owner's own; then it is known, and left alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from bot.context import Context
from bot.reasons import Reason, ReasonCode
from bot.venue.types import BASE_UNITS, Holding, TooManyError, VenueOrder
from bus import Log
from ledger import Ledger
from ledger.rows import find_intent
from ledger.values import Side, VenueTrade

BACK_MS = 600_000
"""How far behind the last comparison trades are looked for again: the venue may show one late."""
DEEP_BACK_MS, DEEP_EVERY_MS = 7_200_000, 300_000
"""Now and then further back, for trades that failed on chain long after their match."""
NOTE_EVERY_MS = 300_000
SHOWN = 30
WHOLE_HISTORY = "history"


@dataclass(frozen=True, slots=True)
class Stranger:
    """Something of the account that the ledger does not know. key: order id, or token id of a position. size: base units."""

    key: str
    kind: Literal["order", "trade", "position", "history"]
    token_id: str = ""
    condition_id: str = ""
    side: str = ""
    size: int = 0

    def __str__(self) -> str:
        if self.kind == "history":
            return "more trades than can be read, from before the last ten minutes"
        what = {"order": "resting order", "trade": "traded order", "position": "position in token"}[self.kind]
        return f"{what} {self.key}: {self.side} {self.size / BASE_UNITS:g} shares in market {self.condition_id}"


def find_strangers(
    trades: Iterable[VenueTrade],
    resting: Iterable[VenueOrder],
    held: Iterable[Holding],
    is_order_known: Callable[[str], bool],
    is_token_known: Callable[[str], bool],
) -> tuple[Stranger, ...]:
    """What nobody of ours did: one an order or token, orders first. Pure."""
    strangers: dict[str, Stranger] = {}
    for order in resting:
        if not is_order_known(order.order_id):
            strangers[order.order_id] = Stranger(
                order.order_id, "order", order.token_id, order.condition_id, order.side, order.size
            )
    for trade in trades:
        if trade.order_id not in strangers and not is_order_known(trade.order_id):
            strangers[trade.order_id] = Stranger(
                trade.order_id, "trade", trade.token_id, trade.condition_id, trade.side, trade.size
            )
    tokens = {stranger.token_id for stranger in strangers.values()}
    for holding in held:
        if holding.token_id not in tokens and not is_token_known(holding.token_id):
            strangers[holding.token_id] = Stranger(
                holding.token_id, "position", holding.token_id, holding.condition_id, "", holding.size
            )
    return tuple(strangers.values())


def reserved_by(order: VenueOrder) -> int:
    """What a resting order may spend still, in base units of pUSD, rounded up; a sale spends nothing. Pure."""
    return -int(-(order.price * max(0, order.size - order.matched)) // 1) if order.side is Side.BUY else 0


class UnknownActivity:
    """One epoch's comparing. Its methods raise LedgerError (FencedError: the epoch is over)."""

    def __init__(self, world: Context, ledger: Ledger, epoch: int, log: Log) -> None:
        self._world, self._ledger, self._epoch, self._log = world, ledger, epoch, log
        self._strangers: tuple[Stranger, ...] | None = None
        self._deep_at_ms = 0
        self._before = self._last_count()
        self._is_new = self._last_ms() is None and not self._is_old()
        self._has_adopted = bool(ledger.integer("SELECT count(*) FROM adopted WHERE kind = 'order'"))
        self.reserved = 0
        """What resting orders that are not ours may spend, in base units of pUSD, as of the last look."""

    @property
    def problem(self) -> Reason | None:
        """Why no entry may be placed, or None."""
        if self._strangers:
            more = f" and {len(self._strangers) - 3} more" if len(self._strangers) > 3 else ""
            shown = ", ".join(f"{stranger.kind} {stranger.key}" for stranger in self._strangers[:3])
            return _account(
                f"the account has what this ledger does not know ({shown}{more}): look at it with `./ns adopt`"
            )
        if self._strangers is None and (count := self._before):
            return _account(
                f"the account had {count} things that this ledger did not know, and was not compared in this epoch yet"
            )
        if self._strangers is None and self._is_new:
            return _account("the account was not compared with this new ledger yet")
        if self._strangers is None and self._has_adopted:
            return _account("the account's own orders may rest: it was not compared in this epoch yet")
        return None

    async def look(self) -> list[VenueTrade]:
        """Compare; returns the trades that were looked at, oldest first. Raises VenueError."""
        world, started = self._world, self._world.now_ms()
        since = self._since()
        deep = started - self._deep_at_ms >= DEEP_EVERY_MS
        after = since if since is None or not deep else min(since, started - DEEP_BACK_MS)
        whole: tuple[Stranger, ...] = ()
        try:
            trades = await world.venue.trades(after_ms=after)
        except TooManyError:
            if since is not None:
                raise
            whole = (Stranger(WHOLE_HISTORY, "history"),)
            trades = await world.venue.trades(after_ms=started - BACK_MS)
        resting = await world.venue.open_orders()
        held = await world.venue.holdings() if since is None else []
        self.reserved = sum(
            reserved_by(order) for order in resting if find_intent(self._ledger, order.order_id) is None
        )
        new = [trade for trade in trades if since is None or trade.at_ms >= since]
        strangers = whole + find_strangers(new, resting, held, self._is_order_known, self._is_token_known)
        self._deep_at_ms = started if deep else self._deep_at_ms
        if strangers and strangers != self._strangers:
            self._log.error(
                "unknown_orders", order_ids=[stranger.key for stranger in strangers[:10]], count=len(strangers)
            )
            self._add(started, len(strangers))
        self._strangers = strangers
        if not strangers:
            self._note(started)
        return trades

    def listed(self) -> tuple[str, str]:
        """What is unknown, in words for people, and a name for exactly this list; both empty when there is nothing."""
        strangers = self._strangers or ()
        lines = [str(stranger) for stranger in strangers[:SHOWN]]
        if len(strangers) > SHOWN:
            lines.append(f"and {len(strangers) - SHOWN} more")
        return "\n".join(lines), _name(strangers) if strangers else ""

    def adopt(self, listing: str, who: str, note: str) -> str:
        """Record what was shown as the owner's own; returns a sentence. Raises ValueError: it changed since it was shown."""
        strangers = self._strangers or ()
        if not strangers:
            raise ValueError("there is nothing to adopt: the ledger knows all that the account shows")
        if listing != _name(strangers):
            raise ValueError("what the account shows changed meanwhile; look again")
        world = self._world
        with self._ledger.transaction():
            for stranger in strangers:
                self._ledger.execute(
                    "INSERT INTO adopted(key, epoch, kind, token_id, condition_id, side, size, who, note, wall_ms) "
                    "VALUES (?,?,?,?,?,?,?,?,?,?) ON CONFLICT DO NOTHING",
                    (stranger.key, self._epoch, stranger.kind, stranger.token_id, stranger.condition_id, stranger.side,
                     stranger.size, who, note,
                     world.clock.wall_ms()),
                )  # fmt: skip
            self._add(world.now_ms(), 0)
        self._strangers = ()
        return f"{len(strangers)} are known as the owner's own now; the bot leaves them alone"

    def _since(self) -> int | None:
        """From when on trades must be known; None: all that there ever were."""
        if (last := self._last_ms()) is not None:
            return last - BACK_MS
        # A ledger of the release before noted no comparison; it entered nothing before the first one.
        first = self._ledger.integer("SELECT min(wall_ms) FROM epochs")
        return first - BACK_MS if self._is_old() else None

    def _is_old(self) -> bool:
        return bool(
            self._ledger.integer("SELECT count(*) FROM (SELECT 1 FROM intents WHERE epoch < ? LIMIT 1)", (self._epoch,))
        )

    def _last_ms(self) -> int | None:
        last = self._ledger.scalar("SELECT max(at_ms) FROM compared WHERE strangers = 0")
        return last if isinstance(last, int) else None

    def _last_count(self) -> int:
        return self._ledger.integer("SELECT strangers FROM compared ORDER BY id DESC LIMIT 1")

    def _note(self, at_ms: int) -> None:
        last = self._last_ms()
        if last is None or at_ms - last >= NOTE_EVERY_MS or self._last_count():
            self._add(at_ms, 0)

    def _add(self, at_ms: int, strangers: int) -> None:
        values = (self._epoch, at_ms, strangers)
        self._ledger.execute("INSERT INTO compared(epoch, at_ms, strangers) VALUES (?,?,?)", values)

    def _is_order_known(self, order_id: str) -> bool:
        return find_intent(self._ledger, order_id) is not None or self._is_adopted(order_id)

    def _is_token_known(self, token_id: str) -> bool:
        # What is held was bought lately: from the newest on, the look is short.
        return any(
            self._ledger.execute(
                f"SELECT 1 FROM {table} WHERE token_id = ? ORDER BY rowid DESC LIMIT 1",
                (token_id,),
            )
            for table in ("intents", "adopted")
        )

    def _is_adopted(self, key: str) -> bool:
        return bool(self._ledger.integer("SELECT count(*) FROM adopted WHERE key = ?", (key,)))


def _account(text: str) -> Reason:
    return Reason(ReasonCode.ACCOUNT, text)


def _name(strangers: Iterable[Stranger]) -> str:
    keys = sorted(stranger.key for stranger in strangers)
    return hashlib.sha256("\n".join(keys).encode()).hexdigest()[:16]
