"""Handing keys over: to whom, when, and what a bot makes of it."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bot.lifecycle.keys import keys_of_deployer
from bus import Handover, Logging, Step
from deployer.deploys import fold
from deployer.keys import SOCKET, KeyRing, folder_of, key_files, make_folder
from deployer.rollout.key_holders import key_holders
from deployer.rollout.observed import Observed, Policy
from tests import patience
from tests.unit.deployer.rollout.test_decide import BLUE, GREEN, UP_TO_HEALTHY, look, steps

KEY, RELAYER = "ab" * 32, '{"key": "r", "address": "0x1"}'
HELD = Step(deploy="2", step="compared", time_ms=0, sha=GREEN, data={"holds": True})
NONE: frozenset[str] = frozenset()


def holders(seen: Observed, *, hold: bool = False) -> frozenset[str]:
    """Who may have keys."""
    return key_holders(seen, Policy(hold=hold))[1]


def free(seen: Observed, *ready: str) -> Observed:
    """The same with nobody who trades, and these alone of its instances."""
    return replace(seen, newest=None, instances=tuple(v for v in seen.instances if v.id.removeprefix("i-") in ready))


def test_the_confirmed_commits_units_may_have_them_and_a_candidate_once_the_lease_is_for_it() -> None:
    """Trader and spares at any time; a candidate from the request on, until the lease is taken back."""
    healthy = steps("2", GREEN, *UP_TO_HEALTHY)
    assert holders(look(healthy[:-1])) == {"blue", "spare"}
    assert holders(look(healthy)) == {"blue", "spare"}
    asked = [*healthy, *steps("2", GREEN, "handover")]
    assert holders(look(asked)) == {"blue", "spare", "green"}
    back = steps("2", GREEN, "taken", "taking-back")
    assert holders(look([*asked, *back[:1]])) == {"blue", "spare", "green"}
    assert holders(look([*asked, *back])) == {"blue", "spare"}
    assert holders(look([*asked, *steps("2", GREEN, "failed")])) == {"blue", "spare"}


def test_where_nobody_else_can_trade_a_candidate_may_have_them_unless_it_is_held() -> None:
    """The lease is free and nobody of the confirmed commit is ready: who waits for approval waits on."""
    healthy = steps("2", GREEN, *UP_TO_HEALTHY)
    assert "green" not in holders(free(look(healthy), "spare", "green"))
    assert "green" in holders(free(look(healthy), "green"))
    assert "green" not in holders(replace(free(look(healthy), "green"), blind=True))
    held = [*healthy, HELD, *steps("2", GREEN, "held")]
    assert "green" not in holders(free(look(held), "green"), hold=True)
    assert "green" in holders(free(look([*held, *steps("2", GREEN, "approved")]), "green"), hold=True)


def test_the_first_commit_of_all_may_have_them_at_once() -> None:
    """There is nobody whose lease it would wait for."""
    first = replace(
        look([]), history=fold(steps("2", GREEN, "queued", "building", "built", "started")), handover=Handover()
    )
    assert holders(first) == {"green"}


def test_an_instance_document_gives_nobody_a_key() -> None:
    """A candidate that claims to be another unit, commit or deploy in its document is what its labels say."""
    seen = look(steps("2", GREEN, *UP_TO_HEALTHY))
    document = seen.instances[2].document
    assert document is not None
    lies = document.model_copy(update={"unit": "blue", "sha": BLUE, "deploy_id": "1"})
    assert "green" not in holders(
        replace(seen, instances=(*seen.instances[:2], replace(seen.instances[2], document=lies)))
    )


class Ring:
    """A key ring over files, and what it logged."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.log = folder / ("long" * 40) / "keys", folder / "log"
        self.files = {"key": folder / "key", "relayer_key": folder / "relayer"}
        for path, text in zip(self.files.values(), (KEY, RELAYER), strict=True):
            path.touch(mode=0o600)
            path.write_text(f"{text}\n")
        self.logging = Logging(os.open(self.log, os.O_WRONLY | os.O_CREAT))
        self.pids: list[tuple[str, int]] = []
        self.refused: set[str] = set()
        self.ring = self.new()
        for unit in ("blue", "green"):
            make_folder(self.folder, unit)

    def new(self) -> KeyRing:
        """As a deployer that starts anew has it."""
        return KeyRing(self.folder, self.files, self.is_unit, self.logging.log)

    def is_unit(self, unit: str, pid: int) -> bool:
        """Notes who asked."""
        self.pids.append((unit, pid))
        return unit not in self.refused

    def wait(self, unit: str) -> asyncio.Task[object]:
        """A bot of that unit waits for its keys."""
        return asyncio.create_task(keys_of_deployer(folder_of(self.folder, unit) / SOCKET, self.logging.log))


