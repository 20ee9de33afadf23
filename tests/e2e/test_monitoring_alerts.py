"""An alert's way to people, with Debian's Alertmanager and the committed configuration."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import threading
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from deployer.commands.cli import AlertError, send_test_alert
from tests.e2e.rig import ROOT, end, until
from tests.forked import run

pytestmark = pytest.mark.skipif(
    shutil.which("prometheus-alertmanager") is None, reason="Alertmanager is missing (Debian: prometheus-alertmanager)"
)


class Receiver:
    """A webhook: keeps what comes."""

    def __init__(self) -> None:
        self.came: list[dict[str, Any]] = []
        came = self.came

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                came.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Nothing."""

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End it."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A webhook on this machine."""
    made = Receiver()
    yield made
    made.close()


@pytest.fixture
def alertmanager(tmp_path: Path, receiver: Receiver) -> Iterator[str]:
    """Alertmanager as configured, the receivers page and look at the webhook and nothing waited for; its URL."""
    text = (ROOT / "monitoring" / "alertmanager" / "alertmanager.yml").read_text()
    for name in ("page", "look"):
        line = f"  - name: {name}\n"
        assert line in text
        text = text.replace(line, f"{line}    webhook_configs: [{{url: '{receiver.url}{name}'}}]\n")
    config = tmp_path / "alertmanager.yml"
    config.write_text(text.replace("group_wait: 10s", "group_wait: 0s"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    with (tmp_path / "alertmanager.log").open("ab") as out:
        process = subprocess.Popen(
            ["prometheus-alertmanager", f"--config.file={config}", f"--storage.path={tmp_path / 'data'}",
             f"--web.listen-address={url.removeprefix('http://')}", "--cluster.listen-address="],
            stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip

    def ready() -> bool:
        assert process.poll() is None, (tmp_path / "alertmanager.log").read_text()[-2000:]
        try:
            with urllib.request.urlopen(f"{url}/-/ready", timeout=60) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    until("Alertmanager is ready", ready)
    yield url
    end(process)


def _command(folder: Path, url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "BUS_DIR": str(folder / "bus"), "DEPLOYER_ALERTMANAGER": url}
    return run(["deployer", "test-alert", *arguments], environment=environment, limit_s=60)


def test_a_test_alert_reaches_its_receiver(tmp_path: Path, alertmanager: str, receiver: Receiver) -> None:
    """`./ns test-alert` goes the way of a real alert: through Alertmanager's routes to who is woken up."""
    done = _command(tmp_path, alertmanager)
    assert done.returncode == 0, done.stderr
    until("the webhook was called", lambda: receiver.came)
    assert (receiver.came[0]["receiver"], receiver.came[0]["commonLabels"]["alertname"]) == ("page", "TestAlert")
    send_test_alert(alertmanager, "look", datetime.now(UTC), lambda _line: None)
    until("the other receiver was called", lambda: {came["receiver"] for came in receiver.came} == {"page", "look"})


def test_without_alertmanager_it_says_what_to_do() -> None:
    """What was expected, what was found, what to do."""
    with pytest.raises(AlertError, match=r"expected Alertmanager at .* refused; .* DEPLOYER_ALERTMANAGER"):
        send_test_alert("http://127.0.0.1:9", "page", datetime.now(UTC), lambda _line: None)
