"""A week of windows, compressed: `python -m proof.soak [--hours 168] [--seed 1]`.

`bench.day` for longer: the bot's real parts and ledger under a virtual clock against paper's whole exchange, 16 slots, all of an
instance's memory thrown away every hour. Asked here: that memory, descriptors and what is on disk beside the ledger do not grow
with time, that the ledger grows by what is written and no more, and that an hour takes no more of the processor late than early:
what looks through all history at every order shows here and nowhere else. SIGINT or SIGTERM ends the week early: its rows are
kept, and say how many hours they are of.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from statistics import median

from bench.day import TAPE, Day, Plan, run
from bench.virtual import fix_hashes
from proof.report import Row, add_out, save

PART = "soak"
SINCE = datetime(2022, 1, 5, tzinfo=UTC)
# Seconds between prices and between quotes: two thirds of the processor's time that bench.day takes.
STEP_S, QUOTE_S = 2.0, 5.0
# The last quarter of the time against the second: pages that the allocator did not give back, a cache that fills.
GROWTH = 1.15
DESCRIPTORS = 4
LEDGER_GROWTH = 2.0
PROCESSOR_GROWTH = 1.5  # a shared machine's own speed varies


class End:
    """Whether somebody asked for the end: SIGINT or SIGTERM came; a second one is the usual one."""

    def __init__(self) -> None:
        self.asked = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._ask)

    def _ask(self, number: int, _frame: object) -> None:
        self.asked = True
        signal.signal(number, signal.SIG_DFL)


def rows(hours: float, seed: int, ended: Callable[[], bool]) -> Iterator[Row]:
    """The audit's checks as one row, and one for each thing that must be bounded. Raises KeyboardInterrupt at an early end."""
    with tempfile.TemporaryDirectory(prefix="never-sleeps-soak-") as name:
        plan = Plan(hours, seed, TAPE, SINCE, STEP_S, QUOTE_S)
        out, _, _ = run(plan, Path(name), lambda text: print(text, file=sys.stderr, flush=True), ended)  # noqa: T201
    broken = tuple(f"{check.invariant}: {text}" for check in out.checks for text in check.violations)
    facts = ", ".join(f"{value:,} {name.replace('_', ' ')}" for name, value in out.facts.items())
    note = f"{out.handovers} yields, {out.kills} kills; {facts}; {out.cpu_s:,.0f} s of processor; seed {seed}"
    yield Row(
        PART,
        "trading on paper, 16 slots, audit and wallet to the last unit",
        round(out.hours),
        "simulated hours",
        broken,
        note,
    )
    yield from bounds(out)
    if out.hours < hours:
        raise KeyboardInterrupt


def bounds(out: Day) -> Iterator[Row]:
    """What must not grow: the median of the last quarter against the second's; of ledger and processor, that of their steps."""
    quarter = max(1, len(out.rss) // 4)
    for what, values, unit, factor, room in (
        ("memory, paper's part included", out.rss, "MB", GROWTH, 0),
        ("descriptors", [float(count) for count in out.descriptors], "", 1.0, DESCRIPTORS),
        ("disk beside the ledger", out.beside_mb, "MB", GROWTH, 1),
    ):
        before, after = median(values[quarter : 2 * quarter] or values), median(values[-quarter:])
        more = f"{what} grew from {before:.1f} to {after:.1f} {unit}".rstrip()
        grew = (more,) if after > before * factor + room else ()
        note = f"{before:.1f} in the second quarter, {after:.1f} in the last, {max(values):.1f} {unit} at most"
        yield Row(PART, f"{what} does not grow", len(values), "looks", grew, note)
    for what, values, unit, factor in (
        ("the ledger grows by what is traded", out.ledger_mb, "MB", LEDGER_GROWTH),
        ("an hour takes as much of the processor as ever", out.processor_s, "s", PROCESSOR_GROWTH),
    ):
        steps = [after - before for before, after in pairwise(values)] or [0.0]
        before, after = median(steps[quarter : 2 * quarter] or steps), median(steps[-quarter:])
        note = f"{before:.2f} {unit} an hour in the second quarter, {after:.2f} in the last, {values[-1]:,.1f} {unit} in the end"
        yield Row(PART, what, len(steps), "looks", (note,) if after > before * factor else (), note)


def main() -> int:
    """Run it; 1 when something is broken or grew."""
    parser = argparse.ArgumentParser(prog="python -m proof.soak", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--hours", type=float, default=168.0, help="simulated (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="(%(default)s)")
    add_out(parser)
    chosen = parser.parse_args()
    fix_hashes("proof.soak")
    end = End()
    try:
        return save(PART, rows(chosen.hours, chosen.seed, lambda: end.asked), chosen.out)
    except KeyboardInterrupt:
        print("proof: ended early; what was tried is kept", file=sys.stderr)  # noqa: T201
        return 130


if __name__ == "__main__":
    sys.exit(main())
