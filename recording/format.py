"""The lines of a recording. Pure.

A recording is a folder of files ``YYYY-MM-DDTHH.UTCMS.jsonl.gz``: the UTC hour, and when the file was opened. Each is gzip of
JSON lines. The first line is the header, each other one a frame or a note:

    {"recording":1,"writer":"paper --mirror","opened_ms":...,"origin":"live","contents":{...}}
    {"recv_ms":1790877850652,"source":"clob","frame":{"event_type":"book",...}}
    {"recv_ms":1790877850701,"source":"clob","text":"what was no JSON"}
    {"recv_ms":1790877851000,"source":"recorder","note":{"kind":"alive","frames":12,"dropped":0}}

A frame that is JSON of one line stands there to the letter, so that its bytes can be had again.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from recording.errors import RecordingError

VERSION = 1
SUFFIX = ".jsonl.gz"
HOUR_MS = 3_600_000
RECORDER = "recorder"


class Origin(StrEnum):
    """Where the frames of a source come from, by the name that stands in each line."""

    CLOB = "clob"
    """Polymarket's market channel."""
    RTDS = "rtds"
    """Polymarket's price stream: Binance's and Chainlink's prices and their averages."""
    BINANCE = "binance"
    """Binance's combined stream."""
    GAMMA = "gamma"
    """Answers of Gamma's ``/events/slug/{slug}``: what a market is, its strike, its outcome."""
    CLOB_MARKET = "clob_market"
    """Answers of the exchange's ``/clob-markets/{condition}``: sizes, fees, delay."""
    KLINES = "klines"
    """Binance's candles of the time before: ``{"symbol": .., "interval": "1s", "rows": [..]}``."""
    ARCHIVE = "archive"
    """A row of an archive that fits none of the others, such as a lead price: ``{"event_type": "price", ...}``."""


class Lack(StrEnum):
    """What a recording does not have. A replay that needs it must say so."""

    BOOKS = "books"
    """No books at all."""
    SIZES = "sizes"
    """Sizes of offers are missing for some or all books."""
    TRADES = "trades"
    LEAD = "lead"
    """No prices of the lead (Binance)."""
    SETTLEMENT = "settlement"
    """No prices of the settlement source (Chainlink)."""
    STRIKE = "strike"
    OUTCOME = "outcome"


@dataclass(frozen=True, slots=True)
class Contents:
    """What a recording has, so that nobody asks for more."""

    depth: int | None = None
    """Levels a side of its books; None for all, 1 for the best price alone, 0 for no books."""
    sampled_ms: int = 0
    """Least time between two books of one market in ms; 0 where every change is there."""
    average_ms: int | None = None
    """Length of the settlement average of its windows in ms, 0 for one price; None where each market says it itself."""
    lacks: tuple[Lack, ...] = ()


@dataclass(frozen=True, slots=True)
class Header:
    """The first line of a file."""

    writer: str
    """What wrote it, for people."""
    opened_ms: int
    """UTC ms."""
    origin: str = "live"
    """``live``, or the archive that it was imported from."""
    contents: Contents = field(default_factory=Contents)
    version: int = VERSION

    def line(self) -> str:
        """The line without its end."""
        body: dict[str, Any] = {"recording": self.version, "writer": self.writer, "opened_ms": self.opened_ms}
        return _dump(body | {"origin": self.origin, "contents": asdict(self.contents)})


@dataclass(frozen=True, slots=True)
class Frame:
    """One message as it was received."""

    recv_ms: int
    """UTC ms by the recorder's clock; never before the frame in front of it, as the reader gives it."""
    source: str
    """One of Origin, or the name that an importer gave."""
    text: str
    """The message to the letter."""

    def line(self) -> str:
        """The line without its end."""
        head = f'{{"recv_ms":{self.recv_ms},"source":{json.dumps(self.source)},'
        if "\n" not in self.text and "\r" not in self.text and _is_json(self.text):
            return f'{head}"frame":{self.text}}}'
        return f'{head}"text":{json.dumps(self.text)}}}'


class NoteKind(StrEnum):
    """What a recorder says beside the frames."""

    ALIVE = "alive"
    """It runs: every ALIVE_MS. ``frames``, ``dropped``: since the file was opened."""
    OPENED = "opened"
    """A connection of ``source`` stands: what comes next are snapshots."""
    LOST = "lost"
    """A connection of ``source`` is gone, and what happened until it is opened again is not here. ``reason``."""
    DROPPED = "dropped"
    """``count`` frames were received and could not be written. ``reason``."""
    CLOCK = "clock"
    """The wall clock was set by ``by_ms`` against the monotonic one."""
    END = "end"
    """The file was closed in order."""


