"""The deployer at work: look, decide, act, again and again. All that it decides is in `rollout` and `fleet`."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Coroutine
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from bus import (
    Bus,
    BusError,
    Clock,
    Step,
    append_step,
    forget_instance,
    read_steps,
    remove_request,
    write_handover,
)
from bus.errors import Reason
from bus.tasks import Guard
from deployer.deploys import NOBODY_TRADES, TRADES_AGAIN, Deploy, History, fold
from deployer.errors import BuildError, Code, DeployerError, EngineAwayError, RuntimeFailedError
from deployer.parts import Machine, Pushes, Shown
from deployer.push.receive import Situation, waits_for
from deployer.rollout.decide import decide
from deployer.rollout.differences import NOTHING, Compared, not_compared, read_comparison
from deployer.rollout.key_holders import key_holders
from deployer.rollout.observed import (
    Action,
    Build,
    Compare,
    Forget,
    KillUnit,
    Now,
    Observed,
    Policy,
    Record,
    RemoveRequest,
    RemoveUnit,
    StartUnit,
    StopUnit,
    WriteHandover,
)
from deployer.rollout.observer import Observer, Probe
from deployer.runtimes.api import Start
from deployer.settings import State, write_state

LOOK_EVERY_S = 0.15
ACTION_LIMIT_S = 5.0
START_LIMIT_S = 60.0
# A build that something from outside ended is made so often again, each time after a while.
BUILD_AGAIN = 2
EVERYTHING_ENDS_S = 2.0
RETRY_FAILED_MS = 30_000
LAST_WORDS = 20
ROOM_EVERY_MS = 60_000


class Deployer:
    """Runs until `stop`; the bots go on without it.

    Args:
        folder: where it writes its state for `./ns status`.
    """

    def __init__(
        self,
        bus: Bus,
        clock: Clock,
        policy: Policy,
        folder: Path,
        *,
        pushes: Pushes,
        machine: Machine,
        shown: Shown,
    ) -> None:
        self._bus, self._clock, self._policy, self._folder = bus, clock, policy, folder
        self._repository, self._branch, self._push_log = pushes.repository, pushes.branch, pushes.log
        self._verify, self._unchanged = pushes.verify, pushes.unchanged
        self._runtime, self._hooks = machine.runtime, machine.hooks
        self._disks, self._keys = machine.disks, machine.keys
        self._log, self._metrics, self._targets, self._targets_problem = shown.log, shown.metrics, shown.targets, ""
        self._history: History = fold(read_steps(bus))
        self._failures: dict[str, tuple[Reason, str, int]] = {}  # sha: why, the last lines, when (boot ms)
        self._remarks: dict[str, tuple[str, ...]] = {}  # sha: what its built tree lacks, until it is noted
        self._compared: dict[str, Compared] = {}  # by deploy, until it is noted
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._hint = asyncio.Event()
        self._stopping = False
        self._state: State | None = None
        self._died: set[str] = set()
        self._pruned_ms = -ROOM_EVERY_MS
        self._prunes = False  # whether a deploy or a unit ended since old builds were last looked for
        self._metrics.begin(self._history)
        self._probe = Probe(bus, clock, self._metrics.bus_write.observe)
        self._look = Observer(bus, clock, pushes.repository, machine.runtime, self._probe, pushes.log, shown.log)

    def stop(self) -> None:
        """End the loop; the bots are left alone."""
        self._stopping = True
        self.wake()

    def wake(self) -> None:
        """Something changed: look now."""
        self._hint.set()

    async def run(self) -> None:
        """Until stopped. Raises what ended a task that must not end."""
        guard = Guard(self._log, on_failure=lambda _error: self.wake())
        guard.start(self._probe.run(), "probe")
        guard.start(self._branch.run(), "branch")
        guard.start(self._runtime.watch(self.wake), "units")
        guard.start(self._hooks.run(), "hooks")
        guard.start(self._disks.run(), "disks")
        try:
            while not self._stopping:
                if guard.failure is not None:
                    raise guard.failure
                acted = await self._round()
                if not acted:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(LOOK_EVERY_S):
                            await self._hint.wait()
                self._hint.clear()
        finally:
            self._push_log.stop()
            self._keys.close()
            for task in self._tasks.values():
                task.cancel()
            await asyncio.gather(guard.close(), *self._tasks.values(), return_exceptions=True)

    async def _round(self) -> bool:
        """One look and what follows from it; whether something was done. What fails is tried again by the next one."""
        self._push_log.beat()
        try:
            now = Now(self._clock.boot_ms(), self._clock.boot_id, self._clock.wall_ms())
            observed = await self._look.observe(
                self._history, self._branch, self._failed(now), dict(self._compared), self._busy(), now
            )
            trusted = self._verify.trusted(observed.built, self._history.ran)
            observed = replace(observed, built=trusted, same=dict(self._unchanged.found))
            self._cancel(observed)
            self._note_deaths(observed)
            self._remove_builds(now)
            self._publish(observed, problem=None)
            self._show(observed, now)
            self._tell_pushers(observed)
            await self._keys.attend(*key_holders(observed, self._policy))
            actions = decide(observed, now, self._policy)
            for action in actions:
                async with asyncio.timeout(ACTION_LIMIT_S):
                    await self._act(action)
                if isinstance(action, Record) and action.step == "handover":  # so that it has them when it takes
                    await self._keys.attend(*key_holders(replace(observed, history=self._history), self._policy))
        except (BusError, RuntimeFailedError, OSError, TimeoutError) as error:
            text = str(error) or f"an action did not end within {ACTION_LIMIT_S:g} s"
            if self._state is None or self._state.problem != text:
                self._log.error("round_failed", reason=text, bots="go on")
            self._publish(None, problem=text)
            self._metrics.note_problem()
            return False
        return bool(actions)

    # --- acting

    async def _act(self, action: Action) -> None:
        match action:
            case Record():
                await self._record(action)
            case RemoveRequest(id=request):
                remove_request(self._bus, request)
            case Build(sha=sha, base=base):
                self._begin(f"build:{sha}", self._build(sha, base))
            case Compare(deploy=deploy, sha=sha, by=by):
                self._begin(f"compare:{deploy}", self._compare(deploy, sha, by))
            case StartUnit(what=what):
                self._begin("start", self._start(what))
            case WriteHandover(handover=handover):
                write_handover(
                    self._bus, handover, writer="deployer", sequence=self._clock.wall_ms(), clock=self._clock
                )
                self._log.info(
                    "handover_written", wanted=handover.wanted, request=handover.request_id, retired=handover.retired
                )
            case StopUnit(unit=unit):
                self._log.info("unit_asked_to_stop", unit=unit)
                await self._runtime.stop(unit)
            case KillUnit(unit=unit, reason=reason):
                self._log.error("unit_killed", unit=unit, reason=reason, code=reason.code)
                await self._runtime.kill(unit)
                self._metrics.kills.inc()
            case RemoveUnit(unit=unit):
                await self._runtime.remove(unit)
                self._prunes = True
            case Forget(instance=instance):
                forget_instance(self._bus, instance)

    async def _record(self, record: Record) -> None:
        data = dict(record.data)
        if record.words_of and (words := await self._runtime.logs(record.words_of, LAST_WORDS)):
            data["last_words"] = words.splitlines()
        if record.step == "failed" and record.sha in self._failures and (output := self._failures[record.sha][1]):
            data["output"] = output.splitlines()
        if record.step == "built" and (remarks := self._remarks.pop(record.sha, ())):
            data["output"] = list(remarks)
        deploy, now_ms = self._history.find(record.deploy), self._clock.wall_ms()
        step = Step(
            deploy=record.deploy,
            step=record.step,
            time_ms=now_ms,
            sha=record.sha,
            by=record.by,
            text=record.text,
            ms=max(0, now_ms - deploy.began_ms) if deploy is not None else None,
            request=record.request,
            instance=record.instance,
            data=data,
        )
        append_step(self._bus, step)
        self._metrics.note_step(step, deploy)
        self._history = self._history.with_step(step)
        self._hooks.after(step, self._history.find(step.deploy))
        write = self._log.error if step.step in ("failed", "taking-back") else self._log.info
        if step.step in (NOBODY_TRADES, TRADES_AGAIN):
            self._log.warning(step.step.replace("-", "_"), reason=step.text, code=step.data.get("code"))
            return
        write("deploy_step", deploy=step.deploy, step=step.word, sha=step.sha[:12], text=step.text, ms=step.ms)
        if step.step == "queued":
            self._verify.forget(step.sha)
            self._unchanged.found.clear()  # of the deploy before
            self._failures.pop(step.sha, None)
        if step.step == "compared":
            self._compared.pop(step.deploy, None)
        self._prunes |= step.step in ("confirmed", "failed", "cancelled")

    async def _build(self, sha: str, base: str) -> None:
        for more in range(BUILD_AGAIN, -1, -1):
            try:
                await self._build_once(sha, base)
            except EngineAwayError as error:
                # No commit's fault: it is asked for again as soon as the Engine answers.
                self._log.warning("build_interrupted", sha=sha[:12], reason=str(error))
                await asyncio.sleep(EVERYTHING_ENDS_S)
            except RuntimeFailedError as error:
                self._fail(sha, Reason(Code.BUILD, f"the build failed: {error}"))
            except BuildError as error:
                if error.interrupted and more:
                    # Where all is told to end, this deployer is told meanwhile as well.
                    self._log.warning("build_interrupted", sha=sha[:12], reason=str(error), tries_left=more)
                    await asyncio.sleep(EVERYTHING_ENDS_S)
                    continue
                self._fail(sha, Reason(Code.BUILD, f"the build failed: {error}"), error.output)
            return

    async def _build_once(self, sha: str, base: str) -> None:
        """Raises BuildError, RuntimeFailedError."""
        await self._hooks.before("building", self._deploy_of(sha))
        await self._verify.check(sha)
        if await self._unchanged.is_so(sha, base):
            return
        await self._need_room(sha)
        if remarks := await self._disks.guard(self._runtime.build(sha)):
            self._remarks[sha] = remarks
            self._log.warning("build_remarks", sha=sha[:12], what="; ".join(remarks))

    async def _compare(self, deploy: str, sha: str, by: str) -> None:
        if not self._bus.inputs.exists():
            self._compared[deploy] = NOTHING
            return
        try:
            self._compared[deploy] = read_comparison(await self._runtime.compare(sha, by))
        except RuntimeFailedError as error:
            self._compared[deploy] = not_compared(str(error))

    async def _start(self, what: Start) -> None:
        await self._hooks.before("started", self._deploy_of(what.sha))
        try:
            async with asyncio.timeout(START_LIMIT_S):
                unit = await self._runtime.start(what)
            self._log.info("unit_started", unit=unit, sha=what.sha[:12], color=what.color, deploy=what.deploy_id)
        except EngineAwayError as error:  # no commit's fault
            self._log.warning("start_interrupted", sha=what.sha[:12], reason=str(error))
            await asyncio.sleep(EVERYTHING_ENDS_S)
        except RuntimeFailedError as error:
            self._fail(what.sha, Reason(Code.START, f"it could not be started: {error}"))
        except TimeoutError:
            self._fail(what.sha, Reason(Code.START, f"it could not be started within {START_LIMIT_S:g} s"))

    def _remove_builds(self, now: Now) -> None:
        """Remove what ended deploys and units left; all old builds where room is short."""
        if "prune" in self._tasks:
            return
        if self._disks.problem is not None and now.boot_ms - self._pruned_ms >= ROOM_EVERY_MS:
            self._pruned_ms = now.boot_ms
            self._log.error("disk_low", reason=self._disks.problem, action="old builds are removed")
            self._begin("prune", self._prune(all_else=True))
        elif self._prunes:
            self._prunes = False
            self._begin("prune", self._prune())

    async def _need_room(self, sha: str) -> None:
        """Raises BuildError where a build could fill a disk under the trader, and removing old builds does not help."""
        if sha in await self._runtime.built():
            return
        await self._disks.look()
        if self._disks.problem is not None:
            await self._prune(all_else=True)
            await self._disks.look()
        if (problem := self._disks.problem) is not None:
            raise BuildError(f"{problem}; then `./ns deploy {sha[:7]}`")

    async def _prune(self, *, all_else: bool = False) -> None:
        builds = partial(self._runtime.prune, all_else=all_else)
        for what, prune in (("the mirror", self._repository.tidy), ("builds", builds)):
            try:
                await prune(self._history.needed)  # as of now: the first may have taken long
            except (OSError, DeployerError) as error:
                self._log.warning("not_pruned", what=what, reason=str(error))

    def _deploy_of(self, sha: str) -> Deploy | None:
        """The open deploy of a commit; None where a unit of the confirmed one is replaced."""
        deploy = self._history.open
        return deploy if deploy is not None and deploy.sha == sha else None

    def _fail(self, sha: str, reason: Reason, output: str = "") -> None:
        self._log.error("commit_failed", sha=sha[:12], reason=reason)
        self._failures[sha] = (reason, output, self._clock.boot_ms())

    # --- tasks

    def _begin(self, key: str, work: Coroutine[Any, Any, None]) -> None:
        """Run something long beside the loop; decide sees it as busy until it ended."""
        task = asyncio.create_task(work, name=key)
        self._tasks[key] = task

        def ended(task: asyncio.Task[None]) -> None:
            self._tasks.pop(key, None)
            if not task.cancelled() and (error := task.exception()) is not None:
                self._log.error("task_failed", task=key, reason=repr(error))
                if key.startswith("build:"):
                    self._fail(key.removeprefix("build:"), Reason(Code.BUILD, f"the build failed: {error!r}"))
                if key.startswith("compare:"):
                    self._compared[key.removeprefix("compare:")] = not_compared(repr(error))
            self.wake()

        task.add_done_callback(ended)

    def _busy(self) -> frozenset[str]:
        return frozenset(self._tasks)

    def _failed(self, now: Now) -> dict[str, Reason]:
        """Failures; what shall run is tried again after a while, what is deployed is not."""
        deploy = self._history.open
        for sha, (_, _, since_ms) in list(self._failures.items()):
            if now.boot_ms - since_ms > RETRY_FAILED_MS and (deploy is None or deploy.sha != sha):
                del self._failures[sha]
        return {sha: reason for sha, (reason, _, _) in self._failures.items()}

    def _cancel(self, observed: Observed) -> None:
        """A build or comparison that nobody waits for any more gives way; a deploy that is confirmed is told its own yet."""
        deploys = [deploy for deploy in (self._history.open, self._history.confirmed) if deploy is not None]
        wanted = {f"build:{observed.confirmed_sha}", *(f"compare:{deploy.id}" for deploy in deploys)}
        if observed.history.open is not None:
            wanted.add(f"build:{observed.history.open.sha}")
        for key, task in self._tasks.items():
            if key.startswith(("build:", "compare:")) and key not in wanted:
                task.cancel()

    # --- what people see

    def _note_deaths(self, observed: Observed) -> None:
        ended = {unit.name for unit in observed.units if not unit.running and not unit.stopping}
        for name in sorted(ended - self._died):
            self._log.error("unit_died", unit=name)
            self._metrics.deaths.inc()
        self._died = ended

    def _tell_pushers(self, observed: Observed) -> None:
        if not all(push.settled for push in observed.pushes):
            self._branch.hint()
        at = Situation(
            history=self._history,
            branch=self._branch.branch,
            tip=observed.target,
            confirmed_sha=observed.confirmed_sha,
            waits_for=waits_for(
                self._history.open,
                compares=self._policy.hold and any(key.startswith("compare:") for key in self._tasks),
            ),
        )
        self._push_log.tell(observed.pushes, at)

    def _show(self, observed: Observed, now: Now) -> None:
        """What Prometheus sees; nothing else depends on it."""
        self._metrics.note_look(observed, now, self._nobody() or self._branch.problem)
        self._metrics.read_gaps(self._bus, observed, self._log)
        try:
            self._targets.write(observed.instances)
            self._targets_problem = ""
        except OSError as error:
            if self._targets_problem != str(error):
                self._log.warning("targets_not_written", reason=str(error))
            self._targets_problem = str(error)

    def _nobody(self) -> str | None:
        """Why nobody trades, as everything says it."""
        nobody = self._history.nobody
        return f"nobody trades: {nobody.text}" if nobody is not None else None

    def _publish(self, observed: Observed | None, *, problem: str | None) -> None:
        """State for `./ns status`, when it changed."""
        state = State(
            pid=os.getpid(),
            repository=str(self._repository.path),
            branch=self._branch.branch,
            tip=self._branch.tip,
            runtime=self._runtime.name,
            problem=problem or self._nobody() or self._branch.problem or self._verify.problem or self._disks.problem,
            units=observed.units if observed is not None else (self._state.units if self._state is not None else ()),
            built=tuple(sorted(observed.built)) if observed is not None else (),
        )
        if state != self._state:
            self._state = state
            try:
                write_state(self._folder, state)
            except OSError as error:
                self._log.warning("state_not_written", reason=str(error))
