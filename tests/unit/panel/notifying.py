"""A bus on which things happen, and a target that keeps what it is sent."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from bus import Bus, Control, Instance, InstanceFile, Role, Step, SystemClock, append_step, new_id, open_bus
from ledger import Identity, Ledger
from ledger.schema import SCHEMA
from panel.audit_log import Write, append_write

UNITS = 1_000_000


class World:
    """What happens on one bus. Each thing that happens has a number in its words, so that each notice tells which it is of."""

    def __init__(self, folder: Path) -> None:
        self.bus: Bus = open_bus(folder)
        self._epoch, self._count = 0, 0
        self.ledger = Ledger.hold(self.bus.ledger, Identity("paper", "137", "0xabc"), SCHEMA)
        self._epoch = self.ledger.take(
            instance="i", sha="s", color="blue", request="", wall_ms=1_000, boot_ms=1, boot_id="b"
        )
        applied = Control(generation=1, by="nobody").model_dump_json()
        self.ledger.apply_control(1, self._epoch, body=applied, refused="[]", wall_ms=1)

    def close(self) -> None:
        """Let go of the ledger."""
        self.ledger.close()

    def _next(self) -> int:
        self._count += 1
        return self._count

    def _order(self, at_ms: int) -> tuple[str, int]:
        """An intent in a window of its own."""
        number = self._next()
        self.ledger.execute(
            "INSERT INTO intents(order_id, epoch, tick, generation, slot, window, window_end_ms, condition_id, token_id, "
            "outcome, side, seq, price, size, cost, order_type, body, reason, wall_ms, boot_ms) VALUES "
            "(?, ?, 1, 1, ?, ?, ?, 'c', 't', 'Up', 'BUY', 1, '0.50', 10000000, 5000000, 'FAK', '{}', 'edge', ?, 1)",
            (f"0x{number}", self._epoch, f"SLOT-{number}", f"w{number}", at_ms, at_ms),
        )
        return f"0x{number}", number

    def _said(self, order: str, state: str, text: str, at_ms: int) -> None:
        self.ledger.execute(
            "INSERT INTO orders(epoch, order_id, state, text, wall_ms, boot_ms) VALUES (?, ?, ?, ?, ?, 1)",
            (self._epoch, order, state, text, at_ms),
        )

    def fill(self, at_ms: int) -> str:
        """An order that is filled; returns what tells its notice."""
        order, number = self._order(at_ms)
        self._said(order, "accepted", "matched", at_ms)
        self._said(order, "done", "", at_ms)
        self.ledger.execute(
            "INSERT INTO fills VALUES (?, ?, 'MATCHED', ?, ?, 'Up', 'BUY', '0.50', ?, ?, 70000, ?)",
            (f"t{number}", order, self._epoch, f"w{number}", 10 * UNITS, 5 * UNITS, at_ms),
        )
        return f"SLOT-{number}: bought"

    def refused(self, at_ms: int, text: str = "not_enough_balance: no") -> None:
        """An order that the venue refuses."""
        order, _ = self._order(at_ms)
        self._said(order, "refused", text, at_ms)

    def outcome(self, at_ms: int, pnl: int = 1) -> str:
        """A window that resolves."""
        number = self._next()
        self.ledger.execute(
            "INSERT INTO outcomes(window, epoch, slot, winner, payout, pnl, fees, wall_ms) VALUES (?, ?, ?, 'Up', 0, ?, 1, ?)",
            (f"o{number}", self._epoch, f"SLOT-{number}", pnl * UNITS, at_ms),
        )
        return f"SLOT-{number}: Up, {pnl:+.2f}"

    def step(self, step: str, at_ms: int, *, deploy: str = "", **fields: Any) -> None:
        """One step of the history of deploys."""
        append_step(self.bus, Step(deploy=deploy, step=step, time_ms=at_ms, **fields))

    def queued(self, at_ms: int) -> tuple[str, str]:
        """A deploy begins; returns its id and its commit."""
        sha = f"{self._next():07x}aaaa"
        self.step("queued", at_ms, deploy=f"d-{sha}", sha=sha, by="branch main", data={"subject": f"subject {sha[:7]}"})
        return f"d-{sha}", sha

    def write(
        self, action: str, at_ms: int, before: Mapping[str, Any] | None = None, after: Mapping[str, Any] | None = None
    ) -> str:
        """A write of control by somebody with a name of their own."""
        name = f"person{self._next()}"
        append_write(
            self.bus,
            Write(
                time_ms=at_ms,
                generation=1,
                action=action,
                by=f"panel/{name}",
                origin="here",
                before=dict(before or {}),
                after=dict(after or {}),
            ),
        )
        return f"by {name} from"

    def death(self, role: Role = Role.ACTIVE) -> str:
        """An instance that ends in that role."""
        clock, sha = SystemClock(), f"{self._next():07x}"
        file = InstanceFile(
            self.bus, clock, Instance(id=new_id(clock, "green", sha), role=role, color="green", sha=sha)
        )
        file.write(file.document)
        file.close()
        return f"green {sha} died"


@dataclass
class Sink:
    """A target at this machine: what it was sent, and what it answers."""

    port: int
    status: int = 200
    received: list[dict[str, Any]] = field(default_factory=list)
    came: threading.Condition = field(default_factory=threading.Condition)

    def address(self, secret: str) -> str:
        """Its address, for apprise."""
        return f"json://127.0.0.1:{self.port}/{secret}"

    @property
    def words(self) -> list[str]:
        """What was sent, each as one text."""
        return [f"{one['title']}\n{one['message']}" for one in self.received]

    def wait_for(self, text: str, limit_s: float = 30.0) -> str:
        """The first that was sent with that text in it."""

        def found() -> str | None:
            return next((one for one in self.words if text in one), None)

        with self.came:
            assert self.came.wait_for(lambda: found() is not None, limit_s), f"{text!r} did not come: {self.words}"
        return found() or ""


@contextmanager
def sink() -> Iterator[Sink]:
    """One that listens until the end."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with made.came:
                if made.status == 200:
                    made.received.append(body)
                made.came.notify_all()
            self.send_response(made.status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made = Sink(server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
