"""`make run` on a machine with an Engine, with the project's own images: the main job, in containers, from a fresh clone."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account

from bus import DocumentError, read_status
from ledger import Ledger
from tests.e2e.clone import SETTLE_S, Clone
from tests.e2e.commands import Runner
from tests.e2e.docker_engine import docker, need_engine
from tests.e2e.rig import until
from tests.security.planted import environments_with, files_with, holds

need_engine()
pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def clone(tmp_path: Path) -> Iterator[Clone]:
    """A fresh clone; nothing runs."""
    folder = tmp_path / "a path with 'spaces'"
    folder.mkdir()
    made = Clone(folder)
    try:
        yield made
    finally:
        made.clean()


def _metrics(address: str) -> bytes | None:
    try:
        with urllib.request.urlopen(f"http://{address}:9101/metrics", timeout=60) as answer:
            text: bytes = answer.read()
            return text
    except OSError:
        return None


def assert_planted_nowhere(clone: Clone) -> None:
    """Neither the key nor the panel's token is in the environment or the files of a process, in an image, or in a backup."""
    token = (clone.folder / ".run" / "panel" / "token").read_text().strip()
    planted = {"key": clone.key, "token": token}
    assert environments_with(planted) == set()
    reading = "cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null; ls -d /proc/[0-9]*"
    for container in clone.containers():
        name = container["Name"].lstrip("/")
        seen = docker("exec", name, "sh", "-c", reading, check=False)
        image = docker("history", "--no-trunc", container["Image"]) + docker("inspect", container["Image"])
        assert not any(holds((seen + image).encode(), secret) for secret in planted.values()), name
        if name.startswith("bot-"):
            for address in container["NetworkSettings"]["Networks"].values():
                # A spare that was started this moment does not listen yet.
                metrics = until("a bot's metrics", lambda ip=address["IPAddress"]: _metrics(ip), SETTLE_S, 0.2)  # type: ignore[misc]
                assert not any(holds(metrics, secret) for secret in planted.values())
    backup = clone.compose("deployer", "backup", str(clone.folder / "backup.tar.gz"))
    assert backup.returncode == 0, backup.stdout + backup.stderr
    spared = [*(clone.folder / ".run" / "panel").glob("token*")]
    assert files_with(planted, [clone.folder], spared) == set()