@pytest.fixture
async def ring(tmp_path: Path) -> AsyncIterator[Ring]:
    """Two units with a folder each."""
    made = Ring(tmp_path)
    yield made
    made.ring.close()
    made.logging.close()


async def until(holds: Callable[[], bool]) -> None:
    """Wait for what another task does."""
    async with patience.timeout(5):
        while not holds():  # noqa: ASYNC110  # there is no event to wait for
            await asyncio.sleep(0.01)


async def has(task: asyncio.Task[object], limit_s: float = 5.0) -> object:
    """What it got."""
    return await patience.wait_for(asyncio.shield(task), limit_s)


async def test_a_bot_waits_through_a_deployers_death_until_it_may_have_its_keys(ring: Ring) -> None:
    """It gets both, by the unit's own socket, also where the path is longer than an address; nobody else gets any."""
    green, blue = ring.wait("green"), ring.wait("blue")
    await ring.ring.attend({"blue", "green"}, frozenset({"blue"}))
    got = await has(blue)
    assert got.key == f"0x{KEY}"  # type: ignore[attr-defined]
    assert got.relayer_key.key == "r"  # type: ignore[attr-defined]
    assert KEY not in repr(got)
    ring.ring.close()
    ring.ring = ring.new()
    await ring.ring.attend({"blue", "green"}, NONE)
    await until(lambda: ("green", os.getpid()) in ring.pids[1:])
    assert not green.done()
    await ring.ring.attend({"blue", "green"}, frozenset({"green"}))
    assert await has(green) == got
    assert KEY not in ring.log.read_text()


async def test_who_is_not_the_unit_gets_nothing(ring: Ring) -> None:
    """Another process at its socket is refused, and logged."""
    ring.refused.add("green")
    green = ring.wait("green")
    await ring.ring.attend({"green"}, frozenset({"green"}))
    await until(lambda: bool(ring.pids))
    green.cancel()
    await asyncio.gather(green, return_exceptions=True)
    ring.logging.close()
    lines = [json.loads(line) for line in ring.log.read_text().splitlines()]
    assert [line["event"] for line in lines if "key" in line["event"]][:1] == ["keys_refused"]
    ring.logging = Logging(os.open(os.devnull, os.O_WRONLY))


async def test_a_unit_that_ended_leaves_no_socket_and_connections_are_few(ring: Ring) -> None:
    """Its folder is removed; of many connections to one unit the newest few stay."""
    await ring.ring.attend({"green"}, NONE)
    place = folder_of(ring.folder, "green")
    folder = os.open(place, os.O_RDONLY)
    connections = []
    for _ in range(12):
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(f"/proc/self/fd/{folder}/{SOCKET}")
        connection.setblocking(False)
        connections.append(connection)
    os.close(folder)
    await until(lambda: sum(map(_is_closed, connections)) == 8)
    assert len(ring.pids) == 12
    await ring.ring.attend(NONE, NONE)
    assert not place.exists()
    for connection in connections:
        connection.close()


def _is_closed(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except BlockingIOError:
        return False


async def test_a_key_file_that_others_may_read_is_handed_to_nobody(ring: Ring) -> None:
    """It is said what to do; the supervision goes on, and a file that was put right is handed over."""
    ring.files["key"].chmod(0o644)
    green = ring.wait("green")
    for _ in range(3):
        await ring.ring.attend({"green"}, frozenset({"green"}))
        await asyncio.sleep(0.05)
    assert not green.done()
    ring.files["key"].chmod(0o600)
    await has(green)


def test_without_the_wallets_key_there_is_nothing_to_hand_over() -> None:
    """A relayer's key alone signs nothing."""
    assert key_files({"BOT_RELAYER_KEY_FILE": "/r"}) == {}
    assert key_files({"BOT_KEY_FILE": "/k", "BOT_RELAYER_KEY_FILE": ""}) == {"key": Path("/k")}
