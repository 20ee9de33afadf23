"""The docker runtime: one image a commit, one container a bot.

All that a deployer must know after its own death is in the containers' labels, but for one thing that comes later: that a
stop was asked for is a file in DEPLOYER_DIR/stopping. The logs of removed containers are in DEPLOYER_DIR/logs.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bus import Bus, Clock, make_private, open_private
from deployer.errors import EngineRefusedError, RuntimeFailedError
from deployer.keys import forget_folder, make_folder
from deployer.push.repository import Repository
from deployer.runtimes.api import BuildInputs, OneOff, Start, Unit
from deployer.runtimes.build_limits import BuildLimits
from deployer.runtimes.children import last_lines
from deployer.runtimes.docker.body import (
    BOOT_ID,
    BUS,
    COLOR,
    DEPLOY,
    IMAGE,
    LABELS,
    SHA,
    STARTED_MS,
    STOP_LIMIT_S,
    Place,
    bot_body,
    faults_of_body,
    faults_of_container,
)
from deployer.runtimes.docker.engine import Engine, Events
from deployer.runtimes.docker.images import Images
from deployer.runtimes.docker.one_off import Comparisons, find_place
from deployer.runtimes.docker.room import BuildRoom

KEEP_LOGS = 50
LOG_BYTES = 50 << 20
# While the Engine tells of changes the list is asked for this often all the same: an event is a hint, the list the truth.
LIST_EVERY_MS = 2_000
_RUNS = frozenset({"running", "paused", "restarting"})
# A part of a volume can be mounted apart since Engine 26.0.
SUBPATH_API = (1, 45)
_KILLED = 128 + 9  # by SIGKILL: somebody's, or the kernel's for want of memory
OOM_TOLD_S = 0.25
_NOT_THERE, _CONFLICT, _NOT_MODIFIED = 404, 409, 304


@dataclass(frozen=True, slots=True)
class Given:
    """What bots get of the deployer's."""

    environment: Mapping[str, str]
    """the deployer's own; BOT_ and BUS_ are passed on"""
    keys: Path | None = None
    """the folder of sockets, where keys are handed over"""


