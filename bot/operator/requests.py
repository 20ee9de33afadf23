"""What people ask of the active instance (`./ns adopt`, `./ns settle`): a file each on the bus, answered in the ledger.

Only the lease holder writes the ledger, so a command leaves its wish here; whoever holds the lease carries it out, once an
id, and removes the file. The answer is a row, so that a crash between the two repeats nothing.
"""

from __future__ import annotations

import errno
import re
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from bot.account.unknown_activity import UnknownActivity
from bot.context import Context
from bot.orders.manager import OrderManager
from bot.orders.resolution import CLOSED_MARGIN_MS, Verdict, add_settled_by_hand
from bot.slots import parse_slug
from bot.venue.types import BASE_UNITS
from bus import Bus, BusError, Clock, Document, DocumentError, Log, Stamp
from bus import documents as documents_of_the_bus
from ledger import Ledger
from ledger.rows import add_outcome, unresolved_slot

ANSWER_LIMIT_S = 30.0
LOOK_EVERY_S = 0.1
MAX_OPEN = 100
STALE_MS = 3_600_000
LONGEST_ANSWER = 8_000
_ID = re.compile(r"[0-9]{13,}-[0-9a-f]{8}")


class OperatorRequest(Document):
    """One wish. `strangers` asks for a list only; seen: what that list was called, so that no more is adopted than was shown.

    shares: filled in all, for `settle`; None takes what the venue said.
    """

    KIND: ClassVar[str] = "ask"

    id: str
    action: Literal["strangers", "adopt", "settle"]
    who: str = Field(min_length=1, max_length=100)
    note: str = Field(default="", max_length=500)
    seen: str = ""
    order_id: str = ""
    verdict: Literal["filled", "refused", "Up", "Down", "Void"] = "filled"
    shares: Decimal | None = Field(default=None, ge=0)


def folder(bus: Bus) -> Path:
    """Where they are."""
    return bus.asks


def read_operator_requests(bus: Bus) -> tuple[list[OperatorRequest], dict[str, str]]:
    """Open asks, oldest first, and the ids of unreadable ones with what is wrong. At most MAX_OPEN at a time."""
    if not folder(bus).is_dir():
        return [], {}
    ids = sorted(path.stem for path in folder(bus).iterdir() if path.suffix == ".json" and _ID.fullmatch(path.stem))
    good: list[OperatorRequest] = []
    bad: dict[str, str] = {}
    for ask_id in ids[:MAX_OPEN]:
        try:
            good.append(documents_of_the_bus.read(folder(bus) / f"{ask_id}.json", OperatorRequest).body)
        except DocumentError as error:
            bad[ask_id] = str(error)
    return good, bad


def remove_operator_request(bus: Bus, ask_id: str) -> None:
    """Remove an answered one. Harmless when it is gone, or where only people may: a bot may not write to that folder."""
    if _ID.fullmatch(ask_id):
        with suppress(FileNotFoundError, PermissionError):
            try:
                (folder(bus) / f"{ask_id}.json").unlink()
            except OSError as error:
                if error.errno != errno.EROFS:
                    raise


def is_answered(ledger: Ledger, ask_id: str) -> bool:
    """Whether an ask was carried out or refused before."""
    return bool(ledger.integer("SELECT count(*) FROM asks_answered WHERE id = ?", (ask_id,)))


def add_answer(ledger: Ledger, epoch: int, ask: OperatorRequest, *, done: bool, answer: str, wall_ms: int) -> None:
    """Record the answer; from now on the ask is spent."""
    ledger.execute(
        "INSERT INTO asks_answered(id, epoch, action, who, done, answer, wall_ms) VALUES (?,?,?,?,?,?,?)",
        (ask.id, epoch, ask.action, ask.who, int(done), answer[:LONGEST_ANSWER], wall_ms),
    )


def leave_operator_request(bus: Bus, clock: Clock, **fields: object) -> OperatorRequest:
    """Put an ask on the bus, durably. Raises OSError, pydantic.ValidationError."""
    ask = OperatorRequest.model_validate({"id": f"{clock.wall_ms()}-{secrets.token_hex(4)}", **fields})
    folder(bus).mkdir(exist_ok=True)
    _forget_stale(bus, clock.wall_ms())
    stamp = Stamp(ask.who, 0, clock.wall_ms())
    documents_of_the_bus.write(folder(bus) / f"{ask.id}.json", ask, stamp, durable=True)
    return ask


def _forget_stale(bus: Bus, wall_ms: int) -> None:
    """What was answered, or waited for in vain, and left by a command that was killed. Raises OSError."""
    for path in folder(bus).iterdir():
        if _ID.fullmatch(path.stem) and int(path.stem.partition("-")[0]) < wall_ms - STALE_MS:
            path.unlink(missing_ok=True)


def ask_and_wait(bus: Bus, clock: Clock, limit_s: float = ANSWER_LIMIT_S, **fields: object) -> tuple[bool, str]:
    """Leave an ask and wait for its answer: whether it was carried out, and the words.

    Raises BusError: nobody answered in time (the ask is taken back), or the bus cannot be written.
    """
    try:
        ask = leave_operator_request(bus, clock, **fields)
    except OSError as error:
        raise BusError(f"the bus cannot be written ({error.strerror}); nothing was asked") from error
    deadline = time.monotonic() + limit_s
    try:
        while (answer := answer_of(bus, ask.id)) is None:
            if time.monotonic() > deadline:
                raise BusError(
                    f"no instance answered within {limit_s:g} s: an active bot of this release must run (`./ns status`); "
                    "nothing was changed"
                )
            time.sleep(LOOK_EVERY_S)
        return answer
    finally:
        remove_operator_request(bus, ask.id)


