"""The boundary that everything crosses which a venue sends: bytes to values of a known type within known bounds.

What cannot be read is an `OddError`: a code of a closed list, where it stood, and a text. `Skips` counts and logs it. One odd
element of a list costs itself (`each`); one odd document costs itself. Nothing here recurses over what came in, and no number
leaves here that an addition, a division or a column of the ledger could not take. Pure, but for the counting.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator
from decimal import Decimal
from enum import StrEnum
from typing import TypeVar

from bot.venue.types import BASE_UNITS, Level, VenueError
from bus import Log

STREAM_BYTES = (
    4 << 20
)  # Of a stream's frame: a longer one ends its connection, one within the bound at most costs itself.
MAX_DEPTH = 16  # Gamma's event, the deepest form that is read, has 6.
MAX_BRACKETS = 200_000  # The first frame of the market channel: 450 tokens, 100 levels a side, make 90,000.
MAX_DIGITS = 80  # An allowance of 2^256 - 1 has 78.
MAX_TEXT = 300
MAX_ITEMS = 20_000
MAX_UNITS = 10**15  # A billion shares or pUSD: sums of thousands of them fit into 64 bits.
LOW_PRICE, HIGH_PRICE = 1e-9, 1e9  # USD of a coin: their quotients and logarithms are finite.
LAST_MS = 10**14  # UTC ms of the year 5138.

TICKS = frozenset(
    Decimal(text) for text in ("0.1", "0.01", "0.005", "0.0025", "0.001", "0.0001")
)  # The client's own list.

_NUMBER = re.compile(r"-?[0-9]{1,40}(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,2})?")
_WHOLE = re.compile(rf"-?[0-9]{{1,{MAX_DIGITS}}}")
_ID = re.compile(rf"[0-9A-Za-z][0-9A-Za-z_-]{{0,{MAX_TEXT}}}")
_NAME = re.compile(rf"[!-~]{{1,{MAX_TEXT}}}")
_STRING_OR_BRACKET = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"?|[\[\]{}]', re.DOTALL)
_BUT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_LEAST = Decimal("1e-30")

T = TypeVar("T")


class Origin(StrEnum):
    """Which of the venues' services something came from."""

    GAMMA = "gamma"
    CLOB = "clob"
    DATA = "data"
    RELAYER = "relayer"
    MARKET = "market_channel"
    USER = "user_channel"
    RTDS = "rtds"
    BINANCE = "binance_rest"
    BINANCE_STREAM = "binance_stream"


class Code(StrEnum):
    """Why something was skipped."""

    SIZE = "size"
    JSON = "json"
    SHAPE = "shape"
    TEXT = "text"
    NUMBER = "number"
    RANGE = "range"
    UNFORESEEN = "unforeseen"
    CROSSED = "crossed"
    DISAGREES = "disagrees"
    JUMP = "jump"


class OddError(VenueError, ValueError):
    """Something that cannot be read. where: its place in the document, '' for the whole."""

    def __init__(self, code: Code, where: str, expected: str, found: object) -> None:
        super().__init__(f"{where}: expected {expected}, found {describe(found)}".removeprefix(": "))
        self.code = code

    def named(self, what: str) -> OddError:
        """The same, with what was asked for in front."""
        if not str(self).startswith(what):
            self.args = (f"{what}: {self}",)
        return self


