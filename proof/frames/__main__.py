"""`python -m proof.frames [--count 100000] [--seed 1] [--live FILE]`: mutated frames at the decoding boundary.

Frames are those written in `corpus`, those that a paper exchange of its own sends for some seconds, and those of a file of
recorded ones where it is there. Each is mutated and taken in as the bot would.

An escape is anything raised but the one error that callers expect; growth is memory or objects that the second half of the frames
leaves behind.
"""

from __future__ import annotations

import argparse
import gc
import random
import resource
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from proof.frames.corpus import Frame, of_file, of_paper, paper, written
from proof.frames.doors import Doors
from proof.frames.mutate import mutate
from proof.report import ROOT, Row, add_out, save

LIVE = ROOT.parent / "shared" / "cases" / "live.json"
GROWTH_KB, GROWTH_OBJECTS = 20_000, 2_000
SLOWEST_S = 0.25
"""The longest that one frame may hold the event loop, on a busy machine."""


@dataclass(slots=True)
class Outcome:
    """What a run found. escapes: in words. seen: frames by door."""

    escapes: list[str] = field(default_factory=list)
    growth: list[str] = field(default_factory=list)
    slow: list[str] = field(default_factory=list)
    seen: Counter[str] = field(default_factory=Counter)
    odd: int = 0
    skipped: int = 0
    slowest_s: float = 0.0


def fuzz(frames: Sequence[Frame], count: int, seed: int) -> Outcome:
    """Take in `count` mutated frames. Each is made of its number and the seed alone, so that one can be made again."""
    doors, found = Doors(), Outcome()
    by_door: dict[str, list[bytes]] = {}
    for door, frame in frames:
        by_door.setdefault(door, []).append(frame)
    names = sorted(by_door)
    for door in names:
        for frame in by_door[door]:
            doors(door, frame)  # the good ones first: there is something to decide upon
    half: tuple[int, int] | None = None
    for number in range(count):
        if number == count // 2:
            half = _size()
        rng = random.Random(f"{seed}-{number}")
        door = names[number % len(names)]
        frame = mutate(rng.choice(by_door[door]), rng)
        began = time.thread_time()  # of the processor: what else runs on the machine holds no loop
        try:
            doors(door, frame)
        except Exception as error:  # noqa: BLE001  an escape is what is looked for
            found.escapes.append(
                f"{door} {seed}-{number}: {type(error).__name__}: {str(error)[:80]!r} of {frame[:120]!r}"
            )
        took = time.thread_time() - began
        if took > found.slowest_s:
            found.slowest_s = took
        if took > SLOWEST_S:
            found.slow.append(f"{door} {seed}-{number}: {took:.2f} s for {len(frame)} bytes")
        found.seen[door] += 1
    if half is not None:
        kilobytes, objects = (after - before for after, before in zip(_size(), half, strict=True))
        if kilobytes > GROWTH_KB or objects > GROWTH_OBJECTS:
            found.growth.append(f"the second half left {kilobytes} kB and {objects} objects")
    found.odd, found.skipped = doors.odd, sum(doors.skips.counts.values())
    return found


def _size() -> tuple[int, int]:
    """The most memory so far in kB, and the objects that are there."""
    gc.collect()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, len(gc.get_objects())


def rows(count: int, seed: int, live: Path | None) -> Iterator[Row]:
    """The table's rows."""
    with paper() as url:
        recorded = of_paper(url)
    filed = [] if live is None else of_file(live)
    outcome = fuzz([*written(), *recorded, *filed], count, seed)
    made = f"{len(written())} frames written by hand, {len(recorded)} of paper, {len(filed)} recorded live"
    became = f"{outcome.odd} could not be read, {outcome.skipped} parts were skipped"
    note = f"{made}; {became}; the slowest took {outcome.slowest_s * 1000:.0f} ms"
    yield Row("frames", "mutated frames at the boundary, no escape", count, "frames", tuple(outcome.escapes), note)
    yield Row("frames", "no growth in the second half", count // 2, "frames", tuple(outcome.growth))
    yield Row("frames", f"none holds the loop for {SLOWEST_S} s", count, "frames", tuple(outcome.slow))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; 1 when something did not hold."""
    parser = argparse.ArgumentParser(prog="python -m proof.frames", description=__doc__)
    parser.add_argument("--count", type=int, default=100_000, metavar="N", help="how many frames (100000)")
    parser.add_argument("--seed", type=int, default=1, metavar="S", help="of the mutations (1)")
    parser.add_argument("--live", type=Path, metavar="FILE", help="a JSON file of recorded frames, by what each is")
    add_out(parser)
    chosen = parser.parse_args(arguments)
    live = chosen.live or (LIVE if LIVE.exists() else None)
    return save("frames", rows(chosen.count, chosen.seed, live), chosen.out)


if __name__ == "__main__":
    sys.exit(main())
