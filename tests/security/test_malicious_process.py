"""A commit that tries all that it may not, before anybody approved it, as a process that root started as a user of its own."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from bus import SystemClock, write_control
from deployer.runtimes.children import Children, as_user
from tests.e2e.deployer_rig import DeployerRig
from tests.e2e.rig import until
from tests.security.test_malicious_docker import snapshot

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can let bots run as another user"),
    pytest.mark.timeout(600),
]

USER = 10_001
BUILT_S = 240.0
MALICIOUS = Path(__file__).with_name("malicious.py").read_text()


class UserRig(DeployerRig):
    """Where another user may go: pytest's own folders are root's alone."""

    def __init__(self, folder: Path, user: int) -> None:
        keys = "lease" if user else "start"
        super().__init__(folder, DEPLOYER_BOT_USER=str(user), DEPLOYER_KEYS=keys, DEPLOYER_PYTHON=python_in(folder))
        self.environment["DEPLOYER_CHECK"] = "-c pass"
        self.key = secrets.token_hex(32)
        self.key_file = folder / "wallets" / "wallet.key"
        self.key_file.parent.mkdir(mode=0o700)
        self.key_file.touch(mode=0o600)
        self.key_file.write_text(self.key)
        self.environment |= {
            "BOT_KEY_FILE": str(self.key_file),
            "BOT_LOOKS_FOR": self.key[::-1],
            "DEPLOYER_DIR": str(folder / ".run" / "deployer"),
        }
        write_control(self.bus, 0, lambda control: control.changed(generation=1), by="ann", clock=SystemClock())

    def children(self) -> Children:
        """The units' entries."""
        return Children(self.folder / ".run" / "deployer" / "units")

    def attack(self) -> dict[str, str]:
        """Commit the worker, and wait for what it says."""
        main = (self.repository / "bot" / "__main__.py").read_text()
        (self.repository / "bot" / "malicious.py").write_text(MALICIOUS)
        at = "if __name__ == "
        attack = f"if '--version' not in sys.argv:\n    sys.argv.append({str(self.key_file)!r})\n    import bot.malicious\n\n"
        (self.repository / "bot" / "__main__.py").write_text(main.replace(at, attack + at))
        bad = self.commit("sick")
        self.until_step(bad, "started", BUILT_S)
        logs = self.folder / ".run" / "deployer" / "logs"

        def said() -> dict[str, str] | None:
            for log in logs.glob(f"bot-*-{bad[:7]}-*.log"):
                for line in log.read_text().splitlines():
                    if line.startswith("{") and "event" not in line:
                        found: dict[str, str] = json.loads(line)
                        return found
            return None

        return until("it says what it could do", said)


def python_in(folder: Path) -> str:
    """An environment with the packages of this one, and with an interpreter that everybody may run."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    for base in (sys.executable, f"/usr/bin/python{version}", f"/usr/local/bin/python{version}"):
        tried = [*as_user(USER), "/bin/sh", "-c", f"exec {base} -c pass"]
        if Path(base).exists() and subprocess.run(tried, capture_output=True, check=False).returncode == 0:
            subprocess.run([base, "-m", "venv", "--without-pip", str(folder / "env")], check=True, timeout=60)
            packages = folder / "env" / "lib" / f"python{version}" / "site-packages" / "shared.pth"
            packages.write_text(f"{sysconfig.get_path('purelib')}\n")
            return str(folder / "env" / "bin" / "python")
    pytest.skip(f"no Python {version} stands where user {USER} may run it")


@pytest.fixture
def folder() -> Iterator[Path]:
    """One that everybody may pass through."""
    made = Path(tempfile.mkdtemp(prefix="never-sleeps-", dir="/var/tmp"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.mark.parametrize("user", [USER, 0])
def test_a_malicious_commit_can_do_nothing_before_it_is_approved(folder: Path, user: int) -> None:
    """As a user of its own: no word of people and the deployer changes, no process is looked into but its own kind's, no key is
    found. Started as root, as before, it can do all of it: the list is one of things that work."""
    rig = UserRig(folder, user)
    try:
        good = rig.commit()
        rig.start()
        rig.until_step(good, "confirmed", BUILT_S)
        rig.assert_steady(good)
        holder = rig.holder()
        assert holder is not None
        assert holder.document is not None
        assert Path(f"/proc/{holder.document.pid}").stat().st_uid == user
        (rig.bus.directives / "halt").touch()
        words = snapshot(rig.bus)
        found = rig.attack()
        if user == 0:
            assert {"replace control.json", "append to deploys.jsonl", "end a halt", "read the key"} <= set(found)
            return
        others = set(found) - {"look into other processes", "signal other processes", "ask for the key"}
        assert others == set(), found
        after = snapshot(rig.bus)
        mine = {str(rig.bus.deploys), str(rig.bus.handover)}
        assert {path: data for path, data in after.items() if path not in mine} == {
            path: data for path, data in words.items() if path not in mine
        }
        assert b"malicious" not in b"".join(after.values())
    finally:
        rig.stop()