ALIVE_MS = 10_000


@dataclass(frozen=True, slots=True)
class Note:
    """One remark of the recorder."""

    recv_ms: int
    kind: NoteKind
    source: str = ""
    reason: str = ""
    count: int = 0
    """Of DROPPED."""
    by_ms: int = 0
    """Of CLOCK."""
    frames: int = 0
    dropped: int = 0

    def line(self) -> str:
        """The line without its end. Fields that say nothing are left out."""
        said = {one.name: getattr(self, one.name) for one in fields(self) if one.name not in ("recv_ms", "kind")}
        note = {"kind": str(self.kind)} | {name: value for name, value in said.items() if value not in ("", 0)}
        return f'{{"recv_ms":{self.recv_ms},"source":"{RECORDER}","note":{_dump(note)}}}'


def file_name(opened_ms: int) -> str:
    """The name of a file that is opened at a time. Names sort by time."""
    hour = datetime.fromtimestamp(opened_ms / 1000, tz=UTC).strftime("%Y-%m-%dT%H")
    return f"{hour}.{opened_ms:013d}{SUFFIX}"


def parse_line(line: str) -> Header | Frame | Note:
    """Read one line without its end.

    Raises:
        RecordingError: it is no line of a recording; the text says why.
    """
    # The usual form is cut by its punctuation: parsing every frame twice would be most of a reader's work.
    if line.startswith('{"recv_ms":') and line.endswith("}"):
        head, mark, rest = line.partition(',"frame":')
        if mark and head.count('"') == 6:  # recv_ms, source and its value
            number, _, source = head[len('{"recv_ms":') :].partition(',"source":"')
            if number.isdecimal() and source.endswith('"') and "\\" not in source:
                return Frame(int(number), source[:-1], rest[:-1])
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise RecordingError(f"expected a line of JSON ({error})") from error
    if not isinstance(row, dict):
        raise RecordingError("expected an object")
    return _header(row) if "recording" in row else _entry(row)


def _header(row: dict[str, Any]) -> Header:
    version, found = row.get("recording"), row.get("contents")
    contents = found if isinstance(found, dict) else {}
    if not isinstance(version, int) or isinstance(version, bool):
        raise RecordingError(f"expected a version number, found {version!r}")
    lacks = contents.get("lacks")
    return Header(
        writer=str(row.get("writer", "")),
        opened_ms=_whole(row.get("opened_ms"), "opened_ms"),
        origin=str(row.get("origin", "live")),
        contents=Contents(
            depth=_optional(contents.get("depth"), "depth"),
            sampled_ms=_optional(contents.get("sampled_ms"), "sampled_ms") or 0,
            average_ms=_optional(contents.get("average_ms"), "average_ms"),
            lacks=tuple(Lack(one) for one in lacks if one in [*Lack]) if isinstance(lacks, list) else (),
        ),
        version=version,
    )


def _entry(row: dict[str, Any]) -> Frame | Note:
    recv_ms, note = _whole(row.get("recv_ms"), "recv_ms"), row.get("note")
    if isinstance(note, dict):
        if note.get("kind") not in [*NoteKind]:
            raise RecordingError(f"expected a note of a known kind, found {note.get('kind')!r}")
        numbers = {name: _optional(note.get(name), name) or 0 for name in ("count", "by_ms", "frames", "dropped")}
        return Note(
            recv_ms,
            NoteKind(note["kind"]),
            source=str(note.get("source", "")),
            reason=str(note.get("reason", "")),
            count=numbers["count"],
            by_ms=numbers["by_ms"],
            frames=numbers["frames"],
            dropped=numbers["dropped"],
        )
    # A line without a source is one of the market channel, as archives of single windows have them.
    source = row.get("source", Origin.CLOB)
    if not isinstance(source, str):
        raise RecordingError(f"expected the name of a source, found {source!r}")
    if isinstance(row.get("text"), str):
        return Frame(recv_ms, source, row["text"])
    if "frame" not in row:
        raise RecordingError("expected a frame, a text or a note")
    return Frame(recv_ms, source, json.dumps(row["frame"]))


def _whole(value: object, name: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 10**16:
        raise RecordingError(f"{name}: expected a whole number of milliseconds, found {value!r}")
    return value


def _optional(value: object, name: str) -> int | None:
    if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
        raise RecordingError(f"{name}: expected a whole number or null, found {value!r}")
    return value


def _is_json(text: str) -> bool:
    try:
        json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return False
    return True


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _dump(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))
