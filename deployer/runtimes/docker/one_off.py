"""Comparisons of decisions as one-off containers: of the commit's image, the bus to read, no network, little processor."""

from __future__ import annotations

import asyncio
import re
import secrets
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

from bus import Bus, LedgerError
from bus.inputs import copy_inputs
from deployer.errors import EngineRefusedError, RuntimeFailedError, StartError
from deployer.keys import KEY_SETTINGS
from deployer.runtimes.api import COMPARE_LIMIT_S, OneOff
from deployer.runtimes.docker.body import (
    BUS_TARGET,
    COMPARES,
    PROJECT,
    SECRET_FILES,
    Mount,
    Place,
    comparison_body,
    faults_of_comparison,
)
from deployer.runtimes.docker.engine import Engine
from deployer.runtimes.docker.images import Images

# Finds the place for bots: the deployer looks at its own container. They get its bus, its network, its user, its keys.


# Compose writes it on everything that it makes.
PROJECT_LABEL = "com.docker.compose.project"
# The Engine binds three files out of the container's own folder; under cgroup v2 nothing else names it.
_OWN = re.compile(r"/containers/([0-9a-f]{64})/(?:hostname|hosts|resolv\.conf) ")


def find_place(engine: Engine, bus: Bus, environment: Mapping[str, str], keys: Path | None) -> Place:
    """Where bots run. environment: names the secret files. keys: the folder of sockets, where keys are handed over.

    Raises StartError (not in a container that has what is needed), RuntimeFailedError (the Engine).
    """
    own = own_container(Path("/proc/self/mountinfo").read_text())
    if own is None:
        raise StartError(
            "the docker runtime works inside the deployer's own container, and this is none; use `make run`, "
            "or DEPLOYER_RUNTIME=process"
        )
    if bus.directory != Path(BUS_TARGET):
        raise StartError(f"expected the bus at {BUS_TARGET} in the deployer's container, found BUS_DIR={bus.directory}")
    inspected = engine.call_now(
        "the deployer's own container could not be looked at", lambda client: client.inspect_container(own)
    )
    return place_of(inspected, environment, keys)


def own_container(mountinfo: str) -> str | None:
    """The id of the container that a process with this /proc/self/mountinfo runs in; None outside of one."""
    match = _OWN.search(mountinfo)
    return match[1] if match else None


def place_of(inspected: Mapping[str, Any], environment: Mapping[str, str], keys: Path | None = None) -> Place:
    """The place that a deployer's container names by its own mounts, network and user.

    environment: of the secret files that it names, each is passed on alone, never the folder that it lies in. Raises StartError.
    """
    mounts = {mount["Destination"]: _mount(mount) for mount in inspected.get("Mounts") or []}
    if BUS_TARGET not in mounts:
        raise StartError(f"expected a mount of the bus at {BUS_TARGET} in the deployer's container; see compose.yaml")
    user = str(inspected["Config"].get("User") or "")
    if not re.fullmatch(r"[1-9][0-9]*:[0-9]+", user):
        raise StartError(
            f"expected a user UID:GID that is not root for the deployer's container, found {user or 'root'!r}; "
            "all that write to the bus run as that one"
        )
    network = environment.get("DEPLOYER_NETWORK") or str(inspected["HostConfig"].get("NetworkMode") or "")
    if network in ("", "host", "none", "default", "bridge") or network.startswith("container:"):
        raise StartError(
            f"expected a network of its own for bots (DEPLOYER_NETWORK, else the deployer's), found {network!r}"
        )
    return Place(
        bus=mounts[BUS_TARGET],
        network=network,
        user=user,
        guarded=True,
        keys=tuple(
            (environment[name], _secret(name, environment[name], mounts))
            for name in SECRET_FILES
            if environment.get(name) and not (keys is not None and name in KEY_SETTINGS)
        ),
        handed=_secret("DEPLOYER_DIR", str(keys), mounts) if keys is not None else None,
        image=str(inspected.get("Image") or ""),
        project=str((inspected["Config"].get("Labels") or {}).get(PROJECT_LABEL) or PROJECT),
    )


def _secret(name: str, path: str, mounts: Mapping[str, Mount]) -> Mount:
    """The mount of one file: as it is mounted here, or out of a folder that is."""
    if path in mounts:
        return mounts[path]
    for folder in PurePosixPath(path).parents:
        mount = mounts.get(str(folder))
        if mount is not None and mount.type == "bind" and ".." not in path:
            return Mount("bind", str(PurePosixPath(mount.source) / PurePosixPath(path).relative_to(folder)))
    raise StartError(
        f"{name}={path} is nothing that is mounted from the host in the deployer's container; name it for `make run`, which "
        "mounts it"
    )


