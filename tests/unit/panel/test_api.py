"""The API of a real panel process over real HTTP."""

from __future__ import annotations

import asyncio
import concurrent.futures
import http.client
import json
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bus import (
    Control,
    ControlStatus,
    FileLock,
    Mode,
    SlotControl,
    Stamp,
    SystemClock,
    Watch,
    is_halted,
    read_control,
    write_atomically,
    write_control,
)
from bus.documents import encode
from ledger import Identity, Ledger
from tests import patience
from tests.forked import run
from tests.unit.panel.running import Bot, RunningPanel, environment, make_status, running_panel


@pytest.fixture
def panel(tmp_path: Path) -> Iterator[RunningPanel]:
    """A panel on a fresh bus."""
    with running_panel(tmp_path) as running:
        yield running


@pytest.fixture(scope="module")
def shared_panel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPanel]:
    """A panel for tests that expect to be refused."""
    with running_panel(tmp_path_factory.mktemp("shared")) as running:
        Bot(running.bus).write(make_status())
        yield running


def apply(running_bus: Path, control: Control) -> None:
    """Put `control` into the ledger as applied, as the active bot does."""
    with Ledger.hold(running_bus, Identity("paper", "137", "0xabc")) as ledger:
        epoch = ledger.take(instance="i", sha="s", color="blue", request="", wall_ms=1, boot_ms=1, boot_id="b")
        ledger.apply_control(control.generation, epoch, body=control.model_dump_json(), refused="[]", wall_ms=1)


def test_a_fresh_bus_gets_generation_1_and_each_action_the_next(panel: RunningPanel) -> None:
    """Pause, resume, halt and slots change control, rise by one, and stand in the record with before and after."""
    assert read_control(panel.bus) == Control(generation=1, by=read_control(panel.bus).by)
    Bot(panel.bus).write(make_status())
    said = panel.post("pause", generation=1).json
    assert (said["generation"], said["halted"], said["recorded"], said["progress"]["stage"]) == (
        2,
        False,
        True,
        "requested",
    )
    assert read_control(panel.bus).mode is Mode.PAUSE
    assert panel.post("resume", generation=2).json["generation"] == 3
    assert panel.post("slots/BTC-5m+1", generation=3, enabled=False).json["generation"] == 4
    assert read_control(panel.bus).slots == {"BTC-5m+1": SlotControl(enabled=False)}
    said = panel.post("halt", generation=4).json
    assert (said["generation"], said["halted"], said["recorded"]) == (5, True, True)
    writes = panel.call("GET", "/api/writes").json["writes"]
    assert [write["action"] for write in writes] == ["halt", "slot BTC-5m+1 off", "resume", "pause", "first"]
    assert (writes[3]["before"], writes[3]["after"]) == ({"mode": "run"}, {"mode": "pause"})
    assert {write["origin"] for write in writes[:-1]} == {"127.0.0.1"}


def test_a_pause_that_ends_by_itself_is_asked_for_with_its_reason(panel: RunningPanel) -> None:
    """Both stand in control; what is no time or no line of text is refused and writes nothing."""
    for wrong in ({"for_s": 0}, {"for_s": 604_801}, {"for_s": "30m"}, {"why": "x" * 201}, {"why": "a\u2028b"}):
        assert panel.post("pause", generation=1, **wrong).status == 422, wrong
    assert panel.post("pause", generation=1, for_s=1800, why="CPI").json["generation"] == 2
    control = panel.call("GET", "/api/control").json["control"]
    assert (control["mode"], control["why"]) == ("pause", "CPI")
    assert control["pause_until_ms"] == read_control(panel.bus).pause_until_ms


def test_a_halt_ends_only_by_a_confirmed_resume(panel: RunningPanel) -> None:
    """Without confirm nothing changes and the halt file stays; with it both are undone. A file set by hand counts too."""
    panel.post("halt", generation=1)
    refused = panel.post("resume", generation=2)
    assert refused.status == 422
    assert "confirm" in refused.json["error"]
    assert is_halted(panel.bus)
    assert panel.generation() == 2
    said = panel.post("resume", generation=2, confirm=True).json
    assert (said["generation"], said["halted"]) == (3, False)
    panel.bus.halt.touch()
    assert panel.post("resume", generation=3).status == 422
    assert panel.post("resume", generation=3, confirm=True).status == 200


