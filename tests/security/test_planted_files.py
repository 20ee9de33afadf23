"""What another account, or a bot, plants instead of a file: nothing waits for it, follows it, or ends by it."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from bot.settings import read_secret
from bus import Role, open_bus
from bus.layout import make_directives
from cli.config import ConfigError, read_config, read_recorded
from deployer.commands.services import _last_word
from deployer.errors import RepositoryError
from deployer.git import Place, git_now, head_of, locate
from deployer.metrics import _read
from deployer.push.repository import Repository
from deployer.runtimes.api import read_build_inputs
from deployer.runtimes.children import Children, last_lines
from deployer.settings import read_state
from panel.guard import Scope, load_tokens
from panel.notify.targets import read_targets
from recording.errors import RecordingError
from recording.reader import Reader
from tests import patience
from tests.forked import Forked
from tests.security import planted_readers
from tests.unit.bot.lifecycle.test_instance import until
from tests.unit.bot.making import run
from tests.unit.bot.running import Running

LIMIT_S = 240
KINDS = (
    "link",
    "relative link",
    "link to nothing",
    "loop",
    "fifo",
    "socket",
    "folder",
    "sparse",
    "open to all",
    "closed",
)
ROOTS = ("hard link", "device", "stranger's")
root_alone = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files of others, and devices")


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", [*KINDS, *(pytest.param(kind, marks=root_alone) for kind in ROOTS)])
def test_nothing_on_the_bus_hangs_misleads_or_ends_who_reads_it(kind: str) -> None:
    """Every file of the bus, every reader: a value, or one line that says what was found; none elsewhere is told or changed."""
    with tempfile.TemporaryDirectory(prefix="planted-") as name:  # a folder that others may enter
        out, err = Path(name, "out"), Path(name, "err")
        folder = Path(name, "in")
        folder.mkdir()
        Path(name).chmod(0o755)
        command = ["tests.security.planted_readers", str(folder), kind]
        process = Forked(command, environment=dict(os.environ), stdout=out, stderr=err)
        try:
            code = process.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            pytest.fail(f"it waits: {out.read_text().splitlines()[-1]}")
        finally:
            process.kill()
        assert code == 0, err.read_text()
        said = [json.loads(line) for line in out.read_text().splitlines()]
        wrong = [(tried, became) for tried, became in zip(said[::2], said[1::2], strict=True) if became]
        assert wrong == []
        assert len(said) > 500, "places times readers"


def _has_more(polls: list[int], than: int) -> bool:
    return len(polls) > than


@pytest.mark.parametrize("kind", ["link", "fifo", "folder", "loop", "sparse"])
def test_a_trader_trades_on_whatever_is_planted_beside_it(tmp_path: Path, kind: str) -> None:
    """Beside what it holds open (the lease, its ledger): each file of the bus becomes odd while it polls, and it polls on."""
    foreign = tmp_path / "foreign"
    foreign.write_text(f"{planted_readers.SECRET}\n")

    running, polls = Running(tmp_path), list[int]()
    bus = running.bus
    held = {bus.lease, bus.instances, Path(f"{bus.ledger}-wal"), Path(f"{bus.ledger}-shm"), bus.ledger}

    async def life() -> None:
        async with running.instance(after_poll=lambda: polls.append(1)) as me:
            await until("the lease", lambda: running.document(me).role is Role.ACTIVE)
            for place in planted_readers.places(bus):
                if place not in held:
                    planted_readers.plant(kind, place, foreign)
                    before = len(polls)
                    await until(f"a poll with {place}", partial(_has_more, polls, before))

    run(life())
    assert running.failures == []
    assert foreign.read_text() == f"{planted_readers.SECRET}\n"


@pytest.mark.parametrize("kind", ["link", "link to nothing", "fifo", "socket", "folder"])
def test_a_start_removes_what_has_the_name_of_a_left_over_and_goes_on(tmp_path: Path, kind: str) -> None:
    """The folder of what people say is filled under another name first; one that was left by a killed start is removed."""
    bus, foreign = open_bus(tmp_path / "bus"), tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "file").touch()
    planted_readers.plant(kind, bus.directory / ".directives.ab", foreign)
    thread = threading.Thread(target=make_directives, args=(bus,), daemon=True)
    thread.start()
    thread.join(LIMIT_S)
    assert not thread.is_alive(), "it waits"
    assert bus.directives.name == "directives"
    assert not list(bus.directory.glob(".directives.*"))
    assert (foreign / "file").exists()


def _tokens(path: Path) -> object:
    return load_tokens(path, Scope.CONTROL)


def _secrets(path: Path) -> object:
    return read_build_inputs(None, path.parent)


def _state(path: Path) -> object:
    return read_state(path.parent)


def _children(path: Path) -> object:
    children = Children(path.parent)
    return children.entries(), children.pid("x")


NAMED: dict[str, tuple[str, Callable[[Path], object]]] = {
    "a key": ("key", lambda path: read_secret(path, "key file", "a key")),
    "tokens": ("token", _tokens),
    "notifications": ("notify", read_targets),
    "arguments of builds": ("args", lambda path: read_build_inputs(path, None)),
    "secrets of builds": ("secret", _secrets),
    "settings": ("never-sleeps.toml", read_config),
    "settings of what runs": ("settings", read_recorded),
    "the deployer's state": ("state.json", _state),
    "targets": ("targets", _read),
    "a child's facts": ("x.json", _children),
    "a child's pid": ("x.pid", _children),
    "a log": ("x.log", lambda path: last_lines(path, 5)),
    "a service's log": ("paper.log", _last_word),
    "a repository": (".git", lambda path: locate(path.parent)),
    "a repository's HEAD": ("HEAD", lambda path: head_of(Place(path.parent, path.parent, None))),
    "a recording": ("BTC.1.jsonl.gz", lambda path: list(Reader(path.parent))),
}


@pytest.mark.parametrize("kind", ["fifo", "folder", "loop", "device"])
@pytest.mark.parametrize("what", NAMED)
def test_nothing_waits_for_a_file_that_a_person_named(tmp_path: Path, what: str, kind: str) -> None:
    """In the place of a key, a token, a log or a recording: it is refused at once, or left out."""
    name, read = NAMED[what]
    path = tmp_path / name
    if kind == "device":
        path.symlink_to("/dev/zero")  # a link may stand there; it has no end
    else:
        planted_readers.plant(kind, path, path)
    if not path.is_symlink():
        path.chmod(0o600)
    became: list[object] = []

    def reading() -> None:
        try:
            became.append(read(path))
        except (*planted_readers.REFUSED, ConfigError, RecordingError) as error:
            became.append(error)

    thread = threading.Thread(target=reading, daemon=True)
    thread.start()
    thread.join(LIMIT_S)
    if thread.is_alive() and kind == "fifo":
        os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))  # whoever waits for it goes on
    assert became, "it waits"


def committed(checkout: Path) -> str:
    """A repository of one commit."""
    git_now("init", "--quiet", "--initial-branch=main", str(checkout))
    (checkout / "file").write_text("1\n")
    git_now("add", "file", folder=checkout)
    git_now("-c", "user.name=x", "-c", "user.email=x@y", "commit", "--quiet", "-m", "one", folder=checkout)
    return git_now("rev-parse", "HEAD", folder=checkout)


REPOSITORY = ("HEAD", "config", "packed-refs", "shallow", "commondir", "refs/heads", "refs/heads/main", "refs/heads/other",
              "refs/tags/v1", "objects/info/alternates", "objects/info/commit-graph", "index", "{object}")  # fmt: skip


@pytest.mark.parametrize("place", REPOSITORY)
@pytest.mark.parametrize("linked", [False, True])
async def test_git_is_not_left_waiting_for_a_fifo_in_the_repository(
    tmp_path: Path, place: str, *, linked: bool
) -> None:
    """Nor for a link to one: git would wait until its limit, with the mirror's lock. What is in the way is named at once."""
    checkout = tmp_path / "checkout"
    sha = committed(checkout)
    path = checkout / ".git" / place.format(object=f"objects/{sha[:2]}/{sha[2:]}")
    fifo = tmp_path / "fifo" if linked else path
    path.parent.mkdir(parents=True, exist_ok=True)
    planted_readers.plant("fifo", path, path)
    if linked:
        path.rename(fifo)
        path.symlink_to(fifo)
    async with patience.timeout(60):
        with pytest.raises(RepositoryError, match=r"fifo|is not a git repository|cannot be read"):
            await Repository(checkout, tmp_path / "mirror").tip("main")
