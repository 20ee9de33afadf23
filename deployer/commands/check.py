"""`./ns check`: whether a worker keeps the contract (docs/reference/contract.md). It runs on a bus of its own.

Two instances of it are started and put through what a deploy would do to them. Each promise is one line of the answer.
"""

from __future__ import annotations

import os
import secrets
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from bus import Bus, Handover, InstanceView, Role, SystemClock, is_locked, open_bus, read_instances, write_handover
from deployer.errors import DeployerError, StartError
from deployer.runtimes.children import last_lines
from deployer.runtimes.docker.body import BUS_TARGET
from ledger import Epoch, Ledger

STEP_LIMIT_S = 60.0
STOP_LIMIT_S = 15.0
SIGN_LIMIT_S = 2.0  # the deployer kills after 6 s by default, and 2 s are its least
QUIET_S = 1.5
LOOK_EVERY_S = 0.02
SHAS = ("a" * 40, "b" * 40)
T = TypeVar("T")


class BrokenError(DeployerError):
    """A promise that was not kept; the text says what was seen."""


class Body(Protocol):
    """One worker, however it runs."""

    def signal(self, number: signal.Signals) -> None:
        """SIGTERM or SIGKILL."""

    def exit_code(self) -> int | None:
        """None while it runs."""

    def remove(self) -> None:
        """End it, whatever it does."""


@dataclass(slots=True)
class Kept:
    """One promise. seconds: until it was seen to be kept. why: what was seen instead; empty when it was kept."""

    promise: str
    seconds: float
    why: str = ""

    def json(self) -> dict[str, Any]:
        """As `--json` prints it."""
        return {"promise": self.promise, "kept": not self.why, "seconds": round(self.seconds, 2), "why": self.why}


@dataclass
class Trial:
    """Two instances on a bus of their own."""

    bus: Bus
    start: Callable[[str, str], tuple[Body, Path]]
    clock: SystemClock = field(default_factory=SystemClock)
    bodies: dict[str, tuple[Body, Path]] = field(default_factory=dict)
    handover: Handover = field(default_factory=lambda: Handover(confirmed_sha=SHAS[0]))
    requests: int = 0

    def begin(self, color: str, sha: str) -> None:
        """Start an instance; one before it of that color is gone then."""
        if color in self.bodies:
            self.bodies[color][0].remove()
        self.bodies[color] = self.start(color, sha)

    def seen(self, color: str) -> InstanceView | None:
        """The living instance of a color that wrote its document."""
        views = [s for s in read_instances(self.bus) if s.alive and s.document and s.document.unit == f"check-{color}"]
        return views[-1] if views else None

    def epoch(self) -> Epoch | None:
        """The newest epoch."""
        ledger = Ledger.reader(self.bus.ledger)
        if ledger is None:
            return None
        with ledger:
            return ledger.newest_epoch()

    def holder(self) -> str:
        """The color that holds the lease by its epoch and its lock; empty for none."""
        epoch = self.epoch()
        if epoch is None or epoch.released or not is_locked(self.bus.lease):
            return ""
        living = {
            s.id: s.document.unit.removeprefix("check-") for s in read_instances(self.bus) if s.alive and s.document
        }
        return living.get(epoch.instance, "")

    def write(self, **changes: object) -> str:
        """Write the handover document; a new request's id."""
        self.requests += 1
        self.handover = self.handover.changed(**changes)
        write_handover(self.bus, self.handover, writer="check", sequence=self.requests, clock=self.clock)
        return self.handover.request_id

    def ask(self, color: str, life_ms: int = 30_000) -> str:
        """Ask the active instance to yield to another."""
        view = self.until(f"{color} is there", lambda: self.seen(color))
        return self.write(
            wanted=view.id,
            request_id=f"check/{self.requests}",
            expires_boot_id=self.clock.boot_id,
            expires_boot_ms=self.clock.boot_ms() + life_ms,
        )

    def until(self, what: str, look: Callable[[], T | None], limit_s: float = STEP_LIMIT_S) -> T:
        """Wait for something. Raises BrokenError when it does not come, or when a worker ended meanwhile."""
        deadline = time.monotonic() + limit_s
        while not (value := look()):
            if time.monotonic() > deadline:
                raise BrokenError(f"waited {limit_s:g} s in vain until {what}{self._words()}")
            time.sleep(LOOK_EVERY_S)
        return value

    def never(self, what: str, look: Callable[[], object]) -> None:
        """Watch for a while that something does not happen. Raises BrokenError when it does."""
        deadline = time.monotonic() + QUIET_S
        while time.monotonic() < deadline:
            if look():
                raise BrokenError(what)
            time.sleep(LOOK_EVERY_S)

    def _words(self) -> str:
        ended = [f"{color} ended with code {body.exit_code()}: {last_lines(log, 1)}"
                 for color, (body, log) in self.bodies.items() if body.exit_code() is not None]  # fmt: skip
        return f" ({'; '.join(ended)})" if ended else ""


