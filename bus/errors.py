"""Everything that may go wrong with the bus, and why something is not done.

BusError
├── BusDirectoryError           the directory cannot be made or written
├── LockingUnreliableError      locks do not work on this file system
├── DocumentError
│   ├── DocumentMissingError
│   ├── DocumentCorruptError    torn, empty, not JSON, wrong kind, wrong checksum, wrong type
│   └── DocumentTooNewError     a newer major version than this release reads
├── StaleGenerationError        a control write was based on a generation that is not the newest
├── LeaseReplacedError          the locked lease file is not the one on disk
└── LedgerError
    ├── FencedError             the epoch of a row is not the newest, or is released
    ├── TickTakenError          the tick was completed already
    ├── WrongLedgerError        the ledger belongs to another venue, chain or wallet
    ├── LedgerFullError         no room on the disk
    ├── LedgerCorruptError      the ledger is not a database, or is damaged
    └── FsyncFailedError        the kernel could not promise durability
"""

from __future__ import annotations

from typing import Self


class Reason(str):
    """Why not: words for people, which carry a code for programs. Nothing reads the words back.

    Each package has one enumeration of codes, and a venue its own words. What is put together of words is plain: `within` keeps
    the code.
    """

    __slots__ = ("code",)
    code: str

    def __new__(cls, code: str, text: str) -> Self:
        """Code and words."""
        made = super().__new__(cls, text)
        made.code = code
        return made

    def __getnewargs__(self) -> tuple[str, str]:  # type: ignore[override]  # a copy has its code, too
        return self.code, str(self)

    @property
    def text(self) -> str:
        """The words alone."""
        return str(self)

    def within(self, before: str = "", after: str = "") -> Self:
        """The same with words before and after it."""
        return type(self)(self.code, f"{before}{self}{after}")


def code_of(words: str) -> str:
    """The code that words carry; empty of plain ones."""
    return words.code if isinstance(words, Reason) else ""


class BusError(Exception):
    """Root of all errors of the bus."""


class BusDirectoryError(BusError):
    """The bus directory cannot be used."""


class LockingUnreliableError(BusError):
    """Two processes could hold the same lock here: nothing may run on this file system."""


class DocumentError(BusError):
    """A document could not be read."""


class DocumentMissingError(DocumentError):
    """The document is not there."""


class DocumentCorruptError(DocumentError):
    """The document is there and cannot be trusted."""


class DocumentTooNewError(DocumentError):
    """The document was written by a release that this one does not understand."""


class StaleGenerationError(BusError):
    """A control write named a generation that is not the newest.

    Attributes: based_on, the generation that the writer had seen; newest, the one on the bus.
    """

    def __init__(self, based_on: int, newest: int) -> None:
        super().__init__(based_on, newest)
        self.based_on = based_on
        self.newest = newest

    def __str__(self) -> str:
        return (
            f"control was changed meanwhile: the write was based on generation {self.based_on}, "
            f"the newest is {self.newest}; read it again and repeat the change"
        )


class LeaseReplacedError(BusError):
    """The lease file on disk is not the one that is locked."""


class LedgerError(BusError):
    """The ledger refused or failed."""

    code: str = ""
    """Of a row that a trigger or a key refused: what stands before the words of `RAISE`, or SQLite's words for the key."""


class FencedError(LedgerError):
    """A row was refused because its epoch is not the newest or is released."""


class TickTakenError(LedgerError):
    """The tick already has a completed poll."""


class WrongLedgerError(LedgerError):
    """The ledger belongs to another venue, chain or wallet."""


class LedgerFullError(LedgerError):
    """The disk is full: the transaction was rolled back."""


class LedgerCorruptError(LedgerError):
    """The ledger cannot be read as one."""


class FsyncFailedError(LedgerError):
    """A write may or may not be on the disk: trading stops until a person looked."""
