"""Where image builds run: below the cgroup of a container that does nothing, whose limits and weight are theirs.

BuildKit's steps are no containers that the Engine can limit, but each runs in a cgroup below the one that the build names
(`--cgroup-parent`), and a group's weight and its limits of memory and processes hold for all below it. A classic build's steps
are limited in memory alone. Where an Engine cannot do this (rootless, another cgroup driver) builds run without, and it is said
once.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from deployer.errors import RuntimeFailedError
from deployer.runtimes.build_limits import BuildLimits
from deployer.runtimes.docker.engine import Engine

BUILDS = "never-sleeps.builds"
# A sixteenth of a bot's weight, of the classic builder's steps as well.
CPU_SHARES = 256
# By the Engine's cgroup driver: the parent that the container asks for, and what its own group is called then.
_GROUPS = {"cgroupfs": ("/docker", "/docker/{}"), "systemd": ("system.slice", "/system.slice/docker-{}.scope")}


class BuildRoom:
    """One such container for one bus.

    image: any that has `sleep`: the deployer's own; empty for no room. warn: takes a line for people.
    """

    def __init__(
        self, engine: Engine, bus_id: str, image: str, limits: BuildLimits, warn: Callable[[str], None]
    ) -> None:
        self._engine, self._bus_id, self._image, self.limits, self._warn = engine, bus_id, image, limits, warn
        self.cgroup: str | None = None

    async def begin(self) -> None:
        """Make the container; without it builds run all the same, and are not limited."""
        if not self._image:
            return
        try:
            await self._engine.call("a former room for builds could not be removed", self.sweep)
            await self._engine.call("the container that limits builds could not be made", self._make)
        except RuntimeFailedError as error:
            self.give_up(str(error))

    async def end(self) -> None:
        """Remove it; what runs in it ends with the build's own client."""
        self.cgroup = None
        with suppress(RuntimeFailedError):  # the next deployer, or `down`, sweeps it
            await self._engine.call("the container that limits builds could not be removed", self.sweep)

    def give_up(self, why: str) -> None:
        """Builds run outside of it from now on."""
        self.cgroup = None
        self._warn(f"builds have no limit of memory and processes (DEPLOYER_BUILD_MEMORY): {why}")

    def sweep(self, client: Any) -> None:
        """Remove every such container of this bus."""
        for row in client.containers(all=True, filters={"label": [f"{BUILDS}={self._bus_id}"]}):
            client.remove_container(row["Id"], force=True)

    def _make(self, client: Any) -> None:
        info = client.info()
        parent, group = _GROUPS.get(str(info.get("CgroupDriver")), ("", ""))
        if not parent or any("rootless" in option for option in info.get("SecurityOptions") or ()):
            self.give_up(f"the Engine's cgroups are {info.get('CgroupDriver')}, or it runs without root")
            return
        name = f"never-sleeps-builds-{secrets.token_hex(3)}"
        made = client.create_container_from_config(room_body(self._image, self._bus_id, parent, self.limits), name)
        client.start(made["Id"])
        self.cgroup = group.format(made["Id"])


def room_body(image: str, bus_id: str, cgroup_parent: str, limits: BuildLimits) -> dict[str, Any]:
    """The body that creates it. It has no mount, no network and no right; its limits are those of the builds."""
    return {
        "Image": image,
        "Entrypoint": ["sleep"],
        "Cmd": ["infinity"],
        "User": "65534:65534",
        "Labels": {BUILDS: bus_id},
        "HostConfig": {
            "CgroupParent": cgroup_parent,
            "CpuShares": CPU_SHARES,
            "Memory": limits.memory,
            "MemorySwap": limits.memory,
            "PidsLimit": limits.processes,
            "ReadonlyRootfs": True,
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges"],
            "NetworkMode": "none",
            "RestartPolicy": {"Name": "no"},
        },
    }
