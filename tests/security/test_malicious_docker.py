"""A commit that tries all that it may not, before anybody approved it, in a container of the real Engine."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

from bus import (
    Bus,
    Handover,
    Logging,
    Step,
    SystemClock,
    append_step,
    open_bus,
    set_halt,
    write_control,
    write_handover,
)
from bus.layout import make_directives
from deployer import Start
from deployer.keys import KeyRing
from deployer.push.repository import Repository
from deployer.runtimes.api import BuildInputs
from deployer.runtimes.build_limits import BuildLimits
from deployer.runtimes.docker.body import Mount, Place
from deployer.runtimes.docker.engine import Engine
from deployer.runtimes.docker.images import Images
from deployer.runtimes.docker.room import BuildRoom
from deployer.runtimes.docker.runtime import DockerRuntime, Given
from tests import patience
from tests.e2e.docker_engine import BASE, need_engine, own, place_for
from tests.e2e.test_docker_runtime import Rig

need_engine()

CLOCK = SystemClock()
WORKER = (Path(__file__).with_name("malicious.py")).read_text()
# Labels of its own choice, by which Compose would take the bot for the panel.
COMPOSE = {
    "com.docker.compose.project": "never-sleeps",
    "com.docker.compose.service": "panel",
    "never-sleeps.builds": "x",
}
LABEL = " ".join(f"{name}={value}" for name, value in COMPOSE.items())
DOCKERFILE = f'FROM {BASE} AS bot\nLABEL {LABEL}\nCOPY worker.py /\nENTRYPOINT ["python3", "-u", "/worker.py"]\n'
VICTIM = "import time\nprint('began', flush=True)\ntime.sleep(3600)\n"


def say_everything(bus: Bus) -> None:
    """People and the deployer said something of each kind."""
    write_control(bus, 0, lambda control: control.changed(generation=1), by="ann", clock=CLOCK)
    write_handover(bus, Handover(confirmed_sha="a" * 40), writer="deployer", sequence=1, clock=CLOCK)
    append_step(bus, Step(deploy="1", step="queued", time_ms=1))
    bus.writes.touch()
    bus.runtime.write_text("docker\n")
    set_halt(bus)
    make_directives(bus)


def snapshot(bus: Bus) -> dict[str, bytes]:
    """Every file of the folder."""
    return {str(path): path.read_bytes() for path in sorted(bus.directives.rglob("*")) if path.is_file()}


class Trial:
    """A bus, a key, and runtimes on it: as this release has them, and as those before did."""

    def __init__(self, folder: Path, place: Place, *, before: bool) -> None:
        self.bus, self.folder = Bus(Path(place.bus.source)), folder
        self.key = secrets.token_hex(32)
        self.key_file = folder / "wallets" / "wallet.key"
        self.key_file.parent.mkdir()
        self.key_file.write_text(self.key)
        self.key_file.chmod(0o600)
        if before:  # its container read the file itself
            own(self.key_file.parent)
        handed = None if before else Mount("bind", str(folder / "keys"))
        keys = ((("/keys/wallet", Mount("bind", str(self.key_file))),)) if before else ()
        self.engine = Engine("unix:///var/run/docker.sock")
        self.place = replace(place, guarded=not before, handed=handed, keys=keys)
        environment = {"BOT_LOOKS_FOR": self.key[::-1], "BOT_KEY_FILE": "/keys/wallet"}
        engine, run = self.engine, folder / "run"
        images = Images(
            engine, Repository(folder / "repository"), run / "builds", place.bus_id,
            BuildRoom(engine, place.bus_id, place.image, BuildLimits(), print), limit_s=60, inputs=BuildInputs,
            project=place.project,
        )  # fmt: skip
        self.runtime = DockerRuntime(
            images, self.place, self.bus, run, CLOCK, print, keep=1,
            given=Given(environment, None if before else folder / "keys"),
        )  # fmt: skip
        self.logging = Logging(os.open(folder / "log", os.O_WRONLY | os.O_CREAT))
        files = {} if before else {"key": self.key_file}
        self.ring = KeyRing(folder / "keys", files, self.runtime.is_unit, self.logging.log)

    async def run(self, sha: str, victim: str, *, approved: bool) -> dict[str, str]:
        """What the worker of a commit could do, beside another one that may have the key."""
        await self.runtime.build(victim)
        await self.runtime.build(sha)
        other = await self.runtime.start(Start(victim, "blue", "deploy-1"))
        unit = await self.runtime.start(Start(sha, "green", "deploy-2"))
        async with patience.timeout(60):
            while True:
                units = {known.name: known for known in await self.runtime.units()}
                running = {name for name, known in units.items() if known.running}
                await self.ring.attend(running, frozenset({other, unit} if approved else {other}))
                if not units[unit].running:
                    break
                await asyncio.sleep(0.02)
        inspected = await self.engine.call("the container", lambda client: client.inspect_container(unit))
        assert not any(inspected["Config"]["Labels"][name] for name in COMPOSE), "it is no service of Compose's"
        await self.runtime.kill(other)
        said = await self.runtime.logs(unit, 100)
        found: dict[str, str] = json.loads(said.splitlines()[-1])
        assert approved or self.key not in said
        self.ring.close()
        self.logging.close()
        return found


async def trial(folder: Path, *, before: bool = False, approved: bool = False) -> tuple[dict[str, str], bool]:
    """What it could do, and whether anything that was said is another thing now."""
    bus = open_bus(folder / "bus")
    say_everything(bus)
    own(bus.directory)
    words = snapshot(bus)
    async with AsyncExitStack() as stack:
        place = stack.enter_context(place_for(bus.directory))
        rig = Rig(folder, place)
        victim = rig.commit(DOCKERFILE, VICTIM)
        sha = rig.commit(DOCKERFILE, WORKER)
        return await Trial(folder, place, before=before).run(sha, victim, approved=approved), snapshot(bus) == words


async def test_a_malicious_commit_can_do_nothing_before_it_is_approved(tmp_path: Path) -> None:
    """It changes no word of people and the deployer, ends no halt, sees no other process, and finds no key where it looks."""
    assert await trial(tmp_path) == ({}, True)


async def test_the_same_commit_is_handed_the_key_once_it_may_trade(tmp_path: Path) -> None:
    """By its own socket, and that is all that changes."""
    found, is_whole = await trial(tmp_path, approved=True)
    assert (set(found), is_whole) == ({"ask for the key"}, True)


async def test_the_same_commit_got_through_where_nothing_was_guarded(tmp_path: Path) -> None:
    """So that the list above is one of things that work: as containers were made before."""
    found, is_whole = await trial(tmp_path, before=True)
    assert not is_whole
    assert {"replace control.json", "replace handover.json", "append to deploys.jsonl", "make a file in requests", "end a halt",
            "read the key"} <= set(found)  # fmt: skip
