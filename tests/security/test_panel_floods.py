"""Who has no token, or one to look with, keeps nobody out who may write, and Halt always comes through."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import http.client
import resource
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bus import is_halted
from panel.connections import Connections
from tests import patience
from tests.unit.panel.running import RunningPanel, running_panel

CLOSED_WITHIN_S = 15.0


@pytest.fixture
def panel(tmp_path: Path) -> Iterator[RunningPanel]:
    with running_panel(tmp_path) as running:
        yield running


@pytest.fixture
def many_files() -> Iterator[None]:
    """Room for the connections of a test."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, before[1]), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@contextlib.contextmanager
def connected(port: int, number: int, says: bytes) -> Iterator[list[socket.socket]]:
    """Connections of a stranger, each of which has said the beginning of something."""
    with contextlib.ExitStack() as stack:
        made = []
        for _ in range(number):
            made.append(stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=60)))
            with contextlib.suppress(OSError):  # it may be closed already
                made[-1].sendall(says)
        yield made


def read_token(panel: RunningPanel) -> str:
    """The token that allows looking alone."""
    file = Path(panel.listening["token_file"])
    return file.with_name(f"{file.name}-read").read_text().strip()


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (310, b""),
        (1000, b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n"),
        (400, b"POST /api/halt HTTP/1.1\r\nContent-Length: 9\r\n\r\n"),
    ],
    ids=["silent", "unfinished", "without-body"],
)
def test_connections_without_a_token_keep_nobody_out(
    panel: RunningPanel, many_files: None, number: int, says: bytes
) -> None:
    """Status is shown and Halt is obeyed while a stranger holds all the connections that he can open."""
    with connected(panel.port, number, says):
        assert panel.call("GET", "/api/status").status == 200
        assert panel.post("halt", generation=1).status == 200
        assert is_halted(panel.bus)


