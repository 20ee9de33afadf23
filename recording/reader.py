"""Reads a recording back, frame for frame; what is wrong with it is counted and said, never passed over."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO

from recording.errors import RecordingError, UnknownVersionError
from recording.format import ALIVE_MS, SUFFIX, VERSION, Contents, Frame, Header, Note, NoteKind, parse_line

GAP_MS = ALIVE_MS + 5_000
"""A recorder that runs says so more often: a longer silence is a hole."""

_CHUNK = 1 << 18
_MOST_LINE = 32 << 20
_MOST_PROBLEMS = 1_000  # kept in words; all are counted
_BACK_MS = 1_000
_PLAIN, _ZSTD = ".jsonl", ".jsonl.zst"


class ProblemKind(StrEnum):
    """What can be wrong with a recording."""

    GAP = "gap"
    """Nothing was recorded for longer than GAP_MS."""
    LOST = "lost"
    """The connection of one source was gone from ``at_ms`` to ``until_ms``."""
    DROPPED = "dropped"
    """``count`` frames were received and not written."""
    CUT = "cut"
    """A file ends in the middle."""
    LINE = "line"
    """``count`` lines that are none of a recording's were passed over."""
    CLOCK = "clock"
    """The recorder's clock was set, or runs back: times stand still until it has caught up."""
    VERSION = "version"
    """A file of a version that this release does not read was passed over."""
    HEADER = "header"
    """A file says nothing of itself; it was read as one of this version."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, for people and for counting."""

    kind: ProblemKind
    text: str
    at_ms: int = 0
    """UTC ms; 0 where no time belongs to it."""
    until_ms: int = 0
    count: int = 1
    source: str = ""
    """Of LOST: whose frames are missing."""


