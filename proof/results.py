"""What a part of the proof found, kept by commit under `.proof/`, so that a run can be resumed and a table made of it.

`.proof/PART.json` holds the newest run of each part, with the commit it was made on and whether the work tree differed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from bus import write_atomically

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
    found = Found(at, "", 0.0, ())

    def keep(name: str) -> Found:
        ended = time.strftime("%Y-%m-%d %H:%M", time.gmtime())
        kept = Found(name, ended, round(time.monotonic() - began, 1), found.rows)
        write_atomically(folder / f"{part}.json", json.dumps(asdict(kept), indent=1).encode(), durable=False)
        return kept

    folder.mkdir(exist_ok=True)
    for row in rows:
        print(f"{'ok  ' if not row.violations else 'FAIL'} {row.tried}: {row.times} {row.unit}  {row.note}", flush=True)  # noqa: T201
        for violation in row.violations[:NAMED]:
            print(f"     {violation}", flush=True)  # noqa: T201
        found = replace(found, rows=(*found.rows, row))
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
