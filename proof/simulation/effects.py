"""Where processes have effects: bus documents, the ledger, the history. Each can be the moment of a death, and meet a bad disk.

`install` puts these in the place of the product's own functions, for as long as this process lives.
"""

from __future__ import annotations

import errno
import json
import random
import ssl
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bot.lifecycle.publisher
import bus.documents
import bus.history
import bus.watch
import deployer.metrics
import deployer.push.branch
import deployer.rollout.observer
import deployer.settings
import ledger.connection
import paper.engine.feed
from bus import LedgerFullError
from ledger import Row, Value
from ledger.connection import Connection
from proof.simulation.loop import PROCESS

FULL = "no room left on the disk of the bus (simulated)"
RESERVE_BYTES = 1 << 16  # of 8 MB in each of a thousand ledgers nothing is learnt
STATUS_SPACING_S = 1.5  # nobody takes over from it
PAST_MINUTES = 10  # of prices: the strategy here asks for none


# Other functions in the place of the product's own, for as long as this process lives.


def replace_in(where: object, name: str, by: Callable[[Any], Any]) -> None:
    """Put what `by` makes out of a module's or a class's own one in its place."""
    setattr(where, name, by(getattr(where, name)))


def put_in(where: object, name: str, value: object) -> None:
    """Put another one in its place."""
    setattr(where, name, value)


@dataclass(slots=True)
class Disk:
    """The disk of the bus. slow_s: the longest that a write takes; full: nothing can be written."""

    rng: random.Random
    slow_s: float = 0.0
    full: bool = False

    def takes_s(self) -> float:
        """How long the next write takes."""
        return self.rng.uniform(0, self.slow_s) if self.slow_s else 0.0


class _Terse:
    """JSON without line breaks: the same documents in a third of the time."""

    loads = staticmethod(json.loads)

    @staticmethod
    def dumps(content: Any, *, indent: int | None = None, **options: Any) -> str:  # noqa: ARG004  # left out
        """As json's."""
        return json.dumps(content, **options)


class _NoHints:
    """inotify, which cannot be had here: its thread knows no virtual clock. A stat tells of changes."""

    def schedule(self, *_arguments: object, **_options: object) -> None:
        """Nothing."""

    unschedule_all = stop = join = schedule

    def start(self) -> None:
        """Raises OSError."""
        raise OSError(errno.EMFILE, "no inotify in the simulation")

    def is_alive(self) -> bool:
        """Never."""
        return False


def install(disk: Disk) -> None:
    """From now on every effect goes through the process that has it."""

    def touch(what: str) -> None:
        process = PROCESS.get(None)
        if process is not None:
            process.effect(what, disk.takes_s())

    def writes(function: Callable[..., None]) -> Callable[..., None]:
        def write(path: Path, data: bytes, **options: Any) -> None:
            touch(f"the write of {path.name}")
            if disk.full and PROCESS.get(None) is not None:
                raise OSError(errno.ENOSPC, "No space left on device", str(path))
            function(path, data, **options)

        return write

    def executes(own: Callable[..., list[Row]]) -> Callable[..., list[Row]]:
        def execute(self: Connection, sql: str, values: Sequence[Value] = ()) -> list[Row]:
            if sql.startswith("INSERT"):
                touch(sql[:30])
                if disk.full and PROCESS.get(None) is not None:
                    raise LedgerFullError(FULL)
            return own(self, sql, values)

        return execute

    def transacts(own: Callable[..., AbstractContextManager[None]]) -> Callable[..., AbstractContextManager[None]]:
        @contextmanager
        def transaction(self: Connection) -> Iterator[None]:
            with own(self):
                yield
                touch("a commit")

        return transaction

    def restores(own: Callable[..., None]) -> Callable[..., None]:
        def restore_reserve(self: Connection) -> None:
            if disk.full:
                raise LedgerFullError(FULL)
            own(self)

        return restore_reserve

    def opens(own: Callable[[Path], Connection]) -> classmethod[Connection, [Path], Connection]:
        def open_holder(cls: type[Connection], path: Path) -> Connection:
            connection: Connection = own.__func__(cls, path)  # type: ignore[attr-defined]  # of a bound class method
            process = PROCESS.get(None)
            if process is not None:
                process.at_death(connection._connection.close)
            return connection

        return classmethod(open_holder)

    for module in (bus.documents, deployer.rollout.observer, deployer.settings, deployer.metrics):
        replace_in(module, "write_atomically", writes)
    replace_in(bus.history, "append_durably", writes)
    replace_in(Connection, "execute", executes)
    replace_in(Connection, "transaction", transacts)
    replace_in(Connection, "restore_reserve", restores)
    replace_in(Connection, "open_holder", opens)
    for module in (bus.watch, deployer.push.branch):
        put_in(module, "Observer", _NoHints)
    put_in(bot.lifecycle.publisher, "STATUS_SPACING_S", STATUS_SPACING_S)
    put_in(ledger.connection, "RESERVE_BYTES", RESERVE_BYTES)
    put_in(ledger.connection, "ROOM_FOR_RESERVE_BYTES", 3 * RESERVE_BYTES)
    put_in(bus.documents, "json", _Terse)
    put_in(paper.engine.feed, "KEPT", PAST_MINUTES)
    # There is no wire, and so nobody whose certificate is looked at; reading them takes most of a venue's time.
    put_in(ssl.SSLContext, "load_verify_locations", lambda *_arguments, **_options: None)
