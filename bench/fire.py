"""Swaps under fire: the real bot on a copy of this repository, killed, stopped, broken and rewound; what it cost, and the audit.

`python -m bench.fire` runs every part once on one rig: paper, a deployer, bots at 1 s polls on windows of 10 and 30 s.
Exit code 1 when something that must hold did not.
"""

from __future__ import annotations

import argparse
import json
import random
import secrets
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.e2e.docker_engine import engine_answers
from tests.e2e.fire import commits, deaths
from tests.e2e.fire.breaks import BREAKS
from tests.e2e.fire.outcome import Outcome
from tests.e2e.fire.rig import FireRig

__all__ = ["main"]

# Another trades within so long after the active bot stood still: before the venue's dead-man switch strikes (venue.md 4.3).
REPLACED_MS = 10_000

Part = Callable[[FireRig, random.Random, int | None], Iterator[Outcome]]


def _stop(rig: FireRig, moments: random.Random, count: int | None, how: deaths.How = "stop") -> Iterator[Outcome]:
    who: tuple[deaths.Who, ...] = ("active", "spare", "both")
    for name in who:
        yield deaths.pause(rig, name, how, count or 3, moments, limit_ms=REPLACED_MS)
    yield deaths.nap(rig, how, count or 4, moments)


def _pause(rig: FireRig, moments: random.Random, count: int | None) -> Iterator[Outcome]:
    yield from _stop(rig, moments, count, "pause")


def _commits(rig: FireRig, moments: random.Random, count: int | None) -> Iterator[Outcome]:
    yield commits.at_once(rig, count or 5, moments)
    yield commits.rewound(rig, count or 3)


def _broken(rig: FireRig, _: random.Random, count: int | None) -> Iterator[Outcome]:
    for mode in list(BREAKS)[:count]:
        yield commits.broken(rig, mode)


def _kill_everything(rig: FireRig, _: random.Random, count: int | None) -> Iterator[Outcome]:
    for with_paper in (False, True):
        yield deaths.kill_everything(rig, count or 5, with_paper=with_paper)


# What is done, in this order, with the counts that are meant when none is given.
PARTS: dict[str, Part] = {
    "kill-active-with-spare": lambda rig, moments, n: iter([deaths.kill_active(rig, n or 20, moments)]),
    "kill-active-without-spare": lambda rig, moments, n: iter([deaths.kill_lone(rig, n or 10, moments)]),
    "stop": _stop,
    "pause": _pause,
    "kill-deployer": lambda rig, moments, n: iter([commits.kill_deployer(rig, n or 10, moments)]),
    "commits": _commits,
    "kill-taker": lambda rig, _, n: iter([commits.kill_taker(rig, n or 10)]),
    "kill-yield": lambda rig, moments, n: iter([commits.kill_yielding(rig, n or 10, moments)]),
    "broken": _broken,
    "kill-everything": _kill_everything,
}
ONLY_DOCKER = ("pause",)


def main() -> int:
    """Do the parts and print the table; 0 when all held."""
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started is ended
    runtime = options.runtime or ("docker" if engine_answers() else "process")
    seed = secrets.randbits(32) if options.seed is None else options.seed
    console = Console(stderr=options.json)
    console.print(f"fire: runtime {runtime}, seed {seed}", highlight=False)
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory(prefix="never-sleeps-fire-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # containers run as another user
        rig = _make_rig(runtime, folder)
        try:
            rig.begin()
            for part in options.part or PARTS:
                if part in ONLY_DOCKER and runtime != "docker":
                    continue
                began = time.monotonic()
                for outcome in PARTS[part](rig, random.Random(f"{seed}/{part}"), options.count):
                    outcomes.append(outcome)
                    console.print(_told(outcome, time.monotonic() - began), highlight=False, soft_wrap=True)
                    began = time.monotonic()
        finally:
            rig.stop()
    if options.json:
        rows = [asdict(outcome) for outcome in outcomes]
        sys.stdout.write(json.dumps({"runtime": runtime, "seed": seed, "outcomes": rows}) + "\n")
    else:
        console.print(_table(runtime, outcomes))
    return 1 if any(outcome.broken for outcome in outcomes) else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.fire", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--runtime", choices=("process", "docker"), help="docker where an Engine answers")
    parser.add_argument("--part", action="append", choices=list(PARTS), help="only this one; can be given again")
    parser.add_argument("--count", type=int, help="how often each part tries (each has its own)")
    parser.add_argument("--seed", type=int, help="of the random moments (a new one each time)")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    return parser.parse_args()


def _make_rig(runtime: str, folder: Path) -> FireRig:
    if runtime == "docker":
        from tests.e2e.fire.docker_rig import DockerFireRig

        return DockerFireRig(folder)
    return FireRig(folder)


def _told(outcome: Outcome, took_s: float) -> str:
    mark = "BROKEN" if outcome.broken else "holds"
    text = "; ".join((*outcome.broken, *outcome.notes))
    return (
        f"{took_s:6.1f} s  {mark}: {outcome.part}: {outcome.tried} times, {outcome.missed} missed, "
        f"{outcome.duplicates} duplicates, gap {outcome.gap_ms} ms. {text}"
    )


def _table(runtime: str, outcomes: list[Outcome]) -> Table:
    table = Table(title=f"under fire, runtime {runtime}", title_justify="left")
    for name in ("part", "times", "ticks missed", "duplicates", "longest gap", "result"):
        table.add_column(name, overflow="fold")
    for outcome in outcomes:
        result = "[red]BROKEN[/red] " + "; ".join(outcome.broken) if outcome.broken else "[green]holds[/green]"
        table.add_row(
            outcome.part,
            str(outcome.tried),
            str(outcome.missed),
            str(outcome.duplicates),
            f"{outcome.gap_ms} ms",
            result + "".join(f"\n{note}" for note in outcome.notes),
        )
    return table


if __name__ == "__main__":
    sys.exit(main())