def promises(trial: Trial) -> Iterator[tuple[str, Callable[[], None]]]:
    """What is tried, in this order; each builds on the ones before."""

    def says_who_it_is() -> None:
        trial.begin("blue", SHAS[0])
        view = trial.until("it has a locked instance file and a document with its BOT_UNIT", lambda: trial.seen("blue"))
        found = view.document
        assert found is not None, "seen() only finds instances with a document"
        if (found.sha, found.color, found.deploy_id) != (SHAS[0], "blue", "check"):
            raise BrokenError(f"its document says {found.sha[:7]}, {found.color}, deploy {found.deploy_id!r}")

    def takes() -> None:
        trial.until("it is healthy and takes the free lease in an epoch of its own", lambda: trial.holder() == "blue")

    def shows_life() -> None:
        first = trial.until("it is there", lambda: trial.seen("blue")).sequence
        trial.until(
            "its document has a new sequence",
            lambda: (s := trial.seen("blue")) is not None and s.sequence > first,
            SIGN_LIMIT_S,
        )

    def counts() -> None:
        def three() -> bool:
            document = (s := trial.seen("blue")) and s.document
            return bool(
                document and document.role is Role.ACTIVE and document.active_healthy >= 3 and document.last_tick
            )

        trial.until("three healthy active polls are counted (active_healthy, last_tick)", three)

    def stands_by() -> None:
        trial.begin("green", SHAS[1])
        trial.until(
            "a second instance is a healthy standby",
            lambda: (
                (s := trial.seen("green")) and s.document and s.document.healthy and s.document.role is Role.STANDBY
            ),
        )
        trial.never("the second one took the lease though the first one holds it", lambda: trial.holder() == "green")

    def ignores_expired() -> None:
        trial.ask("green", life_ms=-1)
        trial.never("it yielded to a request that had expired", lambda: trial.holder() != "blue")

    def yields() -> None:
        request = trial.ask("green")
        trial.until("the named one holds the lease", lambda: trial.holder() == "green")
        ledger = Ledger.reader(trial.bus.ledger)
        assert ledger is not None, "a holder has an epoch"
        with ledger:
            if not ledger.is_spent(request):
                raise BrokenError("no release names the request: it could be obeyed twice")
        trial.until("the former one is a standby again", lambda: trial.seen("blue"))
        trial.never("the former one took the lease back", lambda: trial.holder() == "blue")

    def follows_a_death() -> None:
        trial.write(wanted=None, request_id="")
        trial.bodies["green"][0].signal(signal.SIGKILL)
        trial.until("the standby has the lease after the holder's SIGKILL", lambda: trial.holder() == "blue")

    def retires() -> None:
        trial.begin("green", SHAS[1])
        view = trial.until("a standby is there", lambda: trial.seen("green"))
        trial.write(retired=(view.id,))
        trial.until(
            "the standby says that it is retired",
            lambda: (s := trial.seen("green")) and s.document and s.document.role is Role.RETIRED,
        )

    def ends() -> None:
        body = trial.bodies["blue"][0]
        body.signal(signal.SIGTERM)
        trial.until("it ended after SIGTERM", lambda: body.exit_code() is not None, STOP_LIMIT_S)
        if (code := body.exit_code()) not in (0, 143):
            raise BrokenError(f"it ended with exit code {code} after SIGTERM; expected 0")
        epoch = trial.epoch()
        if epoch is None or not epoch.released:
            raise BrokenError("it ended without releasing its epoch")
        trial.never("the retired one took the lease", lambda: trial.holder() == "green")

    yield "it says who it is: a lock for life, its unit, commit, color and deploy", says_who_it_is
    yield "it takes a free lease, with an epoch in the ledger", takes
    yield f"it shows a sign of life every {SIGN_LIMIT_S:g} s", shows_life
    yield "it counts its healthy active polls", counts
    yield "a second one stands by, healthy without the lease", stands_by
    yield "an expired request is not obeyed", ignores_expired
    yield "it yields to the named one, releases under the request's id, and stays warm", yields
    yield "a standby takes over from one that was killed", follows_a_death
    yield "a retired one says so and never takes", retires
    yield f"SIGTERM is a yield and an end within {STOP_LIMIT_S:g} s", ends


def check(
    start: Callable[[Bus, Path, str, str], Body],
    folder: Path,
    say: Callable[[Kept], None],
) -> list[Kept]:
    """Try every promise until one is broken: those after it build on it.

    start: (bus, log, color, sha).
    """
    trial: Trial

    def begin(color: str, sha: str) -> tuple[Body, Path]:
        log = folder / f"{color}-{secrets.token_hex(3)}.log"
        return start(trial.bus, log, color, sha), log

    trial = Trial(open_bus(folder / "bus"), begin)
    trial.write()
    promises_kept: list[Kept] = []
    try:
        for promise, attempt in promises(trial):
            began, why = time.monotonic(), ""
            try:
                attempt()
            except BrokenError as error:
                why = str(error)
            promises_kept.append(Kept(promise, time.monotonic() - began, why))
            say(promises_kept[-1])
            if why:
                break
    finally:
        for body, _ in trial.bodies.values():
            body.remove()
    return promises_kept


