"""From `git push` to trading, a burst of pushes, and what a build costs the trader: real git, a real deployer.

The workers are tiny ones, whose start is the deployer's alone; `--worker bot` is the project's own, on paper, which has its feeds
to fill before its first healthy poll.

python -m bench.push                              ten pushes at 1 s polls, then a burst of 50; as processes
python -m bench.push --runtime docker             the same in containers
python -m bench.push --worker bot --part pushes   the project's own bot
python -m bench.push --part saves                 from saving a file under `deployer run --worktree` to trading; as processes
python -m bench.push --part build                 poll lag and commits during builds without a cache
"""

from __future__ import annotations

import argparse
import random
import secrets
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bus import write_control
from ledger import Ledger
from tests.e2e.deployer_rig import DeployerRig
from tests.e2e.docker_engine import docker, own
from tests.e2e.fire.rig import FireRig
from tests.e2e.rig import ROOT, until
from tests.e2e.test_push import Pusher

__all__ = ["main"]

# Seconds for which the trader is watched without a build.
QUIET_S = 20.0
BUILD_INTERVAL_S = 0.1
# The project's own dependencies, fetched, unpacked and compiled: what a commit that changes the lock file brings.
DEPENDENCIES = """FROM python:3.13-slim AS dependencies
WORKDIR /build
COPY requirements-uv.lock requirements.lock ./
RUN python3 -m venv /tools \\
    && /tools/bin/pip install --no-cache-dir --quiet --disable-pip-version-check --require-hashes -r requirements-uv.lock \\
    && /tools/bin/uv venv --quiet --python "$(command -v python3)" /venv \\
    && /tools/bin/uv pip sync --no-cache --quiet --require-hashes --compile-bytecode --python /venv/bin/python requirements.lock
"""


def make_rig(runtime: str, folder: Path, interval_s: float, worker: str = "tiny", **settings: str) -> DeployerRig:
    """Everything in one folder; with docker bots and deployer in containers, and the exchange of the project's own bot."""
    settings = {"BOT_POLL_INTERVAL": str(interval_s), **settings}
    if worker == "bot":
        settings["BOT_TIMEFRAMES"] = "5m,15m"
        if runtime == "process":
            rig = FireRig(folder, **settings)
        else:
            from tests.e2e.fire.docker_rig import DockerFireRig

            rig = DockerFireRig(folder, **settings)
            own(rig.bus.directory)
        # Always in a snipe window: when somebody pushes must not matter.
        write_control(
            rig.bus,
            1,
            lambda found: found.changed(strategy={"snipe_fraction": 1.0}),
            by="bench",
            clock=rig.clock,
        )
        return rig
    if runtime == "process":
        return DeployerRig(folder, **settings)
    from tests.e2e.docker_rig import DockerRig

    return DockerRig(folder, **settings)


# --- pushes


def pushes(rig: DeployerRig, pusher: Pusher, count: int, interval_s: float) -> None:
    """Push one after the other, and say when each step came."""
    trading, confirmed = [], []
    steps: dict[str, list[float]] = {}
    for _ in range(count):
        time.sleep(random.uniform(0, interval_s))  # anywhere between two polls
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


def saves(rig: DeployerRig, count: int, interval_s: float) -> None:
    """Save one file after the other, and say when what was saved traded."""
    rig.start("--worktree")
    until("the first one is all that runs", lambda: rig.history().confirmed and len(rig.units()) == 2, 60)
    trading: list[float] = []
    for number in range(count):
        time.sleep(random.uniform(0, interval_s))  # anywhere between two polls
        deploys, began_ms = len(rig.history().deploys), time.time() * 1000
        (rig.repository / "bot" / "saved.py").write_text(f"SAVED = {number}\n")
        until("it is noticed", lambda: len(rig.history().deploys) > deploys)  # noqa: B023  # at once
        deploy = rig.until_step(rig.history().deploys[-1].sha, "retired")
        trading.append((deploy.first("taken").time_ms - began_ms) / 1000)  # type: ignore[union-attr]
    say(
        f"saved to trading  median {statistics.median(trading):.2f} s, most {max(trading):.2f} s, of {count}; "
        f"{rig.missed()} polls missed"
    )


def burst(rig: DeployerRig, pusher: Pusher, count: int) -> None:
    """Push as fast as git takes it, and say what became of each."""
    run, git = rig.folder / "run", rig.repository / ".git"
    before, began = _size(run) + _size(git), time.monotonic()
    pushed, waiting = [], []
    for _ in range(count):
        pushed.append(pusher.commit())
        waiting.append(pusher.begin())
        until("git took it", lambda: rig.git("rev-parse", "main") == pushed[-1])
    sent = time.monotonic() - began
    rig.until_step(pushed[-1], "retired", limit_s=240)
    took = time.monotonic() - began
    outputs = [push.communicate(timeout=60)[1] for push in waiting]
    ends = [
        next((w for w in ("CONFIRMED", "CANCELLED", "SUPERSEDED", "FAILED") if w in text), "none") for text in outputs
    ]
    deploys = [deploy.sha for deploy in rig.history().deploys]
    say(
        f"burst of {count}       pushed in {sent:.1f} s, the newest was confirmed and the former one retired after {took:.1f} s"
    )
    say(f"  verdicts        { {end: ends.count(end) for end in sorted(set(ends))} }; the last one: {ends[-1]}")
    say(f"  run twice       {len(deploys) - len(set(deploys))} commits; {rig.missed()} polls missed")
    label = f"label=never-sleeps.bus={rig.bus.directory}"
    trees, images = run / "trees", len(docker("images", "--quiet", "--filter", label, check=False).split())
    kept_text = f"{len(list(trees.iterdir()))} trees" if trees.is_dir() else f"{images} images"
    size = _size(run) + _size(git)
    say(f"  disk            state and git {before / 1e6:.1f} MB before, {size / 1e6:.1f} MB after; {kept_text} kept")


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