class Reader:
    """A recording as an iterable of its frames and notes, in the order in which they were written.

    Each iteration reads the files anew and begins ``problems`` and ``counts`` anew; they are complete when it ends.

    Args:
        path: the folder of a recording, or one file: ``.jsonl.gz``, ``.jsonl``, or ``.jsonl.zst`` (with the extra ``research``).

    Attributes:
        problems: what was wrong, in order, at most a thousand.
        counts: how often each kind of problem was met; of DROPPED and LINE how many frames and lines.
        frames: how many frames were given.

    Raises:
        RecordingError: there is no such recording.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.files = _files(path)
        self.problems: list[Problem] = []
        self.counts: Counter[ProblemKind] = Counter()
        self.frames = 0
        self._header: Header | None = None

    @property
    def header(self) -> Header:
        """The header of the first file that can be read.

        Raises:
            UnknownVersionError: there is none.
        """
        if self._header is None:
            for path in self.files:
                header = next(_Lines(path), None)
                parsed = _try(header) if header is not None else None
                if isinstance(parsed, Header) and parsed.version != VERSION:
                    continue
                self._header = parsed if isinstance(parsed, Header) else Header("unknown", 0, "unknown")
                return self._header
            raise UnknownVersionError(
                f"{self.path}: no file of version {VERSION}; read it with the release that wrote it, or import it anew"
            )
        return self._header

    @property
    def contents(self) -> Contents:
        """What the recording has, and what it lacks."""
        return self.header.contents

    def __iter__(self) -> Iterator[Frame | Note]:
        return self.read()

    def read(
        self, from_ms: int = 0, until_ms: int | None = None, sources: Collection[str] | None = None
    ) -> Iterator[Frame | Note]:
        """Give frames and notes of [from_ms, until_ms) in UTC ms, those of some sources alone where they are named.

        Times never go back: where the recorder's clock did, a frame has the time of the one before.

        Raises:
            UnknownVersionError: no file is of a version that this release reads.
        """
        self.problems, self.counts, self.frames = [], Counter(), 0
        _ = self.header
        walk = _Walk(self)
        for path, following in zip(self.files, [*self.files[1:], None], strict=True):
            if following is not None and 0 < _opened_ms(following) <= from_ms:
                continue  # all of it is before
            for item in walk.file(path):
                if until_ms is not None and item.recv_ms >= until_ms:
                    walk.end()
                    return
                if item.recv_ms >= from_ms and (sources is None or isinstance(item, Note) or item.source in sources):
                    self.frames += isinstance(item, Frame)
                    yield item
        walk.end()

    def report(self, problem: Problem) -> None:
        """Count and keep a problem."""
        counted = problem.count if problem.kind in (ProblemKind.DROPPED, ProblemKind.LINE) else 1
        self.counts[problem.kind] += counted
        if len(self.problems) < _MOST_PROBLEMS:
            self.problems.append(problem)


class _Walk:
    """One pass over the files: what holds between lines and files."""

    def __init__(self, reader: Reader) -> None:
        self._report = reader.report
        self._last_ms = 0  # as given out
        self._written_ms = 0  # as it stands in the file
        self._lost: dict[str, Note] = {}

    def file(self, path: Path) -> Iterator[Frame | Note]:
        lines, bad, first_bad = _Lines(path), 0, ""
        is_first, ended = True, False
        for line in lines:
            item = _try(line)
            if is_first:
                is_first = False
                if isinstance(item, Header):
                    if item.version != VERSION:
                        text = (
                            f"{path.name} is of version {item.version}, and this release reads {VERSION}: passed over"
                        )
                        self._report(Problem(ProblemKind.VERSION, text, item.opened_ms))
                        return
                    continue
                self._report(Problem(ProblemKind.HEADER, f"{path.name} has no header; read as version {VERSION}"))
            if isinstance(item, Header):
                continue
            if isinstance(item, str):
                bad, first_bad = bad + 1, first_bad or item
                continue
            ended = isinstance(item, Note) and item.kind is NoteKind.END
            if not ended:
                yield self._timed(item)
        if bad:
            text = f"{path.name}: {bad} lines are none of a recording's ({first_bad})"
            self._report(Problem(ProblemKind.LINE, text, self._last_ms, count=bad))
        if lines.cut or (is_first and not ended):
            what = lines.cut or "it is empty"
            self._report(Problem(ProblemKind.CUT, f"{path.name} ends in the middle: {what}", self._last_ms))

    def end(self) -> None:
        for source, note in self._lost.items():
            self._report(_lost(note, source, self._last_ms))
        self._lost = {}

    def _timed(self, item: Frame | Note) -> Frame | Note:
        written, before = item.recv_ms, self._written_ms
        if isinstance(item, Note):
            self._remark(item)
        if before and not (isinstance(item, Note) and item.kind is NoteKind.CLOCK):
            if written - before > GAP_MS:
                text = f"nothing was recorded for {(written - before) / 1000:.1f} s"
                self._report(Problem(ProblemKind.GAP, text, before, written))
            elif written < before - _BACK_MS:
                text = f"the clock ran back by {(before - written) / 1000:.1f} s"
                self._report(Problem(ProblemKind.CLOCK, text, before, written))
        self._written_ms = written
        self._last_ms = max(self._last_ms, written)
        if written == self._last_ms:
            return item
        if isinstance(item, Frame):
            return Frame(self._last_ms, item.source, item.text)
        return Note(
            self._last_ms, item.kind, item.source, item.reason, item.count, item.by_ms, item.frames, item.dropped
        )

    def _remark(self, note: Note) -> None:
        match note.kind:
            case NoteKind.LOST:
                self._lost.setdefault(note.source, note)
            case NoteKind.OPENED:
                lost = self._lost.pop(note.source, None)
                if lost is not None:
                    self._report(_lost(lost, note.source, note.recv_ms))
            case NoteKind.DROPPED:
                text = f"{note.count} frames could not be written ({note.reason})"
                self._report(Problem(ProblemKind.DROPPED, text, note.recv_ms, count=note.count))
            case NoteKind.CLOCK:
                text = f"the clock was set by {note.by_ms / 1000:+.1f} s"
                self._report(Problem(ProblemKind.CLOCK, text, note.recv_ms))
            case NoteKind.ALIVE | NoteKind.END:
                pass


def _lost(note: Note, source: str, until_ms: int) -> Problem:
    text = (
        f"{source} was not connected for {(until_ms - note.recv_ms) / 1000:.1f} s ({note.reason or 'no reason given'})"
    )
    return Problem(ProblemKind.LOST, text, note.recv_ms, until_ms, source=source)


class _Lines:
    """The lines of one file. ``cut`` says, after the last one, what is wrong with the end of the file; "" for nothing."""

    def __init__(self, path: Path) -> None:
        self.cut = ""
        self._path = path
        self._lines = self._read()

    def __iter__(self) -> Iterator[str]:
        return self._lines

    def __next__(self) -> str:
        return next(self._lines)

    def _read(self) -> Iterator[str]:
        rest = b""
        try:
            with self._path.open("rb") as file:
                for chunk in self._chunks(file):
                    *lines, rest = (rest + chunk).split(b"\n")
                    for line in lines:
                        yield line.decode("utf-8", "replace")
                    if len(rest) > _MOST_LINE:
                        self.cut = f"a line is longer than {_MOST_LINE >> 20} MiB"
                        return
        except OSError as error:
            raise RecordingError(f"{self._path} cannot be read: {error.strerror or error}") from error
        if rest:
            self.cut = self.cut or "its last line has no end"

    def _chunks(self, file: BinaryIO) -> Iterator[bytes]:
        if self._path.name.endswith(_PLAIN):
            while chunk := file.read(_CHUNK):
                yield chunk
        elif self._path.name.endswith(_ZSTD):
            yield from _zstd_chunks(file)
        else:
            yield from self._gzip_chunks(file)

    def _gzip_chunks(self, file: BinaryIO) -> Iterator[bytes]:
        """What can be decompressed: several members in a row, the last of which may have no end."""
        unzip, begun = zlib.decompressobj(31), False
        while data := file.read(_CHUNK):
            while data:
                begun = True
                try:
                    yield unzip.decompress(data, _CHUNK * 8)
                except zlib.error as error:
                    self.cut = f"its compression is broken before byte {file.tell()} ({error})"
                    return
                data = unzip.unconsumed_tail or unzip.unused_data
                if unzip.eof:
                    unzip, begun = zlib.decompressobj(31), False
        if begun:
            yield unzip.flush()
            if not unzip.eof:
                self.cut = "its compression has no end, as after a kill"


def _zstd_chunks(file: BinaryIO) -> Iterator[bytes]:
    try:
        import pyarrow
    except ImportError as error:
        raise RecordingError("files of zstd need pyarrow; install the extra: pip install '.[research]'") from error
    with pyarrow.input_stream(file, compression="zstd") as stream:
        while chunk := stream.read(_CHUNK):
            yield chunk


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise RecordingError(f"{path} does not exist; give the folder of a recording, or one of its files")
    endings = (SUFFIX, _PLAIN, _ZSTD)
    named = (one for one in path.iterdir() if one.name.endswith(endings) and not one.name.startswith("."))
    files = sorted(one for one in named if one.is_file())  # opening a fifo would wait for ever
    if not files:
        raise RecordingError(f"{path} holds no recording: expected files that end in {', '.join(endings)}")
    return files


def _opened_ms(path: Path) -> int:
    number = path.name.split(".jsonl")[0].rpartition(".")[2]
    return int(number) if number.isdecimal() else 0


def _try(line: str) -> Header | Frame | Note | str:
    """The line, or why it is none."""
    try:
        return parse_line(line)
    except RecordingError as error:
        return str(error)
