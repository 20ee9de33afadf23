"""Run seeds, each in a process of its own: `python -m proof.simulation [--handovers 2000] [--only runs] [--jobs 2]`.

`--seed N` replays the run of that seed exactly, with `--mutant NAME` as the mutant's; `--trace` tells all that happens in it.
Exit code 1 when something broke, or a mutant was not found.
"""

from __future__ import annotations

import argparse
import gc
import os
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from textwrap import shorten

from bench.virtual import fix_hashes
from bot.account import reconciler
from bot.orders import manager
from proof.report import Row, add_out, save
from proof.simulation.mutants import MUTANTS
from proof.simulation.world import UNKNOWN, Outcome, as_json, from_json, run

# Runs in processes of their own, forked from this one, which has imported everything.
#
# So no run can hand anything to the next one, and what a killed bot left behind ends with its process.


LIMIT_S = 120.0
FASTER = 10  # than the product: see `hasten`
FAST = Path("/dev/shm")  # memory: what a power cut leaves is not what is asked here


def run_seeds(seeds: Iterator[int], jobs: int, *, mutant: str | None = None, trace: bool = False) -> Iterator[Outcome]:
    """The outcomes of these seeds in their order of ending, `jobs` at a time. What was begun is ended with the generator."""
    running: dict[int, _Run] = {}
    try:
        while True:
            while len(running) < jobs and (seed := next(seeds, None)) is not None:
                running_seed = _Run(seed, mutant, trace=trace)
                running[running_seed.reader] = running_seed
            if not running:
                return
            left_s = min(running_seed.deadline for running_seed in running.values()) - time.monotonic()
            readable, _, _ = select.select(list(running), [], [], max(0.0, left_s))
            for reader in readable or [min(running, key=lambda key: running[key].deadline)]:
                if (out := running[reader].read(ended=not readable)) is not None:
                    del running[reader]
                    yield out
    finally:
        for running_seed in running.values():
            running_seed.end()


class _Run:
    """One run in a child process."""

    def __init__(self, seed: int, mutant: str | None, *, trace: bool) -> None:
        self.seed, self.deadline = seed, time.monotonic() + LIMIT_S
        self._said = b""
        self._folder = Path(tempfile.mkdtemp(prefix="simulation-", dir=FAST if FAST.is_dir() else None))
        sys.stdout.flush()
        self.reader, writer = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            os.close(self.reader)
            _child(seed, mutant, self._folder, writer, trace=trace)
        os.close(writer)

    def read(self, *, ended: bool) -> Outcome | None:
        """What it said, once it has ended. ended: its time is over."""
        if not ended:
            some = os.read(self.reader, 1 << 20)
            if some:
                self._said += some
                return None
        self.end()
        try:
            return from_json(self._said.decode())
        except ValueError:
            why = f"did not end within {LIMIT_S:g} s" if ended else "ended without a word"
            return Outcome(self.seed, UNKNOWN, [f"the run {why}"])

    def end(self) -> None:
        """End it if it has not, and clear its folder away."""
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        os.close(self.reader)
        shutil.rmtree(self._folder, ignore_errors=True)


def hasten() -> None:
    """A poll comes every 0.5 s here, where the product's comes every 5 s: orders are looked at as much more often.

    Otherwise a holder passes the lease on before it knows what became of its orders, and next to none are placed.
    """
    for name in ("SETTLE_EVERY_S", "SETTLE_SPACING_S", "RECONCILE_EVERY_S", "RECONCILE_SPACING_S"):
        setattr(reconciler, name, getattr(reconciler, name) / FASTER)
    manager.LEAST_SPACING_MS //= FASTER
    manager.MOST_SPACING_MS //= FASTER


def _child(seed: int, mutant: str | None, folder: Path, writer: int, *, trace: bool) -> None:
    """Never returns, and collects no garbage: the coroutines of what was killed must not run on."""
    gc.disable()
    hasten()
    hidden = str(folder)

    def say(text: str) -> None:
        if trace:
            sys.stdout.write(text.replace(hidden, "") + "\n")

    try:
        out = run(seed, folder, say, MUTANTS[mutant].remove if mutant is not None else None)
    except BaseException as error:  # noqa: BLE001  # told to whoever waits
        where = traceback.format_exc().splitlines()[-4:]
        out = Outcome(seed, UNKNOWN, [f"the run itself failed: {error!r} {where}"])
    try:
        sys.stdout.flush()
        text = as_json(out).encode()
        while text:
            text = text[os.write(writer, text) :]
    finally:
        os._exit(0)


# Run seeds, each in a process of its own: `python -m proof.simulation [--handovers 2000] [--only runs] [--jobs 2]`.


PART = "simulation"
HANDOVERS = 2_000
MOST_SEEDS = 40
NOTE = 160
PROGRESS_S = 30.0


