"""Real processes for tests: a paper exchange and bots on one bus, each ended by its pid."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from bus import (
    Bus,
    Handover,
    InstanceView,
    Role,
    SystemClock,
    open_bus,
    read_handover,
    read_instances,
    write_control,
    write_handover,
)
from ledger import Identity, Ledger
from tests import patience
from tests.forked import ROOT, Forked, run
from tests.plain import plain_environment

LIMIT_S = 60.0
CONFIRMED = "a" * 40
T = TypeVar("T")


def until(what: str, look: Callable[[], T | None], limit_s: float = LIMIT_S, every_s: float = 0.02) -> T:
    """Wait for an event that can only be seen by looking; fails with its name when it does not come."""
    return patience.until(what, look, limit_s, every_s)


def start(command: str, environment: dict[str, str], log: Path) -> Forked:
    """Start `python -m command` with its output in a file."""
    return Forked(command.split(), environment={**os.environ, **environment}, stdout=log, stderr=log)


def log_lines(log: Path) -> list[dict[str, Any]]:
    """The JSON lines of a log; other lines are left out."""
    found = []
    for line in log.read_text(errors="replace").splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return [line for line in found if isinstance(line, dict)]


def arm_fault(paper: str, **order: Any) -> None:
    """Arm a fault of the paper exchange at this URL (docs/reference/paper.md)."""
    request = urllib.request.Request(
        f"{paper}/paper/faults",
        data=json.dumps(order).encode(),
        headers={"Content-Type": "application/json"},
        method="POST",
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert answer.status == 200


def clear_faults(paper: str) -> None:
    """Disarm all faults of the paper exchange at this URL."""
    request = urllib.request.Request(f"{paper}/paper/faults", method="DELETE")
    urllib.request.urlopen(request, timeout=60).close()


@dataclass
class Paper:
    """A running paper exchange; a plain one unless a test wants paper's defaults (more: of its environment, beside)."""

    folder: Path
    plain: bool = True
    more: dict[str, str] = field(default_factory=dict)
    process: Forked = field(init=False)
    url: str = field(init=False, default="")

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        """Start it, on the same port as before."""
        log = self.folder / "paper.log"
        begun = len(log_lines(log)) if log.exists() else 0
        port = self.url.rpartition(":")[2] or "0"
        environment = {"PAPER_DATA": str(self.folder / "paper"), "PAPER_PORT": port, "PAPER_SEED": "7"}
        self.process = start("paper", (plain_environment() if self.plain else {}) | environment | self.more, log)

        def listening() -> str | None:
            assert self.process.poll() is None, log.read_text()
            lines = [line for line in log_lines(log)[begun:] if line.get("event") == "listening"]
            return str(lines[0]["url"]) if lines else None

        self.url = until("paper listening", listening)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.process.kill()
        self.process.wait(10)

    def fault(self, **order: Any) -> None:
        """Arm a fault (docs/reference/paper.md)."""
        arm_fault(self.url, **order)

    def clear_faults(self) -> None:
        """Disarm all."""
        clear_faults(self.url)

    def stop(self) -> None:
        """End it."""
        end(self.process)


@dataclass
class Bot:
    """One bot process."""

    process: Forked
    unit: str
    log: Path

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.process.kill()
        self.process.wait(10)