def worker_environment(bus: str, color: str, sha: str) -> dict[str, str]:
    """What a deployer tells a worker."""
    return {"BUS_DIR": bus, "BOT_COLOR": color, "BOT_SHA": sha, "BOT_UNIT": f"check-{color}", "BOT_DEPLOY_ID": "check"}


@contextmanager
def own_folder(parent: Path | None) -> Iterator[Path]:
    """A folder for one check, removed after it."""
    with tempfile.TemporaryDirectory(prefix="never-sleeps-check-", dir=parent) as name:
        yield Path(name)


# What `./ns check` starts: a worker as a process of a command, or as a container of an image.


LIMIT_S = 60.0
Start = Callable[[Bus, Path, str, str], Body]


class ProcessBody:
    """A worker as a process in a session of its own."""

    def __init__(self, command: list[str], environment: dict[str, str], log: Path) -> None:
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                command, env={**os.environ, **environment}, stdin=subprocess.DEVNULL, stdout=out,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    def signal(self, number: signal.Signals) -> None:
        """To the worker alone, as the deployer does it."""
        with suppress(ProcessLookupError):
            self._process.send_signal(number)

    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.poll()

    def remove(self) -> None:
        """End it."""
        self.signal(signal.SIGKILL)
        self._process.wait(LIMIT_S)


class ContainerBody:
    """A worker as a container, under the user that this process runs as (10001 where that is root)."""

    def __init__(self, image: str, network: str, bus: Bus, environment: dict[str, str], log: Path) -> None:
        self._name, self._log = f"never-sleeps-check-{secrets.token_hex(4)}", log
        user = (os.geteuid() or 10001, os.getegid() or 10001)
        if os.geteuid() == 0:  # a bus is for its owner alone
            for path in (bus.directory.parent, *bus.directory.parent.rglob("*")):
                os.chown(path, *user, follow_symlinks=False)
        passed = {name: value for name, value in os.environ.items() if name.startswith("BOT_")}
        _docker(
            "run", "--detach", f"--name={self._name}", "--init", f"--network={network}", f"--user={user[0]}:{user[1]}",
            "--read-only", "--tmpfs=/tmp", "--cap-drop=ALL", "--security-opt=no-new-privileges",
            f"--volume={bus.directory}:{BUS_TARGET}",
            *(f"--env={name}={value}" for name, value in {**passed, **environment}.items()),
            image,
        )  # fmt: skip

    def signal(self, number: signal.Signals) -> None:
        """As the deployer does it: a stop, or a kill."""
        if number is signal.SIGKILL:
            _docker("kill", self._name, check=False)
        else:
            subprocess.Popen(
                ["docker", "stop", "--time=60", self._name], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )

    def exit_code(self) -> int | None:
        """None while it runs."""
        state = _docker("inspect", "--format={{.State.Running}} {{.State.ExitCode}}", self._name, check=False).split()
        if len(state) != 2 or state[0] == "true":
            return None
        self._log.write_text(_docker("logs", "--tail=20", self._name, check=False))
        return int(state[1])

    def remove(self) -> None:
        """End and forget it."""
        _docker("rm", "--force", "--volumes", self._name, check=False)


def starter(words: list[str], network: str) -> tuple[Start, str]:
    """What starts a worker, and what it was taken for. One word that is no program names an image.

    Raises StartError.
    """
    if len(words) == 1:
        words = shlex.split(words[0])
    if not words:
        raise StartError("expected an image, or the command of a worker such as `python -m settle`")
    if len(words) == 1 and shutil.which(words[0]) is None:
        image = words[0]
        _docker("image", "inspect", "--format={{.Id}}", image)
        return (
            lambda bus, log, color, sha: ContainerBody(
                image, network, bus, worker_environment(BUS_TARGET, color, sha), log
            ),
            f"the image {image}",
        )
    return (
        lambda bus, log, color, sha: ProcessBody(words, worker_environment(str(bus.directory), color, sha), log),
        f"the command {shlex.join(words)}",
    )


def _docker(*arguments: str, check: bool = True) -> str:
    """Raises StartError with the client's last line."""
    try:
        done = subprocess.run(
            ["docker", *arguments],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=LIMIT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise StartError(f"docker cannot be run ({error}); name a command instead, or start the Engine") from error
    if check and done.returncode != 0:
        lines = done.stderr.strip().splitlines()
        raise StartError(f"docker {arguments[0]} failed: {lines[-1] if lines else done.returncode}")
    return done.stdout + ("" if check else done.stderr)
