"""Versioned documents: how they look on disk, how they are written and read.

On disk a document is one JSON object: `kind`, `schema` (major.minor), `writer`, `epoch` (or null), `sequence` (for control:
the generation), `time`, `checksum` (SHA-256 over all the rest in canonical form), `body`. Minor versions only add fields;
readers keep the fields that they do not know and ignore them, so the releases before and after read each other.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import math
import os
import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, Generic, Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from bus.errors import DocumentCorruptError, DocumentMissingError, DocumentTooNewError
from bus.opening import FILE_MODE, open_regular, read_regular

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


def write(path: Path, body: Document, stamp: Stamp, *, durable: bool) -> None:
    """Write a document (see `files.write_atomically`). Raises OSError."""
    write_atomically(path, encode(body, stamp), durable=durable)


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
