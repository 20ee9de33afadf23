"""Tells Prometheus which bots there are: a file of targets (file_sd), so that it needs no Engine's socket.

A bot's `instance` label is its *place*: its color and a small number, such as green-1, and not its container's name. The next bot
of that color goes on with the same series, so that series do not multiply with deploys.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from bus import Seen, write_atomically

FILE = "bots.json"
_ANY_ADDRESS = ("0.0.0.0", "::", "[::]")


@dataclass(frozen=True, slots=True)
class Target:
    """One bot: where its /metrics is, its color, its place."""

    address: str
    color: str
    place: str


def targets(instances: Iterable[Seen], before: Mapping[str, str]) -> tuple[Target, ...]:
    """The living instances as targets. before: places by address, as they were assigned. Pure.

    Who has a place keeps it; a new one gets the lowest number of its color that is free.
    """
    found = [
        (address, seen.document.color)
        for seen in instances
        if seen.alive and seen.document is not None and (address := address_of(seen)) is not None
    ]
    taken = {before[address] for address, color in found if before.get(address, "").startswith(f"{color}-")}
    made = []
    for address, color in found:
        place = before.get(address, "")
        if not place.startswith(f"{color}-"):
            place = next(name for n in range(1, len(found) + 1) if (name := f"{color}-{n}") not in taken)
            taken.add(place)
        made.append(Target(address, color, place))
    return tuple(sorted(made, key=lambda target: target.place))


def address_of(seen: Seen) -> str | None:
    """host:port of an instance's /metrics as others reach it; a container that listens everywhere is reached by its name."""
    document = seen.document
    if document is None or not document.metrics:
        return None
    host, _, port = document.metrics.rpartition(":")
    return f"{document.unit}:{port}" if host in _ANY_ADDRESS and document.unit else document.metrics


class TargetsFile:
    """The file, written when something changed. What an earlier deployer wrote is gone on with."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._written = _read(self._path)

    def write(self, instances: Iterable[Seen]) -> tuple[Target, ...]:
        """Write the targets. Raises OSError."""
        before = {target.address: target.place for target in self._written}
        made = targets(instances, before)
        if made != self._written or not self._path.exists():
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self._path, _text(made).encode(), durable=False)
            self._written = made
        return made


def _text(made: Iterable[Target]) -> str:
    groups = [
        {"targets": [target.address], "labels": {"instance": target.place, "color": target.color}} for target in made
    ]
    return json.dumps(groups, indent=1) + "\n"


def _read(path: Path) -> tuple[Target, ...]:
    try:
        return tuple(
            Target(str(group["targets"][0]), str(group["labels"]["color"]), str(group["labels"]["instance"]))
            for group in json.loads(path.read_bytes())
        )
    except (OSError, ValueError, TypeError, KeyError, IndexError):
        return ()  # not there yet, or spoiled: everybody gets a place anew
