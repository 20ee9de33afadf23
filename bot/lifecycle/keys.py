"""The wallet's keys: read from files where this instance was given them, or handed over by the deployer once it may trade.

The deployer listens on a socket that this instance alone can reach. It answers with one line of JSON, {"key", "relayer_key"}, the
texts of the two files, as soon as the rollout lets this instance trade: an instance of the confirmed commit at once, a candidate
with the request that the lease be passed to it. Until then the connection waits. It is made again after the deployer's death.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from bot.settings import BotSettings, as_key, read_key
from bot.venue.credentials import (
    content_of,
    credentials_path,
    read_credentials,
    read_relayer_key,
    read_stored,
    relayer_key_of,
)
from bot.venue.polymarket import Credentials, RelayerKey, signer_address
from bus import Bus, Log, SettingsError, write_atomically

RETRY_S = 0.2
MOST_BYTES = 64 << 10
AT_ONCE_S = 1.0
_PR_SET_DUMPABLE = 4  # linux/prctl.h
PAPER_CREDENTIALS = "paper.credentials"


@dataclass(frozen=True, slots=True)
class Keys:
    """key: the wallet's, 0x and 64 hex digits. relayer_key: for redemptions, where there is one."""

    key: str = field(repr=False)
    relayer_key: RelayerKey | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Access:
    """What an instance has of its account at its start.

    signer: the address of the wallet's key. keys: None where they come later. credentials: None where the venue is to be asked.
    """

    signer: str
    keys: Keys | None
    credentials: Credentials | None = None


async def access(settings: BotSettings, bus: Bus, log: Log) -> Access:
    """What there is at once. On paper one without credentials waits for the keys. Raises SettingsError."""
    is_live = settings.venue == "live"
    if settings.key_socket is None:
        keys = Keys(read_key(settings, bus.directory), read_relayer_key(settings.relayer_key_file))
        stored = read_credentials(credentials_path(settings), keys.key) if is_live else None
        return Access(_address_of(keys.key), keys, stored)
    path = credentials_path(settings) if is_live else bus.directory / PAPER_CREDENTIALS
    if not is_live:
        with suppress(TimeoutError):
            # Of those that may trade at once, each asks the exchange anew: a fresh one knows no former credentials.
            async with asyncio.timeout(AT_ONCE_S if path.exists() else None):
                keys = await keys_of_deployer(settings.key_socket, log)
                return Access(_address_of(keys.key), keys)
    credentials, address = read_stored(path)
    return Access(address, None, credentials)


def keep_for_others(settings: BotSettings, bus: Bus, credentials: Credentials, signer: str) -> None:
    """On paper the credentials of a key that is handed over stand on the bus, for candidates without a key. Raises OSError."""
    if settings.venue == "paper" and settings.key_socket is not None:
        text = content_of(credentials, signer)
        write_atomically(bus.directory / PAPER_CREDENTIALS, text.encode(), durable=False, mode=0o600)


def _address_of(key: str) -> str:
    try:
        return signer_address(key)
    except ValueError:
        raise SettingsError(
            "the key file holds 64 hex digits that are no private key (0 or too large); put the wallet's key there"
        ) from None


async def keys_of_deployer(socket: Path, log: Log) -> Keys:
    """Wait for them, through deaths of the deployer, until cancelled. Raises SettingsError: what came is no key."""
    said = ""
    while True:
        try:
            line = await _line(socket)
            if line:
                return _read(line)
            said = ""
        except OSError as error:
            if said != str(error):  # once, and not five times a second
                log.warning("keys_not_asked", reason=str(error), again_s=RETRY_S)
            said = str(error)
        await asyncio.sleep(RETRY_S)


def keep_memory_private(*, private: bool = True) -> None:
    """Nobody of this account but root reads this process's memory or environment from now on, and no core is made of it.

    Before a key is read. On Linux alone; elsewhere nothing happens.
    """
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(_PR_SET_DUMPABLE, int(not private), 0, 0, 0)


async def _line(socket: Path) -> bytes:
    """What the deployer says, empty where it ended before. Raises OSError."""
    keep_memory_private(
        private=False
    )  # /proc/self/fd is this process's own again for the connection; it has no key yet
    # By the folder's descriptor: the path itself may be longer than the 107 bytes that an address has room for.
    folder = os.open(socket.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        reader, writer = await asyncio.open_unix_connection(f"/proc/self/fd/{folder}/{socket.name}", limit=MOST_BYTES)
    finally:
        os.close(folder)
    keep_memory_private()
    try:
        line = await reader.readline()
        return line if line.endswith(b"\n") else b""
    except ValueError as error:
        raise OSError(f"{socket} sent a line of more than {MOST_BYTES} bytes") from error
    finally:
        writer.close()


def _read(line: bytes) -> Keys:
    where = "what the deployer handed over as the wallet's key"
    try:
        payload = json.loads(line)
        key, relayer = str(payload["key"]), payload["relayer_key"]
    except (ValueError, KeyError, TypeError):
        raise SettingsError(
            f"{where} cannot be read; run a deployer and a bot of releases that know each other"
        ) from None
    return Keys(as_key(key.strip(), where), None if relayer is None else relayer_key_of(str(relayer), where))