def rows(handovers: int, first: int, jobs: int, limit_s: float) -> Iterator[Row]:
    """Runs until so many handovers were simulated or `limit_s` is over, as rows."""
    began, runs = time.monotonic(), list[Outcome]()
    told_s = began
    for out in run_seeds(count(first), jobs):
        runs.append(out)
        done = sum(run.handovers + run.takeovers for run in runs)
        if time.monotonic() - told_s > PROGRESS_S:
            told_s = time.monotonic()
            print(f"{done:,} of {handovers:,} handovers, {len(runs)} seeds, {told_s - began:,.0f} s", flush=True)
        for violation in out.violations:
            print(f"seed {out.seed}: {violation}", flush=True)
        if done >= handovers or time.monotonic() - began > limit_s:
            break
    yield from summary(runs)


def summary(runs: list[Outcome]) -> Iterator[Row]:
    """A row for the runs of either shape, and one for what went wrong in them, runs that did not come to their end included."""
    faults: Counter[str] = Counter()
    for shape, what in (("relay", "the lease is passed around"), ("rollout", "commits are deployed")):
        some = [outcome for outcome in runs if outcome.shape == shape]
        broken = tuple(f"seed {outcome.seed}: {text}" for outcome in some for text in outcome.violations)
        deploys: Counter[str] = Counter()
        for outcome in some:
            deploys.update(outcome.deploys)
            faults.update(outcome.faults)
        note = (
            f"{sum(outcome.takeovers for outcome in some):,} takes after a death or loss, "
            f"{sum(outcome.deaths for outcome in some):,} deaths, "
            f"{sum(outcome.orders for outcome in some):,} orders, "
            f"{sum(outcome.simulated_s for outcome in some) / 3600:.1f} h simulated, "
            f"seeds {min((outcome.seed for outcome in some), default=0)} to {max((outcome.seed for outcome in some), default=0)}"
        )
        gaps = sorted(gap for outcome in some for gap in outcome.gaps_ms)
        if gaps:
            note += (
                f"; release to take in simulated ms: median {gaps[len(gaps) // 2]}, p99 {gaps[len(gaps) * 99 // 100]}"
            )
        if deploys:
            note += "; deploys " + ", ".join(f"{number} {name}" for name, number in sorted(deploys.items()))
        yield Row(
            PART, f"{what}, faults by seed", sum(outcome.handovers for outcome in some), "handovers", broken, note
        )
    note = ", ".join(f"{number:,} {name}" for name, number in faults.most_common())
    ended = tuple(
        f"seed {outcome.seed}: {text}" for outcome in runs if outcome.shape == UNKNOWN for text in outcome.violations
    )
    yield Row(PART, "what went wrong in them", sum(faults.values()), "faults", ended, note)


def hunt(name: str, jobs: int) -> Row:
    """Runs of a mutant until one finds it, by the check that is meant to: first the seed that is known to, then others."""
    mutant, tried = MUTANTS[name], 0
    what = f"must be refuted: {name} (the rule: {mutant.rule})"
    others = (seed for seed in range(1, MOST_SEEDS + 1) if seed != mutant.seed)
    for seeds, at_once in ((iter([mutant.seed]), 1), (others, jobs)):
        for out in run_seeds(seeds, at_once, mutant=name):
            tried += 1
            text_found = next((text for text in out.violations if mutant.word in text), None)
            if text_found is not None:
                return Row(PART, what, tried, "runs", (), f"seed {out.seed}: {shorten(text_found, NOTE)}")
    return Row(PART, what, tried, "runs", ("no seed finds it",))


def everything(chosen: argparse.Namespace) -> Iterator[Row]:
    """All rows that are asked for."""
    if chosen.only != "mutants":
        yield from rows(chosen.handovers, chosen.seed or 1, chosen.jobs, chosen.limit)
    if chosen.only != "runs":
        for name in chosen.mutant or MUTANTS:
            yield hunt(name, chosen.jobs)


def replay(seed: int, mutant: str | None, *, trace: bool) -> int:
    """One run, told."""
    out = next(run_seeds(iter([seed]), 1, mutant=mutant, trace=trace))
    for name in Outcome.__slots__:
        print(f"{name}: {getattr(out, name)}")
    return 1 if out.violations else 0


def main() -> int:
    """See above."""
    parser = argparse.ArgumentParser(prog="python -m proof.simulation", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--seed", type=int, help="only this one; with --handovers: the first one")
    parser.add_argument("--handovers", type=int, help="run seeds until so many were simulated")
    parser.add_argument(
        "--limit", type=float, default=3_600.0, metavar="S", help="or for so many seconds (%(default)s)"
    )
    parser.add_argument("--mutant", choices=MUTANTS, action="append", help="with this rule removed; may be repeated")
    parser.add_argument("--trace", action="store_true", help="tell all that happens")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time (%(default)s)")
    parser.add_argument("--only", choices=("runs", "mutants"), help="not the other part")
    add_out(parser)
    chosen = parser.parse_args()
    fix_hashes("proof.simulation")
    if chosen.seed is not None and chosen.handovers is None:
        return replay(chosen.seed, chosen.mutant[0] if chosen.mutant else None, trace=chosen.trace)
    chosen.handovers = chosen.handovers or HANDOVERS
    return save(PART, everything(chosen), chosen.out)


if __name__ == "__main__":
    sys.exit(main())
