"""Carries out what people ask of the active instance (see `asks`), under the epoch in force."""

from __future__ import annotations

from collections.abc import Callable

from bot.account.unknown_activity import Comparison
from bot.lifecycle.context import World
from bot.operator.requests import Ask, add_answer, is_answered, read_asks, remove_ask
from bot.orders.manager import Desk
from bot.venue.types import BASE_UNITS
from bus import Log
from ledger import Ledger


class Wishes:
    """One epoch's carrying out. Raises LedgerError (FencedError: the epoch is over)."""

    def __init__(
        self,
        world: World,
        ledger: Ledger,
        epoch: int,
        *,
        desk: Desk,
        comparison: Comparison,
        log: Log,
        on_change: Callable[[], None],
    ) -> None:
        self._world, self._ledger, self._epoch = world, ledger, epoch
        self._desk, self._comparison, self._log, self._on_change = desk, comparison, log, on_change

    def fulfil(self) -> None:
        """Carry out every ask that is on the bus, once an id. What cannot be read stays, and is said."""
        good, bad = read_asks(self._world.bus)
        for ask_id, reason in bad.items():
            self._log.warning("ask_unreadable", ask=ask_id, reason=reason)
        for ask in good:
            if not is_answered(self._ledger, ask.id):
                self._fulfil(ask)
            remove_ask(self._world.bus, ask.id)

    def _fulfil(self, ask: Ask) -> None:
        try:
            done, answer = True, self._carry_out(ask)
        except ValueError as error:
            done, answer = False, str(error)
        self._log.info("ask_answered", ask=ask.id, action=ask.action, who=ask.who, done=done, answer=answer)
        add_answer(self._ledger, self._epoch, ask, done=done, answer=answer, wall_ms=self._world.clock.wall_ms())
        self._on_change()

    def _carry_out(self, ask: Ask) -> str:
        if ask.action == "strangers":
            lines, name = self._comparison.listed()
            return f"{name}\n{lines}" if name else ""
        if ask.action == "adopt":
            return self._comparison.adopt(ask.seen, ask.who, ask.note)
        shares = None if ask.shares is None else int(ask.shares * BASE_UNITS)
        vouched = self._desk.end_by_hand(ask.order_id, ask.verdict, shares, ask.who, ask.note)
        return f"order {ask.order_id} is settled as {ask.verdict}, with {vouched / BASE_UNITS:g} shares vouched for by {ask.who}"
