"""Holds image builds back: a container that does nothing, in whose cgroup they run, so that pausing it pauses them.

BuildKit's steps are no containers that the Engine can pause, but they run in a cgroup below the one that the build names
(`--cgroup-parent`), and a group that is frozen or weighs little does that to all below it. What BuildKit does itself
(the context, layers, the export) goes on: it is short. A classic build's steps cannot be placed, so it is held before it begins
and not later. Where the Engine cannot do this (rootless), builds are not held in the middle either, and it is said once.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from deployer.docker_engine import Engine
from deployer.errors import EngineRefusedError, RuntimeFailedError

BUILDS = "never-sleeps.builds"
# A sixteenth of a bot's weight.
CPU_SHARES = 256
_GROUPS = {"cgroupfs": ("/docker", "/docker/{}"), "systemd": ("system.slice", "/system.slice/docker-{}.scope")}


class BuildBrake:
    """One such container for one bus.

    image: any that has `sleep`: the deployer's own; empty for no brake. warn: takes a line for people.
    """

    def __init__(self, engine: Engine, bus_id: str, image: str, warn: Callable[[str], None]) -> None:
        self._engine, self._bus_id, self._image, self._warn = engine, bus_id, image, warn
        self._id: str | None = None
        self._paused = False
        self.cgroup: str | None = None

    async def begin(self) -> None:
        """Make the container; without it builds go on, and only what holds them in the middle is missing."""
        if not self._image:
            return
        try:
            await self._engine.call("a former brake could not be removed", self.sweep)
            await self._engine.call("the container that holds builds back could not be made", self._make)
        except RuntimeFailedError as error:
            self.give_up(str(error))

    async def end(self) -> None:
        """Remove it; what it holds ends with the build's own client."""
        self._id = self.cgroup = None
        with suppress(RuntimeFailedError):  # the next deployer, or `down`, sweeps it
            await self._engine.call("the container that holds builds back could not be removed", self.sweep)

    async def hold(self, held: bool) -> None:
        """Freeze what builds run, or let it go on. Raises RuntimeFailedError."""
        if self._id is None or held == self._paused:
            return
        container, verb = self._id, "pause" if held else "unpause"
        try:
            await self._engine.call(f"builds could not be {verb}d", lambda client: getattr(client, verb)(container))
        except EngineRefusedError as error:
            # Somebody removed or paused it by hand: there is nothing to hold with, and nothing that is held.
            self.give_up(str(error))
        self._paused = held and self._id is not None

    def give_up(self, why: str) -> None:
        """Builds run outside of it from now on."""
        self._id = self.cgroup = None
        self._warn(f"builds are not held back while a snipe window is open, except before they begin: {why}")

    def sweep(self, client: Any) -> None:
        """Remove every such container of this bus; a frozen build goes on."""
        for row in client.containers(all=True, filters={"label": [f"{BUILDS}={self._bus_id}"]}):
            if row["State"] == "paused":
                client.unpause(row["Id"])
            client.remove_container(row["Id"], force=True)

    def _make(self, client: Any) -> None:
        info = client.info()
        parent, group = _GROUPS.get(str(info.get("CgroupDriver")), ("", ""))
        if not parent or any("rootless" in option for option in info.get("SecurityOptions") or ()):
            self.give_up(f"the Engine's cgroups are {info.get('CgroupDriver')}, without root")
            return
        name = f"never-sleeps-builds-{secrets.token_hex(3)}"
        made = client.create_container_from_config(brake_body(self._image, self._bus_id, parent), name)
        client.start(made["Id"])
        self._id, self.cgroup = made["Id"], group.format(made["Id"])


def brake_body(image: str, bus_id: str, cgroup_parent: str) -> dict[str, Any]:
    """The body that creates it. It has nothing: no mount, no network, no right. Limits of it would be limits of the builds."""
    return {
        "Image": image,
        "Entrypoint": ["sleep"],
        "Cmd": ["infinity"],
        "User": "65534:65534",
        "Labels": {BUILDS: bus_id},
        "HostConfig": {
            "CgroupParent": cgroup_parent,
            "CpuShares": CPU_SHARES,
            "ReadonlyRootfs": True,
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges"],
            "NetworkMode": "none",
            "RestartPolicy": {"Name": "no"},
        },
    }
