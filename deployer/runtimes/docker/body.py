"""What a bot's container must look like: the body that creates it, and the check of a body or of what the Engine made of it.

Pure. A body is refused when it lacks a flag of design section 8 or asks for more than the bus; so is what `inspect` shows.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from bus.layout import DIRECTIVES
from deployer.keys import KEY_SETTINGS, SOCKET
from deployer.runtimes.api import COMPARE, MEMORY_BYTES, Start

BUS_TARGET, KEYS_TARGET = "/bus", "/keyring"
SECRET_FILES = ("BOT_KEY_FILE", "BOT_CREDENTIALS_FILE", "BOT_RELAYER_KEY_FILE")
"""Settings of the bot that name a file with a secret."""
# Compose's name of a checkout that was given no other (compose.yaml).
PROJECT = "never-sleeps"

# Labels: the truth for a deployer that starts anew. They cannot change after the container is made.
BUS = "never-sleeps.bus"
SHA = "never-sleeps.sha"
COLOR = "never-sleeps.color"
DEPLOY = "never-sleeps.deploy"
IMAGE = "never-sleeps.image"
BOOT_ID = "never-sleeps.boot-id"
STARTED_MS = "never-sleeps.started-ms"
CONFIG = "never-sleeps.config"
LABELS = frozenset({BUS, SHA, COLOR, DEPLOY, IMAGE, BOOT_ID, STARTED_MS, CONFIG})
# Of an image whose worker knows the command `compare` (docs/reference/contract.md); of such a comparison's container, which is no
# unit.
COMPARE_LABEL = "never-sleeps.compare"
COMPARES = "never-sleeps.compares-on"
COMPARISON_LABELS = frozenset({COMPARES, SHA, IMAGE})
# A container has the labels of its image as well, which its commit may choose. By those of Compose `docker compose exec deployer`
# would be carried out in the bot, and `up`, `stop` and `down` would end it; by ours it would be what it is not.
RESERVED = ("com.docker.", "never-sleeps.")

PIDS = 256
# Four times the weight of everything else.
CPU_SHARES = 4096
# A comparison has a small weight, and never more than half of a processor.
COMPARISON_SHARES, COMPARISON_NANO_CPUS = 64, 500_000_000
# The deployer kills what does not end in time, after 15 s; the Engine's own limit must not come first.
STOP_LIMIT_S = 60
# Other bots find each other through the bus alone; Prometheus finds all of them under this name.
ALIAS = "bots"
TMPFS = {"/tmp": "rw,noexec,nosuid,nodev,size=64m,mode=1777"}
LOGS = {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "5"}}


@dataclass(frozen=True, slots=True)
class Mount:
    """A folder of the host (type bind, source an absolute path) or a named volume (type volume, source its name)."""

    type: str
    source: str


@dataclass(frozen=True, slots=True)
class Place:
    """Where bots run; the deployer finds it in its own container.

    user: UID:GID, one for all that write to the bus. guarded: whether the bus's folder of directives is there, and the Engine can
    mount it apart: bots may not write to it. keys: the secret files by their path in the container. handed: the folder with a
    folder of each unit, in which the socket is that hands keys over; None where their files are passed on instead.
    image: the deployer's own, for the room of builds; empty for none. project: Compose's name of this checkout.
    """

    bus: Mount
    network: str
    user: str
    guarded: bool = False
    keys: tuple[tuple[str, Mount], ...] = ()
    handed: Mount | None = None
    image: str = ""
    project: str = PROJECT

    @property
    def bus_id(self) -> str:
        """Names the bus on this Engine: the volume's name, or the folder's path on the host."""
        return self.bus.source


def bot_body(
    what: Start,
    name: str,
    image: str,
    image_id: str,
    place: Place,
    environment: Mapping[str, str],
    *,
    boot_id: str,
    boot_ms: int,
    image_labels: Iterable[str] = (),
) -> dict[str, Any]:
    """The body that creates a bot's container.

    image: the tag. image_id: what the tag must mean. environment: the deployer's own; BOT_ and BUS_ are passed on.
    image_labels: the names of the image's own.
    """
    kept_back = KEY_SETTINGS if place.handed is not None else {}
    passed = {
        key: value
        for key, value in sorted(environment.items())
        if key.startswith(("BOT_", "BUS_")) and key not in kept_back
    }
    body: dict[str, Any] = {
        "User": place.user,
        "Env": [f"{key}={value}" for key, value in {**passed, "BUS_DIR": BUS_TARGET}.items()],
        "StopSignal": "SIGTERM",
        "StopTimeout": STOP_LIMIT_S,
        "HostConfig": {
            "Mounts": _mounts(place),
            "ReadonlyRootfs": True,
            "Tmpfs": TMPFS,
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges"],
            "Memory": MEMORY_BYTES,
            "MemorySwap": MEMORY_BYTES,
            "PidsLimit": PIDS,
            "Ulimits": [{"Name": "core", "Soft": 0, "Hard": 0}],  # a core would hold the key
            "CpuShares": CPU_SHARES,
            "Init": True,
            "IpcMode": "private",
            "CgroupnsMode": "private",
            "NetworkMode": place.network,
            # The deployer alone starts bots again: see docs/how-to/containers.md.
            "RestartPolicy": {"Name": "no"},
            "LogConfig": LOGS,
        },
        "NetworkingConfig": {"EndpointsConfig": {place.network: {"Aliases": [ALIAS]}}},
    }
    config = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:16]
    body["Image"] = image
    if place.handed is not None:
        body["HostConfig"]["Mounts"] = _mounts(place, name)
        body["Env"].append(f"BOT_KEY_SOCKET={KEYS_TARGET}/{SOCKET}")
    body["Env"] += [
        f"BOT_COLOR={what.color}",
        f"BOT_SHA={what.sha}",
        f"BOT_UNIT={name}",
        f"BOT_DEPLOY_ID={what.deploy_id}",
    ]
    body["Labels"] = _emptied(image_labels) | {
        BUS: place.bus_id,
        SHA: what.sha,
        COLOR: what.color,
        DEPLOY: what.deploy_id,
        IMAGE: image_id,
        BOOT_ID: boot_id,
        STARTED_MS: str(boot_ms),
        CONFIG: config,
    }
    return body


def comparison_body(
    sha: str,
    by: str,
    image: str,
    image_id: str,
    place: Place,
    environment: Mapping[str, str],
    inputs: str,
    image_labels: Iterable[str] = (),
) -> dict[str, Any]:
    """The body of a container that compares decisions once: as a bot's, but it sees a copy of the inputs alone, has no network,
    no secret, and little of the processor. inputs: the copy's folder, by its path on the bus."""
    no_secrets = {key: value for key, value in environment.items() if not key.endswith("_FILE")}
    start = Start(sha, "none", "")
    body = bot_body(start, "", image, image_id, replace(place, keys=(), handed=None), no_secrets, boot_id="", boot_ms=0)
    del body["NetworkingConfig"]
    body["Cmd"] = [*COMPARE, by]
    body["Labels"] = _emptied(image_labels) | {COMPARES: place.bus_id, SHA: sha, IMAGE: image_id}
    body["HostConfig"] |= {
        "Mounts": _inputs(place, inputs),
        "NetworkMode": "none",
        "CpuShares": COMPARISON_SHARES,
        "NanoCpus": COMPARISON_NANO_CPUS,
    }
    return body


