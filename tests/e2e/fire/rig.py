"""The deployer's rig with the real bot against a real paper exchange: what the fire runs on, as processes.

One rig serves many parts one after another, so each part begins with `settle` and sets the deployer's settings by `restart`.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

from bus import InstanceView, Role, SystemClock, read_handover, read_instance, write_control
from deployer.deploys import Deploy
from ledger import Ledger
from tests.e2e.deployer_rig import DeployerRig
from tests.e2e.fire.breaks import BREAKS
from tests.e2e.rig import ROOT, Paper, until
from tests.forked import run

INTERVAL_MS = 1_000
SETTLE_S = 120.0
POLLS = "SELECT count(*) FROM polls_completed"
# Orders leave in the first part of an interval; half of all moments fall there.
AFTER_TICK_S = 0.08
SETTINGS = {
    "BOT_POLL_INTERVAL": "1",
    "BOT_TIMEFRAMES": "10s,30s",
    "BOT_BASIS_AFTER": "2",
    "BOT_REQUESTS_PER_SECOND": "30",
    "DEPLOYER_STUCK_AFTER": "6",
    "DEPLOYER_HEALTHY_TIMEOUT": "60",
    "DEPLOYER_BUILD_LIMIT": "120",
}


class FireRig(DeployerRig):
    """Everything in one folder: a repository with the project's own bot, paper, a deployer, bots at 1 s polls."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.clock = SystemClock()
        self.ends: list[int] = []
        self._restore: dict[Path, str] = {}
        super().__init__(folder, **{**SETTINGS, **settings})
        self.paper = self.make_paper()
        self.environment.setdefault("BOT_PAPER_URL", self.paper.url)
        self.environment["PAPER_DATA"] = str(folder / "paper")
        write_control(
            self.bus,
            0,
            lambda found: found.changed(generation=1, strategy={"market_weight": 0}),
            by="fire",
            clock=self.clock,
        )  # many orders are wanted
        self.good = ""

    def begin(self) -> None:
        """The first commit trades with its spare, and something was bought."""
        self.commit()
        self.start()
        self.settle()
        until("a first fill", lambda: self.count("SELECT count(*) FROM fills"), SETTLE_S, 0.2)

    def make_paper(self) -> Paper:
        """The exchange."""
        return Paper(self.folder)

    def _make_repository(self) -> None:
        self.repository.mkdir()
        self.git("init", "--quiet", "--initial-branch=main")
        for name in ("recording", "bus", "ledger", "bot"):
            shutil.copytree(ROOT / name, self.repository / name, ignore=shutil.ignore_patterns("__pycache__"))

    def commit(self, mode: str = "good", broken: str = "") -> str:
        """Commit the bot: good, or broken in one of the ways of `BREAKS`; returns the sha."""
        for path, text in self._restore.items():
            path.write_text(text)
        self._restore = {}
        if mode != "good":
            file = self.repository / BREAKS[mode].file
            self._restore[file] = file.read_text()
            file.write_text(self._restore[file] + BREAKS[mode].text)
        (self.repository / "bot" / "number.py").write_text(f"NUMBER = {time.time_ns()}\n")
        self.git("add", "-A")
        self.git("commit", "--quiet", "-m", mode)
        sha = self.git("rev-parse", "HEAD")
        if mode == "good":
            self.good = sha
        return sha

    def rewind(self) -> str:
        """Set the branch back by one commit; returns the one that is the newest now."""
        self.git("reset", "--quiet", "--hard", "HEAD~1")
        self.good = self.git("rev-parse", "HEAD")
        return self.good

    # --- the deployer

    def restart(self, **settings: str) -> None:
        """Replace the deployer by one with other settings; the bots go on."""
        if all(self.environment.get(name) == value for name, value in settings.items()):
            return
        self.environment.update(settings)
        self.kill()
        self.start()

    def settle(self, *, spares: int = 1, limit_s: float = SETTLE_S) -> InstanceView:
        """Wait until one healthy instance of the good commit trades, its spares stand by healthy, and nothing else runs."""
        found: list[InstanceView] = []

        def settled() -> InstanceView | None:
            nonlocal found
            found = self.living()
            holder = self.holder()
            if holder is None or len(found) != 1 + spares:
                return None
            documents = [seen.document for seen in found if seen.document is not None]
            well = all(one.healthy and one.sha == self.good for one in documents)
            roles = sorted(str(one.role) for one in documents)
            if not well or roles != sorted([str(Role.ACTIVE), *[str(Role.STANDBY)] * spares]):
                return None
            history = self.history()
            if history.open is not None or len(self.units()) != 1 + spares:
                return None
            return holder

        try:
            return until(f"{self.good[:7]} trades with {spares} spares", settled, limit_s, 0.1)
        except AssertionError as error:
            deploys = [(deploy.sha[:7], deploy.phase, deploy.why) for deploy in self.history().deploys[-2:]]
            raise AssertionError(f"{error}; there are {[seen.document for seen in found]}; deploys {deploys}") from None

    def spare(self) -> InstanceView:
        """The healthy standby of the good commit."""
        holder = self.holder()

        def standby() -> InstanceView | None:
            for seen in self.living():
                document = seen.document
                if document is not None and document.role is Role.STANDBY and document.healthy and seen != holder:
                    return seen
            return None

        return until("a spare", standby, SETTLE_S)

    def until_confirmed(self, sha: str) -> Deploy:
        """Wait until a commit is confirmed."""
        return self.until_step(sha, "confirmed", SETTLE_S)

    # --- striking

    def pid(self, seen: InstanceView) -> int:
        """The process of an instance, as this machine counts it."""
        assert seen.document is not None, "an instance that lives has a document"
        return seen.document.pid

    def strike(self, seen: InstanceView, number: signal.Signals) -> int:
        """Send a signal to an instance; returns the moment in ms of CLOCK_BOOTTIME."""
        pid = self.pid(seen)
        now_ms = self.clock.boot_ms()
        os.kill(pid, number)
        self.ends.append(now_ms)
        return now_ms

    def wake(self, seen: InstanceView) -> None:
        """Wake a stopped instance, if it still is one."""
        if read_instance(self.bus, seen.id).alive:
            os.kill(self.pid(seen), signal.SIGCONT)

    def freeze(self, seen: InstanceView) -> int:
        """Stop it by what the runtime has for that; returns the moment."""
        return self.strike(seen, signal.SIGSTOP)

    def thaw(self, seen: InstanceView) -> None:
        """Undo `freeze`, if it still lives."""
        self.wake(seen)

    def kill_everything(self) -> None:
        """SIGKILL of the deployer and all bots."""
        self.ends.append(self.clock.boot_ms())
        assert self.process is not None
        self.process.kill()
        for name in self.units():
            self.children().signal(name, signal.SIGKILL)
        self.process.wait(10)
        until("all bots ended", lambda: not self.units())

    def random_moment(self, moments: random.Random) -> None:
        """Sleep until a random moment: anywhere in an interval, or where a poll and its orders are under way."""
        if moments.random() < 0.5:
            time.sleep(moments.uniform(0, INTERVAL_MS / 1000))
            return
        with until("a ledger", lambda: Ledger.reader(self.bus.ledger)) as ledger:
            anchor = ledger.anchor()
        assert anchor is not None, "somebody trades"
        now_ms = self.clock.boot_ms()
        due_ms = anchor.due_ms(anchor.next_tick(now_ms))
        time.sleep((due_ms - now_ms) / 1000 + moments.uniform(0, AFTER_TICK_S))

    # --- who trades

    def epoch(self) -> int:
        """The newest epoch."""
        return self.count("SELECT coalesce(max(epoch), 0) FROM epochs")

    def until_epoch(self, after: int, limit_s: float = SETTLE_S) -> int:
        """Wait until an epoch later than `after` began and completed a poll; returns when it began, boot ms."""
        until(f"epoch {after + 1} polls", lambda: self._polled(after), limit_s)
        return self.count(f"SELECT min(boot_ms) FROM epochs WHERE epoch > {after}")

    def until_polls(self, more: int) -> None:
        """Wait until so many more polls were completed."""
        wanted = self.count(POLLS) + more
        until(f"{more} polls more", lambda: self.count(POLLS) >= wanted, SETTLE_S)

    def until_gone(self, seen: InstanceView) -> None:
        """Wait until an instance is dead."""
        until(f"{seen.id} is gone", lambda: not read_instance(self.bus, seen.id).alive, SETTLE_S)

    def _polled(self, after: int) -> bool:
        return bool(self.count(f"SELECT count(*) FROM polls_completed WHERE epoch > {after}"))

    def until_named(self, sha: str) -> InstanceView:
        """Wait until the handover names an instance of a commit."""

        def named() -> InstanceView | None:
            deploy = self.deploy_of(sha)
            assert deploy is None or deploy.verdict is None, f"it {deploy.verdict} before: {deploy.why}"
            wanted = read_handover(self.bus).wanted
            seen = read_instance(self.bus, wanted) if wanted else None
            return seen if seen is not None and seen.document is not None and seen.document.sha == sha else None

        return until(f"the handover names {sha[:7]}", named, SETTLE_S, 0.002)

    def audit(self) -> subprocess.CompletedProcess[str]:
        """`./ns audit` against paper's record, in JSON."""
        return run(
            ["bot", "audit", "--venue", self.paper.url, "--json"],
            environment={**os.environ, "BUS_DIR": str(self.bus.directory), "COLUMNS": "100000"},
            limit_s=120,
        )

    def stop(self) -> None:
        """End everything."""
        try:
            super().stop()
        finally:
            self.paper.stop()


__all__ = ["INTERVAL_MS", "SETTLE_S", "FireRig"]
