"""The disks that a build fills: the one of the bus, which the trader writes to, and the one that builds lie on.

Below `wanted` bytes of free space old builds are removed, never what rollback needs; while that does not help no build is begun,
since a disk that is full under the trader closes its entries. Looking can hang as long as a disk does, so it is done in a thread.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from deployer.errors import BuildError

T = TypeVar("T")

EVERY_S = 5.0
LOOK_IN_BUILD_S = 0.5
LOOK_LIMIT_S = 5.0
GB = 1 << 30


@dataclass(frozen=True, slots=True)
class Space:
    """One disk. name: bus or builds. free: bytes that this user may still write; None where it cannot be told."""

    name: str
    path: Path
    free: int | None


class Disks:
    """What was seen of the disks at the last look.

    Args:
        places: a folder on each disk, by its name.
        wanted: bytes that shall be free; 0 for any.
        on_look: called with what was seen, and `wanted`.
    """

    def __init__(
        self, places: Mapping[str, Path], wanted: int, on_look: Callable[[tuple[Space, ...], int], None]
    ) -> None:
        self._places, self._wanted, self._on_look = places, wanted, on_look
        self._seen: tuple[Space, ...] = ()

    @property
    def problem(self) -> str | None:
        """Which disk has less than is wanted, and what to do; None while all have enough."""
        return why_low(self._seen, self._wanted)

    async def look(self) -> None:
        """Look now. A disk that does not answer in time counts as unknown: it is not for lack of room that it hangs."""
        try:
            async with asyncio.timeout(LOOK_LIMIT_S):
                self._seen = await asyncio.to_thread(self._look)
        except TimeoutError:
            self._seen = tuple(Space(name, path, None) for name, path in self._places.items())
        self._on_look(self._seen, self._wanted)

    async def guard(self, build: Coroutine[Any, Any, T]) -> T:
        """Run a build, and end it as soon as a disk has too little left. Raises BuildError, and what the build raises."""
        building = asyncio.ensure_future(build)
        try:
            while not (await asyncio.wait({building}, timeout=LOOK_IN_BUILD_S))[0]:
                await self.look()
                if self.problem is not None:
                    raise BuildError(f"it was ended, since it filled a disk: {self.problem}; then deploy it again")
            return building.result()
        finally:
            building.cancel()
            await asyncio.wait({building})

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(EVERY_S)

    def _look(self) -> tuple[Space, ...]:
        return tuple(Space(name, path, _free(path)) for name, path in self._places.items())


def why_low(spaces: tuple[Space, ...], wanted: int) -> str | None:
    """A sentence about the disks with less than `wanted` bytes free: expected, found, to do. Pure."""
    low = [space for space in spaces if space.free is not None and space.free < wanted]
    if not low:
        return None
    text = " and ".join(f"{(space.free or 0) / GB:.2f} on the disk of the {space.name} ({space.path})" for space in low)
    return (
        f"expected at least {wanted / GB:.2f} GB free (DEPLOYER_MIN_FREE), found {text}; what rollback does not need is "
        "removed, and nothing is built until there is room: see `docker system df` and `du -sh .run volumes`"
    )


def _free(path: Path) -> int | None:
    try:
        stat = os.statvfs(path)
    except OSError:
        return None
    return stat.f_bavail * stat.f_frsize
