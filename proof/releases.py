"""Two releases of the bus on one directory, in both directions: `python -m proof.releases [--against REF]`.

The former release's `bus` and `ledger` come out of git. One writes every kind of document, and rows into the ledger, the other
reads them, takes the next epoch and writes on; then the first one reads again, as after a rollback. Nothing may be lost or
misread.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

from proof.report import ROOT, Row, add_out, save

FORMER = "HEAD~1"
PACKAGES = ("bus", "ledger")
LIMIT_S = 60.0

# Run by either release, so only what both know. Writes round `number`, or prints what it reads.
SCRIPT = """
import json, sys
from pathlib import Path
import bus as b
try:
    import ledger as l
except ModuleNotFoundError:  # a release in which it was a part of the bus
    l = b
what, folder, number = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
bus, clock, who = b.open_bus(folder), b.SystemClock(), l.Identity("paper", "137", "0xwallet")
if what == "write":
    found = b.read_control(bus).generation if bus.control.exists() else 0
    strategy = {f"written-{number}": number}
    b.write_control(bus, found, lambda c: c.model_copy(update={"strategy": {**c.strategy, **strategy}}), by="proof", clock=clock)
    wanted = b.Handover(wanted="green", request_id=f"r{number}", retired=tuple(f"i{n}" for n in range(number)))
    b.write_handover(bus, wanted, writer="proof", sequence=number, clock=clock)
    b.make_request(bus, "deploy", ref=f"ref{number}", by="proof", clock=clock)
    b.append_step(bus, b.Step(deploy=str(number), step="built", time_ms=number, data={"n": number}))
    one = b.Instance(id=b.new_id(clock, "green", "abc"), role=b.Role.STANDBY, color="green", sha=f"sha{number}", healthy=True)
    b.InstanceFile(bus, clock, one).write(one)
    with l.Ledger.hold(bus.ledger, who) as ledger:
        epoch = ledger.take(instance=one.id, sha="s", color="c", request="", wall_ms=1, boot_ms=1, boot_id="b")
        ledger.claim(number, epoch, 1)
        ledger.complete(number, epoch, healthy=True, lag_ms=0, duration_ms=1, state=json.dumps({"n": number}))
        ledger.apply_control(number, epoch, body="{}", refused="[]", wall_ms=1)
        ledger.release(epoch, request=f"r{number}", reason="handover", wall_ms=1, boot_ms=1)
else:
    handover, requests = b.read_handover(bus), b.read_requests(bus)
    with l.Ledger.reader(bus.ledger, who) as ledger:
        epoch = ledger.newest_epoch()
        rows = [epoch.epoch, epoch.released, ledger.is_spent(f"r{number}"), ledger.last_tick()]
        rows += [ledger.scalar("SELECT state FROM polls_completed ORDER BY tick DESC LIMIT 1")]
    print(json.dumps({
        "control": [b.read_control(bus).generation, b.read_control(bus).strategy],
        "handover": [handover.wanted, handover.request_id, list(handover.retired)],
        "requests": [sorted(r.ref for r in requests[0]), requests[1]],
        "steps": [[s.deploy, s.step, s.data] for s in b.read_steps(bus)],
        "instances": sorted([s.document.sha, s.document.role, s.document.healthy] for s in b.read_instances(bus)),
        "ledger": rows,
    }))
"""


class ReleaseError(Exception):
    """The former release cannot be had, or a script failed; the text says which."""


def expected(rounds: int) -> dict[str, object]:
    """What must be read after rounds 1 to `rounds`."""
    numbers = range(1, rounds + 1)
    return {
        "control": [rounds, {f"written-{n}": n for n in numbers}],
        "handover": ["green", f"r{rounds}", [f"i{n}" for n in range(rounds)]],
        "requests": [[f"ref{n}" for n in numbers], {}],
        "steps": [[str(n), "built", {"n": n}] for n in numbers],
        "instances": [[f"sha{n}", "standby", True] for n in numbers],
        "ledger": [rounds, True, True, rounds, json.dumps({"n": rounds})],
    }


def rows(against: str) -> Iterator[Row]:
    """One row a direction: what differs from what was written. Raises ReleaseError."""
    with tempfile.TemporaryDirectory(prefix="never-sleeps-releases-") as name:
        former = Path(name) / "former"
        sha = _extract(against, former)
        for first, second, tried in ((former, ROOT, "deploy"), (ROOT, former, "rollback")):
            folder, wrong = Path(name) / tried, list[str]()
            for number, release in enumerate((first, second, first, second), 1):
                _run(release, "write", folder, number)
                for reader in (first, second):
                    answer = json.loads(_run(reader, "read", folder, number))
                    wrong += [
                        f"round {number}, read by {'the former' if reader is former else 'this'} release: {part} is "
                        f"{answer[part]}, expected {wanted}"
                        for part, wanted in expected(number).items()
                        if answer[part] != wanted
                    ]
            note = "this release and the former write in turn, both read"
            yield Row("releases", f"{tried}: beside bus/ of {sha}", 4, "turns", tuple(wrong), note)


def _extract(ref: str, folder: Path) -> str:
    sha = subprocess.run(
        ["git", "-C", str(ROOT), "rev-parse", "--short=12", ref], capture_output=True, text=True, check=False
    )
    there = subprocess.run(
        ["git", "-C", str(ROOT), "ls-tree", "--name-only", ref, *PACKAGES], capture_output=True, text=True, check=False
    )
    tar = subprocess.run(
        ["git", "-C", str(ROOT), "archive", ref, *there.stdout.split()], capture_output=True, check=False
    )
    if sha.returncode or tar.returncode or "bus" not in there.stdout.split():
        raise ReleaseError(f"expected {ref} with bus/ in this checkout's history; fetch it, or give another --against")
    with tarfile.open(fileobj=io.BytesIO(tar.stdout)) as files:
        files.extractall(folder, filter="data")
    return sha.stdout.strip()


def _run(release: Path, what: str, folder: Path, number: int) -> str:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, what, str(folder), str(number)],
        cwd=release,
        env={**os.environ, "PYTHONPATH": str(release), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    if done.returncode != 0:
        raise ReleaseError(f"{release.name} cannot {what} round {number}: {done.stderr.strip()[-800:]}")
    return done.stdout


def main() -> int:
    """Try both directions; 1 when something was lost or misread, 2 where it cannot be tried."""
    parser = argparse.ArgumentParser(prog="python -m proof.releases", description=__doc__)
    parser.add_argument("--against", default=FORMER, metavar="REF", help=f"the former release ({FORMER})")
    add_out(parser)
    chosen = parser.parse_args()
    try:
        return save("releases", rows(chosen.against), chosen.out)
    except ReleaseError as error:
        print(f"proof: {error}", file=sys.stderr)  # noqa: T201
        return 2


if __name__ == "__main__":
    sys.exit(main())