def _mount(mount: Mapping[str, Any]) -> Mount:
    if mount["Type"] == "volume":
        return Mount("volume", str(mount["Name"]))
    return Mount(str(mount["Type"]), str(mount["Source"]))


# Comparisons of decisions as one-off containers: of the commit's image, the bus to read, no network, little processor.


MAX_BYTES = 4 << 20
CALL_S = 10.0


class Comparisons:
    """The comparisons of one bus. environment: the deployer's own."""

    def __init__(self, engine: Engine, images: Images, place: Place, bus: Bus, environment: Mapping[str, str]) -> None:
        self._engine, self._images, self._place, self._environment = engine, images, place, environment
        self._bus = bus
        self._running: set[str] = set()

    async def run(self, sha: str, by: str) -> OneOff:
        """One comparison with what the commit `by` decided; its container is always removed. Raises RuntimeFailedError."""
        failed = "it could not be compared"
        await self.clear()
        image_id = (await self._images.by_sha()).get(sha)
        if image_id is None:
            raise RuntimeFailedError("its image is gone")
        name = f"compare-{sha[:7]}-{secrets.token_hex(3)}"
        copies = self._copies / name
        inputs = str(copies.relative_to(self._bus.directory))
        tag, labels = self._images.tag(sha), self._images.labels(sha)
        body = comparison_body(sha, by, tag, image_id, self._place, self._environment, inputs, labels)
        self._running.add(name)
        try:
            await self._copy(copies)
            await self._engine.call(failed, lambda client: client.create_container_from_config(body, name))
            inspected = await self._engine.call(failed, lambda client: client.inspect_container(name))
            if faults := faults_of_comparison(inspected, self._place, inputs):
                raise RuntimeFailedError(f"the container that the Engine made was refused: {'; '.join(faults)}")
            await self._engine.call(failed, lambda client: client.start(name))
            try:
                async with asyncio.timeout(COMPARE_LIMIT_S):
                    # The Engine answers when it ended, so this call alone has a longer limit of its own.
                    ended = await self._engine.call(
                        failed, lambda client: client.wait(name, timeout=COMPARE_LIMIT_S + CALL_S)
                    )
            except TimeoutError as error:
                raise RuntimeFailedError(f"it did not end within {COMPARE_LIMIT_S:g} s") from error
            out, errors = await self._said(name, stdout=True), await self._said(name, stdout=False)
        finally:
            self._running.discard(name)
            shutil.rmtree(copies, ignore_errors=True)
            await self._remove(name)
        return OneOff(int(ended["StatusCode"]), out, errors)

    async def clear(self) -> None:
        """Remove what a deployer left that died in the middle of one. Raises RuntimeFailedError."""
        containers = await self._engine.call(
            "the comparisons could not be listed",
            lambda client: client.containers(all=True, filters={"label": [f"{COMPARES}={self._place.bus_id}"]}),
        )
        for row in containers:
            if self._running.isdisjoint(name.lstrip("/") for name in row.get("Names") or []):
                await self._remove(row["Id"])
        for copies in self._copies.glob("compare-*"):
            if copies.name not in self._running:
                shutil.rmtree(copies, ignore_errors=True)

    @property
    def _copies(self) -> Path:
        """On the bus, since the Engine knows where that is."""
        return self._bus.directives / "compared"

    async def _copy(self, folder: Path) -> None:
        """Raises RuntimeFailedError."""
        try:
            folder.mkdir(parents=True, mode=0o750)
            await asyncio.to_thread(copy_inputs, self._bus.inputs, folder / self._bus.inputs.name)
        except (LedgerError, OSError) as error:
            raise RuntimeFailedError(f"its inputs could not be copied: {error}") from error

    async def _said(self, name: str, *, stdout: bool) -> str:
        def read(client: Any) -> bytes:
            output = b""
            for piece in client.logs(name, stdout=stdout, stderr=not stdout, stream=True, follow=False):
                output += piece
                if len(output) > MAX_BYTES:
                    raise RuntimeFailedError(f"it wrote more than {MAX_BYTES >> 20} MB")
            return output

        return (await self._engine.call("what it said could not be read", read)).decode("utf-8", "replace")

    async def _remove(self, container: str) -> None:
        with suppress(EngineRefusedError):  # it was never made, or is being removed
            await self._engine.call(
                "a comparison could not be removed",
                lambda client: client.remove_container(container, v=True, force=True),
            )