class DockerRuntime:
    """Runs bots as containers beside the deployer's own (see runtime.Runtime)."""

    name = "docker"

    def __init__(
        self,
        images: Images,
        place: Place,
        bus: Bus,
        folder: Path,
        clock: Clock,
        warn: Callable[[str], None],
        *,
        keep: int,
        given: Given,
    ) -> None:
        """keep: how many images beside the needed ones. warn: takes a line about what a person should see to."""
        self._engine, self._images, self._place = images.engine, images, place
        self._clock, self._warn, self._keep, self._given = clock, warn, keep, given
        self._logs, self._stopping = folder / "logs", folder / "stopping"
        self._events = Events(images.engine, place.bus_id)
        self._comparisons = Comparisons(images.engine, images, place, bus, given.environment)
        self._rows: list[dict[str, Any]] = []
        self._listed_ms: int | None = None  # None: something changed since
        self._starting: set[str] = set()
        self._looked_at: set[str] = set()
        self._endings: dict[str, str] = {}

    @property
    def builds_at(self) -> Path:
        """This container's own root: a layer on the Engine's disk, whatever the Engine calls the folder."""
        return Path("/")

    async def watch(self, changed: Callable[[], None]) -> None:
        """Follow the Engine's events, through its restarts."""

        def noted() -> None:
            self._listed_ms = None
            changed()

        await self._images.room.begin()
        try:
            await self._events.follow(noted)
        finally:
            await self._images.room.end()

    async def built(self) -> frozenset[str]:
        """The commits that can be started."""
        return frozenset(await self._images.by_sha())

    async def build(self, sha: str) -> tuple[str, ...]:
        """Make a commit's image. Raises BuildError, RuntimeFailedError."""
        return await self._images.build(sha)

    async def comparable(self) -> frozenset[str]:
        """The commits whose image knows the command `compare`."""
        return self._images.comparable

    async def compare(self, sha: str, by: str) -> OneOff:
        """In a container of its own. Raises RuntimeFailedError."""
        return await self._comparisons.run(sha, by)

    def is_unit(self, name: str, pid: int) -> bool:  # noqa: ARG002  # no other container has its socket, and none has a pid here
        """Whether a process that reached a unit's socket is the unit's."""
        return True

    async def start(self, what: Start) -> str:
        """Make a container, see that it is what was asked for, and start it. Raises RuntimeFailedError."""
        failed = f"a bot of {what.sha[:7]} could not be started"
        image_id = (await self._images.by_sha()).get(what.sha)
        if image_id is None:
            raise RuntimeFailedError(f"{failed}: its image is gone; it is built again with the next try")
        name = f"bot-{what.color}-{what.sha[:7]}-{secrets.token_hex(3)}"
        body = bot_body(
            what,
            name,
            self._images.tag(what.sha),
            image_id,
            self._place,
            self._given.environment,
            boot_id=self._clock.boot_id,
            boot_ms=self._clock.boot_ms(),
            image_labels=self._images.labels(what.sha),
        )
        if faults := faults_of_body(body, self._place, name):
            raise RuntimeFailedError(f"{failed}: {'; '.join(faults)}")
        self._starting.add(name)
        try:
            if self._given.keys is not None:
                uid, gid = (int(part) for part in self._place.user.split(":"))
                make_folder(self._given.keys, name, None if os.geteuid() == uid else (uid, gid))
            await self._engine.call(failed, lambda client: client.create_container_from_config(body, name))
            inspected = await self._engine.call(failed, lambda client: client.inspect_container(name))
            if faults := faults_of_container(inspected, self._place):
                raise RuntimeFailedError(
                    f"{failed}: the container that the Engine made was refused: {'; '.join(faults)}"
                )
            await self._engine.call(failed, lambda client: client.start(name))
        except OSError as error:
            raise RuntimeFailedError(f"{failed}: no folder could be made for its keys: {error}") from error
        except RuntimeFailedError:
            await self._remove(name)
            if self._given.keys is not None:
                forget_folder(self._given.keys, name)
            raise
        finally:
            # Not started for any other reason: `units` removes it.
            self._starting.discard(name)
            self._listed_ms = None
        return name

    async def stop(self, unit: str) -> None:
        """`docker stop`: SIGTERM now, and SIGKILL by the Engine only long after the deployer's own limit.

        Noted first, so that an end after it is never taken for a death.
        """
        self._stopping.mkdir(parents=True, exist_ok=True)
        (self._stopping / unit).touch()
        # The Engine answers when the bot ended; `units` tells that, too.
        self._engine.begin(f"could not stop {unit}", lambda client: client.stop(unit, STOP_LIMIT_S), self._stop_failed)

    async def kill(self, unit: str) -> None:
        """`docker kill`, which ends a paused container as well. Raises RuntimeFailedError."""
        await self._harmless("kill", unit, lambda client: client.kill(unit))

    async def remove(self, unit: str) -> None:
        """Keep the log of an ended container, then remove it. Raises RuntimeFailedError when it runs."""
        unit_found = next((candidate for candidate in await self.units() if candidate.name == unit), None)
        if unit_found is not None and unit_found.running:
            raise RuntimeFailedError(f"container {unit} still runs; only an ended one can be removed")
        if unit_found is not None:
            await self._keep_log(unit)
            await self._remove(unit)
        (self._stopping / unit).unlink(missing_ok=True)

    async def units(self) -> tuple[Unit, ...]:
        """All containers of this bus, oldest first. Raises RuntimeFailedError."""
        units = []
        for row in await self._list():
            labels, name = row.get("Labels") or {}, str((row.get("Names") or ["?"])[0]).lstrip("/")
            if labels[BUS] != self._place.bus_id:
                continue  # another checkout's
            if stranger := _why_strange(row, labels):
                self._warn_once(row["Id"], f"container {name} is left alone: {stranger}")
            elif name in self._starting and row["State"] not in _RUNS:
                continue  # `start` tells what becomes of it: until it runs, or while it is removed because it was refused
            elif row["State"] == "created":
                await self._remove(name)  # a deployer died before it could start this one
            else:
                await self._look_once(row["Id"], name)
                ended = "" if row["State"] in _RUNS else await self._ending(row["Id"])
                units.append(self._unit(name, labels, row["State"], ended))
        here = {row["Id"] for row in self._rows}
        self._endings = {container: how for container, how in self._endings.items() if container in here}
        return tuple(sorted(units, key=lambda unit: (unit.started_ms, unit.name)))

    async def _list(self) -> list[dict[str, Any]]:
        now_ms = self._clock.boot_ms()
        if self._events.live and self._listed_ms is not None and now_ms - self._listed_ms < LIST_EVERY_MS:
            return self._rows
        self._listed_ms = now_ms  # before asking: what changes while the Engine answers makes it None again
        try:
            self._rows = await self._engine.call(
                "the containers could not be listed",
                lambda client: client.containers(all=True, filters={"label": [BUS]}),
            )
        except BaseException:
            self._listed_ms = None
            raise
        return self._rows

    async def logs(self, unit: str, lines: int) -> str:
        """The last lines of a container's log, or of what was kept of it."""
        try:
            raw = await self._engine.call("logs", lambda client: client.logs(unit, tail=lines))
        except EngineRefusedError as error:
            if error.status != _NOT_THERE:
                raise
            return last_lines(self._logs / f"{unit}.log", lines)
        return bytes(raw).decode("utf-8", "replace").rstrip("\n")

    async def prune(self, keep: frozenset[str], *, all_else: bool = False) -> None:
        """Remove old images and logs, and with all_else the build cache. Raises RuntimeFailedError."""
        await self._comparisons.clear()
        units = await self.units()
        await self._images.prune(keep | {unit.sha for unit in units}, 0 if all_else else self._keep)
        if all_else:
            await self._images.empty_cache()
        logs = sorted(self._logs.glob("*.log"), key=lambda path: path.stat().st_mtime) if self._logs.is_dir() else []
        for log in logs[:-KEEP_LOGS]:
            log.unlink(missing_ok=True)

    # --- parts

    async def _ending(self, container: str) -> str:
        """How a container ended; kept, as that does not change."""
        if container not in self._endings:
            state = (await self._inspect(container)).get("State", {})
            if state.get("ExitCode") == _KILLED and not state.get("OOMKilled"):
                # The Engine learns of the end and of its reason apart, the reason sometimes later.
                await asyncio.sleep(OOM_TOLD_S)
                state = (await self._inspect(container)).get("State", {})
            if not state:
                return ""
            code = f"exit code {state.get('ExitCode')}"
            self._endings[container] = f"out of memory, {code}" if state.get("OOMKilled") else code
        return self._endings[container]

    async def _inspect(self, container: str) -> dict[str, Any]:
        """A container as the Engine has it; empty when it is gone."""
        try:
            inspected: dict[str, Any] = await self._engine.call(
                "a container could not be looked at", lambda client: client.inspect_container(container)
            )
        except EngineRefusedError as error:
            if _is_harmless(error):
                return {}
            raise
        return inspected

    def _unit(self, name: str, labels: Mapping[str, str], state: str, ended: str) -> Unit:
        # Boot times of an earlier run of the kernel do not compare: such a unit counts as old.
        started = labels[STARTED_MS] if labels[BOOT_ID] == self._clock.boot_id else "0"
        return Unit(
            name=name,
            sha=labels[SHA],
            color=labels[COLOR],
            deploy_id=labels[DEPLOY],
            started_ms=int(started) if started.isdigit() else 0,
            running=state in _RUNS,
            stopping=(self._stopping / name).exists(),
            ended=ended,
        )

    async def _look_once(self, container: str, name: str) -> None:
        """Say it when a unit lacks a flag: an earlier release started it, or somebody changed it."""
        if container in self._looked_at:
            return
        inspected = await self._inspect(container)
        if not inspected:
            return
        if faults := faults_of_container(inspected, self._place):
            self._warn_once(container, f"container {name} goes on until the next deploy, though: {'; '.join(faults)}")
        self._looked_at.add(container)

    def _warn_once(self, container: str, text: str) -> None:
        if container not in self._looked_at:
            self._looked_at.add(container)
            self._warn(text)

    async def _keep_log(self, unit: str) -> None:
        make_private(self._logs)

        def copy(client: Any) -> None:
            room = LOG_BYTES
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
            with os.fdopen(open_private(self._logs / f"{unit}.log", flags), "wb") as file:
                for piece in client.logs(unit, stream=True, follow=False):
                    file.write(piece[:room])
                    room -= len(piece)
                    if room <= 0:
                        return

        await self._harmless("keep the log of", unit, copy)

    async def _remove(self, unit: str) -> None:
        await self._harmless("remove", unit, lambda client: client.remove_container(unit, v=True))

    async def _harmless(self, verb: str, unit: str, method: Any) -> None:
        """A call that finds the container gone or ended has nothing to do. Raises RuntimeFailedError."""
        try:
            await self._engine.call(f"could not {verb} {unit}", method)
        except EngineRefusedError as error:
            if not _is_harmless(error):
                raise
        finally:
            self._listed_ms = None

    def _stop_failed(self, error: RuntimeFailedError) -> None:
        # The unit is asked again, or killed, by whoever sees that it still runs.
        if not _is_harmless(error):
            self._warn(str(error))


