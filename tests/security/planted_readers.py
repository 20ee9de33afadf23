"""Everything that opens a file of a bus, each as its process does: `python -m tests.security.planted_readers FOLDER KIND`.

Plants one odd object after another in the place of each file of a bus, has every reader read, and writes a line before and after
each: whoever started this sees where it hangs. In a process of its own, as SQLite that waits is ended by SIGKILL alone.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import shutil
import socket
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import cast

from bot.cli import main as bot
from bot.operator.requests import leave_operator_request, read_operator_requests
from bot.settings import BotSettings, read_key
from bus import (
    Bus,
    BusError,
    Handover,
    InputsRing,
    Instance,
    Lease,
    Role,
    SettingsError,
    Stamp,
    Step,
    SystemClock,
    append_step,
    is_halted,
    make_request,
    new_id,
    open_bus,
    read_control,
    read_handover,
    read_instances,
    read_requests,
    set_halt,
    write_control,
    write_handover,
    write_status,
)
from bus.documents import write
from bus.layout import make_directives
from cli import doctor
from deployer.commands.cli import main as deployer
from deployer.errors import DeployerError
from deployer.push.watched import Watched, read_watched, write_watched
from deployer.runtimes.api import Runtime
from deployer.settings import claim_home
from deployer.start import claim_runtime
from ledger import Ledger
from panel.__main__ import main as panel
from panel.audit_log import Write, append_write
from panel.errors import PanelError
from panel.ledger_queries import LedgerQueries
from panel.notify.notices import Memory
from panel.notify.reading import read as read_news
from panel.views import Views
from tests.unit.bus.frozen import IDENTITY, take
from tests.unit.panel.running import make_status

SECRET = "a line of somebody else's file"
SHA = "a" * 40
USER, STRANGER = 12_345, 54_321
MEMORY_BYTES = 3 << 30
REFUSED = (BusError, DeployerError, PanelError, SettingsError, OSError)
"""What callers of a function expect; a command says it in one line instead."""
KEY = "0x" + "1f" * 32


def filled(folder: Path) -> Bus:
    """A bus with something in each of its files."""
    clock = SystemClock()
    bus = open_bus(folder / "bus")
    make_directives(bus)
    write_control(bus, 0, lambda found: found, by="x", clock=clock)
    write_handover(bus, Handover(confirmed_sha=SHA), writer="deployer", sequence=1, clock=clock)
    write_status(bus, make_status(), 1, clock.wall_ms())
    append_step(bus, Step(deploy="1-aaaaaaa", step="confirmed", time_ms=1, sha=SHA))
    append_write(bus, Write(time_ms=1, generation=1, action="halt", by="x", origin="x", before={}, after={}))
    write_watched(bus, Watched(str(folder), "main"))
    claim_home(bus)
    bus.runtime.write_text("process\n")
    make_request(bus, "rollback", by="x", clock=clock)
    leave_operator_request(bus, clock, action="strangers", who="x")
    held = new_id(clock, "blue", SHA)
    (bus.instances / f"{held}.lock").touch()
    instance = Instance(id=held, role=Role.ACTIVE, color="blue", sha=SHA)
    write(bus.instances / f"{held}.json", instance, Stamp(held, 1, 1), durable=False)
    with Ledger.hold(bus.ledger, IDENTITY) as ledger:
        take(ledger)
    ring = InputsRing(bus.inputs)
    ring.add(5000, 1, json.dumps({"decisions": []}))
    ring.close()
    for lock in (bus.control_lock, bus.deployer_lock):
        lock.touch()
    set_halt(bus)
    return bus


def places(bus: Bus) -> list[Path]:
    """Every file of the bus: those that `Bus` names, those that are there, and those that SQLite looks for beside its own."""
    named = {getattr(bus, name) for name, kind in vars(Bus).items() if isinstance(kind, property)}
    there = set(bus.directory.rglob("*"))
    beside = {Path(f"{path}-{end}") for path in (bus.ledger, bus.inputs) for end in ("wal", "shm", "journal")}
    own = {bus.directory / "paper.key", bus.directory / "paper.credentials", bus.writes, bus.fsync_failed}
    return sorted((named | there | beside | own) - {bus.directory})


# --- what is planted


def plant(kind: str, path: Path, foreign: Path) -> None:
    """Put it there instead of whatever is. foreign: a file outside of the bus, which nobody may read or change by it."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    was = b"{}\n" if not path.is_file() or path.stat().st_size > 1 << 20 else path.read_bytes()
    path.unlink(missing_ok=True)
    match kind:
        case "link":
            path.symlink_to(foreign)
        case "relative link":
            path.symlink_to(os.path.relpath(foreign, path.parent))
        case "link to nothing":
            path.symlink_to(foreign.with_name("made-by-a-link"))
        case "loop":
            path.symlink_to(path.name)
        case "hard link":
            path.hardlink_to(foreign)
        case "fifo":
            os.mkfifo(path, 0o640)
        case "socket":
            with contextlib.chdir(path.parent), socket.socket(socket.AF_UNIX) as bound:  # addresses are short
                bound.bind(path.name)
        case "device":
            os.mknod(path, 0o640 | stat.S_IFCHR, os.makedev(1, 5))  # zeros without an end
        case "folder":
            path.mkdir()
            (path / "in").write_bytes(was)
        case "sparse":
            path.touch(0o640)
            os.truncate(path, 1 << 40)
        case "stranger's":
            path.write_bytes(was)
        case "open to all":
            path.write_bytes(was)
            path.chmod(0o666)
        case "closed":
            path.write_bytes(was)
            path.chmod(0)
        case _:
            raise AssertionError(kind)
    owner = {"hard link": None, "stranger's": STRANGER, "device": 0}.get(kind, USER)
    if os.geteuid() == 0 and owner is not None:
        for made in (path, *path.glob("in")) if kind == "folder" else (path,):
            os.chown(made, owner, owner, follow_symlinks=False)


