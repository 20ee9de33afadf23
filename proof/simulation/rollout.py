"""The real deployer on a simulated git and a simulated runtime: good commits and broken ones come, and it dies in between."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bus import Role, make_request, read_instances, read_steps
from deployer.deploys import History, fold
from deployer.disk import Disks
from deployer.errors import BuildError, RepositoryError, RuntimeFailedError
from deployer.keys import KeyRing
from deployer.metrics import TargetsFile
from deployer.parts import Machine, Pushes, Shown
from deployer.push.branch import BranchWatch
from deployer.push.hooks import Hooks
from deployer.push.log import PushLog
from deployer.push.repository import Repository
from deployer.push.unchanged import Unchanged
from deployer.push.verify import Verify
from deployer.rollout.observed import Policy
from deployer.runtimes.api import OneOff, Start, Unit
from deployer.service import Deployer
from proof.simulation.bots import KINDS, Bot, Commit, Nothing
from proof.simulation.host import Host
from proof.simulation.loop import Process

POLICY = Policy(confirm_polls=2, spares=1, healthy_timeout_ms=6_000, stuck_after_ms=3_000)
BRANCH = "main"
LIVELY_S = 5.0
END_S = 45.0


class Git(Repository):
    """A repository of commits that exist in here alone."""

    def __init__(self) -> None:
        super().__init__(Path("/simulated"))
        self.commits: list[Commit] = []

    def commit(self, kind: str) -> Commit:
        """A new newest commit."""
        made = Commit(f"{len(self.commits) + 1:07x}".ljust(40, "0"), kind)
        self.commits.append(made)
        return made

    def find(self, sha: str) -> Commit:
        """One commit."""
        return next(commit for commit in self.commits if commit.sha == sha)

    async def git_directory(self) -> Path:
        """As where git cannot be watched. Raises RepositoryError."""
        raise RepositoryError("nothing to watch")

    async def tip(self, branch: str) -> str:  # noqa: ARG002  # the only one
        """The newest commit."""
        return self.commits[-1].sha

    async def resolve(self, ref: str) -> str:
        """A sha, or the branch."""
        return self.commits[-1].sha if ref == BRANCH else self.find(ref).sha

    async def subject(self, sha: str) -> str:
        """Its kind."""
        return self.find(sha).kind

    async def contains(self, sha: str, earlier: str) -> bool:  # noqa: ARG002  # history is never rewritten here
        """Always."""
        return True

    async def changed_files(self, earlier: str, sha: str) -> list[str]:
        """Each commit is a worker of another kind, or number."""
        return [] if earlier == sha else ["worker"]

    async def differs(self) -> bool:
        """Never."""
        return False

    async def tidy(self, keep: Iterable[str]) -> None:
        """Nothing is ever forgotten."""


@dataclass(slots=True)
class _Running:
    """A unit and the bot in it."""

    unit: Unit
    bot: Bot
    stopping: bool = False


class Units:
    """The runtime: what it started outlives the deployer.

    Args:
        broken: told of what must never be asked of it.
    """

    name = "simulated"

    def __init__(self, host: Host, git: Git, seed: int, broken: Callable[[str], None]) -> None:
        self._host, self._git, self._random, self._broken = host, git, random.Random(f"{seed}:units"), broken
        self._built: set[str] = set()
        self._units: dict[str, _Running] = {}
        self._numbers = 0

    @property
    def builds_at(self) -> Path:
        """The disk of the bus is the only one."""
        return self._host.bus.directory

    async def watch(self, changed: Callable[[], None]) -> None:  # noqa: ARG002  # it tells nothing by itself
        """Until cancelled."""
        await asyncio.Event().wait()

    def is_unit(self, name: str, pid: int) -> bool:  # noqa: ARG002  # there are no sockets in here
        """Always."""
        return True

    async def built(self) -> frozenset[str]:
        """What can be started."""
        return frozenset(self._built)

    async def build(self, sha: str) -> tuple[str, ...]:
        """Takes a while."""
        await asyncio.sleep(self._random.uniform(0.05, 0.8))
        if self._git.find(sha).kind == "no-build":
            raise BuildError("it does not compile")
        self._built.add(sha)
        return ()

    async def comparable(self) -> frozenset[str]:
        """No commit here knows the command."""
        return frozenset()

    async def compare(self, sha: str, by: str) -> OneOff:  # noqa: ARG002
        """Never asked."""
        raise RuntimeFailedError("no commit here knows the command compare")

    async def start(self, what: Start) -> str:
        """Findable before it runs."""
        # Now, as it was decided: a unit that held the lease then may have given it up when this one begins.
        self._look_at_start(what)
        await asyncio.sleep(self._random.uniform(0.0, 0.1))
        self._numbers += 1
        name = f"unit-{self._numbers}"
        bot = self._host.start(self._git.find(what.sha), color=what.color, unit=name, deploy_id=what.deploy_id)
        unit = Unit(
            name, what.sha, what.color, what.deploy_id, self._host.clock.boot_ms(), running=True, stopping=False
        )
        self._units[name] = _Running(unit, bot)
        await asyncio.sleep(self._random.uniform(0.0, 0.1))
        return name

    async def stop(self, unit: str) -> None:
        """SIGTERM."""
        unit_found = self._units[unit]
        if unit_found.bot.held_for_s > LIVELY_S:
            self._broken(f"{unit_found.bot.process.name}, which trades, is asked to stop")
        unit_found.stopping = True
        unit_found.bot.stop()

    async def kill(self, unit: str) -> None:
        """SIGKILL."""
        unit_found = self._units[unit]
        slept = self._host.loop.time() - unit_found.bot.process.slept_until
        if (
            unit_found.bot.alive
            and unit_found.bot.commit.kind == "good"
            and not unit_found.stopping
            and slept > LIVELY_S
        ):
            self._broken(f"{unit_found.bot.process.name} is killed though it was well")
        self._host.kill(unit_found.bot, "by the deployer")

    async def remove(self, unit: str) -> None:
        """Forget it."""
        if self._units[unit].bot.alive:
            self._broken(f"{unit} is forgotten though it runs")
        del self._units[unit]

    async def units(self) -> tuple[Unit, ...]:
        """All of them."""
        return tuple(
            Unit(u.name, u.sha, u.color, u.deploy_id, u.started_ms, unit.bot.alive, unit.stopping)
            for unit in self._units.values()
            for u in (unit.unit,)
        )

    async def logs(self, unit: str, lines: int) -> str:  # noqa: ARG002
        """None."""
        return ""

    async def prune(self, keep: frozenset[str], *, all_else: bool = False) -> None:
        """Nothing."""

    def _look_at_start(self, what: Start) -> None:
        """Never two candidates."""
        history = fold(read_steps(self._host.bus))
        confirmed = {deploy.id for deploy in history.deploys if deploy.verdict == "confirmed"}
        # What the bus says: one that stands still before it could write that it lost the lease is taken for its holder.
        documents = [view.document for view in read_instances(self._host.bus) if view.document is not None]
        may_hold = {document.unit for document in documents if document.role in (Role.ACTIVE, Role.YIELDING)}
        others = [
            name
            for name, unit in self._units.items()
            if unit.bot.alive and unit.unit.deploy_id not in confirmed and not unit.bot.holds and name not in may_hold
        ]
        if what.deploy_id not in confirmed and others:
            self._broken(f"a candidate of {what.sha[:7]} starts beside {others}")


class Shop:
    """Developers, people who ask, and the deployer, which may be killed."""

    def __init__(self, host: Host, seed: int) -> None:
        self._host, self._random = host, random.Random(f"{seed}:shop")
        self.git = Git()
        self._units = Units(host, self.git, seed, host.watch.broken)
        host.watch.confirm_polls = POLICY.confirm_polls
        self._deployer: Process | None = None
        self._branch: BranchWatch | None = None
        self._starts = 0
        self.times: dict[str, int] = {}

    @property
    def history(self) -> History:
        """As it is on the bus."""
        return fold(read_steps(self._host.bus))

    def start_deployer(self) -> None:
        """A new deployer process, as `deployer.start` puts it together."""
        self._starts += 1
        process = Process(self._host.loop, f"deployer-{self._starts}", random.Random(self._random.getrandbits(64)))
        process.start(self._deploy(process), "deployer")
        self._deployer = process

    async def kill_deployer(self) -> None:
        """It comes back a while later."""
        if self._deployer is None or not self._deployer.alive:
            return
        if self._random.random() < 0.5:
            self._deployer.die_at_effect(self._random.randrange(6))
        else:
            self._deployer.die_after_steps(self._random.randrange(100))
        await asyncio.sleep(self._random.uniform(0.2, 3.0))
        self._deployer.kill()
        self.start_deployer()

    def revive_deployer(self) -> None:
        """Whatever became of it, one runs."""
        if self._deployer is None or not self._deployer.alive:
            self.start_deployer()

    def end(self) -> None:
        """No deployer any more; the bots go on."""
        if self._deployer is not None:
            self._deployer.kill()

    async def pause_deployer(self) -> None:
        """It is held up."""
        if self._deployer is not None:
            self._deployer.sleep(self._random.uniform(0.1, 4.0))

    def push(self, kind: str) -> Commit:
        """A commit to the branch."""
        commit = self.git.commit(kind)
        self._host.loop.say(None, f"commit {commit.sha[:7]} {kind}")
        if self._deployer is not None and self._branch is not None and self._random.random() < 0.7:
            self._deployer.call(self._branch.hint)
        return commit

    async def work(self, until_s: float, mean_s: float) -> None:
        """Commits and requests until that loop time."""
        while True:
            await asyncio.sleep(self._random.expovariate(1 / mean_s))
            if self._host.loop.time() >= until_s:
                return
            draw = self._random.random()
            if draw < 0.12:
                self.push("good")
                await asyncio.sleep(self._random.uniform(0, 0.3))  # two commits at once
                self.push(self._random.choice(("good", "good", *KINDS)))
            elif draw < 0.75:
                self.push("good")
            elif draw < 0.93:
                self.push(self._random.choice(KINDS))
            else:
                self._ask()

    async def come_right(self) -> None:
        """Two more commits at once, nothing else: the newest one is confirmed, has its spare, and nothing else runs."""
        self.push("good")
        await asyncio.sleep(self._random.uniform(0, 1.0))
        newest = self.push("good")
        limit_s = self._host.loop.time() + END_S
        while not self._is_right(newest):
            await asyncio.sleep(0.25)
            if self._host.loop.time() > limit_s:
                self._host.watch.broken(f"the newest commit {newest.sha[:7]} is not all that runs: {self._describe()}")
                return

    def look_at_history(self) -> None:
        """Each deploy has one verdict and steps in order, and no two were open at once."""
        open_ones: set[str] = set()
        for step in read_steps(self._host.bus):
            if step.step == "queued":
                if open_ones:
                    self._host.watch.broken(f"deploy {step.deploy} is queued while {open_ones} is open")
                open_ones.add(step.deploy)
            elif step.step in ("confirmed", "failed", "cancelled"):
                open_ones.discard(step.deploy)
        for deploy in self.history.deploys:
            names = [step.step for step in deploy.steps if step.step not in ("answered", "handover")]
            verdicts = [name for name in names if name in ("confirmed", "failed", "cancelled")]
            order = [_ORDER[name] for name in names]
            if len(verdicts) > 1 or order != sorted(order) or len(set(names)) != len(names):
                self._host.watch.broken(f"the steps of deploy {deploy.id} make no sense: {names}")
            for verdict in verdicts:
                self.times[verdict] = self.times.get(verdict, 0) + 1

    def _is_right(self, newest: Commit) -> bool:
        confirmed, holder = self.history.confirmed, self._host.holder
        living = self._host.living
        return (
            confirmed is not None
            and confirmed.sha == newest.sha
            and self.history.open is None
            and holder is not None
            and len(living) == 1 + POLICY.spares
            and all(bot.commit is newest and bot.runner._seen.healthy for bot in living)
        )

    def _describe(self) -> str:
        steps = [f"{d.sha[:7]} {[step.step for step in d.steps]}" for d in self.history.deploys[-3:]]
        bots = [f"{b.process.name} {b.commit.sha[:7]} {b.commit.kind} {b.runner._seen.role}" for b in self._host.living]
        return f"{steps} {bots}"

    def _ask(self) -> None:
        if self._host.disk.full:
            return
        action: Any = self._random.choice(("deploy", "rollback", "cancel"))
        ref = self._random.choice(self.git.commits).sha if action == "deploy" or self._random.random() < 0.5 else ""
        make_request(self._host.bus, action, ref=ref, by="somebody", clock=self._host.clock)

    async def _deploy(self, process: Process) -> None:
        log, host = self._host.log(process.name), self._host
        folder = host.bus.directory.parent / "deployer"
        folder.mkdir(exist_ok=True)
        nothing: Any = Nothing()
        deployer: Deployer
        branch = BranchWatch(self.git, BRANCH, log, lambda: deployer.wake())
        await branch.start()
        self._branch = branch
        try:
            deployer = Deployer(
                host.bus, host.clock, POLICY, folder,
                pushes=Pushes(
                    self.git, branch, PushLog(folder, host.clock, log), Verify(self.git, "", limit_s=1.0),
                    Unchanged(self.git, ""),
                ),
                machine=Machine(
                    self._units, Disks({}, 0, lambda *_: None), KeyRing(folder, {}, self._units.is_unit, log),
                    Hooks(None, log),
                ),
                shown=Shown(log, nothing, TargetsFile(folder)),
            )  # fmt: skip
            await deployer.run()
        except Exception as error:  # noqa: BLE001  # as a traceback on stderr
            host.loop.say(process, f"ends by {error!r}")
        process.kill()


_ORDER = {
    name: number
    for number, name in enumerate(
        ("queued", "building", "built", "started", "healthy", "taken", "taking-back", "taken-back", "failed", "cancelled",
         "confirmed", "retired")
    )
}  # fmt: skip
