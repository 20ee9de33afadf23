"""Runs the commands that the docs show in a clone that trades, and collects what was not as promised."""

from __future__ import annotations

import json
import shlex
import subprocess

from bus import DocumentError, read_status, read_steps
from deployer.deploys import fold
from ledger import Ledger
from tests.e2e.clone import Clone
from tests.e2e.documented import Live, Shown, filled, shown, way_of
from tests.e2e.rig import until

LIMIT_S = 180.0
TRADED_LIMIT_S = 240.0
# The first order in a window that the venue has resolved.
RESOLVED = "SELECT i.order_id, i.slot, i.window FROM intents i JOIN outcomes USING (window) ORDER BY i.rowid LIMIT 1"
ENDS_ALL = 2


class Runner:
    """The commands of one runtime ("process" or "docker"), in the order of the pages; those that end something last."""

    def __init__(self, clone: Clone, runtime: str) -> None:
        self._clone, self._runtime = clone, runtime
        self._home = clone.folder.parent / "home"
        self._home.mkdir(exist_ok=True)

    def _has_traded(self) -> bool:
        """Whether a commit is confirmed, and a window in which it traded is resolved."""
        try:
            if (
                fold(read_steps(self._clone.bus)).confirmed is None
                or not read_status(self._clone.bus).body.totals.fills
            ):
                return False
        except DocumentError:
            return False
        with Ledger.reader(self._clone.bus.ledger) or _no_ledger() as ledger:
            return bool(ledger.execute(RESOLVED))

    def run_all(self, *, to_the_end: bool = True) -> list[str]:
        """What was not as the docs say, a text each, once there is something to ask about.

        Args:
            to_the_end: those that end all of it as well.
        """
        until("a commit is confirmed and traded in a window that is resolved", self._has_traded, TRADED_LIMIT_S, 0.2)
        values = self._values()
        todo = [(command, way) for command in shown() if isinstance(way := way_of(command.text), Live)]
        todo = [(command, way) for command, way in todo if self._runtime in way.runtimes]
        ordered = [row for row in todo if not row[1].last] + sorted((row for row in todo if row[1].last), key=_ending)
        assert len(ordered) > 30
        wanted = [row for row in ordered if to_the_end or _ending(row) < ENDS_ALL]
        return [problem for command, way in wanted for problem in self._run(command, way, values)]

    def _run(self, command: Shown, way: Live, values: dict[str, str]) -> list[str]:
        # Who trades now: an earlier command may have been a deploy.
        line = filled(command.text, values | {"UNIT": self._unit(), "BOT": self._unit()})
        done = subprocess.run(
            ["bash", "-c", line],
            cwd=self._clone.folder,
            env={**self._clone.environment, "HOME": str(self._home)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        said = f"{command.place}: `{line}` exited {done.returncode}: {(done.stdout + done.stderr)[-600:]}"
        problems = [f"expected {way.codes}, {said}"] if done.returncode not in way.codes else []
        if "Traceback" in done.stdout + done.stderr:
            problems.append(f"a traceback, {said}")
        if "--json" in line:
            try:
                json.loads(done.stdout)
            except ValueError:
                problems.append(f"no JSON, {said}")
        return problems

    def _unit(self) -> str:
        """The bot that trades; nothing while nobody does."""
        trader = self._clone.trader()
        return trader.document.unit if trader is not None and trader.document is not None else ""

    def _values(self) -> dict[str, str]:
        """What stands for the placeholders and examples of the docs: things of this system."""
        bus = self._clone.bus
        with Ledger.reader(bus.ledger) or _no_ledger() as ledger:
            order, slot, window = ledger.execute(RESOLVED)[0]
            tick = ledger.integer("SELECT max(tick) FROM polls_completed")
        deploy = fold(read_steps(bus)).deploys[-1].id
        home = shlex.quote(str(self._home))
        return {
            "0x3fa9": str(order)[:8],
            "BTC-5m": str(slot),
            "1795558050000-3da8f15": deploy,
            "1795558050000": str(tick),
            "ORDER": str(order),
            "WINDOW": str(window),
            "SLOT": str(slot),
            "TICK": str(tick),
            "[DEPLOY]": "",
            "DEPLOY": deploy,
            "filled|refused": "refused",
            r"Up\\|Down\\|Void": "Void",
            r"Up\|Down\|Void": "Void",
            "Up|Down|Void": "Void",
            "WHY": "'as the docs say'",
            "REF": "HEAD",
            "SHA": self._clone.git("rev-parse", "HEAD"),
            "try-it": "main",
            "NAME": "deployer",
            "/srv/bus": f"{home}/srv-bus",
            "/srv/trader.git": f"{home}/trader.git",
            "~/trader": f"{home}/trader",
            "/tmp/trader": f"{home}/another",
        }


def _ending(row: tuple[Shown, Live]) -> int:
    """Halts first, then resumes, and what ends everything at the very end."""
    text = row[0].text
    return ENDS_ALL if "stop" in text else 1 if "resume" in text else 0


def _no_ledger() -> Ledger:
    raise AssertionError("there is no ledger, though a fill is in the status")