def test_a_stale_write_changes_nothing_but_a_halt_still_stops_entries(panel: RunningPanel) -> None:
    """409 names both generations; a stale halt leaves the halt file set and says so; a stale resume leaves it alone."""
    panel.post("pause", generation=1)
    stale = panel.post("resume", generation=1)
    assert (stale.status, stale.json["based_on"], stale.json["newest"]) == (409, 1, 2)
    assert read_control(panel.bus).mode is Mode.PAUSE
    halt = panel.post("halt", generation=1)
    assert (halt.status, halt.json["halted"]) == (409, True)
    assert panel.post("resume", generation=1, confirm=True).status == 409
    assert is_halted(panel.bus)


def test_a_halt_works_when_control_cannot_be_written(panel: RunningPanel) -> None:
    """The halt file is set first; the answer says that control was not written and that no entries are made."""
    panel.bus.control.unlink()
    (panel.bus.control / "in the way").mkdir(parents=True)
    answer = panel.post("halt", generation=1)
    assert (answer.status, answer.json["halted"]) == (503, True)
    assert "halt file is set" in answer.json["error"]
    assert is_halted(panel.bus)


async def test_a_halt_neither_waits_for_control_nor_gives_way_to_a_resume(panel: RunningPanel) -> None:
    """The halt file is there while another holds control's lock; removed by that other's resume, it is set again."""
    lock = FileLock(panel.bus.control_lock)
    assert lock.try_lock()
    with Watch([panel.bus.halt]) as watch:
        halting = asyncio.create_task(asyncio.to_thread(panel.post, "halt", generation=1))
        assert await watch.changed(limit_s=3)
    assert not halting.done()
    panel.bus.halt.unlink()
    resumed = encode(Control(generation=2, by="other"), Stamp("other", 2, SystemClock().wall_ms()))
    write_atomically(panel.bus.control, resumed, durable=True)
    lock.unlock()
    assert (await halting).status == 409
    assert is_halted(panel.bus)


def test_two_writers_at_once_lose_nothing(panel: RunningPanel) -> None:
    """Of many writers, each repeating on 409, every acknowledged write is in control, under a generation of its own."""
    slots = [slot.slot for slot in make_status().slots]
    Bot(panel.bus).write(make_status())

    def by_http(slot: str) -> int:
        generation = 1
        while True:
            answer = panel.post(f"slots/{slot}", generation=generation, enabled=False)
            if answer.status == 200:
                return int(answer.json["generation"])
            if answer.status == 409:
                generation = answer.json["newest"]
            else:
                assert answer.status == 429, answer.body

    def beside_it() -> int:
        # Another panel's process writes through the same lock.
        generation = panel.generation()
        return write_control(panel.bus, generation, lambda control: control, by="other", clock=SystemClock()).generation

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        generations = list(pool.map(by_http, slots))
    generations.append(beside_it())
    assert sorted(generations) == list(range(2, len(slots) + 3))
    assert {slot for slot, wanted in read_control(panel.bus).slots.items() if not wanted.enabled} == set(slots)


def test_a_damaged_control_is_shown_and_brought_back_by_a_persons_write(tmp_path: Path) -> None:
    """The panel invents nothing: it shows the problem, and the next write continues from the last applied generation."""
    with running_panel(tmp_path) as first:
        first.post("pause", generation=1)
        applied = first.bus, read_control(first.bus)
    apply(applied[0].ledger, applied[1])
    applied[0].control.write_bytes(b'{"torn')
    with running_panel(tmp_path) as panel:
        assert panel.bus.control.read_bytes() == b'{"torn'
        shown = panel.call("GET", "/api/control").json
        assert shown["generation"] == 2
        assert "control.json" in shown["problem"]
        assert panel.post("slots/BTC-5m", generation=2, enabled=False).status == 404  # no status names it
        assert panel.post("pause", generation=2).json["generation"] == 3
        assert read_control(panel.bus).mode is Mode.PAUSE
        assert panel.call("GET", "/api/control").json["problem"] is None


