"""Writing files so that a reader sees the old content or the new one, and never less."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def write_atomically(path: Path, data: bytes, *, durable: bool) -> None:
    """Replace `path` by `data`: temporary file, fsync, rename, fsync of the directory.

    durable=False leaves out both fsyncs: after a power cut the old content may be back, or the file may be empty.
    Raises OSError: the old content is then still there, except when only the directory's fsync failed; then the new one is
    there, and a power cut may bring the old one back.
    """
    # A random name a write: two containers both have PID 1, and two threads may write the same document.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
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
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        _write_all(descriptor, data)
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)
    # Every time: whoever made the file may have been killed before its name was durable.
    sync_directory(path.parent)


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
