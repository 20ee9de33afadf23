"""Writes a recording: compressed files by the hour, within a budget, whole after a kill up to the last flush."""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from recording.errors import RecordingError
from recording.format import ALIVE_MS, HOUR_MS, SUFFIX, Contents, Frame, Header, Note, NoteKind, file_name

FLUSH_EVERY_S = 0.5
"""How often the owner should call ``flush``: what a SIGKILL can cost."""

DEFAULT_BUDGET = 20 << 30
_LEAST_BUDGET = 1 << 20
_PARTS = 8  # a file is closed at this part of the budget at the latest, so that there is always an older one to remove
_MOST_WAITING = 32 << 20  # characters between two flushes; beyond, frames are dropped and counted
_JUMP_MS = 1_000
_LEVEL = 6
_GZIP = 31  # zlib's window bits for gzip with its header

Say = Callable[[str, dict[str, object]], None]


@dataclass(slots=True)
class Written:
    """What a writer did so far."""

    frames: int = 0
    dropped: int = 0
    """Frames that were received and are not in the files."""
    bytes: int = 0
    """Compressed, of all files of this writer, removed ones included."""
    removed_files: int = 0
    """Removed for the budget, oldest first."""
    faults: int = 0
    """Times that the disk refused."""


class _File:
    """One open file. Everything up to ``size`` is readable, whatever happens next."""

    def __init__(self, path: Path, header: Header) -> None:
        self.path = path
        self.hour = header.opened_ms // HOUR_MS
        self.size = 0
        self._zip = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        try:
            self.write([header.line()])
        except OSError:
            self.abandon()
            raise

    def write(self, lines: list[str]) -> None:
        """Write lines and flush them through the compression. Raises OSError: none of them counts as written."""
        text = "".join(f"{line}\n" for line in lines).encode("utf-8", "replace")
        self._put(self._zip.compress(text) + self._zip.flush(zlib.Z_SYNC_FLUSH))

    def close(self) -> None:
        """End the file in order. Raises OSError."""
        try:
            self._put(self._zip.flush(zlib.Z_FINISH))
            os.fsync(self._fd)
        finally:
            os.close(self._fd)

    def abandon(self) -> None:
        """Leave the file as it was after the last write that succeeded."""
        with contextlib.suppress(OSError):  # a torn end is read as one
            os.ftruncate(self._fd, self.size)
        os.close(self._fd)
        if not self.size:
            self.path.unlink(missing_ok=True)

    def _put(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]
        self.size += len(data)


