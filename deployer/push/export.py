"""Reads a commit object by object and holds each against its own hash: what has the sha is what is written.

No checkout, no `git archive`: filters, export-subst and export-ignore of the commit's .gitattributes change nothing.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import tarfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Protocol

from deployer.errors import RepositoryError, TooLargeError
from deployer.git import cat_file

MOST_ENTRIES = 200_000
MOST_BYTES = 4 << 30
MOST_DEPTH = 200
MOST_SMALL = 64 << 20  # of what is read into memory: a commit, a tree
MOST_LINK = 4096
MOST_NAME = 255  # bytes; of every file system that a checkout may lie on (NAME_MAX in limits.h)
MAX_NAMED = 3
_PIECE = 1 << 18
_SHA = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
_MODE = re.compile(rb"[0-7]{5,7}")
_TREE = re.compile(rb"tree ([0-9a-f]{40,64})\n")
_COMMITTED = re.compile(rb"^committer .*> (\d{1,12}) [+-]\d{4}$", re.MULTILINE)
# The file that Git LFS commits in place of a large one (its specification, "The Pointer").
_POINTER = re.compile(rb"version https?://\S+/spec/v1\n(?:[^\n]+\n)*?oid sha256:[0-9a-f]{64}\n")
_POINTER_BYTES = 1024
DIRECTORY, SUBMODULE, LINK = 0o40000, 0o160000, 0o120000
_FILES = (0o100644, 0o100664, 0o100755)  # the second one: of git before 2005, still in old histories


@dataclass(slots=True)
class Remarks:
    """What a commit does not bring though its tree names it."""

    submodules: list[str] = field(default_factory=list)
    pointers: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """For people; empty when everything is there."""
        lines = []
        if self.submodules:
            lines.append(f"submodules are not fetched, these folders are empty: {_named(self.submodules)}")
        if self.pointers:
            lines.append(
                f"pointers of Git LFS are in place of these files: {_named(self.pointers)}; commit the files themselves"
            )
        return lines


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a tree. path: with the folders above it."""

    path: bytes
    mode: int
    sha: str


class Sink(Protocol):
    """Where files go."""

    def folder(self, path: bytes) -> None:
        """A folder; before what is in it."""

    def link(self, path: bytes, target: bytes) -> None:
        """A symbolic link."""

    def file(self, path: bytes, content: Blob, *, executable: bool) -> None:
        """A file; `content` is read to its end."""


class Blob(io.RawIOBase):
    """The bytes of one object as they come; what was read to the end and has another hash raises RepositoryError."""

    def __init__(self, source: io.BufferedReader, sha: str, size: int) -> None:
        super().__init__()
        self._source, self._sha, self.size, self._left = source, sha, size, size
        self._hash = _hash(sha, b"blob", size)
        self.head = b""

    def readable(self) -> bool:
        """Always."""
        return True

    def read(self, size: int = -1) -> bytes:
        """The next piece; empty at the end."""
        wanted = self._left if size < 0 else min(size, self._left)
        piece = self._source.read(wanted)
        if len(piece) < wanted:
            raise RepositoryError(f"git ended in the middle of the object {self._sha}")
        self._hash.update(piece)
        self._left -= len(piece)
        if len(self.head) < _POINTER_BYTES:
            self.head += piece[:_POINTER_BYTES]
        if not self._left and wanted:
            self._check()
        return piece

    def finish(self) -> None:
        """Every byte was read and belongs to the sha. Raises RepositoryError."""
        while self._left:
            self.read(_PIECE)
        self._check()
        self._source.read(1)  # the line feed after an object

    def _check(self) -> None:
        if self._hash.hexdigest() != self._sha:
            raise RepositoryError(f"the object {self._sha} has other content than its name says; look at that disk")