# --- who reads


def _trade(bus: Bus) -> object:
    """As an instance begins and polls."""
    Lease(bus.lease).try_lock()
    return is_halted(bus), read_requests(bus), read_instances(bus)


def _looks(bus: Bus) -> object:
    """`ns doctor`, but for what asks git, the network or the Engine."""
    files = ("BOT_KEY_FILE", "BOT_CREDENTIALS_FILE", "BOT_RELAYER_KEY_FILE", "PANEL_NOTIFY_FILE")
    values = {**dict.fromkeys(files, ""), "BUS_DIR": str(bus.directory), "BOT_VENUE": "paper", "DEPLOYER_MIN_FREE": "1"}
    checkout = doctor.Checkout(Path("/"), {}, values)
    needs_more = (doctor.settings, doctor.engine, doctor.branch, doctor.ports, doctor.clock)
    looks = [look for look in doctor.LOOKS if look not in needs_more]
    return checkout.recorded_runtime, [doctor._looked(look, checkout).text for look in looks]


def _view(bus: Bus) -> object:
    views, history = Views(bus, SystemClock()), LedgerQueries(bus)
    return (
        [
            str(read())
            for read in (views.status, views.control, views.instances, views.deploys, views.writes, history.summary)
        ],
        str(views.request("1790000000000-00000000")),
        str((history.orders(None, 5), history.fills(None, 5), history.outcomes(None, 5), history.pnl(5, 5))),
    )


class _Any:
    name = "process"


