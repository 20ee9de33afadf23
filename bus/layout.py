"""Where everything on the bus is."""

from __future__ import annotations

import os
import secrets
import shutil
import stat
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from bus.documents import (
    BUS_MODE,
    SHARED_MODE,
    is_shared,
    open_regular,
    read_regular,
    sync_directory,
    write_atomically,
)
from bus.errors import BusDirectoryError
from bus.lease import FileLock, check_locking
from bus.logs import star_suspects

FSYNC_FAILED = "fsync-failed"
HALT = "halt"
LEASE = "lease"
DIRECTIVES = "directives"
# What people and the deployer say, by name; what a bus from before that folder has of it is taken into it.
_SAID = ("control.json", "handover.json", "deploys.jsonl", "writes.jsonl", "runtime", "home", "watched", HALT)
_SAID_IN = ("requests", "asks")
# Still written at the old place, too: a worker on an earlier release of this package reads it there.
MIRRORED = ("control.json", "handover.json", HALT)
_MOST_BYTES = 64 << 20
LOCK_LIMIT_S = 5.0


@dataclass(frozen=True, slots=True)
class Bus:
    """The paths of one bus directory (design section 4).

    Asked for each time: what people and the deployer say moves into a folder of its own when a deployer starts.
    """

    directory: Path

    @property
    def directives(self) -> Path:
        """The folder of what people and the deployer say, which no bot may write to; the bus itself before there is one."""
        folder = self.directory / DIRECTIVES
        try:
            return folder if stat.S_ISDIR(folder.lstat().st_mode) else self.directory
        except OSError:
            return self.directory

    @property
    def control(self) -> Path:
        """Desired state; written by the panel."""
        return self.directives / "control.json"

    @property
    def control_lock(self) -> Path:
        """Held by whoever writes control, from reading to the directory's fsync."""
        return self.directory / "control.lock"

    @property
    def status(self) -> Path:
        """Observed state; written by the lease holder."""
        return self.directory / "status.json"

    @property
    def instances(self) -> Path:
        """The folder of instance documents and their locks."""
        return self.directory / "instances"

    @property
    def handover(self) -> Path:
        """Which instance should hold the lease; written by the deployer."""
        return self.directives / "handover.json"

    @property
    def requests(self) -> Path:
        """The folder of requests to the deployer."""
        return self.directives / "requests"

    @property
    def asks(self) -> Path:
        """The folder of what people ask of the active instance."""
        return self.directives / "asks"

    @property
    def lease(self) -> Path:
        """An empty file, for its flock alone."""
        return self.directory / LEASE

    @property
    def ledger(self) -> Path:
        """The ledger; opened by SQLite alone."""
        return self.directory / "ledger.db"

    @property
    def inputs(self) -> Path:
        """The ring of recent decisions' inputs; may be lost."""
        return self.directory / "inputs.db"

    @property
    def halt(self) -> Path:
        """Its presence alone stops all entries; people may make it by hand."""
        return self.directory / HALT

    @property
    def kept_halt(self) -> Path:
        """The same, made beside it by whatever sets a halt: no bot can remove this one."""
        return self.directives / HALT

    @property
    def deploys(self) -> Path:
        """Every deploy and its steps, a JSON object a line; written by the deployer."""
        return self.directives / "deploys.jsonl"

    @property
    def writes(self) -> Path:
        """Every write of control and every request, a JSON object a line; written by the panel."""
        return self.directives / "writes.jsonl"

    @property
    def runtime(self) -> Path:
        """Which runtime this bus belongs to; written once by the deployer."""
        return self.directives / "runtime"

    @property
    def deployer_lock(self) -> Path:
        """Held by the one deployer of this bus."""
        return self.directory / "deployer.lock"

    @property
    def fsync_failed(self) -> Path:
        """A sticky mark, left by the ledger: an fsync failed. Nobody takes until a person looked and removed it."""
        return self.directory / FSYNC_FAILED


def open_bus(directory: Path) -> Bus:
    """Make the directory's folders and the lease file where they are missing, keep others out, and test that locks work.

    Raises BusDirectoryError, LockingUnreliableError.
    """
    bus = Bus(directory.absolute())
    try:
        bus.directory.mkdir(mode=BUS_MODE, parents=True, exist_ok=True)
        _keep_to_owner(bus.directory)
        for folder in (bus.instances, bus.requests):
            folder.mkdir(mode=BUS_MODE, exist_ok=True)
            _keep_to_owner(folder, is_bus=False)
        # Without O_TRUNC and O_EXCL: whoever comes first makes it, nobody ever replaces it.
        os.close(open_regular(bus.lease, os.O_RDWR | os.O_CREAT))
    except OSError as error:
        raise BusDirectoryError(
            f"the bus directory {bus.directory} cannot be used ({error.strerror}); "
            "BUS_DIR must name a directory on a local file system that this user may write"
        ) from error
    check_locking(bus.directory)
    return bus


