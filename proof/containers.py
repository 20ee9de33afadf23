"""The crash matrix, in containers: `python -m proof.containers [--limit 1200]`.

The real bot under the real deployer on a real Engine. At every state of a rollout one of them is killed (SIGKILL), paused for
longer than anybody is waited for (`docker pause`), or runs out of its container's memory (the kernel's OOM killer): the deployer,
the one that trades, the candidate, the spare, the exchange. Then the commit must trade with its spare, asked for once more where
its deploy failed, and nothing else be left; in the end the audit must hold against the exchange's record.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from itertools import product
from pathlib import Path

from bus import Role, Seen
from proof.results import Row, add_out, save
from tests.e2e.docker_engine import docker
from tests.e2e.fire.docker_rig import DockerFireRig
from tests.e2e.fire.outcome import duplicates
from tests.e2e.rig import until

PART = "containers"
STATES = ("building", "started", "healthy", "handover", "taken", "confirmed")
VICTIMS = ("deployer", "trader", "candidate", "spare", "paper")
FAULTS = ("kill", "pause", "oom")
PAUSE_S = 8.0  # longer than DEPLOYER_STUCK_AFTER, which is 6 s
AWAY_S = 2.0
STATE_LIMIT_S, VERDICT_LIMIT_S = 120.0, 240.0
MEMORY = "300m"
HOG = "held = []\nwhile True: held.append(bytearray(1 << 24))"


def rows(limit_s: float) -> Iterator[Row]:
    """One row a victim and fault, with the states in which it was struck, until `limit_s` is over; then the audit's."""
    deadline = time.monotonic() + limit_s
    struck: dict[tuple[str, str], list[str]] = defaultdict(list)
    wrong: dict[tuple[str, str], list[str]] = defaultdict(list)
    with tempfile.TemporaryDirectory(prefix="never-sleeps-containers-") as folder:
        rig = DockerFireRig(Path(folder))
        try:
            rig.begin()
            # State by state, so that what time is left for has struck everybody.
            for state, victim, fault in product(STATES, VICTIMS, FAULTS):
                if time.monotonic() > deadline:
                    break
                try:
                    said = _strike_one(rig, state, victim, fault)
                except AssertionError as error:
                    wrong[victim, fault].append(f"{state}: {error}"[:600])
                    said = "broken"
                print(f"{state}, {victim}, {fault}: {said or 'nobody was there'}", file=sys.stderr, flush=True)  # noqa: T201
                if said is not None:
                    struck[victim, fault].append(f"{state} ({said})")
                if wrong:
                    break  # what is broken would be met again by every other
            for (victim, fault), states in struck.items():
                yield Row(
                    PART,
                    f"{fault} of the {victim}",
                    len(states),
                    "states",
                    tuple(wrong[victim, fault]),
                    ", ".join(states),
                )
            done = rig.audit()
            audit = () if done.returncode == 0 else (done.stdout[-1500:] + done.stderr[-500:],)
            yield Row(
                PART,
                "audit against the exchange's record, duplicates",
                sum(map(len, struck.values())),
                "faults",
                (*audit, *duplicates(rig)),
            )
        finally:
            rig.stop()


def _strike_one(rig: DockerFireRig, state: str, victim: str, fault: str) -> str | None:
    """One commit, one fault; what became of it: its verdict and the ticks missed. None: nobody of that name was there."""
    rig.settle()
    missed = rig.missed()
    sha = rig.commit()

    def there() -> bool:
        deploy = rig.deploy_of(sha)
        return deploy is not None and (deploy.has(state) or deploy.verdict is not None)

    until(f"{sha[:7]} {state}", there, STATE_LIMIT_S, 0.02)
    name = _name(rig, victim, sha)
    if name is not None:
        _strike(rig, name, victim, fault)
    verdict = until("a verdict", lambda: (found := rig.deploy_of(sha)) and found.verdict, VERDICT_LIMIT_S, 0.1)
    if verdict != "confirmed":
        asked = rig.command("deploy", sha, limit_s=VERDICT_LIMIT_S)
        assert asked.returncode == 0, f"asked for again: {asked.stdout[-300:]}{asked.stderr[-300:]}"
    rig.settle()
    missed = rig.missed() - missed
    return f"{verdict}, {missed} missed" if name is not None else None


def _name(rig: DockerFireRig, victim: str, sha: str) -> str | None:
    """The victim's container."""
    if victim == "deployer":
        return rig.container
    if victim == "paper":
        return f"{rig.container}-paper"
    holder = rig.holder()

    def is_meant(seen: Seen) -> bool:
        if holder is not None and seen.id == holder.id:
            return victim == "trader"
        assert seen.document is not None, "living instances have one"
        return (
            victim == ("candidate" if seen.document.sha == sha else "spare") and seen.document.role is not Role.RETIRED
        )

    return next((seen.document.unit for seen in rig.living() if seen.document is not None and is_meant(seen)), None)


def _strike(rig: DockerFireRig, name: str, victim: str, fault: str) -> None:
    """What dies is started again by whose work that is: bots by the deployer, deployer and exchange by us.

    Docker's refusals are no failures here: between the look and the blow a container may have ended or gone by itself.
    """
    if fault == "pause":
        docker("pause", name, check=False)
        time.sleep(PAUSE_S if victim != "paper" else AWAY_S)  # the pause itself: its length is what is tried
        docker("unpause", name, check=False)
        return
    if fault == "oom":
        _exhaust(name)
    else:
        docker("kill", name, check=False)
    until(
        f"{name} ended",
        lambda: docker("inspect", "--format={{.State.Running}}", name, check=False) != "true",
        30.0,
        0.1,
    )
    if victim == "deployer":
        rig.start()
    elif victim == "paper":
        time.sleep(AWAY_S)  # how long the exchange is away, which is what is tried
        rig.paper.start()


def _exhaust(name: str) -> None:
    """Let the kernel kill the container's own process: its group's memory is used up, and it is the first to be chosen."""
    init = docker("inspect", "--format={{.State.Pid}}", name)
    children = Path(f"/proc/{init}/task/{init}/children").read_text().split()
    for pid in (init, *children):
        Path(f"/proc/{pid}/oom_score_adj").write_text("1000")
    docker("update", f"--memory={MEMORY}", f"--memory-swap={MEMORY}", name)
    docker("exec", "--detach", name, "python", "-c", HOG, check=False)


def main() -> int:
    """Run it; 1 when something did not come right."""
    parser = argparse.ArgumentParser(prog="python -m proof.containers", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument(
        "--limit", type=float, default=2_400.0, metavar="S", help="begin nothing more after so long (%(default)s)"
    )
    add_out(parser)
    chosen = parser.parse_args()
    return save(PART, rows(chosen.limit), chosen.out)


if __name__ == "__main__":
    sys.exit(main())
