"""`make demo`, whole; and once with an order that no ledger knows, so that its exit code is seen to mean something."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from io import StringIO
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from coincurve import PrivateKey
from rich.console import Console

from bench.paper_load import Key, address_of, key_request, order_pair
from deployer.commands.demo import STEPS, Demo, ProgressTable
from tests.e2e.deployer_rig import GIT
from tests.e2e.rig import ROOT, log_lines

pytestmark = pytest.mark.timeout(420)

PACKAGES = ("recording", "bus", "ledger", "bot", "paper", "panel", "deployer")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository of what this checkout has, uncommitted changes included."""
    made = tmp_path / "repository"
    made.mkdir()
    for name in PACKAGES:
        shutil.copytree(ROOT / name, made / name, ignore=shutil.ignore_patterns("__pycache__"))
    for words in (("init", "--quiet"), ("add", "-A"), ("commit", "--quiet", "-m", "first")):
        subprocess.run([*GIT, *words], cwd=made, check=True, capture_output=True, timeout=60)
    return made


def test_the_demo_deploys_refuses_rolls_back_and_survives_a_kill(repository: Path) -> None:
    """All steps end as they should, the audit holds with no tick missed, and the exit code is 0."""
    done = subprocess.run(
        [sys.executable, "-m", "deployer", "demo"],
        cwd=repository,
        env={**os.environ, "DEPLOYER_REPOSITORY": str(repository), "COLUMNS": "160"},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.findall(r"ok: (.*?) \(", done.stdout) == [name for name, _ in STEPS]
    assert "ticks missed: 0 (allowed 0)" in done.stdout
    assert done.stdout.rstrip().endswith("demo: everything held")


def test_the_demo_exits_1_when_an_invariant_is_broken(repository: Path, tmp_path: Path) -> None:
    """An order of the bot's account that has no intent, placed behind its back: the audit names it, and the demo failed."""
    said = StringIO()
    folder = tmp_path / "demo"
    folder.mkdir()
    placed: list[str] = []

    def place(demo: Demo, board: ProgressTable, up: subprocess.Popen[bytes]) -> str:
        placed.append(order_of_nobody(folder, demo))
        return "an order without an intent"

    steps = (STEPS[0], ("break an invariant", place), STEPS[-1])
    assert Demo(folder, repository, Console(file=said, width=1000)).run(steps) == 1
    assert "FAILED: audit" in said.getvalue()
    assert "which has no intent" in said.getvalue()
    assert placed[0] in said.getvalue()


def order_of_nobody(folder: Path, demo: Demo) -> str:
    """Place a resting order with the bots' own key; returns its id."""
    (listening,) = [line for line in log_lines(folder / "deployer" / "services" / "paper.log") if "url" in line]
    url = str(listening["url"])
    private = PrivateKey(bytes.fromhex((demo.bus.directory / "paper.key").read_text().strip().removeprefix("0x")))
    credentials = json.loads(
        sent(url, key_request(private).replace(b"POST /auth/api-key", b"GET /auth/derive-api-key"))
    )
    key = Key(
        private,
        address_of(private),
        credentials["apiKey"],
        base64.urlsafe_b64decode(credentials["secret"]),
        credentials["passphrase"],
    )
    slug = f"btc-updown-15m-{int(time.time()) // 900 * 900 + 900}"
    with urllib.request.urlopen(f"{url}/markets/slug/{slug}", timeout=60) as answer:
        token = json.loads(json.load(answer)["clobTokenIds"])[0]
    order = order_pair(key, token, salt=1)
    assert json.loads(sent(url, order.place))["success"] is True
    return order.order_id


def sent(url: str, request: bytes) -> bytes:
    """Send the bytes of a request; returns the answer's body."""
    where = urlsplit(url)
    with socket.create_connection((where.hostname or "", where.port or 0), timeout=60) as connection:
        connection.sendall(request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1))
        answer = b""
        while piece := connection.recv(1 << 16):
            answer += piece
    return answer.partition(b"\r\n\r\n")[2]
