"""An Engine that is not there, too old, not for this user, or of another machine: one line each that says what to do."""

from __future__ import annotations

import json
import socket
import socketserver
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from deployer import RuntimeFailedError
from deployer.errors import EngineRefusedError
from deployer.runtimes.docker.engine import Engine, connect


@contextmanager
def engine(path: Path, api: str) -> Iterator[str]:
    """Something on a socket that answers like an Engine of that API version, and refuses everything else."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            is_version = self.path.endswith("/version")
            body = json.dumps({"ApiVersion": api} if is_version else {"message": "it is on fire"}).encode()
            self.send_response(200 if is_version else 500)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def address_string(self) -> str:
            return "client"

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base class names it so
            """Nothing."""

    with socketserver.ThreadingUnixStreamServer(str(path), Answer) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"unix://{path}"
        server.shutdown()
        thread.join()


def line_of(url: str) -> str:
    """What is said about an Engine that cannot be used."""
    with pytest.raises(RuntimeFailedError) as caught:
        connect(url)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_no_engine_is_said_with_its_socket(tmp_path: Path) -> None:
    """A socket that is not there, and one at which nobody listens."""
    assert "start it" in line_of(f"unix://{tmp_path}/none.sock")
    with socket.socket(socket.AF_UNIX) as left_over:
        left_over.bind(str(tmp_path / "left.sock"))
    assert f"no Docker Engine answers at {tmp_path}/left.sock" in line_of(f"unix://{tmp_path}/left.sock")


def test_an_old_engine_is_said_with_both_versions(tmp_path: Path) -> None:
    """API 1.40 is refused, 1.41 is not."""
    with engine(tmp_path / "old.sock", "1.40") as url:
        said = line_of(url)
        assert "1.40" in said
        assert "1.41 or newer" in said
    with engine(tmp_path / "new.sock", "1.41") as url:
        connect(url)


def test_an_engine_of_another_machine_is_refused() -> None:
    """The bus is on this machine, so the Engine must be."""
    assert "on this machine" in line_of("tcp://elsewhere:2375")


def test_a_socket_without_permission_is_said_with_its_group() -> None:
    """A user who may not open the socket is told which group may."""
    code = (
        "import os, sys\n"
        "from deployer.runtimes.docker.engine import connect\n"
        "from deployer import RuntimeFailedError\n"
        # To root nothing is forbidden: the child gives that up after its imports.
        "if os.geteuid() == 0: os.setgroups([]), os.setgid(65534), os.setuid(65534)\n"
        "try: connect(sys.argv[1])\n"
        "except RuntimeFailedError as error: print(error)\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        path = Path(folder) / "closed.sock"
        with engine(path, "1.45") as url:
            path.chmod(0o000)
            done = subprocess.run(
                [sys.executable, "-c", code, url], capture_output=True, text=True, timeout=60, check=False
            )
            assert f"may not use the Docker Engine at {path}" in done.stdout, done.stdout + done.stderr
            assert f"group {path.stat().st_gid}" in done.stdout


async def test_an_error_of_the_engine_is_one_line_with_its_status(tmp_path: Path) -> None:
    """What the Engine answers is passed on behind what was being done."""
    with engine(tmp_path / "bad.sock", "1.45") as url, pytest.raises(EngineRefusedError) as caught:
        await Engine(url).call("the containers could not be listed", lambda client: client.containers())
    assert str(caught.value) == "the containers could not be listed: the Docker Engine answered: it is on fire"
    assert caught.value.status == 500


async def test_an_engine_that_goes_away_and_comes_back_is_used_again(tmp_path: Path) -> None:
    """A call fails with a line while there is no Engine, and works when it is back."""
    path = tmp_path / "engine.sock"
    with engine(path, "1.45") as url:
        used = Engine(url)
        assert (await used.call("no version", lambda client: client.version()))["ApiVersion"] == "1.45"
    path.unlink(missing_ok=True)
    with pytest.raises(RuntimeFailedError, match="no Docker Engine answers"):
        await used.call("no version", lambda client: client.version())
    with engine(path, "1.45"):
        assert (await used.call("no version", lambda client: client.version()))["ApiVersion"] == "1.45"