class Unreadable:
    """Stands in a decoded document for a value beyond all bounds: no getter takes it. text: its beginning."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text[:40]


class Skips:
    """Counts what was skipped, by origin and code, and logs the 1st, 2nd, 4th ... of each: no flood fills the log."""

    def __init__(self, log: Log | None = None) -> None:
        self._log = log
        self.counts: dict[tuple[Origin, Code], int] = {}

    def count(self, origin: Origin, code: Code) -> int:
        """One thing was skipped, and is logged elsewhere; how many of its kind there were."""
        count = self.counts[origin, code] = self.counts.get((origin, code), 0) + 1
        return count

    def note(self, origin: Origin, error: OddError) -> None:
        """One thing was skipped."""
        count = self.count(origin, error.code)
        if self._log is not None and count & (count - 1) == 0:
            self._log.warning("venue_data_skipped", source=origin, code=error.code, reason=str(error), count=count)

    def total(self, origin: Origin) -> int:
        """How many of one origin."""
        return sum(count for (found, _), count in self.counts.items() if found is origin)


def describe(value: object) -> str:
    """A value in a few words: safe to log, whatever it is."""
    if isinstance(value, Unreadable):
        return f"{clean(value.text)}..."
    if value is None or isinstance(value, bool):
        return str(value)
    if isinstance(value, int):
        return str(value) if abs(value) < 10**40 else "a number of more than 40 digits"
    if isinstance(value, float | Decimal):
        return f"{value}"[:60]
    if isinstance(value, str | bytes):
        text = value[:60] if isinstance(value, str) else value[:60].decode("latin-1")
        return f"'{clean(text)}'" + (f" and more, {len(value)} long" if len(value) > 60 else "")
    if isinstance(value, dict):
        return f"an object with {', '.join(describe(key) for key in list(value)[:5]) or 'nothing'}"
    return f"a list of {len(value)}" if isinstance(value, list | tuple) else f"a {type(value).__name__}"


def clean(text: str, most: int = MAX_TEXT) -> str:
    """A text for people: at most so long, without control characters and halves of characters, which no database takes."""
    return "".join(letter if letter.isprintable() else "?" for letter in text[:most])


# --- documents


def _read_whole(text: str) -> int | Unreadable:
    return int(text) if len(text) <= MAX_DIGITS else Unreadable(text)


def _read_fraction(text: str) -> Decimal | Unreadable:
    return Decimal(text) if _NUMBER.fullmatch(text) else Unreadable(text)


_DECODER = json.JSONDecoder(parse_int=_read_whole, parse_float=_read_fraction, parse_constant=Unreadable)


def decode(data: bytes | str, most_bytes: int, where: str = "") -> object:
    """A JSON document. Fractions are Decimal. Numbers of too many digits, and what lies too deep, are `Unreadable`.

    Raises OddError: it is too long, or no JSON.
    """
    raw = data.encode("utf-8", "replace") if isinstance(data, str) else data
    if len(raw) > most_bytes:
        raise OddError(Code.SIZE, where, f"at most {most_bytes} bytes", f"{len(raw)}")
    brackets = raw.count(b"[") + raw.count(b"{")
    if brackets > MAX_BRACKETS:
        raise OddError(Code.SIZE, where, f"at most {MAX_BRACKETS} lists and objects", brackets)
    try:
        text = raw.decode()
        if brackets > MAX_DEPTH and _is_deep(raw):
            text = _shallow(text)
        return _DECODER.decode(text)
    except (ValueError, RecursionError) as error:  # a recursion is impossible at this depth, and no reason to stop
        raise OddError(Code.JSON, where, "JSON", raw) from error


def _is_deep(raw: bytes) -> bool:
    """Whether brackets may be nested beyond MAX_DEPTH. Each round takes the innermost ones away, at the speed of C."""
    brackets = raw.translate(None, _BUT_BRACKETS)
    for _ in range(MAX_DEPTH):
        if not brackets:
            return False
        brackets = brackets.replace(b"{}", b"").replace(b"[]", b"")
    return bool(brackets)


def _shallow(text: str) -> str:
    """The text with each list and object that lies deeper than MAX_DEPTH replaced by a constant that reads as `Unreadable`."""
    digits, depth, begin, end = [], 0, 0, 0
    for match in _STRING_OR_BRACKET.finditer(text):
        bracket = match.group()
        if bracket in ("[", "{"):
            depth += 1
            if depth == MAX_DEPTH + 1:
                begin = match.start()
                digits.append(text[end:begin])
        elif bracket in ("]", "}"):
            if depth == MAX_DEPTH + 1:
                end = match.end()
                digits.append("NaN")
            depth -= 1
    if depth > MAX_DEPTH:  # it never closes: no JSON
        raise ValueError("a list or an object never ends")
    return "".join([*digits, text[end:]])


# --- values


def as_object(value: object, where: str) -> dict[str, object]:
    """A JSON object. Raises OddError, as all of these do."""
    if not isinstance(value, dict):
        raise OddError(Code.SHAPE, where, "an object", value)
    return value


def as_list(value: object, where: str, most: int = MAX_ITEMS) -> list[object]:
    """A JSON list of at most so many."""
    if not isinstance(value, list):
        raise OddError(Code.SHAPE, where, "a list", value)
    if len(value) > most:
        raise OddError(Code.SIZE, where, f"a list of at most {most}", value)
    return value


def as_name(value: object, where: str) -> str:
    """An id, a slug, a word of the venue: printable ASCII without blanks."""
    if not isinstance(value, str):
        raise OddError(Code.SHAPE, where, "a text", value)
    if not _NAME.fullmatch(value):
        raise OddError(Code.TEXT, where, f"1 to {MAX_TEXT} printable letters", value)
    return value


def as_id(value: object, where: str) -> str:
    """An id that may become a part of an address: letters and digits, no slashes and no dots."""
    name = as_name(value, where)
    if not _ID.fullmatch(name):
        raise OddError(Code.TEXT, where, "an id of letters and digits", value)
    return name


def as_text(value: object, where: str) -> str:
    """A text for people, cleaned."""
    if not isinstance(value, str):
        raise OddError(Code.SHAPE, where, "a text", value)
    return clean(value)


def as_bool(value: object, where: str) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise OddError(Code.SHAPE, where, "true or false", value)
    return value


def as_whole(value: object, where: str, low: int, high: int) -> int:
    """A whole number, as a number or as its digits."""
    if isinstance(value, str) and _WHOLE.fullmatch(value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise OddError(Code.NUMBER, where, "a whole number", value)
    if not low <= value <= high:
        raise OddError(Code.RANGE, where, f"a whole number of {low} to {high}", value)
    return value


def as_decimal(value: object, where: str, low: Decimal | int, high: Decimal | int) -> Decimal:
    """A number, as a number or as its text, exact. Other than 0 it is at least 1e-30, so that arithmetic has room."""
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        number = Decimal(value)
    elif isinstance(value, Decimal):
        number = value
    elif isinstance(value, int) and not isinstance(value, bool):
        number = Decimal(value)
    elif isinstance(value, float):
        number = Decimal(repr(value))
    else:
        raise OddError(Code.NUMBER, where, "a number", value)
    if not number.is_finite():
        raise OddError(Code.NUMBER, where, "a number", value)
    if not low <= number <= high or 0 < abs(number) < _LEAST:
        raise OddError(Code.RANGE, where, f"a number of {low} to {high}", value)
    return number


def as_float(value: object, where: str, low: float, high: float) -> float:
    """A number, as a number or as its text, as a float."""
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        number = float(value)
    elif isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
    else:
        raise OddError(Code.NUMBER, where, "a number", value)
    if not low <= number <= high:  # NaN is not
        raise OddError(Code.RANGE, where, f"a number of {low:g} to {high:g}", value)
    return number


def as_price(value: object, where: str) -> Decimal:
    """The price of a share, between 0 and 1, both left out."""
    price = as_decimal(value, where, 0, 1)
    if not 0 < price < 1:
        raise OddError(Code.RANGE, where, "a price between 0 and 1", value)
    return price


def as_tick(value: object, where: str) -> Decimal:
    """A price step, one of those that orders can be signed for."""
    tick = as_decimal(value, where, 0, 1)
    if tick not in TICKS:
        raise OddError(Code.RANGE, where, f"a tick of {', '.join(str(allowed) for allowed in sorted(TICKS))}", value)
    return tick


def as_units(value: object, where: str) -> int:
    """Shares or pUSD in base units, rounded down; not negative."""
    return int(as_decimal(value, where, 0, MAX_UNITS // BASE_UNITS) * BASE_UNITS)


def as_ms(value: object, where: str) -> int:
    """A time in UTC ms."""
    return as_whole(value, where, 0, LAST_MS)


def as_levels(value: object, where: str, odd: Callable[[OddError], None]) -> list[Level]:
    """One side of a book. A level at 0 or 1 is left out: nobody can trade there. Any other odd level makes it another book."""
    levels = []
    for index, row in enumerate(as_list(value, where)):
        try:
            level = as_object(row, "level")
            price, size = as_decimal(level.get("price"), "price", 0, 1), as_units(level.get("size"), "size")
        except OddError as error:
            raise error.named(f"{where}[{index}]") from None  # named only now: a book has hundreds of levels
        if not 0 < price < 1:
            odd(OddError(Code.RANGE, f"{where}[{index}].price", "a price between 0 and 1", price))
        elif size:
            levels.append(Level(price, size))
    return levels


def each(
    values: list[object], where: str, read: Callable[[object, str], T], odd: Callable[[OddError], None]
) -> Iterator[T]:
    """What can be read of a list. `odd` is told of each element that cannot, and the others go on."""
    for index, value in enumerate(values):
        try:
            item = read(value, f"{where}[{index}]")
        except OddError as error:
            odd(error)
            continue
        yield item