def answer_of(bus: Bus, ask_id: str) -> tuple[bool, str] | None:
    """Whether an ask was carried out, and the words; None where it is not answered yet."""
    ledger = Ledger.reader(bus.ledger)
    if ledger is None:
        return None
    with ledger:
        # A ledger that no holder of this release took yet has no such table.
        if not ledger.integer("SELECT count(*) FROM sqlite_schema WHERE name = 'asks_answered'"):
            return None
        rows = ledger.execute("SELECT done, answer FROM asks_answered WHERE id = ?", (ask_id,))
    return (bool(rows[0][0]), str(rows[0][1])) if rows else None


# Carries out what people ask of the active instance, under the epoch in force.


class RequestHandler:
    """One epoch's carrying out. Raises LedgerError (FencedError: the epoch is over)."""

    def __init__(
        self,
        world: Context,
        ledger: Ledger,
        epoch: int,
        *,
        desk: OrderManager,
        comparison: UnknownActivity,
        log: Log,
        on_change: Callable[[], None],
        on_resolved: Callable[[], None],
    ) -> None:
        self._world, self._ledger, self._epoch = world, ledger, epoch
        self._desk, self._comparison, self._log = desk, comparison, log
        self._on_change, self._on_resolved = on_change, on_resolved

    def fulfil(self) -> None:
        """Carry out every ask that is on the bus, once an id. What cannot be read stays, and is said."""
        good, bad = read_operator_requests(self._world.bus)
        for ask_id, reason in bad.items():
            self._log.warning("ask_unreadable", ask=ask_id, reason=reason)
        for ask in good:
            if not is_answered(self._ledger, ask.id):
                self._fulfil(ask)
            remove_operator_request(self._world.bus, ask.id)

    def _fulfil(self, ask: OperatorRequest) -> None:
        try:
            done, answer = True, self._carry_out(ask)
        except ValueError as error:
            done, answer = False, str(error)
        self._log.info("ask_answered", ask=ask.id, action=ask.action, who=ask.who, done=done, answer=answer)
        add_answer(self._ledger, self._epoch, ask, done=done, answer=answer, wall_ms=self._world.clock.wall_ms())
        self._on_change()

    def _carry_out(self, ask: OperatorRequest) -> str:
        if ask.action == "strangers":
            lines, name = self._comparison.listed()
            return f"{name}\n{lines}" if name else ""
        if ask.action == "adopt":
            return self._comparison.adopt(ask.seen, ask.who, ask.note)
        shares = None if ask.shares is None else int(ask.shares * BASE_UNITS)
        if ask.verdict not in ("filled", "refused"):
            return self._end_window(ask.order_id, ask.verdict, ask.who, ask.note)
        in_window = [key for key, order in self._desk.open.items() if order.intent.window == ask.order_id]
        if in_window:  # a window was named: all that is open in it
            if shares is not None:
                raise ValueError("shares are said of one order: name it by its id")
            return self._end_orders(in_window, ask, ask.verdict)
        vouched = self._desk.end_by_hand(ask.order_id, ask.verdict, shares, ask.who, ask.note)
        return f"order {ask.order_id} is settled as {ask.verdict}, with {vouched / BASE_UNITS:g} shares vouched for by {ask.who}"

    def _end_orders(self, order_ids: list[str], ask: OperatorRequest, verdict: Verdict) -> str:
        """End every order of a window by hand; returns a sentence. Raises ValueError where none could be ended."""
        vouched, refused = [], []
        for order_id in order_ids:
            try:
                vouched.append(self._desk.end_by_hand(order_id, verdict, None, ask.who, ask.note))
            except ValueError as error:
                refused.append(str(error))
        if not vouched:
            raise ValueError("; ".join(refused))
        done = f"{len(vouched)} orders of window {ask.order_id} are settled as {verdict}, with "
        done += f"{sum(vouched) / BASE_UNITS:g} shares vouched for by {ask.who}"
        return done if not refused else f"{done}; not settled: {'; '.join(refused)}"

    def _end_window(self, window: str, winner: str, who: str, note: str) -> str:
        """A person says how a window resolved that the venue never resolves; returns a sentence. Raises ValueError."""
        slot = unresolved_slot(self._ledger, window)
        if slot is None:
            raise ValueError(f"window {window} is not one that was traded and has no outcome yet")
        if self._world.now_ms() <= parse_slug(window).end_ms + CLOSED_MARGIN_MS:
            raise ValueError(f"the window {window} has not closed: the venue may still show how it resolves")
        if any(order.intent.window == window for order in self._desk.open.values()):
            raise ValueError(f"orders of window {window} are open: settle them first, as filled or refused")
        wall_ms = self._world.clock.wall_ms()
        with self._ledger.transaction():
            add_settled_by_hand(self._ledger, self._epoch, window, winner, 0, who, note, wall_ms)
            payout, pnl = add_outcome(self._ledger, self._epoch, window, slot, winner, wall_ms)
        self._on_resolved()
        return f"window {window} is settled as {winner}: it pays {payout / BASE_UNITS:g}, PnL {pnl / BASE_UNITS:g} pUSD"
