"""The crash matrix, in containers: `python -m proof.containers [--limit 3600] [--victims trader engine]`.

The real bot under the real deployer on a real Engine. At every state of a rollout one of them is killed (SIGKILL), paused for
longer than anybody is waited for (`docker pause`), or runs out of its container's memory (the kernel's OOM killer): the deployer,
the one that trades, the candidate, the spare, the exchange, the panel. Then the commit must trade with its spare, asked for once
more where its deploy failed, and nothing else be left; in the end the audit must hold against the exchange's record.

The victim `engine`, only where it is named, is the Engine itself, restarted: that ends every container on this machine. It must
have been started by .ci/docker-engine.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path

from bus import InstanceView, Role
from proof.report import Row, add_out, save
from tests.e2e.docker_engine import USER, docker, own
from tests.e2e.fire.docker_rig import DockerFireRig
from tests.e2e.fire.outcome import duplicates
from tests.e2e.rig import ROOT, until

PART = "containers"
STATES = ("building", "started", "healthy", "handover", "taken", "confirmed")
VICTIMS = ("deployer", "trader", "candidate", "spare", "paper", "panel")
FAULTS = ("kill", "pause", "oom")
ENGINE = "engine"
NOBODY = ("building", "candidate")  # there is none yet
PAUSE_S = 8.0  # longer than DEPLOYER_STUCK_AFTER, which is 6 s
AWAY_S = 2.0
STATE_LIMIT_S, VERDICT_LIMIT_S = 120.0, 240.0
MEMORY = "300m"
PANEL = "never-sleeps-test-panel"
ENGINE_PID = Path("/var/run/docker.pid")
HOG = "held = []\nwhile True: held.append(bytearray(1 << 24))"


def cells(states: Sequence[str], victims: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """(state, victim, fault), state by state, so that what time is left for has struck everybody."""
    for state, victim in product(states, victims):
        for fault in ("restart",) if victim == ENGINE else FAULTS:
            if (state, victim) != NOBODY:
                yield state, victim, fault


def rows(limit_s: float, states: Sequence[str], victims: Sequence[str]) -> Iterator[Row]:
    """One row a victim and fault, with the states in which it was struck, until `limit_s` is over; then the audit's."""
    deadline = time.monotonic() + limit_s
    struck: dict[tuple[str, str], list[str]] = defaultdict(list)
    wrong: dict[tuple[str, str], list[str]] = defaultdict(list)
    with tempfile.TemporaryDirectory(prefix="never-sleeps-containers-") as folder:
        rig = DockerFireRig(Path(folder))
        try:
            rig.begin()
            docker("build", "--quiet", "--target=panel", f"--tag={PANEL}", str(ROOT), limit_s=600)
            _start_panel(rig)
            for state, victim, fault in cells(states, victims):
                if time.monotonic() > deadline:
                    break
                try:
                    text = _strike_one(rig, state, victim, fault)
                except AssertionError as error:
                    wrong[victim, fault].append(f"{state}: {error}"[:600])
                    text = "broken"
                print(f"{state}, {victim}, {fault}: {text or 'nobody was there'}", file=sys.stderr, flush=True)  # noqa: T201
                if text is not None:
                    struck[victim, fault].append(f"{state} ({text})")
                if wrong:
                    break  # what is broken would be met again by every other
            for (victim, fault), when in struck.items():
                yield Row(
                    PART,
                    f"{fault} of the {victim}",
                    len(when),
                    "states",
                    tuple(wrong[victim, fault]),
                    "; ".join(when),
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
    deploy = rig.until_verdict(sha, VERDICT_LIMIT_S)
    verdict = str(deploy.verdict)
    if verdict != "confirmed":
        verdict = f"{verdict}: {deploy.why.partition(chr(10))[0]}"
        asked = rig.command("deploy", sha, limit_s=VERDICT_LIMIT_S)
        assert asked.returncode == 0, f"asked for again: {asked.stdout[-300:]}{asked.stderr[-300:]}"
    rig.settle()
    missed = rig.missed() - missed
    return f"{verdict}, {missed} missed" if name is not None else None


def _name(rig: DockerFireRig, victim: str, sha: str) -> str | None:
    """The victim's container."""
    if victim == "deployer":
        return rig.container
    if victim in ("paper", "panel"):
        return f"{rig.container}-{victim}"
    if victim == ENGINE:
        return victim
    holder = rig.holder()
    if victim == "candidate":  # by its name, since one that only started has no instance yet
        holds = holder.document.unit if holder is not None and holder.document is not None else ""
        return next((unit for unit in rig.units() if sha[:7] in unit and unit != holds), None)

    def is_meant(view: InstanceView) -> bool:
        if holder is not None and view.id == holder.id:
            return victim == "trader"
        assert view.document is not None, "living instances have one"
        return victim == "spare" and view.document.sha != sha and view.document.role is not Role.RETIRED

    return next((view.document.unit for view in rig.living() if view.document is not None and is_meant(view)), None)


def _strike(rig: DockerFireRig, name: str, victim: str, fault: str) -> None:
    """What dies is started again by whose work that is: bots by the deployer, deployer and exchange by us.

    Docker's refusals are no failures here: between the look and the blow a container may have ended or gone by itself.
    """
    if victim == ENGINE:
        _restart_engine(rig)
        return
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
    elif victim == "panel":
        _start_panel(rig)


def _start_panel(rig: DockerFireRig) -> None:
    name, data = f"{rig.container}-panel", rig.folder / "panel"
    data.mkdir(exist_ok=True)
    own(data)
    docker("rm", "--force", name, check=False)
    docker(
        *("run", "--detach", f"--name={name}", f"--network={rig.place.network}", f"--user={USER[0]}:{USER[1]}"),
        *(f"--volume={rig.bus.directory}:/bus", f"--volume={data}:/data", "--env=BUS_DIR=/bus"),
        *("--env=PANEL_HOST=0.0.0.0", "--env=PANEL_BEHIND_PROXY=true", "--env=PANEL_TOKEN_FILE=/data/token", PANEL),
    )


def _restart_engine(rig: DockerFireRig) -> None:
    """All containers end with it; exchange, deployer and panel are started again as Compose would, bots by the deployer."""
    engine = int(ENGINE_PID.read_text())
    os.kill(engine, signal.SIGTERM)
    until("the Engine ended", lambda: not Path(f"/proc/{engine}/exe").exists(), 60.0, 0.1)
    subprocess.run([ROOT / ".ci" / "docker-engine"], check=True, capture_output=True, timeout=120)
    rig.paper.start()
    rig.start()
    _start_panel(rig)


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
        "--limit", type=float, default=3_600.0, metavar="S", help="begin nothing more after so long (%(default)s)"
    )
    parser.add_argument("--states", nargs="+", choices=STATES, default=STATES, help="only these")
    parser.add_argument("--victims", nargs="+", choices=(*VICTIMS, ENGINE), default=VICTIMS, help="only these")
    add_out(parser)
    chosen = parser.parse_args()
    results = rows(chosen.limit, chosen.states, chosen.victims)
    return save(PART, results, chosen.out)


if __name__ == "__main__":
    sys.exit(main())
