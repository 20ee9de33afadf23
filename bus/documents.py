"""Versioned documents: how they look on disk, how they are written and read.

On disk a document is one JSON object: `kind`, `schema` (major.minor), `writer`, `epoch` (or null), `sequence` (for control:
the generation), `time`, `checksum` (SHA-256 over all the rest in canonical form), `body`. Minor versions only add fields;
readers keep the fields that they do not know and ignore them, so the releases before and after read each other.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import json
import math
import os
import re
import secrets
import stat
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, Generic, Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from bus.errors import DocumentCorruptError, DocumentMissingError, DocumentTooNewError

# Opening what stands in a folder that others may reach: never through a link, and only what belongs to the folder's owner.


FOLDERS = frozenset({"instances", "requests", "asks", "directives"})
FILE_MODE = 0o640
BUS_MODE = 0o750
# Of a bus that root shares with bots that run as a user of their own: each removes only what is its own.
SHARED_MODE = 0o3770
SMALL = 64 << 10
_WHAT = {
    stat.S_IFLNK: "a link",
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a fifo",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def open_regular(path: Path, flags: int, mode: int = FILE_MODE) -> int:
    """A descriptor of a regular file that belongs to this user or to the folder's owner and that not everybody may write to.

    Never waits. Raises OSError: EPERM with what was found, or the kernel's own.
    """
    folder = _open_folder(path.parent)
    try:
        descriptor = _open(path, folder, flags, mode)
        try:
            owner = os.fstat(folder)
            check_file(os.fstat(descriptor), owner, path)
            if flags & os.O_CREAT and os.geteuid() == 0 and os.fstat(descriptor).st_uid != owner.st_uid:
                os.fchown(
                    descriptor, owner.st_uid, owner.st_gid
                )  # what root leaves on another's bus is the other's to read
        except BaseException:
            os.close(descriptor)
            raise
    finally:
        os.close(folder)
    return descriptor


def read_regular(path: Path, most: int) -> bytes:
    """At most so many bytes of its beginning. Raises OSError as `open_regular` does."""
    with os.fdopen(open_regular(path, os.O_RDONLY), "rb") as file:
        return file.read(most)


def read_small(path: Path) -> str:
    """A mark of a line or two, stripped. Raises OSError as `open_regular` does."""
    return read_regular(path, SMALL).decode("utf-8", "replace").strip()


def is_shared(folder: os.stat_result) -> bool:
    """Whether it is root's, and bots run as a user of their own: the one whose number its group has, which may add files."""
    return folder.st_uid == 0 and folder.st_gid != 0 and stat.S_IMODE(folder.st_mode) == SHARED_MODE


def check_file(found: os.stat_result, folder: os.stat_result, path: Path) -> None:
    """Raises PermissionError: it is no regular file, belongs to another user, or may be written to by everybody.

    folder: where it stands; its owner's files are right, and the bots' in one that is shared with them.
    """
    owner = folder.st_gid if is_shared(folder) else folder.st_uid
    _check_kind(found, path)
    if found.st_uid not in (0, os.geteuid(), owner):  # root could do all of this anyway
        raise _refused(path, f"expected a file of user {owner}, found one of user {found.st_uid}; look who made it")
    if found.st_mode & stat.S_IWOTH:
        raise _refused(
            path,
            f"expected a file that not everybody may write to, found mode {stat.S_IMODE(found.st_mode):04o}; chmod o-w it",
        )


def check_database(path: Path) -> None:
    """As `open_regular` checks, for SQLite: it waits for ever where one of the files beside its own is a fifo. Raises OSError."""
    for end in ("", "-journal", "-wal", "-shm"):
        file = path.with_name(path.name + end)
        with suppress(FileNotFoundError):
            check_file(file.lstat(), path.parent.stat(), file)


def open_named(path: Path) -> BinaryIO:
    """To read what a person named, or left in a folder of his own: links are followed. Never waits, also for no fifo.

    Raises OSError: EPERM with what was found instead of a regular file.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        _check_kind(os.fstat(descriptor), path)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_named(path: Path) -> bytes:
    """At most MAX_BYTES of its beginning. Raises OSError as `open_named` does."""
    with open_named(path) as file:
        return file.read(MAX_BYTES)


def make_private(folder: Path) -> None:
    """Make a folder, and those above it that are missing, for this user alone; `.run` and what is in it, too. Raises OSError."""
    above = [*reversed(folder.parents), folder]
    for one in above:
        if not one.exists():
            one.mkdir(mode=0o700, exist_ok=True)
    names = [one.name for one in above]
    if ".run" not in names:
        return
    for one in above[names.index(".run") :]:
        keep_private(one)


def keep_private(folder: Path) -> None:
    """Take the folder from everybody else where it is this user's. Raises OSError."""
    found = folder.lstat()
    # A way through, and no more, is left to the group of the bots' own user.
    through = 0o010 if found.st_uid == 0 and found.st_gid != 0 else 0
    if stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and found.st_mode & (0o077 & ~through):
        folder.chmod(0o700 | found.st_mode & through)