class Objects:
    """The objects of one git directory, each checked. Use it in one thread."""

    def __init__(self, git_directory: Path) -> None:
        self._process = cat_file(git_directory)

    def __enter__(self) -> Objects:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.end()

    def kill(self) -> None:
        """Whatever is read from now on fails; from any thread."""
        with suppress(ProcessLookupError):
            self._process.kill()

    def end(self) -> None:
        """Nothing of it is left."""
        self.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()

    def small(self, sha: str, kind: bytes) -> bytes:
        """A commit or a tree. Raises RepositoryError."""
        size = self._open(sha, kind)
        if size > MOST_SMALL:
            raise RepositoryError(f"the object {sha} has {size} bytes; expected at most {MOST_SMALL}")
        data = self._out.read(size)
        checked = _hash(sha, kind, size)
        checked.update(data)
        if len(data) < size or checked.hexdigest() != sha:
            raise RepositoryError(f"the object {sha} has other content than its name says; look at that disk")
        self._out.read(1)
        return data

    def blob(self, sha: str) -> Blob:
        """A file's content; it must be read to its end before anything else is asked. Raises RepositoryError."""
        return Blob(self._out, sha, self._open(sha, b"blob"))

    @property
    def _out(self) -> io.BufferedReader:
        assert isinstance(self._process.stdout, io.BufferedReader), "asked for with a pipe"
        return self._process.stdout

    def _open(self, sha: str, kind: bytes) -> int:
        if not _SHA.fullmatch(sha):
            raise RepositoryError(f"expected a full sha, found {sha!r}")
        assert self._process.stdin is not None, "asked for with a pipe"
        try:
            self._process.stdin.write(f"{sha}\n".encode())
            self._process.stdin.flush()
            header = self._out.readline(200).split()
        except (OSError, ValueError) as error:
            raise RepositoryError(f"git ended before it gave the object {sha}") from error
        if len(header) != 3 or header[0] != sha.encode() or header[1] != kind:
            raise RepositoryError(f"expected the {kind.decode()} {sha}, git has none (is the repository whole?)")
        return int(header[2])


def read_commit(objects: Objects, sha: str) -> bytes:
    """A commit's own bytes. Raises RepositoryError."""
    return objects.small(sha, b"commit")


def export(
    objects: Objects, sha: str, sink: Sink, *, most_bytes: int = MOST_BYTES, most_files: int = MOST_ENTRIES
) -> Remarks:
    """Write every file of a commit. Raises TooLargeError, other RepositoryErrors, OSError."""
    match = _TREE.match(read_commit(objects, sha))
    if match is None:
        raise RepositoryError(f"the commit {sha} names no tree")
    remarks, total, count = Remarks(), 0, 0
    for entry in _walk(objects, match[1].decode()):
        count += 1
        if count > most_files:
            raise TooLargeError(f"the commit {sha[:7]} has more than {most_files} files")
        if entry.mode == DIRECTORY:
            sink.folder(entry.path)
        elif entry.mode == SUBMODULE:
            sink.folder(entry.path)
            remarks.submodules.append(shown(entry.path))
        else:
            blob = objects.blob(entry.sha)
            total += blob.size
            if total > most_bytes:
                raise TooLargeError(f"the commit {sha[:7]} has more than {most_bytes >> 20} MB of files")
            if entry.mode == LINK:
                if blob.size > MOST_LINK:
                    raise RepositoryError(f"the link {shown(entry.path)} has {blob.size} bytes")
                target = blob.read()
                blob.finish()
                sink.link(entry.path, target)
                continue
            sink.file(entry.path, blob, executable=entry.mode == 0o100755)
            blob.finish()
            if blob.size < _POINTER_BYTES and _POINTER.match(blob.head):
                remarks.pointers.append(shown(entry.path))
    return remarks


def committed_s(commit: bytes) -> int:
    """When its committer says that it was made; anybody can say anything. Raises RepositoryError."""
    match = _COMMITTED.search(commit.partition(b"\n\n")[0])
    if match is None:
        raise RepositoryError("the commit does not say when it was made")
    return int(match[1])