def test_make_run_trades_in_containers_and_swaps_them_and_ends_everything(clone: Clone) -> None:
    """From a clone to trades; two commits swap the container and miss nothing; `./ns stop`, a second run, Ctrl-C."""
    process = clone.run()
    clone.until_confirmed(clone.git("rev-parse", "HEAD"))
    until("status", lambda: _status(clone) is not None)
    assert json.loads((clone.bus.directory / "status.json").read_text())["kind"] == "status"

    shown = clone.containers()
    names = {container["Name"].lstrip("/") for container in shown}
    assert {f"{clone.project}-{service}-1" for service in ("paper", "panel", "deployer")} < names
    sockets = {
        container["Name"].lstrip("/")
        for container in shown
        if any("docker.sock" in str(mount) for mount in container["Mounts"]) or container["HostConfig"]["GroupAdd"]
    }
    assert sockets == {f"{clone.project}-deployer-1"}
    default, operators = clone.networks
    for container in shown:
        host = container["HostConfig"]
        networks, name = set(container["NetworkSettings"]["Networks"]), container["Name"].lstrip("/")
        is_apart = name in (f"{clone.project}-panel-1", f"{clone.project}-deployer-1")
        assert networks == {operators if is_apart else default}, "no bot reaches the panel or the deployer"
        assert container["Config"]["User"].split(":")[0] not in ("", "0", "root")
        assert (host["ReadonlyRootfs"], host["CapDrop"], host["Privileged"]) == (True, ["ALL"], False)
        published = [port["HostIp"] for ports in (host["PortBindings"] or {}).values() for port in ports]
        assert set(published) <= {"127.0.0.1"}

    with urllib.request.urlopen(f"http://127.0.0.1:{clone.port}/", timeout=60) as page:
        assert page.status == 200
    assert (clone.folder / ".run" / "panel" / "token").stat().st_mode & 0o777 == 0o600

    for _ in range(2):
        sha = clone.commit()
        clone.until_confirmed(sha)
    # A comment decides nothing: the former commit's polls are replayed in a container of their own, beside the warm-up.
    compared = until("the comparison", lambda: clone.step(sha, "compared"))
    assert re.fullmatch(r"[1-9]\d* polls? replayed, 0 decisions differ", compared.text), compared
    trader = until("a trader", clone.trader)
    assert trader.document is not None
    lines = [json.loads(line) for line in docker("logs", "--tail=5", trader.document.unit).splitlines()]
    assert all("event" in line for line in lines)
    until("fills", lambda: (status := _status(clone)) and status["totals"]["fills"])
    with until("a ledger", lambda: Ledger.reader(clone.bus.ledger)) as ledger:
        wallet = ledger.execute("SELECT value FROM meta WHERE key = 'wallet'")
    assert wallet == [(Account.from_key(clone.key).address,)], "the bots trade with the key file's own wallet"
    for container in clone.containers():
        told = json.dumps(container) + docker("logs", container["Name"].lstrip("/"))
        assert clone.key not in told, f"the key is shown by {container['Name']}"
    assert_planted_nowhere(clone)
    said = clone.make("status")
    assert "trades" in said.stdout, said.stdout + said.stderr
    audit = clone.make("audit", "ARGS=--venue http://paper:8700 --max-missed 0")
    assert audit.returncode == 0, audit.stdout + audit.stderr

    # What reads, and what is meant for one service, ends nobody and writes nothing.
    settings = (clone.folder / ".run" / "settings.env").read_text()
    shown_status = until("status", lambda: _status(clone))
    slot = shown_status["slots"][0]["slot"]
    explained = clone.compose("run", "--rm", "--no-deps", "audit", "explain", slot)
    assert explained.returncode == 0, explained.stdout + explained.stderr
    assert (clone.folder / ".run" / "settings.env").read_text() == settings
    for words in (("stop", "deployer"), ("start", "deployer")):
        assert clone.compose(*words).returncode == 0
        assert clone.trader() is not None, words
    refused = clone.compose("stop")
    assert (refused.returncode, "--yes" in refused.stderr) == (2, True), refused.stdout + refused.stderr
    assert clone.trader() is not None

    # Every command of README and docs, as it is written.
    problems = Runner(clone, "docker").run_all(to_the_end=False)
    assert not problems, "\n".join(problems)

    trader = until("a trader", clone.trader)
    assert trader.document is not None
    stopped = clone.make("stop")
    assert stopped.returncode == 0, stopped.stdout + stopped.stderr
    assert f"ended {trader.document.unit}" in stopped.stdout
    assert clone.containers() == []
    assert process.wait(30) == 0
    assert clone.make("stop").stdout.strip() == "nothing runs"

    epochs = _epoch(clone)
    tape = clone.folder.parent / "prices.csv"
    clone.environment["TAPE"] = f"{tape}@BTC"
    tape.write_text("time,open,high,low,close,volume\n60,100,101,99,100,1\n")
    refused = clone.make("run")
    assert (refused.returncode, "line 2" in refused.stderr, clone.containers()) == (2, True, []), refused.stderr
    tape.write_text(
        "time,open,high,low,close,volume\n"
        + "".join(f"2024-01-01T{n // 60:02}:{n % 60:02}:00Z,100,101,99,100,1\n" for n in range(600))
    )
    process = clone.run()
    until("it trades on", lambda: _epoch(clone) > epochs, SETTLE_S, 0.2)
    os.killpg(process.pid, signal.SIGINT)
    process.wait(60)
    assert "bots first" in clone.log.read_text()
    assert clone.containers() == []
    other = subprocess.run(
        ["bin/runtime"], cwd=clone.folder, env={**clone.environment, "RUNTIME": "process"},
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert other.returncode == 2
    assert "belongs to the runtime docker" in other.stderr


def _status(clone: Clone) -> dict[str, Any] | None:
    try:
        return read_status(clone.bus).body.model_dump()
    except DocumentError:
        return None


def _epoch(clone: Clone) -> int:
    status = _status(clone)
    return int(status["epoch"]) if status else 0