def _is_harmless(error: RuntimeFailedError) -> bool:
    """Whether the container was gone, had ended, or was in that state already: then there was nothing to do."""
    return isinstance(error, EngineRefusedError) and error.status in (_NOT_THERE, _CONFLICT, _NOT_MODIFIED)


def _why_strange(row: Mapping[str, Any], labels: Mapping[str, str]) -> str | None:
    """Why a container with our bus's label is not one that a deployer made."""
    missing = sorted(LABELS - set(labels))
    if missing:
        return f"it has the label of this bus, but not {', '.join(missing)}"
    if labels[IMAGE] != row["ImageID"]:
        return f"it runs image {row['ImageID']}, its labels say {labels[IMAGE]}"
    return None


def make_docker_runtime(
    *,
    engine: Engine,
    repository: Repository,
    bus: Bus,
    clock: Clock,
    folder: Path,
    keep: int,
    build_limit_s: float,
    build_inputs: Callable[[], BuildInputs],
    build_limits: BuildLimits,
    environment: Mapping[str, str],
    keys: Path | None,
    warn: Callable[[str], None],
) -> DockerRuntime:
    """The runtime of the container that this process runs in. Raises StartError, RuntimeFailedError."""
    place = find_place(engine, bus, environment, keys)
    if place.bus.type == "volume" and not engine.speaks(SUBPATH_API):
        place = replace(place, guarded=False)
        warn("bots may write what people and the deployer say: the bus is a volume, and this Engine is older than 26.0")
    room = BuildRoom(engine, place.bus_id, place.image, build_limits, warn)
    engine.call_now("a former room for builds could not be removed", room.sweep)  # also before all is ended for good
    images = Images(
        engine,
        repository,
        folder / "builds",
        place.bus_id,
        room,
        limit_s=build_limit_s,
        inputs=build_inputs,
        project=place.project,
    )
    return DockerRuntime(images, place, bus, folder, clock, warn, keep=keep, given=Given(environment, keys))
