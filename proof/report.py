"""The whole proof and its table: `python -m proof.report [--part PART] [--budget 40m]`, or `make proof`.

A part whose newest run is of this very commit is not run again, so a proof that was ended is resumed; within the budget those
that are missing come first, then the oldest. A part that is still running when the budget is spent is ended and stays as it was.
Of a part that was never run in this checkout the table keeps what it says already.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from bus import write_atomically

# What a part of the proof found, kept by commit under `.proof/`, so that a run can be resumed and a table made of it.
#
# `.proof/PART.json` holds the newest run of each part, with the commit it was made on and whether the work tree differed.


ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / ".proof"
NAMED = 10
PARTIAL = " (a part of it)"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. times: how often it was tried, in `unit`; violations: what did not hold, in words."""

    part: str
    tried: str
    times: int
    unit: str
    violations: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True, slots=True)
class Found:
    """The newest run of one part. commit: git sha, with "+" when the work tree differed; took_s: wall time."""

    commit: str
    ended: str
    took_s: float
    rows: tuple[Row, ...]

    @property
    def holds(self) -> bool:
        """Whether nothing was violated."""
        return not any(row.violations for row in self.rows)


def commit() -> str:
    """The commit that is proved; "+" marks a work tree that differs, "unknown" a folder that is no checkout."""
    sha = _git("rev-parse", "--short=12", "HEAD")
    return f"{sha}{'+' if _git('status', '--porcelain') else ''}" if sha else "unknown"


def save(part: str, rows: Iterable[Row], folder: Path = FOLDER) -> int:
    """Print each row as it comes, keep them all in `folder`; returns 1 when one was violated, else 0."""
    began, at = time.monotonic(), commit()
    results = Found(at, "", 0.0, ())

    def keep(name: str) -> Found:
        ended = time.strftime("%Y-%m-%d %H:%M", time.gmtime())
        saved = Found(name, ended, round(time.monotonic() - began, 1), results.rows)
        write_atomically(
            folder / f"{part}.json", json.dumps(asdict(saved), indent=1).encode(), durable=False, mode=0o644
        )
        return saved

    folder.mkdir(exist_ok=True)
    for row in rows:
        print(f"{'ok  ' if not row.violations else 'FAIL'} {row.tried}: {row.times} {row.unit}  {row.note}", flush=True)  # noqa: T201
        for violation in row.violations[:NAMED]:
            print(f"     {violation}", flush=True)  # noqa: T201
        results = replace(results, rows=(*results.rows, row))
        keep(f"{at}{PARTIAL}")  # should it be ended now, the table has what was tried, and the part is still due
    return 0 if keep(at).holds else 1


def add_out(parser: argparse.ArgumentParser) -> None:
    """The option that keeps a trial's results from being taken for the newest run."""
    parser.add_argument("--out", type=Path, default=FOLDER, metavar="DIR", help="where the results are kept (.proof)")


def load(part: str) -> Found | None:
    """The newest run of a part, or None."""
    try:
        read = json.loads((FOLDER / f"{part}.json").read_text())
    except FileNotFoundError:
        return None
    rows = tuple(Row(**{**row, "violations": tuple(row["violations"])}) for row in read.pop("rows"))
    return Found(**read, rows=rows)


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=False)
    return done.stdout.strip()


# The whole proof and its table: `python -m proof.report [--part PART] [--budget 40m]`, or `make proof`.


PARTS: dict[str, tuple[str, ...]] = {
    "model": ("proof.model", "--large"),
    "simulation": ("proof.simulation", "--handovers", "20000", "--jobs", "2"),
    "releases": ("proof.releases",),
    "frames": ("proof.frames",),
    "requests": ("proof.requests",),
    "soak": ("proof.soak",),
    "power": ("proof.power", "--count", "200", "--seed", "1"),
    "containers": ("proof.containers",),
    "handovers": ("proof.handovers",),
    "kills-handover": ("proof.kills", "--scenario", "handover"),
    "kills-order": ("proof.kills", "--scenario", "order"),
    "kills-deploy": ("proof.kills", "--scenario", "deploy"),
}
PAGE = ROOT / "docs" / "reference" / "proof-results.md"
BEGIN, END = "<!-- proof: begin -->", "<!-- proof: end -->"
STALE = "; stale: the commit is another now"
END_LIMIT_S = 120.0  # a week of windows settles what it holds, and audits it


def table(results: dict[str, Found | None], at: str, before: str = "") -> str:
    """The results as Markdown; at: the commit that is proved, by which a run is stale or not; before: the table until now."""
    lines = ["| part | tried | how often | held | note |", "|---|---|---|---|---|"]
    ends = []
    for part, run in results.items():
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
    write_atomically(page, f"{before}{BEGIN}\n{text}\n{END}{after}".encode(), durable=False, mode=0o644)


def due(results: dict[str, Found | None], at: str) -> list[str]:
    """The parts to run, in order: what was never run first, then the oldest; none of this commit."""
    stale = [part for part, run in results.items() if run is None or run.commit != at or at.endswith("+")]
    return sorted(stale, key=lambda part: result.ended if (result := results[part]) is not None else "")


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
    results = {part: load(part) for part in PARTS}
    text = table(results, at, read_page())
    write_page(text)
    print(text)  # noqa: T201
    return 0 if all(run is not None and run.holds for run in results.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
