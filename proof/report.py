"""The whole proof and its table: `python -m proof.report [--part PART] [--budget 40m]`, or `make proof`.

A part whose newest run is of this very commit is not run again, so a proof that was ended is resumed; within the budget those
that are missing come first, then the oldest. A part that is still running when the budget is spent is ended and stays as it was.
Of a part that was never run in this checkout the table keeps what it says already.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from bus import write_atomically
from proof.results import NAMED, ROOT, Found, commit, load

PARTS: dict[str, tuple[str, ...]] = {
    "model": ("proof.model", "--large"),
    "simulation": ("proof.simulation", "--handovers", "20000", "--jobs", "2"),
    "releases": ("proof.releases",),
    "soak": ("proof.soak",),
    "power": ("proof.power", "--count", "200", "--seed", "1"),
    "containers": ("proof.containers",),
    "handovers": ("proof.handovers",),
    "kills-handover": ("proof.kills", "--scenario", "handover"),
    "kills-order": ("proof.kills", "--scenario", "order"),
    "kills-deploy": ("proof.kills", "--scenario", "deploy"),
}
PAGE = ROOT / "docs" / "proof.md"
BEGIN, END = "<!-- proof: begin -->", "<!-- proof: end -->"
STALE = "; stale: the commit is another now"
END_LIMIT_S = 120.0  # a week of windows settles what it holds, and audits it


def table(found: dict[str, Found | None], at: str, before: str = "") -> str:
    """The results as Markdown; at: the commit that is proved, by which a run is stale or not; before: the table until now."""
    lines = ["| part | tried | how often | held | note |", "|---|---|---|---|---|"]
    ends = []
    for part, run in found.items():
        if run is None:
            kept = [line for line in before.splitlines() if line.startswith(f"| {part} |")]
            lines += kept or [f"| {part} | never run | | | |"]
            ends += [_stale(line, at) for line in before.splitlines() if line.startswith(f"- {part}: on ")]
            continue
        for row in run.rows:
            held = "yes" if not row.violations else f"**no**: {_cell('; '.join(row.violations[:NAMED]))}"
            lines.append(f"| {part} | {_cell(row.tried)} | {row.times:,} {row.unit} | {held} | {_cell(row.note)} |")
        ends.append(_stale(f"- {part}: on {run.commit}, {run.ended} UTC, {run.took_s:,.0f} s", at))
    return "\n".join([*lines, "", *ends])


def _stale(end: str, at: str) -> str:
    end = end.removesuffix(STALE)
    return end if f": on {at}, " in end else f"{end}{STALE}"


def read_page(page: Path = PAGE) -> str:
    """The table that stands there; empty where there is none."""
    return page.read_text().partition(BEGIN)[2].partition(END)[0]


def write_page(text: str, page: Path = PAGE) -> None:
    """Put the table between the page's two marks. Raises ValueError: the marks are not there."""
    before, begin, rest = page.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"expected the lines {BEGIN} and {END} in {page}, for the table to go between")
    write_atomically(page, f"{before}{BEGIN}\n{text}\n{END}{after}".encode(), durable=False)


def due(found: dict[str, Found | None], at: str) -> list[str]:
    """The parts to run, in order: what was never run first, then the oldest; none of this commit."""
    stale = [part for part, run in found.items() if run is None or run.commit != at or at.endswith("+")]
    return sorted(stale, key=lambda part: kept.ended if (kept := found[part]) is not None else "")


def run(part: str, limit_s: float) -> bool:
    """Run one part with its progress on this terminal; False when it had to be ended."""
    process = subprocess.Popen([sys.executable, "-m", *PARTS[part]], cwd=ROOT, start_new_session=True)
    try:
        process.wait(limit_s)
    except (subprocess.TimeoutExpired, KeyboardInterrupt) as error:
        os.killpg(process.pid, signal.SIGINT)  # its own folders, mounts and processes are cleared away
        process.wait(END_LIMIT_S)
        if isinstance(error, KeyboardInterrupt):
            raise
        return False
    return True


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "/").split())


def _seconds(text: str) -> float:
    match = re.fullmatch(r"(\d+)([smh]?)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"expected a time such as 90s, 40m or 2h, found {text!r}")
    return int(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is due, write the table; 1 when something did not hold or was never run."""
    parser = argparse.ArgumentParser(prog="python -m proof.report", description=__doc__)
    parser.add_argument("--part", choices=PARTS, help="only this one, also when it is not due")
    parser.add_argument("--budget", type=_seconds, default=_seconds("40m"), metavar="TIME", help="such as 90s, 40m, 2h")
    chosen = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the part that runs is ended, too
    at, deadline = commit(), time.monotonic() + chosen.budget
    for part in [chosen.part] if chosen.part else due({part: load(part) for part in PARTS}, at):
        left = deadline - time.monotonic()
        print(f"--- {part}, {max(0.0, left):,.0f} s of the budget left", flush=True)  # noqa: T201
        if left <= 0 or not run(part, left):
            print(f"proof: the budget is spent; `make proof` goes on with {part}", flush=True)  # noqa: T201
            break
    found = {part: load(part) for part in PARTS}
    text = table(found, at, read_page())
    write_page(text)
    print(text)  # noqa: T201
    return 0 if all(run is not None and run.holds for run in found.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
