"""What a release is made of is said out of the lock, whole and the same each time."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_pinned_package_is_in_it_with_its_hashes() -> None:
    """As many components as pins, as many hashes as the lock has; twice the same bytes."""
    made = [
        subprocess.run([sys.executable, ".ci/sbom"], cwd=ROOT, capture_output=True, check=True).stdout for _ in (1, 2)
    ]
    assert made[0] == made[1]
    found = json.loads(made[0])
    lock = (ROOT / "requirements.lock").read_text()
    pins = re.findall(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", lock, re.MULTILINE)
    assert [(part["name"], part["version"]) for part in found["components"]] == [(n.lower(), v) for n, v in pins]
    assert sum(len(part["hashes"]) for part in found["components"]) == lock.count("--hash=sha256:") > len(pins)
    assert (found["bomFormat"], found["specVersion"]) == ("CycloneDX", "1.5")


def test_an_audit_fails_for_a_known_hole_and_for_nothing_else(tmp_path: Path) -> None:
    """Without the tool, or where its database does not answer, it says that it was left out."""

    def audit(script: str | None) -> subprocess.CompletedProcess[str]:
        tool = tmp_path / "pip-audit"
        tool.unlink(missing_ok=True)
        if script is not None:
            tool.write_text(f"#!/bin/sh\n{script}\n")
            tool.chmod(0o755)
        environment = {**os.environ, "PATH": f"{tmp_path}:/usr/bin:/bin"}
        return subprocess.run(
            ["sh", ".ci/audit"], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )

    assert audit("echo 'No known vulnerabilities found'").returncode == 0
    assert audit("echo 'Found 2 known vulnerabilities in 1 package'; exit 1").returncode == 1
    unknown = audit("echo 'yarl Dependency not found on PyPI and could not be audited: yarl (1.25.1)'")
    assert (unknown.returncode, "left out for 1 packages" in unknown.stdout) == (0, True)
    away = audit("echo 'connection refused' >&2; exit 1")
    assert (away.returncode, "did not answer" in away.stdout) == (0, True)
    assert "not installed" in audit(None).stdout
