"""The wallet's key reaches a candidate with the lease, and nothing of it before: the real bot and deployer, as processes."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.rig import log_lines, until
from tests.e2e.test_deployer_compare import STRATEGY, OwnRig

# A build waits for a machine that has other work.
BUILT_S = 240.0

pytestmark = pytest.mark.timeout(600)


class KeyedRig(OwnRig):
    """A wallet whose key is in a file that the deployer alone is told of."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.key = secrets.token_hex(32)
        path = folder / "planted" / "wallet.key"
        path.parent.mkdir(mode=0o700)
        path.touch(mode=0o600)
        path.write_text(f"{self.key}\n")
        self.environment["BOT_KEY_FILE"] = str(path)

    def handed(self) -> list[str]:
        """The shas of the units that keys were handed to."""
        lines = [line for line in log_lines(self.log) if line.get("event") == "keys_handed_over"]
        return [str(line["unit"]).split("-")[2] for line in lines]

    def pid(self, sha: str) -> int:
        """The process of a commit's one bot."""
        (pid,) = [s.document.pid for s in self.living() if s.document and s.document.sha == sha]
        return pid

    def holds_key(self, sha: str) -> bool:
        """Whether the key, as text or as bytes, is anywhere in the memory of a commit's bot that is written to."""
        return any(self.key.encode() in part or bytes.fromhex(self.key) in part for part in _memory(self.pid(sha)))


def _memory(pid: int) -> Iterator[bytes]:
    with Path(f"/proc/{pid}/maps").open() as maps, Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in maps:
            where, flags = line.split()[:2]
            if not flags.startswith("rw"):
                continue
            first, last = (int(part, 16) for part in where.split("-"))
            try:
                memory.seek(first)
                yield memory.read(last - first)
            except OSError:
                continue


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[KeyedRig]:
    """Nothing but the exchange is started."""
    made = KeyedRig(tmp_path)
    yield made
    made.stop()


def test_a_held_candidate_has_no_key_until_it_is_approved_and_the_handover_misses_nothing(rig: KeyedRig) -> None:
    """Not in its environment, its arguments or its memory, through a SIGKILL of the deployer; then with the lease, in time."""
    first = rig.save(STRATEGY)
    rig.start()
    rig.until_step(first, "confirmed", BUILT_S)
    polled = rig.count("SELECT count(*) FROM polls_completed")
    until("polls with a book", lambda: rig.count("SELECT count(*) FROM polls_completed") > polled + 5)
    assert rig.holds_key(first), "this way of looking finds a key"

    other = rig.save(STRATEGY.replace("number(0.0,", "number(1.0,"))
    rig.until_step(other, "held", BUILT_S)
    rig.kill()
    rig.start()
    until("it waits with the new deployer", lambda: Path(f"/proc/{rig.pid(other)}").exists())
    environment = Path(f"/proc/{rig.pid(other)}/environ").read_bytes()
    assert b"BOT_KEY_SOCKET=" in environment
    assert b"BOT_KEY_FILE" not in environment
    assert str(rig.folder / "planted" / "wallet.key\0").encode() not in environment
    assert not rig.holds_key(other)
    assert set(rig.handed()) == {first[:7]}

    approved = rig.command("approve", other[:7])
    assert approved.returncode == 0, approved.stdout + approved.stderr
    assert rig.handed()[-1] == other[:7]
    assert rig.holds_key(other)
    assert rig.missed() == 0
    assert rig.key not in "".join(path.read_text(errors="replace") for path in rig.folder.rglob("*.log"))