ANY_RUNTIME = cast(Runtime, _Any())
FULL = ("link", "fifo", "folder")
"""Kinds that commands are tried with as well: they take longest, and the others are refused at the same place."""
COMMANDS: dict[str, tuple[Callable[..., int], tuple[str, ...]]] = {
    "ns status --json": (deployer, ("status", "--json")),
    "ns history": (deployer, ("history",)),
    "ns logs": (deployer, ("logs", "aaaaaaa")),
    "ns backup": (deployer, ("backup", "{folder}/made.tar.gz")),
    "ns export": (panel, ("rows", "orders", "--csv", "--last=0")),
    "ns resume": (panel, ("resume", "--yes")),
    "ns halt": (panel, ("halt",)),
    "ns audit": (bot, ("audit",)),
    "ns explain": (bot, ("explain", "BTC-5m")),
    "ns calibrate": (bot, ("calibrate",)),
    "ns compare": (bot, ("compare",)),
}
CALLS: dict[str, Callable[[Bus], object]] = {
    "the panel's page": _view,
    "the panel's notices": lambda bus: read_news(bus, Memory(), now_ms=1, since_ms=1),
    "ns doctor": _looks,
    "a trader's start": _trade,
    "a trader's control": read_control,
    "a trader's handover": read_handover,
    "a trader's requests": read_operator_requests,
    "a trader's inputs": lambda bus: InputsRing(bus.inputs).close(),
    "a trader's ledger": lambda bus: Ledger.hold(bus.ledger, IDENTITY).close(),
    "a trader's status": lambda bus: write_status(bus, make_status(), 2, 2),
    "a trader's key": lambda bus: read_key(BotSettings(), bus.directory),
    "make run": lambda bus: open_bus(bus.directory),
    "make run's directives": make_directives,
    "make run's watched": read_watched,
    "make run's home": claim_home,
    "make run's runtime": lambda bus: claim_runtime(bus, ANY_RUNTIME),
    "a deployer's step": lambda bus: append_step(bus, Step(deploy="d", step="queued", time_ms=1)),
}


def command(name: str, bus: Bus) -> str:
    """Run it in this process; what is wrong with how it ended."""
    main, words = COMMANDS[name]
    (bus.directory.parent / "made.tar.gz").unlink(missing_ok=True)
    said, wrong = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(wrong):
        code = main([word.format(folder=bus.directory.parent) for word in words])
    if SECRET in said.getvalue() + wrong.getvalue():
        return "printed somebody else's file"
    lines = wrong.getvalue().splitlines()
    return f"refused in {len(lines)} lines: {lines}" if code == 2 and len(lines) != 1 else ""


def call(name: str, bus: Bus) -> str:
    """The same of a function."""
    try:
        found = CALLS[name](bus)
    except REFUSED as error:
        found = error
    return "told somebody else's file" if SECRET in str(found) else ""


def main(folder: Path, kind: str) -> None:
    """All places, all readers. Root acts as the bus's own user, and plants as root."""
    root = os.geteuid() == 0
    out = os.fdopen(os.dup(1), "w", buffering=1)

    def be(user: int) -> None:
        if root:
            os.seteuid(user)

    foreign = folder / "foreign"
    foreign.write_text(f"{SECRET}\n")
    if root:
        os.chown(foreign, STRANGER, STRANGER)
    if root:
        folder.chmod(0o755)
        os.chown(folder, USER, USER)
        os.setegid(USER)
    be(USER)
    good = filled(folder)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    os.environ |= {"DEPLOYER_DIR": str(folder / "deployer"), "USER": "somebody"}
    for number, place in enumerate(places(good)):
        relative = place.relative_to(good.directory)
        bus = Bus(folder / str(number) / "bus")
        shutil.copytree(good.directory, bus.directory)
        bus.directory.chmod(0o750)
        os.environ["BUS_DIR"] = str(bus.directory)
        before = _facts(foreign)
        for reader in (*CALLS, *(COMMANDS if kind in FULL else ())):
            be(0)
            plant(kind, bus.directory / relative, foreign)
            before = _facts(foreign)
            be(USER)
            out.write(json.dumps([str(relative), reader]) + "\n")
            try:
                wrong = (call if reader in CALLS else command)(reader, bus)
            except BaseException as error:  # noqa: BLE001  whatever it is, it is what is looked for
                wrong = f"{type(error).__name__}: {error}"[:300]
            be(0)
            if _facts(foreign) != before or foreign.with_name("made-by-a-link").exists():
                wrong += " and changed or made a file outside of the bus"
            be(USER)
            out.write(json.dumps(wrong) + "\n")
        be(0)
        shutil.rmtree(folder / str(number))
        be(USER)


def _facts(path: Path) -> tuple[str, int, int, int]:
    found = path.stat()
    return path.read_text(), found.st_mode, found.st_uid, found.st_mtime_ns


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
