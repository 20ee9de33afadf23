"""How many series deploys leave in a real Prometheus: `python -m bench.series --deploys 50` (4 s a deploy and more).

The project's bot under its deployer, as processes, each commit confirmed before the next; Prometheus with the project's own
configuration asks once a second. The head of Prometheus holds every series of the last two hours, those of the dead included.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.e2e.prometheus_rig import MonitoredRig
from tests.e2e.rig import until

EVERY = 10  # deploys between two lines
STEP_LIMIT_S = 120.0
ASKED = {
    "in all": "prometheus_tsdb_head_series",
    "places": "count(count by (instance) (last_over_time(bot_build_info[2h])))",
    "bot_build_info": "count(last_over_time(bot_build_info[2h]))",
    "of the bots now": 'count({__name__=~"bot_.+"})',
}


def main() -> None:
    """Deploy so many commits and print the series now and then."""
    parser = argparse.ArgumentParser(prog="python -m bench.series", description=__doc__)
    parser.add_argument("--deploys", type=int, default=50, metavar="N", help="commits after the first (50)")
    count = parser.parse_args().deploys
    with tempfile.TemporaryDirectory(prefix="never-sleeps-series-") as folder:
        rig = MonitoredRig(Path(folder), DEPLOYER_SPARES="0", DEPLOYER_CONFIRM_POLLS="1")
        try:
            rig.begin()
            rig.until_step(rig.git("rev-parse", "HEAD"), "confirmed", STEP_LIMIT_S)
            began = time.monotonic()
            for number in range(1, count + 1):
                sha = rig.commit_bot()
                rig.until_step(sha, "retired", STEP_LIMIT_S)
                if number % EVERY == 0 or number == count:
                    until(
                        "the newest commit is seen",
                        lambda sha=sha: rig.prometheus.query(f'bot_build_info{{git_sha="{sha}"}}'),
                    )  # type: ignore[misc]  # a default captures it
                    found = ", ".join(
                        f"{name} {rig.prometheus.value(asked) or 0:,.0f}" for name, asked in ASKED.items()
                    )
                    _say(
                        f"after {number} deploys, {time.monotonic() - began:.0f} s, {rig.missed()} ticks missed: {found}"
                    )
        finally:
            rig.stop()


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
