"""`deployer backup | restore`: what a bus cannot lose in one file, taken while it trades.

The ledger by SQLite's backup call, then every other file of the bus, which may be newer than the ledger and never older:
documents, and what a worker keeps there of its own, such as the paper wallet's key. Left out is what is made anew (recent inputs,
status, locks), and folders.
"""

from __future__ import annotations

import io
import json
import os
import re
import stat
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

from bus import Bus, Clock, LedgerError, read_instances, read_regular, sync_directory, write_atomically
from deployer.errors import StartError
from ledger import Ledger

FORMAT = 1
MANIFEST, LEDGER = "backup.json", "ledger.db"
MOST_BYTES = 64 << 20
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,100}")
_MADE_ANEW = re.compile(r"ledger\.db.*|inputs\.db.*|status\.json|lease|.*\.lock|backup\.json")

Say = Callable[[str], None]


def backup(bus: Bus, to: Path, clock: Clock, say: Say) -> None:
    """Write the file; it has its name only when it is whole. Raises StartError, LedgerError, OSError."""
    if to.exists():
        raise StartError(f"{to} is there already; name a file that does not exist yet")
    with tempfile.TemporaryDirectory(prefix=".never-sleeps-backup-", dir=to.absolute().parent) as folder:
        copy, unfinished = Path(folder) / LEDGER, Path(folder) / "backup"
        ledger = Ledger.reader(bus.ledger)
        if ledger is None:
            raise StartError(f"the bus {bus.directory} has no ledger yet: there is nothing to back up")
        with ledger:
            ledger.backup(copy)
        epoch, polls = _look_at(copy)
        manifest = {"format": FORMAT, "wall_ms": clock.wall_ms(), "epoch": epoch, "polls": polls}
        with tarfile.open(unfinished, "w:gz") as archive:
            _add(archive, MANIFEST, json.dumps(manifest).encode())
            archive.add(copy, LEDGER)
            # By name alone: a bus that is restored has no folder of directives until its deployer starts.
            for path in sorted(
                {path.name: path for path in (*bus.directory.iterdir(), *bus.directives.iterdir())}.values()
            ):
                found = path.lstat()
                if _is_kept(path.name) and stat.S_ISREG(found.st_mode) and found.st_size <= MOST_BYTES:
                    _add(archive, path.name, read_regular(path, MOST_BYTES))
        unfinished.chmod(0o600)
        with unfinished.open("rb") as file:
            os.fsync(file.fileno())
        unfinished.rename(to)
    sync_directory(to.absolute().parent)
    say(f"{to}: {to.stat().st_size >> 10} KB, as of epoch {epoch} and {polls} completed polls")


def restore(bus: Bus, file: Path, say: Say) -> None:
    """Fill a bus that has no ledger. Raises StartError, LedgerError, OSError; then nothing that trades is there."""
    if bus.ledger.exists() or any(instance.alive for instance in read_instances(bus)):
        raise StartError(f"the bus {bus.directory} has a ledger already; restore into another one: set BUS_DIR")
    try:
        with tarfile.open(file, "r:gz") as archive:
            names = [name for name in archive.getnames() if _is_kept(name)]
            contents = {name: _read(archive, name) for name in (MANIFEST, LEDGER, *names)}
            manifest = json.loads(contents[MANIFEST] or b"{}")
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise StartError(f"{file} is no backup of `./ns backup` ({error}); name another one") from error
    if manifest.get("format") != FORMAT or contents[LEDGER] is None:
        raise StartError(
            f"{file}: expected a backup of format {FORMAT}, found {manifest.get('format')!r}; use its release"
        )
    with tempfile.TemporaryDirectory(prefix=".restore-", dir=bus.directory) as folder:
        # Tried elsewhere: SQLite leaves files beside what it opens.
        tried = Path(folder) / LEDGER
        tried.write_bytes(contents[LEDGER] or b"")
        epoch, polls = _look_at(tried)
    # The ledger last and whole: a bus without one is empty.
    for name in names:
        if (content := contents[name]) is not None:
            write_atomically(bus.directory / name, content, durable=True)
            (bus.directory / name).chmod(0o600 if name.endswith(".key") else 0o640)
    write_atomically(bus.ledger, contents[LEDGER] or b"", durable=True)
    say(f"{bus.directory} is as of epoch {epoch} and {polls} completed polls")
    say(
        "it does not trade yet: where the original has ended for good, say so with `./ns move`, then start the deployer"
    )


def _look_at(copy: Path) -> tuple[int, int]:
    """The newest epoch and the completed polls of a copy; reading them tries it. Raises StartError, LedgerError."""
    ledger = Ledger.reader(copy)
    if ledger is None:
        raise StartError("the ledger's copy holds nothing; try again")
    with ledger:
        wrong = ledger.scalar("PRAGMA integrity_check")
        if wrong != "ok":
            raise LedgerError(f"the ledger's copy is damaged: {wrong}")
        epoch = ledger.newest_epoch()
        return (epoch.epoch if epoch else 0), ledger.integer("SELECT count(*) FROM polls_completed")


def _is_kept(name: str) -> bool:
    return _PLAIN.fullmatch(name) is not None and _MADE_ANEW.fullmatch(name) is None


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), 0o600
    archive.addfile(member, io.BytesIO(content))


def _read(archive: tarfile.TarFile, name: str) -> bytes | None:
    """One plain file of the archive; nothing is ever extracted by a path that it names."""
    try:
        member = archive.extractfile(name)
    except KeyError:
        return None
    return member.read() if member is not None else None