class FolderSink:
    """Files in a folder that exists and is empty. Nothing is opened through a link."""

    def __init__(self, top: Path) -> None:
        self._top = os.fsencode(top)

    def folder(self, path: bytes) -> None:
        """Raises OSError where something of that name is there."""
        os.mkdir(self._at(path), 0o755)  # noqa: PTH102  # bytes: a name in a tree has no encoding

    def link(self, path: bytes, target: bytes) -> None:
        """Raises OSError."""
        os.symlink(target, self._at(path))  # noqa: PTH211

    def file(self, path: bytes, content: Blob, *, executable: bool) -> None:
        """Raises OSError, RepositoryError."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        with open(os.open(self._at(path), flags, 0o755 if executable else 0o644), "wb") as out:  # noqa: PTH123
            while piece := content.read(_PIECE):
                out.write(piece)

    def _at(self, path: bytes) -> bytes:
        return self._top + b"/" + path


class TarSink:
    """Files in a tar, with the modes that a checkout has, so that the layers of an image from the work tree are found again."""

    def __init__(self, archive: tarfile.TarFile, mtime: int) -> None:
        self._archive, self._mtime = archive, mtime

    def folder(self, path: bytes) -> None:
        """Raises OSError."""
        self._archive.addfile(self._info(path, tarfile.DIRTYPE, 0o755))

    def link(self, path: bytes, target: bytes) -> None:
        """Raises OSError."""
        info = self._info(path, tarfile.SYMTYPE, 0o777)
        info.linkname = _text(target)
        self._archive.addfile(info)

    def file(self, path: bytes, content: Blob, *, executable: bool) -> None:
        """Raises OSError, RepositoryError."""
        info = self._info(path, tarfile.REGTYPE, 0o755 if executable else 0o644)
        info.size = content.size
        self._archive.addfile(info, content)

    def _info(self, path: bytes, kind: bytes, mode: int) -> tarfile.TarInfo:
        info = tarfile.TarInfo(_text(path))
        info.type, info.mode, info.mtime = kind, mode, self._mtime
        info.uname = info.gname = "root"
        return info


def write_tar(objects: Objects, sha: str, to: Path, *, most_bytes: int, most_files: int) -> Remarks:
    """A commit's files as a tar that is complete when no error is raised. Raises RepositoryError, OSError."""
    mtime = committed_s(read_commit(objects, sha))
    with tarfile.open(to, "w", format=tarfile.PAX_FORMAT, encoding="utf-8", errors="surrogateescape") as archive:
        return export(objects, sha, TarSink(archive, mtime), most_bytes=most_bytes, most_files=most_files)


def shown(path: bytes) -> str:
    """A name of a tree for people, at most MOST_NAME characters of it."""
    return path[: 4 * MOST_NAME].decode("utf-8", "replace")[:MOST_NAME]


def _walk(objects: Objects, tree: str) -> Iterator[Entry]:
    """Everything below a tree, a folder before what is in it. Raises RepositoryError on names that no checkout may have."""
    waiting = [(b"", tree, 0)]
    while waiting:
        prefix, sha, depth = waiting.pop()
        if depth > MOST_DEPTH:
            raise RepositoryError(f"{shown(prefix)} is deeper than {MOST_DEPTH} folders")
        for entry in _entries(objects.small(sha, b"tree"), prefix, len(sha) // 2):
            yield entry
            if entry.mode == DIRECTORY:
                waiting.append((entry.path + b"/", entry.sha, depth + 1))


def _entries(data: bytes, prefix: bytes, width: int) -> list[Entry]:
    """The lines of one tree: MODE SPACE NAME NUL and the sha's bytes."""
    entries: list[Entry] = []
    names: set[bytes] = set()
    at = 0
    while at < len(data):
        space, end = data.find(b" ", at), data.find(b"\0", at)
        if not at < space < end or end + width >= len(data) or not _MODE.fullmatch(data[at:space]):
            raise RepositoryError(f"the folder {shown(prefix) or '/'} cannot be read: its tree is damaged")
        name, at, mode = data[space + 1 : end], end + 1 + width, int(data[at:space], 8)
        if not _is_plain(name) or name in names:
            raise RepositoryError(f"the commit has a file that no checkout may have: {shown(prefix + name)!r}")
        if mode not in (DIRECTORY, SUBMODULE, LINK, *_FILES):
            raise RepositoryError(
                f"{shown(prefix + name)!r} has the mode {mode:o}; expected a file, a link or a folder"
            )
        if len(entries) >= MOST_ENTRIES:
            raise TooLargeError(f"the folder {shown(prefix) or '/'} has more than {MOST_ENTRIES} files")
        names.add(name)
        entries.append(Entry(prefix + name, mode, data[end + 1 : at].hex()))
    return entries


def _is_plain(name: bytes) -> bool:
    return 0 < len(name) <= MOST_NAME and name not in (b".", b"..") and b"/" not in name and name.lower() != b".git"


def _hash(sha: str, kind: bytes, size: int) -> hashlib._Hash:
    # SHA-1 is git's; a collision is refused by git itself, when it fetches (sha1dc).
    made = hashlib.sha256() if len(sha) == 64 else hashlib.sha1(usedforsecurity=False)
    made.update(b"%s %d\0" % (kind, size))
    return made


def _named(names: list[str]) -> str:
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return ", ".join(names[:MAX_NAMED]) + more


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")