class Rig:
    """A bus with a control, a paper exchange, and as many bots as a test starts."""

    def __init__(
        self, folder: Path, *, interval: float = 0.5, timeframes: str = "10s,30s", paper: Paper | None = None
    ) -> None:
        self.folder = folder
        self.clock = SystemClock()
        self.bus: Bus = open_bus(folder / "bus")
        self.paper = paper or Paper(folder)
        self.interval, self.timeframes = interval, timeframes
        self.bots: list[Bot] = []
        self._handovers = 0
        # The middle of paper's market is a good judge: with it as evidence there are few orders, and these tests want many.
        parameters = {"market_weight": 0}
        write_control(
            self.bus, 0, lambda found: found.changed(generation=1, strategy=parameters), by="test", clock=self.clock
        )
        # As after a confirmed deploy: a spare of this commit tries for a free lease after 100 ms, others after 300 ms.
        confirmed = Handover(confirmed_sha=CONFIRMED)
        write_handover(self.bus, confirmed, writer="test", sequence=0, clock=self.clock)

    def start_bot(self, sha: str = CONFIRMED, color: str = "blue", **settings: str) -> Bot:
        """Start a bot."""
        unit = f"{color}-{len(self.bots)}"
        log = self.folder / f"{unit}.log"
        environment = {
            "BUS_DIR": str(self.bus.directory),
            "BOT_PAPER_URL": self.paper.url,
            "BOT_POLL_INTERVAL": str(self.interval),
            "BOT_TIMEFRAMES": self.timeframes,
            "BOT_BASIS_AFTER": "2",
            # Windows of 10 s want more looks than those of minutes, for which its default is.
            "BOT_REQUESTS_PER_SECOND": "30",
            "BOT_SHA": sha,
            "BOT_COLOR": color,
            "BOT_UNIT": unit,
            **settings,
        }
        bot = Bot(start("bot", environment, log), unit, log)
        self.bots.append(bot)
        return bot

    def seen(self, bot: Bot) -> InstanceView | None:
        """The living instance of a bot."""
        found = [s for s in read_instances(self.bus) if s.alive and s.document and s.document.unit == bot.unit]
        return found[-1] if found else None

    def until_role(self, bot: Bot, role: Role, *, healthy: bool = True) -> InstanceView:
        """Wait until a bot has a role (and is healthy)."""

        def look() -> InstanceView | None:
            assert bot.process.poll() is None, f"{bot.unit} ended: {bot.log.read_text()[-3000:]}"
            seen = self.seen(bot)
            if seen and seen.document and seen.document.role is role and (seen.document.healthy or not healthy):
                return seen
            return None

        return until(f"{bot.unit} {role}", look)

    def name(self, bot: Bot, limit_ms: int = 30_000, **more: Any) -> Handover:
        """Write a handover that names a bot."""
        seen = self.seen(bot)
        assert seen is not None
        self._handovers += 1
        handover = read_handover(self.bus).changed(
            wanted=seen.id,
            request_id=f"request-{self._handovers}",
            deploy_id=f"deploy-{self._handovers}",
            expires_boot_id=self.clock.boot_id,
            expires_boot_ms=self.clock.boot_ms() + limit_ms,
            **more,
        )
        write_handover(self.bus, handover, writer="test", sequence=self._handovers, clock=self.clock)
        return handover

    def ledger(self) -> Ledger:
        """A reader of the ledger."""
        return until("a ledger", lambda: Ledger.reader(self.bus.ledger))

    def count(self, sql: str) -> int:
        """One number out of the ledger."""
        with self.ledger() as ledger:
            return ledger.integer(sql)

    def audit(self, *more: str) -> subprocess.CompletedProcess[str]:
        """Run `./ns audit` against paper's record."""
        return run(
            ("bot", "audit", "--venue", self.paper.url, *more),
            environment={**os.environ, "BUS_DIR": str(self.bus.directory), "COLUMNS": "160"},
            limit_s=120,
        )

    def assert_audit(self, *more: str) -> None:
        """Every invariant holds."""
        done = self.audit(*more)
        assert done.returncode == 0, done.stdout + done.stderr

    def stop(self) -> None:
        """End everything that was started."""
        for bot in self.bots:
            end(bot.process)
        self.paper.stop()


def end(process: Forked | subprocess.Popen[bytes]) -> None:
    """SIGTERM, then SIGKILL; wakes a stopped process first."""
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGCONT)
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(10)


__all__ = ["CONFIRMED", "ROOT", "Bot", "Identity", "Paper", "Rig", "end", "log_lines", "start", "until"]
