"""From `git push` to trading, and a burst of pushes: real git, a real deployer, tiny workers as processes.

python -m bench.push            ten pushes at 1 s polls, then a burst of 50
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

from tests.e2e.deployer_rig import DeployerRig
from tests.e2e.rig import until
from tests.e2e.test_push import Pusher


def measure(folder: Path, pushes: int, burst: int, interval_s: float) -> None:
    """Print the figures."""
    rig = DeployerRig(folder, BOT_POLL_INTERVAL=str(interval_s))
    try:
        first = rig.commit()
        assert rig.command("init").returncode == 0
        rig.start()
        rig.until_step(first, "confirmed")
        pusher = Pusher(folder, rig)
        _pushes(rig, pusher, pushes)
        _burst(rig, pusher, burst)
    finally:
        rig.stop()


def _pushes(rig: DeployerRig, pusher: Pusher, count: int) -> None:
    trading, confirmed, steps = [], [], {}
    for _ in range(count):
        sha = pusher.commit()
        began_ms = time.time() * 1000
        shown = pusher.push()
        confirmed.append(time.time() - began_ms / 1000)
        assert f"{sha[:7]} trades; 0 polls missed" in shown, shown
        deploy = rig.until_step(sha, "retired")
        trading.append((deploy.first("taken").time_ms - began_ms) / 1000)  # type: ignore[union-attr]
        for step in deploy.steps:
            steps.setdefault(step.step, []).append((step.time_ms - began_ms) / 1000)
    say(f"push to trading   median {statistics.median(trading):.2f} s, most {max(trading):.2f} s, of {count}")
    say(f"push returned     median {statistics.median(confirmed):.2f} s")
    for name, seconds in steps.items():
        say(f"  {name:<12} {statistics.median(seconds):6.2f} s after the push began (median)")


def _burst(rig: DeployerRig, pusher: Pusher, count: int) -> None:
    run = rig.folder / "run"
    before, began = _size(run), time.monotonic()
    pushed, waiting = [], []
    for _ in range(count):
        pushed.append(pusher.commit())
        waiting.append(pusher.begin())
        until("git took it", lambda: rig.git("rev-parse", "main") == pushed[-1])
    sent = time.monotonic() - began
    rig.until_step(pushed[-1], "retired", limit_s=240)
    took = time.monotonic() - began
    told = [push.communicate(timeout=60)[1] for push in waiting]
    ends = [next((w for w in ("CONFIRMED", "CANCELLED", "SUPERSEDED", "FAILED") if w in text), "none") for text in told]
    deploys = [deploy.sha for deploy in rig.history().deploys]
    say(
        f"burst of {count}       pushed in {sent:.1f} s, the newest was confirmed and the former one retired after {took:.1f} s"
    )
    say(f"  verdicts        { {end: ends.count(end) for end in sorted(set(ends))} }; the last one: {ends[-1]}")
    say(f"  run twice       {len(deploys) - len(set(deploys))} commits; {rig.missed()} polls missed")
    trees = len(list((run / "trees").iterdir()))
    say(f"  disk            {before >> 20} MB before, {_size(run) >> 20} MB after, {trees} trees kept")


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def say(line: str) -> None:
    """A line of the answer."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> None:
    """Run it in a folder of its own."""
    parser = argparse.ArgumentParser(prog="bench.push", description=__doc__)
    parser.add_argument("--pushes", type=int, default=10)
    parser.add_argument("--burst", type=int, default=50)
    parser.add_argument("--interval", type=float, default=1.0, help="seconds between polls")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="never-sleeps-push-") as folder:
        measure(Path(folder), chosen.pushes, chosen.burst, chosen.interval)


if __name__ == "__main__":
    main()