# --- builds


def builds(rig: DeployerRig, rounds: int) -> None:
    """The trader's lag and commits: without a build, and beside builds."""
    _new_dependencies(rig)
    first = rig.commit()
    rig.start()
    rig.until_step(first, "confirmed", limit_s=300)
    rig.assert_steady(first)
    began_ms = _now_ms()
    time.sleep(QUIET_S)
    _say_figures(rig, "no build", [(began_ms, _now_ms())], [])
    during: list[tuple[int, int]] = []
    for _ in range(rounds):
        _new_dependencies(rig)
        began_ms, sha = _now_ms(), rig.commit()
        rig.until_step(sha, "built", limit_s=400)
        during.append((began_ms, _now_ms()))
        rig.until_step(sha, "retired", limit_s=120)
    _say_figures(rig, "beside builds", during, [(ended_ms - began_ms) / 1000 for began_ms, ended_ms in during])


def _new_dependencies(rig: DeployerRig) -> None:
    """A lock file that no cache knows, and a Dockerfile that installs it."""
    lock = (ROOT / "requirements.lock").read_text()
    (rig.repository / "requirements.lock").write_text(f"{lock}# {secrets.token_hex(8)}\n")
    (rig.repository / "requirements-uv.lock").write_text((ROOT / "requirements-uv.lock").read_text())
    dockerfile = rig.repository / "Dockerfile"
    if dockerfile.exists() and "dependencies" not in dockerfile.read_text():
        own = dockerfile.read_text().replace(
            "COPY bus bus\n", "COPY --from=dependencies /venv/pyvenv.cfg /\nCOPY bus bus\n"
        )
        dockerfile.write_text(DEPENDENCIES + own)


def _say_figures(rig: DeployerRig, name: str, spans: list[tuple[int, int]], took_s: list[float]) -> None:
    rows: list[tuple[int, int]] = []
    with until("a ledger", lambda: Ledger.reader(rig.bus.ledger)) as ledger:
        for began, ended in spans:
            found = ledger.execute(
                "SELECT lag_ms, state FROM polls_completed WHERE tick >= ? AND tick < ?", (began, ended)
            )
            rows += [(int(str(lag)), int(str(commit))) for lag, commit in found]
    lags, commits = sorted(lag for lag, _ in rows), sorted(commit / 1000 for _, commit in rows)
    say(
        f"{name:<18} {len(rows):>4} polls: lag p50 {_at(lags, 0.5):.0f}, p99 {_at(lags, 0.99):.0f}, most {lags[-1]} ms; "
        f"commit p50 {_at(commits, 0.5):.2f}, p99 {_at(commits, 0.99):.2f}, most {commits[-1]:.2f} ms"
        + (f"; builds took {', '.join(f'{seconds:.0f}' for seconds in took_s)} s" if took_s else "")
    )


def _at(ordered: list[float] | list[int], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def _now_ms() -> int:
    return round(time.time() * 1000)


# --- the command


def say(line: str) -> None:
    """A line of the answer."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def measure_pushes(runtime: str, folder: Path, chosen: argparse.Namespace) -> None:
    """Print the figures of pushes and of the burst."""
    rig = make_rig(runtime, folder, chosen.interval, chosen.worker)
    try:
        first = rig.commit()
        if chosen.part == "saves":
            saves(rig, chosen.pushes, chosen.interval)
            return
        assert DeployerRig.command(rig, "init").returncode == 0
        rig.start()
        rig.until_step(first, "confirmed")
        pusher = Pusher(folder, rig)
        parts: dict[str, Callable[[], None]] = {
            "pushes": lambda: pushes(rig, pusher, chosen.pushes, chosen.interval),
            "burst": lambda: burst(rig, pusher, chosen.burst),
        }
        for part in [chosen.part] if chosen.part else parts:
            parts[part]()
    finally:
        rig.stop()


def measure_builds(runtime: str, folder: Path, rounds: int) -> None:
    """Print the figures of builds."""
    rig = make_rig(runtime, folder, BUILD_INTERVAL_S, UV_NO_CACHE="1")
    rig.environment.pop("DEPLOYER_PYTHON", None)
    try:
        builds(rig, rounds)
    finally:
        rig.stop()


def main() -> None:
    """Run it in a folder of its own."""
    parser = argparse.ArgumentParser(
        prog="bench.push", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runtime", choices=("process", "docker"), default="process")
    parser.add_argument(
        "--part", choices=("pushes", "burst", "saves", "build"), help="pushes and burst where none is named"
    )
    parser.add_argument("--worker", choices=("tiny", "bot"), default="tiny", help="who is deployed (%(default)s)")
    parser.add_argument("--pushes", type=int, default=10)
    parser.add_argument("--burst", type=int, default=50)
    parser.add_argument("--builds", type=int, default=3, help="in part build")
    parser.add_argument("--interval", type=float, default=1.0, help="seconds between polls, of pushes and burst")
    chosen = parser.parse_args()
    if chosen.part == "saves" and chosen.runtime != "process":
        parser.error("what is saved is deployed as processes: leave out --runtime docker")
    with tempfile.TemporaryDirectory(prefix="never-sleeps-push-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # containers run as another user
        if chosen.part == "build":
            measure_builds(chosen.runtime, folder, chosen.builds)
        else:
            measure_pushes(chosen.runtime, folder, chosen)


if __name__ == "__main__":
    main()