def test_a_missing_control_with_an_applied_one_is_not_made_anew(tmp_path: Path) -> None:
    """Defaults would undo a pause: the file stays missing until a person writes."""
    with running_panel(tmp_path) as first:
        bus = first.bus
    apply(bus.ledger, Control(generation=9, by="x", mode=Mode.PAUSE))
    bus.control.unlink()
    with running_panel(tmp_path) as panel:
        assert not bus.control.exists()
        assert panel.post("resume", generation=9).json["generation"] == 10


def test_status_is_shown_with_its_stamp_and_age_or_with_what_is_wrong(panel: RunningPanel) -> None:
    """No status, a good one and a damaged one are all answered with 200."""
    assert "no status yet" in panel.call("GET", "/api/status").json["problem"]
    Bot(panel.bus).write(make_status())
    shown = panel.call("GET", "/api/status").json
    assert (shown["status"]["epoch"], shown["stamp"]["sequence"], shown["problem"]) == (7, 1, None)
    assert 0 <= shown["age_ms"] < 5000
    assert shown["status"]["totals"]["pnl"] == "312.87"
    panel.bus.status.write_bytes(b"")
    assert "status.json" in panel.call("GET", "/api/status").json["problem"]


def test_events_push_what_changed_until_the_panel_ends(panel: RunningPanel) -> None:
    """A page gets everything at once, then each new status; SIGTERM ends open streams and the panel within 2 s, exit 0.

    What its buttons and its verdict need comes before the status: a press is based on what the page has been told of control.
    """
    connection = http.client.HTTPConnection("127.0.0.1", panel.port, timeout=10)
    connection.request("GET", "/api/events", headers={"Authorization": f"Bearer {panel.token}"})
    response = connection.getresponse()
    assert response.headers["content-type"].startswith("text/event-stream")

    def next_event() -> tuple[str, dict[str, object]]:
        while not (line := response.readline()).startswith(b"event: "):
            assert line, "the stream ended"
        return line[7:].decode().strip(), json.loads(response.readline()[6:])

    first = [next_event()[0] for _ in range(7)]
    assert first[:3] == ["control", "instances", "status"]
    assert set(first[3:]) == {"deploys", "writes", "ledger", "notifications"}
    Bot(panel.bus).write(make_status(epoch=41))
    while (event := next_event())[0] != "status" or not event[1]["status"]:
        pass
    assert event[1]["status"]["epoch"] == 41  # type: ignore[index]  # JSON: an object here
    started = time.monotonic()
    panel.process.send_signal(signal.SIGTERM)
    assert panel.process.wait(10) == 0
    assert time.monotonic() - started < 2
    connection.close()


@pytest.mark.parametrize(
    ("method", "path", "headers", "token", "status"),
    [
        ("POST", "/api/pause", {}, "w" * 43, 401),
        ("POST", "/api/pause", {}, "", 401),
        ("GET", "/api/events", {}, "", 401),
        ("GET", "/api/ledger/orders", {}, "w" * 43, 401),
        ("POST", "/api/pause", {"Content-Type": "text/plain"}, None, 415),
        ("POST", "/api/pause", {"Origin": "http://evil.example"}, None, 403),
        ("POST", "/api/pause", {"Sec-Fetch-Site": "cross-site"}, None, 403),
        ("POST", "/api/pause", {"Host": "evil.example"}, None, 403),
        ("GET", "/api/status", {"Host": "evil.example"}, None, 403),
        ("GET", "/", {"Host": "evil.example"}, None, 403),
        ("DELETE", "/api/control", {}, None, 405),
        ("GET", "/api/nothing", {}, None, 404),
        ("GET", "/..%2fapi.py", {}, None, 404),
    ],
)
def test_what_may_not_pass_is_refused_in_words(
    shared_panel: RunningPanel, method: str, path: str, headers: dict[str, str], token: str | None, status: int
) -> None:
    """Wrong token, type, page, host name or path: refused with a sentence, and control stays as it is."""
    generation = shared_panel.generation()
    answer = shared_panel.call(method, path, {"generation": generation}, token=token, headers=headers)
    assert answer.status == status
    assert answer.json["error"]
    assert shared_panel.generation() == generation