def open_private(path: Path, flags: int) -> int:
    """A descriptor of a file for this user alone, such as a log; an older one is taken from everybody else. Raises OSError."""
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)
    try:
        found = os.fstat(descriptor)
        _check_kind(found, path)
        if found.st_mode & 0o077:
            os.fchmod(descriptor, 0o600)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _open(path: Path, folder: int, flags: int, mode: int) -> int:
    try:
        return os.open(path.name, flags | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, mode, dir_fd=folder)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise _refused(path, "expected a regular file, found a link; remove it") from error
        if error.errno in (errno.ENXIO, errno.EISDIR):  # a fifo without a reader, a socket; a folder
            raise _refused(path, "expected a regular file, found something else; remove it") from error
        error.filename = str(path)
        raise


def _open_folder(folder: Path) -> int:
    follow = 0 if folder.name not in FOLDERS else os.O_NOFOLLOW
    try:
        return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | follow)
    except NotADirectoryError as error:  # what Linux says of a link that may not be followed
        raise _refused(folder, "expected a folder, found something else or a link; remove it") from error


def _check_kind(found: os.stat_result, path: Path) -> None:
    if not stat.S_ISREG(found.st_mode):
        what = _WHAT.get(stat.S_IFMT(found.st_mode), "none")
        raise _refused(path, f"expected a regular file, found {what}; remove it")


def _refused(path: Path, text: str) -> PermissionError:
    return PermissionError(errno.EPERM, text, str(path))


_LIBC = ctypes.CDLL(None, use_errno=True)

# Writing files so that a reader sees the old content or the new one, and never less.


def write_atomically(path: Path, data: bytes, *, durable: bool, mode: int = FILE_MODE) -> None:
    """Replace `path` by `data`: temporary file, fsync, rename, fsync of the directory. A link of that name is replaced, too.

    durable=False leaves out both fsyncs: after a power cut the old content may be back, or the file may be empty.
    Raises OSError: the old content is then still there, except when only the directory's fsync failed; then the new one is
    there, and a power cut may bring the old one back.
    """
    # A random name a write: two containers both have PID 1, and two threads may write the same document.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        descriptor = open_regular(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        try:
            _write_all(descriptor, data)
            if durable:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        temporary.rename(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if durable:
        sync_directory(path.parent)


def append_durably(path: Path, data: bytes) -> None:
    """Append `data` to `path` and wait until it is on the disk. Raises OSError; a part of `data` may be there then."""
    descriptor = open_regular(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        _write_all(descriptor, data)
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)
    # Every time: whoever made the file may have been killed before its name was durable.
    sync_directory(path.parent)


def sync_disk(folder: Path) -> None:
    """Wait until everything that was written to the folder's file system is on the disk. Raises OSError."""
    syncfs = getattr(_LIBC, "syncfs", None)  # Linux alone
    if syncfs is None:
        os.sync()
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        if syncfs(descriptor) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(folder))
    finally:
        os.close(descriptor)


def sync_directory(directory: Path) -> None:
    """Make renames and new names in `directory` durable. Raises OSError."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


# Versioned documents: how they look on disk, how they are written and read.


MAX_BYTES = 4 << 20
_SCHEMA = re.compile(r"([0-9]{1,9})\.[0-9]{1,9}")


class Part(BaseModel):
    """A part of a document's body: immutable, keeps fields that it does not know."""

    model_config = ConfigDict(extra="allow", frozen=True)


class Document(Part):
    """A document's body. KIND names it, MAJOR and MINOR are the version that this release writes."""

    KIND: ClassVar[str]
    MAJOR: ClassVar[int] = 1
    MINOR: ClassVar[int] = 0

    def changed(self, **fields: Any) -> Self:
        """A validated copy with some fields replaced. Raises pydantic.ValidationError."""
        return type(self).model_validate({**self.model_dump(), **fields})


D = TypeVar("D", bound=Document)


