"""A repository of tiny workers and a real deployer process on a bus, for tests."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from bus import InstanceView, is_locked, open_bus, read_instances, read_steps
from deployer.deploys import Deploy, History, fold
from deployer.runtimes.children import Children
from ledger import Ledger
from tests.e2e.rig import end, log_lines, start, until
from tests.forked import ROOT, Forked, run

GIT = ("git", "-c", "user.name=test", "-c", "user.email=test@localhost", "-c", "commit.gpgsign=false")


class DeployerRig:
    """Everything in one folder. The bots are ended by `stop`, whatever the test did to the deployer."""

    interval_s = 0.4

    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder = folder
        self.bus = open_bus(folder / "bus")
        self.repository = folder / "repository"
        self.log = folder / "deployer.log"
        self.environment = {
            "BUS_DIR": str(self.bus.directory),
            "BOT_POLL_INTERVAL": str(self.interval_s),
            "DEPLOYER_REPOSITORY": str(self.repository),
            "DEPLOYER_DIR": str(folder / "run"),
            "DEPLOYER_PYTHON": sys.executable,
            "DEPLOYER_STUCK_AFTER": "2",
            **settings,
        }
        self.process: Forked | None = None
        self._commits = self._missed_before = 0
        self._make_repository()

    # --- the repository

    def _make_repository(self) -> None:
        self.repository.mkdir()
        self.git("init", "--quiet", "--initial-branch=main")
        for name in ("bus", "ledger"):
            shutil.copytree(ROOT / name, self.repository / name, ignore=shutil.ignore_patterns("__pycache__"))
        package = self.repository / "bot"
        package.mkdir()
        (package / "__init__.py").touch()
        shutil.copy(Path(__file__).with_name("tiny_bot.py"), package / "__main__.py")

    def git(self, *arguments: str) -> str:
        """Run git in the repository."""
        done = subprocess.run(
            [*GIT, *arguments], cwd=self.repository, check=True, capture_output=True, text=True, timeout=30
        )
        return done.stdout.strip()

    def commit(self, mode: str = "good", broken: str = "") -> str:
        """Commit a worker of that mode; returns the sha. broken: text that is put into a module."""
        self._commits += 1
        (self.repository / "bot" / "mode").write_text(mode)
        (self.repository / "bot" / "number.py").write_text(f"NUMBER = {self._commits}\n{broken}")
        self.git("add", "-A")
        self.git("commit", "--quiet", "--allow-empty", "-m", f"commit {self._commits}: {mode}")
        return self.git("rev-parse", "HEAD")

    # --- the deployer

    def use_bus(self, directory: Path) -> None:
        """Another bus from now on; nothing of this one runs any more."""
        self.bus = open_bus(directory)
        self.environment["BUS_DIR"] = str(directory)

    def start(self, *arguments: str) -> None:
        """Start a deployer and wait until it watches. arguments: of `deployer run`."""
        begun = len(log_lines(self.log)) if self.log.exists() else 0
        self.process = start(" ".join(("deployer run", *arguments)), self.environment, self.log)

        def watching() -> bool:
            assert self.process is not None
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            return any(line.get("event") == "watching" for line in log_lines(self.log)[begun:])

        until("the deployer watches", watching)

    def kill(self) -> None:
        """SIGKILL of the deployer."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)

    def command(self, *arguments: str, limit_s: float = 60) -> subprocess.CompletedProcess[str]:
        """Run a command of the deployer."""
        return run(("deployer", *arguments), environment={**os.environ, **self.environment}, limit_s=limit_s)

    # --- what there is to see

    def history(self) -> History:
        """The deploys so far."""
        return fold(read_steps(self.bus))

    def deploy_of(self, sha: str) -> Deploy | None:
        """The newest deploy of a commit."""
        return next((deploy for deploy in reversed(self.history().deploys) if deploy.sha == sha), None)

    def until_step(self, sha: str, step: str, limit_s: float = 60) -> Deploy:
        """Wait until the newest deploy of a commit came to a step."""

        def look() -> Deploy | None:
            deploy = self.deploy_of(sha)
            if deploy is not None and deploy.verdict is not None and not deploy.has(step) and step != "retired":
                raise AssertionError(f"waited for {step}: {deploy.verdict}: {deploy.why}")
            return deploy if deploy is not None and deploy.has(step) else None

        return until(f"{sha[:7]} {step}", look, limit_s)

    def until_verdict(self, sha: str, limit_s: float = 60) -> Deploy:
        """Wait until the newest deploy of a commit ended, well or not."""

        def look() -> Deploy | None:
            deploy = self.deploy_of(sha)
            return deploy if deploy is not None and deploy.verdict is not None else None

        return until(f"a verdict on {sha[:7]}", look, limit_s)

    def living(self) -> list[InstanceView]:
        """Living instances."""
        return [seen for seen in read_instances(self.bus) if seen.alive and seen.document]

    def holder(self) -> InstanceView | None:
        """The instance that trades."""
        ledger = Ledger.reader(self.bus.ledger)
        if ledger is None:
            return None
        with ledger:
            newest = ledger.newest_epoch()
        if newest is None or newest.released:
            return None
        return next((seen for seen in self.living() if seen.id == newest.instance), None)

    def count(self, sql: str) -> int:
        """One number out of the ledger."""
        with until("a ledger", lambda: Ledger.reader(self.bus.ledger)) as ledger:
            return ledger.integer(sql)

    def missed(self) -> int:
        """Ticks without a completed poll, since the last `calm_down`."""
        return self.count("SELECT coalesce(sum(ticks), 0) FROM polls_missed") - self._missed_before

    def calm_down(self) -> None:
        """Before each test of a rig that serves several: the branch is at the confirmed commit, which alone runs."""
        if not is_locked(self.bus.deployer_lock):
            self.start()
        confirmed = until("a confirmed commit", lambda: self.history().confirmed).sha
        self.git("reset", "--quiet", "--hard", confirmed)
        self.assert_steady(confirmed)
        self._missed_before += self.missed()

    def children(self) -> Children:
        """The units' entries."""
        return Children(self.folder / "run" / "units")

    def units(self) -> list[str]:
        """Names of the units that run."""
        return [entry.name for entry in self.children().entries() if entry.running]

    def signal_holder(self, number: signal.Signals) -> InstanceView:
        """Send a signal to the bot that trades."""
        holder = until("a holder", self.holder)
        assert holder.document is not None
        os.kill(holder.document.pid, number)
        return holder

    def assert_steady(self, sha: str, *, spares: int = 1, limit_s: float = 30) -> None:
        """In the end one instance of a commit trades, its spares stand by, and nothing else runs."""

        def steady() -> bool:
            found = self.living()
            holder = self.holder()
            return (
                holder is not None
                and len(found) == len(self.units()) == 1 + spares
                and all(seen.document and seen.document.sha == sha and seen.document.healthy for seen in found)
            )

        until(f"only {sha[:7]} runs: {[s.document for s in self.living()]}", steady, limit_s)

    def assert_ledger(self) -> None:
        """Epochs rise by one, no tick was completed twice, and none is without a row."""
        assert self.count("SELECT max(epoch) - count(*) FROM epochs") == 0
        interval_ms = round(float(self.environment["BOT_POLL_INTERVAL"]) * 1000)
        # One statement is one moment: the bot polls on while this looks.
        unaccounted = self.count(
            "SELECT max((SELECT max(tick) FROM polls_completed), (SELECT coalesce(max(last_tick), 0) FROM polls_missed)) "
            f"/ {interval_ms} - (SELECT min(tick) FROM polls_completed) / {interval_ms} + 1 "
            "- (SELECT count(*) FROM polls_completed) - (SELECT coalesce(sum(ticks), 0) FROM polls_missed)"
        )
        assert unaccounted == 0

    def stop(self) -> None:
        """End everything."""
        if self.process is not None:
            end(self.process)
        children = self.children()
        for name in self.units():
            children.signal(name, signal.SIGKILL)
        until("all bots ended", lambda: not self.units())
        until("the deployer ended", lambda: not is_locked(self.bus.deployer_lock))


__all__ = ["GIT", "DeployerRig"]
