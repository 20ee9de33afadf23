"""Hands the wallet's keys to the units that may have them: over a socket of each unit's own, and never before.

A unit is given the path of its socket, and no file with a key. Its bot connects and waits. The answer is one line of JSON,
{"key", "relayer_key"}, the texts of the files as they are then. Who may have the keys is told by the rollout in each round
(rollout.key_holders). A deployer that starts anew listens at the same places, so a bot that waits connects again.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import stat
import struct
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from bus import Log, make_private

FOLDER, SOCKET = "keys", "socket"
# Of one unit at a time; a bot has one.
MOST_WAITING = 4
SEND_LIMIT_S = 2.0
MOST_BYTES = 16 << 10
KEY_SETTINGS = {"BOT_KEY_FILE": "key", "BOT_RELAYER_KEY_FILE": "relayer_key"}
"""Settings of the bot that name a file with a key, and what it is called where it is handed over."""


@dataclass(slots=True)
class _Listening:
    """One unit's socket, and the bots that wait at it, oldest first."""

    server: asyncio.Server
    waiting: list[asyncio.StreamWriter] = field(default_factory=list)


class KeyRing:
    """Listens for the running units.

    Args:
        folder: where each unit's folder is.
        files: the files of keys, by the names of KEY_SETTINGS; none where there is nothing to hand over.
        is_unit: whether a process (its pid) is the unit of that name; True where the runtime lets no other one reach the socket.
    """

    def __init__(self, folder: Path, files: Mapping[str, Path], is_unit: Callable[[str, int], bool], log: Log) -> None:
        self._folder, self._files, self._is_unit, self._log = folder, dict(files), is_unit, log
        self._listening: dict[str, _Listening] = {}
        self._allowed: frozenset[str] = frozenset()
        self._problem = ""

    async def attend(self, running: Iterable[str], allowed: frozenset[str]) -> None:
        """Listen for each running unit, and hand over to those that may have them: to those that wait, and to what asks later.

        What fails is logged and tried again by the next call: it must not stop the supervision of what trades.
        """
        if not self._files:
            return
        self._allowed = allowed
        try:
            await self._listen_for(frozenset(running))
        except OSError as error:
            if self._problem != str(error):
                self._log.error("keys_not_handed_over", reason=str(error))
            self._problem = str(error)
        for unit in allowed & self._listening.keys():
            waiting, self._listening[unit].waiting = self._listening[unit].waiting, []
            for writer in waiting:
                await self._send(unit, writer)

    def close(self) -> None:
        """End it; the sockets stay, for the next deployer."""
        for listening in self._listening.values():
            listening.server.close()
            for writer in listening.waiting:
                writer.close()
        self._listening.clear()

    async def _listen_for(self, units: frozenset[str]) -> None:
        for unit in [unit for unit in self._listening if unit not in units]:
            self._end(unit)
        for left in self._folder.iterdir() if self._folder.is_dir() else ():
            # A folder is made right before its unit; one without a socket may be of a unit that is only just being started.
            if left.name not in units and (left / SOCKET).exists():
                shutil.rmtree(left, ignore_errors=True)
        for unit in units - self._listening.keys():
            await self._listen(unit)

    async def _listen(self, unit: str) -> None:
        place = folder_of(self._folder, unit)
        place.mkdir(parents=True, exist_ok=True)
        folder = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            with suppress(FileNotFoundError):
                os.unlink(SOCKET, dir_fd=folder)  # a former deployer's
            # By the folder's descriptor: its path may be longer than the 107 bytes that an address has room for.
            listener.bind(f"/proc/self/fd/{folder}/{SOCKET}")
            owner = os.fstat(folder)
            os.chown(SOCKET, owner.st_uid, owner.st_gid, dir_fd=folder)
            server = await asyncio.start_unix_server(lambda r, w: self._connected(unit, r, w), sock=listener)
        except BaseException:
            listener.close()
            raise
        finally:
            os.close(folder)
        self._listening[unit] = _Listening(server)

    async def _connected(self, unit: str, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        listening = self._listening.get(unit)
        pid = _peer(writer)
        if listening is None or not self._is_unit(unit, pid):
            self._log.error("keys_refused", unit=unit, pid=pid, reason="the process that asked is not the unit's")
            writer.close()
        elif unit in self._allowed:
            await self._send(unit, writer)
        else:
            listening.waiting.append(writer)
            while len(listening.waiting) > MOST_WAITING:
                listening.waiting.pop(0).close()

    async def _send(self, unit: str, writer: asyncio.StreamWriter) -> None:
        try:
            writer.write(self._line())
            async with asyncio.timeout(SEND_LIMIT_S):
                await writer.drain()
            self._log.info("keys_handed_over", unit=unit)
        except (OSError, TimeoutError) as error:
            self._log.error("keys_not_handed_over", unit=unit, reason=str(error) or "the bot did not read them")
        finally:
            writer.close()

    def _line(self) -> bytes:
        texts = {name: _read(path) for name, path in self._files.items()}
        return json.dumps({"key": texts.get("key"), "relayer_key": texts.get("relayer_key")}).encode() + b"\n"

    def _end(self, unit: str) -> None:
        listening = self._listening.pop(unit)
        listening.server.close()
        for writer in listening.waiting:
            writer.close()
        shutil.rmtree(folder_of(self._folder, unit), ignore_errors=True)


def folder_of(folder: Path, unit: str) -> Path:
    """The folder of one unit's socket."""
    return folder / unit


def make_folder(folder: Path, unit: str, owner: tuple[int, int] | None = None) -> Path:
    """Make it, before the unit is started. owner: uid and gid of its bot, where that is another user. Raises OSError."""
    make_private(folder)
    place = folder_of(folder, unit)
    place.mkdir(mode=0o700, exist_ok=True)
    if owner is not None:
        os.chown(place, *owner)
    return place


def forget_folder(folder: Path, unit: str) -> None:
    """Remove it, where the unit was not started."""
    shutil.rmtree(folder_of(folder, unit), ignore_errors=True)


def key_files(environment: Mapping[str, str]) -> dict[str, Path]:
    """The files that settings name, by what they are called where they are handed over; none without the wallet's key."""
    if not environment.get("BOT_KEY_FILE"):
        return {}
    return {what: Path(environment[name]).absolute() for name, what in KEY_SETTINGS.items() if environment.get(name)}


def _read(path: Path) -> str:
    """Raises OSError: it cannot be read, or others may read it."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_mode & 0o177 or found.st_uid != os.geteuid():
            raise PermissionError(
                f"{path} has mode {stat.S_IMODE(found.st_mode):04o} and owner {found.st_uid}; expected a file of mode 0600 or "
                f"0400 and owner {os.geteuid()}: chmod 600 it"
            )
        return file.read(MOST_BYTES).decode("utf-8", "replace").strip()


def _peer(writer: asyncio.StreamWriter) -> int:
    """The pid of whoever connected, 0 where it is in another container."""
    connection = writer.get_extra_info("socket")
    size = struct.calcsize("3i")
    pid, _, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return int(pid)