@dataclass(frozen=True, slots=True)
class Stamp:
    """Who wrote a document, as what, and when (UTC ms)."""

    writer: str
    sequence: int
    time_ms: int
    epoch: int | None = None


@dataclass(frozen=True, slots=True)
class Read(Generic[D]):
    """A document as it was read: its body and its stamp."""

    body: D
    stamp: Stamp


def encode(body: Document, stamp: Stamp) -> bytes:
    """The bytes of a document. What JSON cannot carry is replaced: NaN and infinities by null, lone surrogates by `?`."""
    content: dict[str, Any] = {
        "kind": body.KIND,
        "schema": f"{body.MAJOR}.{body.MINOR}",
        "writer": _plain(stamp.writer),
        "epoch": stamp.epoch,
        "sequence": stamp.sequence,
        "time": datetime.fromtimestamp(stamp.time_ms / 1000, UTC).isoformat(timespec="milliseconds"),
        "body": _plain(body.model_dump(mode="json")),
    }
    content["checksum"] = _checksum(content)
    return json.dumps(content, indent=1, ensure_ascii=False).encode() + b"\n"


def decode(data: bytes, kind: type[D], name: str) -> Read[D]:
    """Read a document's bytes; `name` says in errors which file it was.

    Raises DocumentCorruptError or DocumentTooNewError.
    """
    if len(data) > MAX_BYTES:
        raise DocumentCorruptError(f"{name}: expected at most {MAX_BYTES} bytes, found {len(data)}")
    try:
        content = json.loads(data, parse_constant=_refuse)
        if not isinstance(content, dict):
            raise DocumentCorruptError(f"{name}: expected a JSON object, found {type(content).__name__}")
        checksum = content.pop("checksum")
        if content["kind"] != kind.KIND:
            raise DocumentCorruptError(f"{name}: expected a {kind.KIND} document, found {content['kind']!r}")
        schema = _SCHEMA.fullmatch(str(content["schema"]))
        if schema is None:
            raise DocumentCorruptError(
                f"{name}: expected a schema such as {kind.MAJOR}.0, found {content['schema']!r:.40}"
            )
        if int(schema[1]) > kind.MAJOR:
            raise DocumentTooNewError(
                f"{name}: written as version {schema[0]}, this release reads {kind.MAJOR}.x; run a newer release"
            )
        if int(schema[1]) < kind.MAJOR:
            raise DocumentCorruptError(
                f"{name}: written as version {schema[0]}, this release reads {kind.MAJOR}.x only"
            )
        if checksum != _checksum(content):
            raise DocumentCorruptError(f"{name}: the checksum does not match; it was damaged or edited by hand")
        stamp = Stamp(
            writer=str(content["writer"]),
            sequence=int(content["sequence"]),
            time_ms=round(datetime.fromisoformat(content["time"]).timestamp() * 1000),
            epoch=None if content["epoch"] is None else int(content["epoch"]),
        )
        return Read(kind.model_validate(content["body"]), stamp)
    except KeyError as error:
        raise DocumentCorruptError(f"{name}: the field {error.args[0]!r} is missing") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise DocumentCorruptError(
            f"{name}: {where or 'body'}: {first['msg']}, found {first['input']!r:.80}"
        ) from error
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise DocumentCorruptError(f"{name}: not a readable document ({error})") from error


def read(path: Path, kind: type[D]) -> Read[D]:
    """Read the document at `path`. Raises a DocumentError; a directory that cannot be read counts as corrupt."""
    try:
        data = read_regular(path, MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise DocumentMissingError(f"{path.name} is missing") from error
    except OSError as error:
        raise DocumentCorruptError(f"{path.name}: cannot be read ({error})") from error
    return decode(data, kind, path.name)


def write(path: Path, body: Document, stamp: Stamp, *, durable: bool, mirror: Path | None = None) -> None:
    """Write a document (see `write_atomically`). Raises OSError.

    mirror: where a copy goes, for readers of an earlier release; nothing depends on it, so it may fail.
    """
    data = encode(body, stamp)
    write_atomically(path, data, durable=durable)
    if mirror is not None and mirror != path:
        with suppress(OSError):
            write_atomically(mirror, data, durable=False)


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_plain(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_plain(part) for part in value]
    return value


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not a number of JSON")


def _checksum(content: dict[str, Any]) -> str:
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return "sha256:" + hashlib.sha256(canonical.encode("utf-8", "surrogatepass")).hexdigest()