def faults_of_body(body: Mapping[str, Any], place: Place, name: str = "") -> tuple[str, ...]:
    """What a body lacks or asks for too much; empty when the container may be made. name: the unit's, where keys are handed
    over."""
    return _faults(body, body.get("HostConfig") or {}, place, _mounts(place, name), LABELS)


def faults_of_container(inspected: Mapping[str, Any], place: Place) -> tuple[str, ...]:
    """The same for what `inspect` shows of a container, with the mounts that it really has and the image that it really runs."""
    name = str(inspected.get("Name") or "").lstrip("/")
    return _faults_of_inspected(inspected, place, _mounts(place, name), LABELS)


def faults_of_comparison(inspected: Mapping[str, Any], place: Place, inputs: str) -> tuple[str, ...]:
    """The same for a comparison's container."""
    faults = _faults_of_inspected(inspected, replace(place, network="none"), _inputs(place, inputs), COMPARISON_LABELS)
    bounded = 0 < ((inspected.get("HostConfig") or {}).get("NanoCpus") or 0) <= COMPARISON_NANO_CPUS
    return faults if bounded else (*faults, "it may use more than half of a processor")


def _faults_of_inspected(
    inspected: Mapping[str, Any], place: Place, mounts: list[dict[str, Any]], labels: frozenset[str]
) -> tuple[str, ...]:
    config, host = inspected.get("Config") or {}, inspected.get("HostConfig") or {}
    faults = list(_faults(config, host, place, mounts, labels))
    allowed = {mount["Target"] for mount in mounts} | set(TMPFS)
    faults += [
        f"a mount of {mount.get('Source') or mount.get('Name')} at {mount.get('Destination')}"
        for mount in inspected.get("Mounts") or []
        if mount.get("Destination") not in allowed
    ]
    shown = config.get("Labels") or {}
    faults += [
        f"it has its image's label {name}"
        for name, value in sorted(shown.items())
        if value and _is_reserved(name) and name not in labels
    ]
    image = shown.get(IMAGE)
    if inspected.get("Image") != image:
        faults.append(f"it runs image {inspected.get('Image')}, expected {image}")
    if host.get("MaskedPaths") == []:
        faults.append("the kernel's paths in /proc are not masked")
    return tuple(faults)


