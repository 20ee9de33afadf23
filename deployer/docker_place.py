"""Finds the place for bots: the deployer looks at its own container. They get its bus, its network, its user, its keys."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bus import Bus
from deployer.errors import StartError
from deployer.runtimes.docker.body import BUS_TARGET, KEYS_TARGET, PROJECT, Mount, Place
from deployer.runtimes.docker.engine import Engine

# Compose writes it on everything that it makes.
PROJECT_LABEL = "com.docker.compose.project"
# The Engine binds three files out of the container's own folder; under cgroup v2 nothing else names it.
_OWN = re.compile(r"/containers/([0-9a-f]{64})/(?:hostname|hosts|resolv\.conf) ")


def find_place(engine: Engine, bus: Bus) -> Place:
    """Raises StartError (not in a container that has what is needed), RuntimeFailedError (the Engine)."""
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
    return place_of(inspected)


def own_container(mountinfo: str) -> str | None:
    """The id of the container that a process with this /proc/self/mountinfo runs in; None outside of one."""
    found = _OWN.search(mountinfo)
    return found[1] if found else None


def place_of(inspected: Mapping[str, Any]) -> Place:
    """The place that a deployer's container names by its own mounts, network and user. Raises StartError."""
    mounts = {mount["Destination"]: _mount(mount) for mount in inspected.get("Mounts") or []}
    if BUS_TARGET not in mounts:
        raise StartError(f"expected a mount of the bus at {BUS_TARGET} in the deployer's container; see compose.yaml")
    user = str(inspected["Config"].get("User") or "")
    if not re.fullmatch(r"[1-9][0-9]*:[0-9]+", user):
        raise StartError(
            f"expected a user UID:GID that is not root for the deployer's container, found {user or 'root'!r}; "
            "all that write to the bus run as that one"
        )
    network = str(inspected["HostConfig"].get("NetworkMode") or "")
    if network in ("", "host", "none", "default", "bridge") or network.startswith("container:"):
        raise StartError(f"expected a network of its own for the deployer's container, found {network!r}")
    return Place(
        bus=mounts[BUS_TARGET],
        network=network,
        user=user,
        keys=mounts.get(KEYS_TARGET),
        image=str(inspected.get("Image") or ""),
        project=str((inspected["Config"].get("Labels") or {}).get(PROJECT_LABEL) or PROJECT),
    )


def _mount(mount: Mapping[str, Any]) -> Mount:
    if mount["Type"] == "volume":
        return Mount("volume", str(mount["Name"]))
    return Mount(str(mount["Type"]), str(mount["Source"]))
