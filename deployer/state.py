"""What a running deployer says of itself in its own folder, for `deployer status`. Nothing else reads it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from bus import write_atomically
from deployer.runtimes.api import Unit

_NAME = "state.json"


@dataclass(frozen=True, slots=True)
class State:
    """What is watched, what runs, what could be started, and what is wrong now (None when nothing is)."""

    pid: int
    repository: str
    branch: str
    tip: str | None
    runtime: str
    problem: str | None
    units: tuple[Unit, ...]
    built: tuple[str, ...] = ()


def write_state(folder: Path, state: State) -> None:
    """Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / _NAME, json.dumps(asdict(state), indent=1).encode(), durable=False)


def read_state(folder: Path) -> State | None:
    """The newest state, or None when there is none that can be read."""
    try:
        found = json.loads((folder / _NAME).read_bytes())
        return State(
            **{**found, "units": tuple(Unit(**unit) for unit in found["units"]), "built": tuple(found.get("built", ()))}
        )
    except (OSError, ValueError, TypeError, KeyError):
        return None