def test_a_connection_that_brings_no_request_is_closed(panel: RunningPanel) -> None:
    """Neither silence nor a header that never ends is waited for longer than the deadline."""
    for says in (b"", b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n"):
        with connected(panel.port, 1, says) as (connection,):
            connection.settimeout(CLOSED_WITHIN_S)
            with contextlib.suppress(ConnectionError):
                assert connection.recv(1) == b""


def test_one_peer_has_few_connections_and_a_new_one_of_another_is_kept() -> None:
    """The longest waiting of the peer with the most goes, and none that came just now."""

    class Ended(list[str]):
        def connection(self, name: str) -> Dropped:
            return Dropped(self, name)

    class Dropped:
        def __init__(self, ended: list[str], name: str) -> None:
            self._ended, self._name = ended, name

        def abort(self) -> None:
            self._ended.append(self._name)

    async def fill() -> None:
        now = 0.0
        ended = Ended()
        connections = Connections(lambda: now)
        connections.opened(("honest", 1), ended.connection("honest"))
        for port in range(200):
            now += 1
            connections.opened(("flood", port), ended.connection(f"flood {port}"))
        assert ended == [f"flood {port}" for port in range(200 - 32)]
        connections.serves(("flood", 199))
        assert connections.waiting == 32
        for port in range(5000):  # all in one moment: they are read first, up to a bound
            connections.opened(("burst", port), ended.connection(f"burst {port}"))
        assert connections.waiting <= 401
        assert "burst 4999" not in ended

    asyncio.run(fill())


def test_a_panel_with_tls_waits_for_no_handshake(tmp_path: Path, many_files: None) -> None:
    """Connections that never shake hands are counted like all others: they are closed and keep nobody out."""
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*made, *names, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    files = {"PANEL_TLS_CERT": str(certificate), "PANEL_TLS_KEY": str(key)}
    with running_panel(tmp_path, **files) as panel, connected(panel.port, 500, b"") as silent:
        context = ssl.create_default_context(cafile=str(certificate))
        connection = http.client.HTTPSConnection("127.0.0.1", panel.port, timeout=60, context=context)
        connection.request("GET", "/api/status", headers={"Authorization": f"Bearer {panel.token}"})
        assert connection.getresponse().status == 200
        connection.close()
        silent[-1].settimeout(CLOSED_WITHIN_S)
        with contextlib.suppress(ConnectionError):
            assert silent[-1].recv(1) == b""


def test_a_token_to_look_with_starves_nobody(panel: RunningPanel) -> None:
    """One that asks as fast as it can, and opens all the pages that it may, costs the token for control nothing."""
    reader = read_token(panel)

    def ask() -> int:
        return panel.call("GET", "/api/ledger/orders", token=reader).status

    with contextlib.ExitStack() as stack, concurrent.futures.ThreadPoolExecutor(8) as pool:
        statuses = []
        for _ in range(45):
            connection = stack.enter_context(contextlib.closing(http.client.HTTPConnection("127.0.0.1", panel.port)))
            connection.request("GET", "/api/events", headers={"Authorization": f"Bearer {reader}"})
            statuses.append(connection.getresponse().status)
        assert set(statuses) == {200, 429}, "expected pages until the token's own number is reached"
        answers = list(pool.map(lambda _: ask(), range(1500)))
        assert 429 in answers, "expected the reader to have used up its own rate"
        assert panel.call("GET", "/api/status").status == 200
        assert panel.post("pause", generation=1).status == 200
        connection = stack.enter_context(contextlib.closing(http.client.HTTPConnection("127.0.0.1", panel.port)))
        connection.request("GET", "/api/events", headers={"Authorization": f"Bearer {panel.token}"})
        assert connection.getresponse().status == 200


def test_what_a_stranger_is_refused_costs_no_token_its_rate(panel: RunningPanel) -> None:
    """Requests under a foreign host name, and a reader's writes, are refused out of the strangers' rate."""
    for _ in range(450):
        panel.call("GET", "/api/status", token="", headers={"Host": "elsewhere.example"})
    for _ in range(40):
        panel.call("POST", "/api/pause", {"generation": 1}, token=read_token(panel))
    assert panel.call("GET", "/api/status").status == 200
    assert panel.post("pause", generation=1).status == 200


HALTS: dict[str, dict[str, object]] = {
    "nothing": {"body": b""},
    "no JSON": {"body": b"now!"},
    "no generation": {"body": {}},
    "a stale generation": {"body": {"generation": 77}},
    "a form": {"body": b"generation=1", "headers": {"Content-Type": "application/x-www-form-urlencoded"}},
    "too much": {"body": b"x" * (65 << 10)},
    "another method": {"method": "PUT", "body": {"generation": 1}},
    "a slash more": {"path": "/api/halt/", "body": {"generation": 1}},
}


@pytest.mark.parametrize("way", HALTS)
def test_whoever_may_halt_has_halted_whatever_is_wrong_with_the_rest(panel: RunningPanel, way: str) -> None:
    """The halt file is set by the request, and control is only what follows."""
    asked = {"method": "POST", "path": "/api/halt", "headers": None, **HALTS[way]}
    with contextlib.suppress(OSError):  # a body that is too long may be cut off
        panel.call(str(asked["method"]), str(asked["path"]), asked["body"], headers=asked["headers"])  # type: ignore[arg-type]
    assert is_halted(panel.bus)


def test_a_halt_whose_body_never_comes_has_halted(panel: RunningPanel) -> None:
    """The header alone is enough."""
    with socket.create_connection(("127.0.0.1", panel.port), timeout=60) as connection:
        said = f"POST /api/halt HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {panel.token}\r\n"
        connection.sendall(f"{said}Content-Type: application/json\r\nContent-Length: 17\r\n\r\n".encode())
        deadline = patience.now() + 5
        while not panel.bus.halt.exists():
            assert patience.now() < deadline
            time.sleep(0.01)


def test_nobody_halts_without_a_token_for_it(panel: RunningPanel) -> None:
    """A stranger, a reader, and another page in the operator's browser do not."""
    assert panel.call("POST", "/api/halt", {"generation": 1}, token="").status == 401
    assert panel.call("POST", "/api/halt", {"generation": 1}, token=read_token(panel)).status == 403
    elsewhere = {"Origin": "http://elsewhere.example", "Sec-Fetch-Site": "cross-site"}
    assert panel.call("POST", "/api/halt", {"generation": 1}, headers=elsewhere).status == 403
    assert not is_halted(panel.bus)


def test_of_ninety_racing_writes_one_wins_each_generation(tmp_path: Path) -> None:
    """Thirty at a time name the same generation: one is accepted, every other hears 409 with the newest one."""
    tokens = [f"{name}{'x' * 40}" for name in "abc"]  # each brings a rate of its own
    file = tmp_path / "run" / "token"
    file.parent.mkdir()
    file.touch(mode=0o600)
    file.write_text("\n".join(tokens))
    with running_panel(tmp_path) as panel:
        for token in tokens:
            generation = panel.generation()

            def race(index: int, based_on: int = generation, token: str = token) -> tuple[int, int | None]:
                body = {"generation": based_on, "daily_loss": str(100 + index)}
                answer = panel.call("POST", "/api/risk", body, token=token)
                return answer.status, answer.json.get("newest")

            with concurrent.futures.ThreadPoolExecutor(15) as pool:
                answers = list(pool.map(race, range(30)))
            assert sorted(status for status, _ in answers) == [200, *[409] * 29]
            assert {newest for status, newest in answers if status == 409} == {generation + 1}
            assert panel.generation() == generation + 1
