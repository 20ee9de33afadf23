"""Recordings of a market: what its public streams and routes sent, as it came, in files by the hour.

``Writer`` writes one and ``Reader`` reads one back, frame for frame; ``decode`` turns a frame into typed events and
``BookState`` turns events into books. docs/reference/recordings.md describes the files. This package stands alone: the paper
exchange, the bot's tools and the benches read recordings through it, and it imports none of them.
"""

from recording.books import BookState, BookStates
from recording.errors import RecordingError, UnknownVersionError
from recording.events import (
    BestEvent,
    BookEvent,
    CandlesEvent,
    ChangeEvent,
    Event,
    Feed,
    MarketEvent,
    OddFrame,
    PriceEvent,
    ResolvedEvent,
    RulesEvent,
    TickEvent,
    TradeEvent,
)
from recording.format import VERSION, Contents, Frame, Header, Lack, Note, NoteKind, Origin
from recording.reader import Problem, ProblemKind, Reader
from recording.reading import decode
from recording.writer import Writer

__all__ = [
    "VERSION",
    "BestEvent",
    "BookEvent",
    "BookState",
    "BookStates",
    "CandlesEvent",
    "ChangeEvent",
    "Contents",
    "Event",
    "Feed",
    "Frame",
    "Header",
    "Lack",
    "MarketEvent",
    "Note",
    "NoteKind",
    "OddFrame",
    "Origin",
    "PriceEvent",
    "Problem",
    "ProblemKind",
    "Reader",
    "RecordingError",
    "ResolvedEvent",
    "RulesEvent",
    "TickEvent",
    "TradeEvent",
    "UnknownVersionError",
    "Writer",
    "decode",
]
