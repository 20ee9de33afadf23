"""The model `lease.pml`, checked exhaustively by SPIN: `python -m proof.model [--large]`.

A mutant is the model with one rule removed; SPIN must refute it, or the model could not have found the rule's absence.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from proof.report import Row, add_out, save

MODEL = Path(__file__).with_name("lease.pml")
LIMIT_S = 600.0


@dataclass(frozen=True, slots=True)
class Form:
    """One form of the model. again: ask that somebody trades again (LTL, weakly fair), else the assertions."""

    name: str
    asks: str
    defines: tuple[str, ...]
    again: bool = False

    def mutated(self, mutant: str) -> Form:
        """The same without one rule."""
        return Form(f"{self.name} {mutant}", self.asks, (*self.defines, mutant), self.again)


def _orders(orders: int, *more: str) -> tuple[str, ...]:
    return ("N=2", f"ORDERS={orders}", "DEATHS=1", "REQUESTS=1", *more)


IDEAL = Form("ideal lock", "I1, I3, I4", _orders(2, "GAP"))
REPLACED = Form("lease file replaced", "I1, I3, I4", _orders(1, "REPLACE"))
OUTLIVED = Form("task outlives its yield", "I1, I3, I4", _orders(1, "OUTLIVE"))
AGAIN = Form(
    "two instances", "somebody trades again", ("N=2", "ORDERS=0", "DEATHS=1", "REQUESTS=1", "AGAIN"), again=True
)
FORMS = (
    IDEAL,
    REPLACED,
    OUTLIVED,
    Form("lease file replaced, paused before the send", "I1, I3", _orders(1, "REPLACE", "GAP", "NO_I4")),
    Form("task outlives its yield, paused before the send", "I1, I3", _orders(1, "OUTLIVE", "GAP", "NO_I4")),
    AGAIN,
)
LARGE = (
    Form("ideal lock, two deaths", "I1, I3, I4", ("N=2", "ORDERS=2", "DEATHS=2", "REQUESTS=1", "GAP")),
    Form("both faults of the lock", "I1, I3, I4", _orders(1, "REPLACE", "OUTLIVE")),
    Form("with a spare", "somebody trades again", ("N=3", "ORDERS=0", "DEATHS=1", "REQUESTS=1", "AGAIN"), again=True),
)
MUTANTS = (
    OUTLIVED.mutated("M_NO_FENCE"),
    OUTLIVED.mutated("M_FENCE_READS_CURRENT"),
    IDEAL.mutated("M_INTENT_AFTER_SEND"),
    IDEAL.mutated("M_NEW_SALT"),
    IDEAL.mutated("M_NOT_FOUND_IS_ABSENT"),
    IDEAL.mutated("M_LEASE_BY_CLOCK"),
    AGAIN.mutated("M_STRICT_NAMED"),
    AGAIN.mutated("M_NEEDS_LEASE"),
    IDEAL.mutated("M_SECOND_REFUSAL"),
    IDEAL.mutated("M_ABANDON_SENT"),
    AGAIN.mutated("M_PROBE_COUNTS"),
    # No rule of ours but a bound of what can be promised: between the last look and the bytes' leaving a process can be
    # paused, and where the lock is not ideal either, a newer epoch can begin in between.
    REPLACED.mutated("GAP"),
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What SPIN found. error: the first violation in its words, None when there is none in any state. seconds: wall time."""

    states: int
    error: str | None
    seconds: float


class ModelError(Exception):
    """SPIN or the compiler is missing, failed, or did not come to an end."""


def check(form: Form, limit_s: float = LIMIT_S) -> Verdict:
    """Search every state of one form. Raises ModelError."""
    missing = [tool for tool in ("spin", "gcc") if shutil.which(tool) is None]
    if missing:
        raise ModelError(
            f"expected {' and '.join(missing)} on this machine; install it: apt-get install spin gcc libc6-dev"
        )
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="never-sleeps-model-") as name:
        folder = Path(name)
        _run(["spin", "-a", *(f"-D{define}" for define in form.defines), str(MODEL)], folder, limit_s)
        how = ["-DNFAIR=3"] if form.again else ["-DSAFETY", "-DNOCLAIM", "-DCOLLAPSE"]
        # Compiling takes longer than the search of a mutant, which ends at the first violation.
        speed = "-O0" if form in MUTANTS else "-O1"
        _run(["gcc", speed, "-w", *how, "-o", "pan", "pan.c"], folder, limit_s)
        search = ["./pan", *(["-a", "-f"] if form.again else ["-E"]), "-m1000000"]
        output = _run(search, folder, limit_s)
    states = re.search(r"(\d+) states, stored", output)
    if states is None or "max search depth too small" in output or "out of memory" in output:
        raise ModelError(f"SPIN did not search all of '{form.name}': {output[-500:]}")
    error = re.search(r"pan:\d+: (.*)", output)
    if error is None and ("errors: 0" not in output or "Search not completed" in output):
        raise ModelError(f"SPIN did not search all of '{form.name}': {output[-500:]}")
    return Verdict(int(states[1]), None if error is None else error[1], time.monotonic() - began)


def rows(large: bool) -> Iterator[Row]:
    """One row a form and a mutant: what was tried and whether it came out as it must."""
    for form in (*FORMS, *(LARGE if large else ())):
        result = check(form)
        yield Row(
            part="model",
            tried=f"{form.name}: {form.asks}",
            times=result.states,
            unit="states",
            violations=() if result.error is None else (result.error,),
            note=f"{result.seconds:.1f} s",
        )
    for form in MUTANTS:
        result = check(form)
        missed = () if result.error is not None else (f"{form.name} was not refuted in {result.states} states",)
        yield Row("model", f"must be refuted: {form.name}", result.states, "states", missed, (result.error or "")[:90])


def _run(command: list[str], folder: Path, limit_s: float) -> str:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=limit_s, check=False)
    except subprocess.TimeoutExpired as error:
        raise ModelError(f"{command[0]} did not come to an end within {limit_s:g} s") from error
    if done.returncode != 0:
        raise ModelError(f"{command[0]} failed: {(done.stdout + done.stderr)[-1000:]}")
    return done.stdout


def main() -> int:
    """Check all; 1 when a form is violated or a mutant survives, 2 when it could not be checked."""
    parser = argparse.ArgumentParser(prog="python -m proof.model", description=__doc__)
    parser.add_argument("--large", action="store_true", help="the large forms, too (about a minute)")
    add_out(parser)
    chosen = parser.parse_args()
    try:
        return save("model", rows(chosen.large), chosen.out)
    except ModelError as error:
        print(f"proof: {error}", file=sys.stderr)  # noqa: T201
        return 2


if __name__ == "__main__":
    sys.exit(main())
