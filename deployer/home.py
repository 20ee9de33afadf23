"""A bus trades at one place: a copy of it beside the original would be two traders on one account.

The file `home` on the bus says which file `lease` it was made with. That file is never removed or replaced, so its number on the
file system is another one wherever the bus was copied to, restored, or moved over file systems.
"""

from __future__ import annotations

from pathlib import Path

from bus import Bus, write_atomically
from deployer.errors import StartError

NAME = "home"


def claim_home(bus: Bus) -> None:
    """Write it once; later see that it still holds. Raises StartError: this bus is a copy. OSError."""
    try:
        found = home_of(bus).read_text().strip()
    except FileNotFoundError:
        found = ""
    if found and found != _here(bus):
        raise StartError(
            f"the bus {bus.directory} is a copy: it traded elsewhere before, and both would trade on one account; "
            "where the original has ended for good, say so: `deployer move`"
        )
    if not found:
        move_home(bus)


def move_home(bus: Bus) -> None:
    """From now on it trades here. Raises OSError."""
    write_atomically(home_of(bus), f"{_here(bus)}\n".encode(), durable=True)


def home_of(bus: Bus) -> Path:
    """The file."""
    return bus.directory / NAME


def _here(bus: Bus) -> str:
    return f"lease {bus.lease.stat().st_ino}"