def make_directives(bus: Bus) -> None:
    """Make the folder that no bot may write to, and take into it what the bus has of people's and the deployer's words.

    Whole or not at all: it is filled under another name first. For whoever holds the deployer's lock. Raises BusDirectoryError,
    OSError.
    """
    folder = bus.directory / DIRECTIVES
    if bus.directives == folder:
        _keep_to_owner(folder, is_bus=False)
        return
    lock = FileLock(bus.control_lock)  # nobody writes control meanwhile
    deadline = time.monotonic() + LOCK_LIMIT_S
    while not lock.try_lock():
        if time.monotonic() > deadline:
            raise BusDirectoryError(f"{lock.path} was held for {LOCK_LIMIT_S:g} s by a writer of control; start again")
        time.sleep(0.01)
    try:
        for left in bus.directory.glob(f".{DIRECTIVES}.*"):
            # Not of whatever has the name: it would open a fifo, and wait for ever.
            shutil.rmtree(left) if stat.S_ISDIR(left.lstat().st_mode) else left.unlink()
        fresh = bus.directory / f".{DIRECTIVES}.{secrets.token_hex(4)}"
        fresh.mkdir(mode=BUS_MODE)
        for name in _SAID:
            with suppress(FileNotFoundError):
                write_atomically(fresh / name, read_regular(bus.directory / name, _MOST_BYTES), durable=True)
        for name in _SAID_IN:
            (fresh / name).mkdir(mode=BUS_MODE)
        fresh.rename(folder)
        sync_directory(bus.directory)
    finally:
        lock.unlock()
    _take_requests(bus)


def share_with_bots(bus: Bus, user: int) -> None:
    """Give bots a user of their own: they may write to the bus, and neither to what people and the deployer say nor to its locks.

    For root, with no bot of another user on the bus. user: its uid, and its group's number. Raises OSError.
    """
    ours = {DIRECTIVES, bus.control_lock.name, bus.deployer_lock.name, *MIRRORED}
    for lock in (bus.control_lock, bus.deployer_lock):
        os.close(open_regular(lock, os.O_RDWR | os.O_CREAT))
    for entry in (bus.directory, *bus.directory.rglob("*")):
        found = entry.lstat()
        if not (stat.S_ISDIR(found.st_mode) or stat.S_ISREG(found.st_mode)):
            continue
        is_dir, names = stat.S_ISDIR(found.st_mode), entry.relative_to(bus.directory).parts
        is_ours = not names or names[0] in ours
        os.chown(entry, 0 if is_ours else user, user, follow_symlinks=False)
        if not names:
            entry.chmod(SHARED_MODE)
        elif names[0].endswith(".lock"):
            entry.chmod(0o600)
        elif is_ours:
            entry.chmod(0o2750 if is_dir else 0o640)


def _take_requests(bus: Bus) -> None:
    """What was asked at the old place until now, and what is not written there any more."""
    for name in _SAID_IN:
        old = bus.directory / name
        if stat.S_ISDIR(old.lstat().st_mode) if os.path.lexists(old) else False:
            for path in old.iterdir():
                path.rename(bus.directives / name / path.name)
            old.rmdir()
    for name in set(_SAID) - set(MIRRORED):
        (bus.directory / name).unlink(missing_ok=True)


def _keep_to_owner(folder: Path, *, is_bus: bool = True) -> None:
    """What stands on the bus decides what is traded, so it is the trading user's. Raises BusDirectoryError, OSError."""
    found = folder.stat() if is_bus else folder.lstat()
    shared = folder.stat() if is_bus else folder.parent.stat()
    roots_own = not is_bus and shared.st_uid == found.st_uid == 0
    if stat.S_ISDIR(found.st_mode) and (is_shared(shared) or roots_own):
        return  # root's, and of its own folder: it could do anything anyway
    if not stat.S_ISDIR(found.st_mode):
        raise BusDirectoryError(
            f"{folder}: expected a folder, found a link or something else; remove it, and look who made it"
        )
    mode, mine = stat.S_IMODE(found.st_mode), os.geteuid()
    if found.st_uid != mine:
        raise BusDirectoryError(
            f"the bus directory {folder} belongs to user {found.st_uid}, expected user {mine}, which runs this; run it as that "
            f"user, or give the bus away once nothing runs: chown -R {mine} {folder}"
        )
    if mode & stat.S_IWOTH:
        raise BusDirectoryError(
            f"the bus directory {folder} has mode {mode:04o}: every user may write what this one trades by; expected "
            f"{BUS_MODE:04o}: look whether all in it is yours, then chmod {BUS_MODE:o} {folder}"
        )
    if mode & ~BUS_MODE & 0o777:
        folder.chmod(mode & ~0o777 | mode & BUS_MODE | 0o700)


def bus_to_read(directory: Path) -> Bus:
    """The bus of a command that only reads: nothing is made, also where there is no bus yet."""
    return Bus(directory.absolute())


# The settings of the bus (prefix BUS_) and how settings errors are said.


S = TypeVar("S", bound=BaseSettings)


class BusSettings(BaseSettings):
    """Where the bus is."""

    model_config = SettingsConfigDict(use_attribute_docstrings=True, env_prefix="BUS_")

    dir: Path = Path("volumes/bus")
    """the bus: what survives, on the shared volume (docs/reference/bus.md)"""


class SettingsError(Exception):
    """A setting cannot be used; the text is one line for people, and what looks like a key in it is starred."""

    def __init__(self, text: str) -> None:
        super().__init__(star_suspects(text))


def load_settings(kind: type[S]) -> S:
    """Read settings from the environment. Raises SettingsError that names the variable, its value and what was expected."""
    try:
        return kind()
    except ValidationError as error:
        first = error.errors()[0]
        name = f"{kind.model_config.get('env_prefix', '')}{'_'.join(str(part) for part in first['loc'])}".upper()
        found = star_suspects(repr(first["input"]))  # before it is cut: a part of a key looks like none
        raise SettingsError(f"{name}: {first['msg']}, found {found:.80}; correct it and start again") from None
    except ValueError as error:  # pydantic-settings: a complex value that is not JSON
        raise SettingsError(f"{error}; correct it and start again") from None
