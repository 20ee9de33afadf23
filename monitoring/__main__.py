"""`python -m monitoring [--check]`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from monitoring.files import made


def main() -> int:
    """Write the files, or say which differ; 0 when all are as they are made."""
    parser = argparse.ArgumentParser(
        prog="python -m monitoring", description="Makes rules, dashboards, the runbook and the table of metrics."
    )
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when a file differs")
    check = parser.parse_args().check
    root = Path(__file__).resolve().parents[1]
    differing = [
        path for path, text in made().items() if not (root / path).exists() or (root / path).read_text() != text
    ]
    for path in differing:
        if check:
            print(f"monitoring: {path} is not what `python -m monitoring` makes; run it and commit")
        else:
            (root / path).write_text(made()[path])
            print(f"written {path}")
    return 1 if check and differing else 0


if __name__ == "__main__":
    sys.exit(main())