class Writer:
    """A recording that is being written; one writer a folder.

    ``add`` and the other remarks are cheap and may be called from an event loop; ``flush`` compresses and writes, and belongs
    into a thread, every FLUSH_EVERY_S.

    Args:
        folder: made where it is missing.
        writer: what writes, for people.
        contents: what it has.
        origin: ``live``, or the archive that is imported.
        budget: bytes that all files of the folder may have; the oldest go first. At least 1 MiB.
        wall_ms: UTC ms.
        mono_ms: ms of a clock that nobody sets; a jump of the other one is noted. None where frames bring times of the past.
        say: told of faults by name and facts, once each.

    Raises:
        RecordingError: the folder cannot be written, is in use, or the budget is too small.
    """

    def __init__(
        self,
        folder: Path,
        *,
        writer: str,
        wall_ms: Callable[[], int],
        mono_ms: Callable[[], int] | None,
        say: Say,
        contents: Contents | None = None,
        origin: str = "live",
        budget: int = DEFAULT_BUDGET,
    ) -> None:
        if budget < _LEAST_BUDGET:
            raise RecordingError(f"a recording needs a budget of at least {_LEAST_BUDGET} bytes, was {budget}")
        self.folder = folder
        self.written = Written()
        self._writer, self._origin, self._contents = writer, origin, contents or Contents()
        self._budget, self._wall_ms, self._mono_ms, self._say = budget, wall_ms, mono_ms, say
        self._lock = threading.Lock()  # between add and flush
        self._waiting: list[tuple[int, str, bool]] = []  # recv_ms, line, whether it is a frame
        self._waiting_size = 0
        self._dropped = 0  # since the last note that says so
        self._why_dropped = ""
        self._offset: int | None = None
        self._file: _File | None = None
        self._alive_ms = 0
        self._failing = False
        self._folder_lock = _claim(folder)
        newest = max((_opened_ms(path) for path in _files(folder)), default=0)
        self._last_opened_ms = newest

    def add(self, source: str, text: str, recv_ms: int | None = None) -> int:
        """Take a frame as it came; return the time that it is recorded with (now, unless the caller knows better)."""
        now = self._note_clock() if recv_ms is None else recv_ms
        self._put(now, Frame(now, source, text).line(), is_frame=True)
        return now

    def note(self, kind: NoteKind, source: str = "", reason: str = "", recv_ms: int | None = None) -> None:
        """Take a remark about a source, such as that its connection is gone."""
        now = self._note_clock() if recv_ms is None else recv_ms
        self._put(now, Note(now, kind, source, reason).line(), is_frame=False)

    def flush(self) -> None:
        """Write what waits. What the disk refuses is dropped, counted, and said in the recording once it can be."""
        with self._lock:
            lines, self._waiting, self._waiting_size = self._waiting, [], 0
            dropped, why = self._dropped, self._why_dropped
            self._dropped = 0
        if self._mono_ms is not None:
            now = self._wall_ms()
            if now - self._alive_ms >= ALIVE_MS or now < self._alive_ms:
                self._alive_ms = now
                alive = Note(now, NoteKind.ALIVE, frames=self.written.frames, dropped=self.written.dropped)
                lines.append((now, alive.line(), False))
        if dropped:
            at = lines[0][0] if lines else self._wall_ms()
            lines.insert(0, (at, Note(at, NoteKind.DROPPED, reason=why, count=dropped).line(), False))
        if not lines:
            return
        try:
            self._write(lines)
        except OSError as error:
            self._refused(error, sum(is_frame for _, _, is_frame in lines), dropped)
            return
        if self._failing:
            self._failing = False
            self._say("recording_goes_on", {"folder": str(self.folder), "dropped": self.written.dropped})

    def close(self) -> None:
        """Write what waits, end the file in order and let the folder go. Harmless when it was done."""
        if self._folder_lock < 0:
            return
        try:
            self.flush()
            if self._file is not None:
                self._end_file()
        except OSError as error:
            self._refused(error, 0)
        finally:
            os.close(self._folder_lock)
            self._folder_lock = -1

    def _put(self, recv_ms: int, line: str, *, is_frame: bool) -> None:
        with self._lock:
            if self._waiting_size + len(line) > _MOST_WAITING and is_frame:
                self._dropped += 1
                self._why_dropped = f"more than {_MOST_WAITING >> 20} MiB waited for the disk"
                self.written.dropped += 1
                return
            self._waiting.append((recv_ms, line, is_frame))
            self._waiting_size += len(line)

    def _note_clock(self) -> int:
        """The time now; a note goes before it where the wall clock was set."""
        now = self._wall_ms()
        if self._mono_ms is not None:
            offset = now - self._mono_ms()
            by_ms = 0 if self._offset is None else offset - self._offset
            if self._offset is None or abs(by_ms) > _JUMP_MS:
                self._offset = offset
                if by_ms:
                    self._put(now, Note(now, NoteKind.CLOCK, by_ms=by_ms).line(), is_frame=False)
        return now

    def _write(self, lines: list[tuple[int, str, bool]]) -> None:
        """Write lines into the files of their hours, and take them off the list. Raises OSError: what is left was not written."""
        while lines:
            file = self._file_for(lines[0][0])
            part = 1
            while part < len(lines) and lines[part][0] // HOUR_MS <= file.hour:
                part += 1
            before = file.size
            file.write([line for _, line, _ in lines[:part]])
            self.written.frames += sum(is_frame for _, _, is_frame in lines[:part])
            self.written.bytes += file.size - before
            del lines[:part]
        self._trim()

    def _file_for(self, recv_ms: int) -> _File:
        """The file of a time: a new one where its hour began or the one that is open is long enough.

        A clock that was set back goes on in the file that is open: names of files rise as they are written.
        """
        file = self._file
        if file is not None and (recv_ms // HOUR_MS > file.hour or file.size > self._budget // _PARTS):
            self._end_file()
            file = None
        if file is None:
            opened_ms = max(recv_ms, self._last_opened_ms + 1)
            header = Header(self._writer, opened_ms, self._origin, self._contents)
            file = self._file = _File(self.folder / file_name(opened_ms), header)
            self.written.bytes += file.size
            self._last_opened_ms = opened_ms
        return file

    def _end_file(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            before = file.size
            now = self._wall_ms() if self._mono_ms is not None else self._last_opened_ms
            try:
                file.write([Note(now, NoteKind.END, frames=self.written.frames).line()])
            finally:
                file.close()
            self.written.bytes += file.size - before

    def _trim(self) -> None:
        """Remove the oldest files beyond the budget, never the one that is open."""
        sizes = [(path, path.stat().st_size) for path in _files(self.folder)]
        total = sum(size for _, size in sizes)
        for path, size in sizes[:-1]:
            if total <= self._budget:
                return
            if self._file is not None and path == self._file.path:
                continue
            path.unlink()
            total -= size
            self.written.removed_files += 1
            self._say("recording_trimmed", {"file": path.name, "budget": self._budget})

    def _refused(self, error: OSError, frames: int, said_before: int = 0) -> None:
        self.written.dropped += frames
        self.written.faults += 1
        with self._lock:
            self._dropped += frames + said_before  # the note that said so was not written either
            self._why_dropped = error.strerror or type(error).__name__
        file, self._file = self._file, None
        if file is not None:
            with contextlib.suppress(OSError):  # its descriptor may be closed by what failed
                file.abandon()
        if not self._failing:
            self._failing = True
            self._say(
                "recording_refused",
                {
                    "folder": str(self.folder),
                    "reason": str(error),
                    "action": "free space there, or give a smaller budget; what is received meanwhile is counted as dropped",
                },
            )


def _files(folder: Path) -> list[Path]:
    """The files of a recording, oldest first."""
    return sorted(path for path in folder.iterdir() if path.name.endswith(SUFFIX) and not path.name.startswith("."))


def _opened_ms(path: Path) -> int:
    number = path.name.removesuffix(SUFFIX).rpartition(".")[2]
    return int(number) if number.isdecimal() else 0


def _claim(folder: Path) -> int:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    except OSError as error:
        raise RecordingError(
            f"recordings cannot be written to {folder}: {error.strerror}; give another folder"
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(lock)
        raise RecordingError(f"{folder} is being recorded into already; give another folder") from error
    return lock