def test_a_body_beyond_the_limit_is_refused_even_when_its_length_is_not_said(shared_panel: RunningPanel) -> None:
    """64 KB are the limit, in one piece or in chunks."""
    large = b'{"generation": 1, "x": "' + b"x" * (65 << 10) + b'"}'
    assert shared_panel.call("POST", "/api/pause", large).status == 413
    with socket.create_connection(("127.0.0.1", shared_panel.port), timeout=60) as sock:
        head = (
            f"POST /api/pause HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {shared_panel.token}\r\n"
            "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        sock.sendall(head.encode() + b"%x\r\n%s\r\n0\r\n\r\n" % (len(large), large))
        assert sock.recv(4096).startswith(b"HTTP/1.1 413")


def test_the_page_comes_from_the_panel_alone(shared_panel: RunningPanel) -> None:
    """The page is served with a policy that lets the browser load nothing from elsewhere, and no document names another host."""
    for path in ("/", "/app.js", "/style.css"):
        answer = shared_panel.call("GET", path)
        assert answer.status == 200
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert b"://" not in answer.body
    assert shared_panel.call("GET", "/docs").status == 404


def test_https_is_served_with_a_certificate_of_its_own(tmp_path: Path) -> None:
    """With a certificate and its key any address may be listened on, and status goes over TLS alone."""
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    made += ["-subj", "/CN=localhost", "-keyout", str(key), "-out", str(cert)]
    subprocess.run(made, check=True, capture_output=True, timeout=30)
    files = {"PANEL_TLS_CERT": str(cert), "PANEL_TLS_KEY": str(key)}
    with running_panel(tmp_path, PANEL_HOST="0.0.0.0", **files) as panel:
        assert panel.listening["url"].startswith("https://")
        trusted = ssl.create_default_context(cafile=str(cert))
        connection = http.client.HTTPSConnection("localhost", panel.port, timeout=20, context=trusted)
        connection.request("GET", "/api/control", headers={"Authorization": f"Bearer {panel.token}"})
        assert json.load(connection.getresponse())["generation"] == 1
        connection.close()
        with pytest.raises((OSError, http.client.HTTPException)):
            panel.call("GET", "/api/control")


def test_a_token_is_never_shown_and_readers_cannot_write(tmp_path: Path) -> None:
    """No start prints it; a token of the read file looks and is refused for a write."""
    with running_panel(tmp_path) as panel:
        assert panel.token not in json.dumps(panel.listening)
        generation = panel.generation()
        reader = (tmp_path / "run" / "token-read").read_text().strip()
        assert panel.call("GET", "/api/status", token=reader).status == 200
        answer = panel.call("POST", "/api/pause", {"generation": generation}, token=reader)
        assert (answer.status, panel.generation()) == (403, generation)


def test_flatten_wants_nothing_held_in_the_windows_of_now_and_forgets_those_that_are_over(panel: RunningPanel) -> None:
    """One exit a window, once while it stands; a buy names its window; what is long over goes with the next write."""
    bot = Bot(panel.bus)
    assert panel.post("flatten", generation=1).status == 503, "no status says which windows there are"
    bot.write(make_status())
    said = panel.post("flatten", generation=1).json
    assert len(said["manual"]) == 16
    assert panel.post("flatten", generation=2).json["manual"] == []
    bought = panel.post("enter", generation=3, slot="BTC-5m", outcome="Down", max_spend=12.5, max_price="0.5").json
    (wanted,) = [one for one in read_control(panel.bus).manual if one.id in bought["manual"]]
    slot = next(one for one in make_status().slots if one.slot == "BTC-5m")
    assert (wanted.action, wanted.window, wanted.expires_ms) == ("enter", slot.window, slot.end_ms)
    assert panel.call("GET", "/api/control/4").json["manual"][0]["state"] == "waiting"
    over = [one.model_copy(update={"expires_ms": 1}) for one in read_control(panel.bus).manual]
    write_control(panel.bus, 4, lambda found: found.changed(manual=over), by="test", clock=SystemClock())
    panel.post("flatten", generation=5, slot="BTC-5m")
    assert [one.slot for one in read_control(panel.bus).manual] == ["BTC-5m"]


def test_a_write_can_wait_until_the_bot_has_applied_or_refused_it(panel: RunningPanel) -> None:
    """wait_s holds the answer back until status shows the generation; its reasons for what it did not take stand in it."""
    bot = Bot(panel.bus)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        body = {"generation": 1, "parameters": {"kelly": 7}, "wait_s": 15}
        waiting = pool.submit(panel.call, "POST", "/api/strategy", body)
        deadline = patience.now() + 15
        while panel.generation() == 1 and patience.now() < deadline:
            time.sleep(0.01)
        reason = "strategy.kelly: expected a number from 0 to 1, found 7; 0.25 stays"
        bot.write(make_status(control=ControlStatus(seen=2, applied=2, refused=(reason,))))
        progress = waiting.result(30).json["progress"]
    assert (progress["stage"], progress["reasons"], progress["settled"]) == ("applied", [reason], True)
    bot.write(make_status(control=ControlStatus(seen=2, applied=1, problem="an older release")))
    assert panel.call("GET", "/api/control/2").json["stage"] == "refused"
    assert panel.call("GET", "/api/control/77").status == 404


def kill_soon(panel: RunningPanel) -> None:
    """SIGKILL in the middle of a burst of writes: no event marks that moment, so a short time does."""
    time.sleep(0.15)
    panel.process.kill()


def test_sigkill_leaves_control_whole_and_acknowledged(tmp_path: Path) -> None:
    """Killed while it writes, again and again: control is always readable, and never older than an acknowledged write."""
    for _ in range(4):
        with running_panel(tmp_path) as panel, concurrent.futures.ThreadPoolExecutor(1) as pool:
            acknowledged = [panel.generation()]
            killing = pool.submit(kill_soon, panel)
            while True:
                try:
                    answer = panel.post("halt", generation=acknowledged[-1])
                except (OSError, http.client.HTTPException):
                    break
                if answer.status == 200:
                    acknowledged.append(answer.json["generation"])
                elif answer.status == 409:
                    acknowledged.append(answer.json["newest"])
            killing.result()
        assert read_control(panel.bus).generation - acknowledged[-1] in (0, 1)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"PANEL_HOST": "0.0.0.0"}, "PANEL_BEHIND_PROXY"),
        ({"PANEL_PORT": "many"}, "PANEL_PORT"),
        ({"BUS_DIR": "/proc/nothing"}, "BUS_DIR"),
        ({"PANEL_TOKEN_FILE": "/proc/nothing/token"}, "PANEL_TOKEN_FILE"),
    ],
)
def test_a_start_that_cannot_work_is_one_line_and_exit_2(tmp_path: Path, change: dict[str, str], says: str) -> None:
    """Bad settings, an unusable bus or token file: one line on stderr that names the setting."""
    started = run(["panel"], environment=environment(tmp_path, **change), limit_s=30)
    assert started.returncode == 2
    assert started.stderr.count("\n") == 1
    assert says in started.stderr


def test_a_busy_port_is_one_line_and_exit_2(tmp_path: Path) -> None:
    """The line names the address and the setting."""
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        started = run(["panel"], environment=environment(tmp_path, PANEL_PORT=str(port)), limit_s=30)
    assert started.returncode == 2
    assert f"port {port} is in use" in started.stderr