def _faults(
    config: Mapping[str, Any],
    host: Mapping[str, Any],
    place: Place,
    mounts: list[dict[str, Any]],
    labels: frozenset[str],
) -> tuple[str, ...]:
    security = list(host.get("SecurityOpt") or [])
    logs = host.get("LogConfig") or {}
    wanted = {
        f"the user is {config.get('User') or 'root'!s}, expected {place.user}": config.get("User") == place.user,
        "it would run as root": str(config.get("User") or "0").split(":")[0] not in ("0", "root"),
        "the root file system is not read-only": host.get("ReadonlyRootfs") is True,
        "/tmp is no tmpfs with noexec and nosuid": (host.get("Tmpfs") or {}) == TMPFS,
        "not all capabilities are dropped": list(host.get("CapDrop") or []) == ["ALL"],
        "no-new-privileges is missing": any(option.startswith("no-new-privileges") for option in security),
        "a security profile is switched off": not any("unconfined" in o or o.endswith(":false") for o in security),
        "it is privileged": not host.get("Privileged"),
        "there is no memory limit": 0 < (host.get("Memory") or 0) == host.get("MemorySwap"),
        "there is no limit of processes": (host.get("PidsLimit") or 0) > 0,
        "there is no init": host.get("Init") is True,
        f"the stop limit is under {STOP_LIMIT_S} s": (config.get("StopTimeout") or 0) >= STOP_LIMIT_S,
        "its logs are not rotated": logs.get("Type") == "json-file"
        and {"max-size", "max-file"} <= set(logs.get("Config") or {}),
        "the Engine would restart it": (host.get("RestartPolicy") or {}).get("Name", "no") in ("", "no"),
        f"its network is {host.get('NetworkMode')}, expected {place.network}": host.get("NetworkMode") == place.network,
        "its labels are not complete": set(config.get("Labels") or {}) >= labels,
        "its mounts are not the bus's and nothing else": _same(host.get("Mounts") or [], mounts)
        and not host.get("Binds")
        and not host.get("VolumesFrom"),
    }
    shared = [
        f"{name} is {host.get(name)}"
        for name, private in (
            ("PidMode", ("",)),
            ("IpcMode", ("private",)),
            ("UTSMode", ("",)),
            ("UsernsMode", ("",)),
            ("CgroupnsMode", ("private",)),
        )
        if (host.get(name) or "") not in private
    ]
    more = [f"{name} is set" for name in _NEVER if host.get(name)]
    return (*(fault for fault, holds in wanted.items() if not holds), *shared, *more)


# Nothing of these is ever asked for: devices, capabilities, groups, ports, a cgroup or runtime of one's own choice.
_NEVER = (
    "CapAdd",
    "CgroupParent",
    "Devices",
    "DeviceRequests",
    "DeviceCgroupRules",
    "GroupAdd",
    "Links",
    "OomKillDisable",
    "PortBindings",
    "PublishAllPorts",
    "Sysctls",
)


def _is_reserved(label: str) -> bool:
    return label.startswith(RESERVED) and label != COMPARE_LABEL


def _emptied(image_labels: Iterable[str]) -> dict[str, str]:
    """Labels that take those of an image away: nothing looks for an empty one."""
    return {name: "" for name in image_labels if _is_reserved(name)}


def _mounts(place: Place, unit: str = "") -> list[dict[str, Any]]:
    mounts: list[dict[str, Any]] = [{"Type": place.bus.type, "Source": place.bus.source, "Target": BUS_TARGET}]
    if place.guarded:
        mounts.append(_part_of_bus(place, DIRECTIVES, f"{BUS_TARGET}/{DIRECTIVES}"))
    mounts += [
        {"Type": mount.type, "Source": mount.source, "Target": target, "ReadOnly": True} for target, mount in place.keys
    ]
    if place.handed is not None and unit:
        source = f"{place.handed.source}/{unit}"
        mounts.append({"Type": place.handed.type, "Source": source, "Target": KEYS_TARGET, "ReadOnly": True})
    return mounts


def _inputs(place: Place, folder: str) -> list[dict[str, Any]]:
    return [_part_of_bus(place, folder, BUS_TARGET)]


def _part_of_bus(place: Place, folder: str, target: str) -> dict[str, Any]:
    """A folder of the bus alone, to read."""
    part = {"Type": place.bus.type, "Source": place.bus.source, "Target": target, "ReadOnly": True}
    if place.bus.type == "volume":
        return {**part, "VolumeOptions": {"Subpath": folder}}
    return {**part, "Source": f"{place.bus.source}/{folder}"}


def _same(mounts: Iterable[Mapping[str, Any]], wanted: Iterable[Mapping[str, Any]]) -> bool:
    return sorted(map(_key, mounts)) == sorted(map(_key, wanted))


def _key(mount: Mapping[str, Any]) -> tuple[str, str, str, str, bool]:
    subpath = str((mount.get("VolumeOptions") or {}).get("Subpath") or "")
    names = (str(mount.get("Type")), str(mount.get("Source")), subpath, str(mount.get("Target")))
    return (*names, bool(mount.get("ReadOnly")))
