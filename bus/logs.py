"""Logs: one JSON object a line on stdout, from a bounded queue and a thread of its own.

A full pipe never stops the caller: lines are dropped and counted instead. Secrets that were named with `hide` are starred.
"""

from __future__ import annotations

import base64
import binascii
import html
import itertools
import json
import logging
import os
import queue
import re
import select
import sys
import threading
from collections.abc import MutableMapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Protocol
from urllib.parse import quote, quote_plus

import structlog

# Secrets in text: every spelling of one that is known is starred, and what looks like one where it does not belong.


STARS = "***"
SHORTEST, SHORTEST_SQUEEZED = 8, 16
_HEX = re.compile(r"(?:0[xX])?([0-9a-fA-F]{16,})")
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{16,}={0,2}")
# An address has 40 hex digits and a commit as well; a key, a passphrase or a token is longer. A phrase has 12 words or more.
_LOOKS_SECRET = re.compile(r"(?:0[xX])?[0-9a-fA-F]{41,}|[A-Za-z0-9_+=-]{43,}|\b[a-z]{3,8}(?: [a-z]{3,8}){11,}\b")
# What a spelling is told by: its letters and digits, in lower case. The letter of an escaped break of a line is none.
_SQUEEZED = {
    number: chr(number).lower() if chr(number).isalnum() else None for number in range(128) if chr(number) != "\\"
}
_ESCAPE = re.compile(r"\\+[nrt]?")
_USER = re.compile(r"(?<=://)[^/@\s]+(?=@)")
# A webhook's address is a secret by a part of its path, which is shorter than a token.
_URL, _PART = re.compile(r"://[^\s'\"]+"), re.compile(r"(?<=[^/][/=:])(?=[^/]*[0-9A-Z])[\w+-]{20,}")


class Secrets:
    """The secrets of one process, starred as they are, and in every spelling that is told by its letters and digits alone."""

    def __init__(self) -> None:
        self._exact: tuple[str, ...] = ()
        self._squeezed: tuple[str, ...] = ()

    def add(self, *secrets: str) -> None:
        """Star them from now on, and each of their lines. Texts shorter than 8 characters are not secrets but words."""
        parts = {part for secret in secrets for part in (secret, *map(str.strip, secret.splitlines()))}
        long = {part for part in parts if len(part) >= SHORTEST}
        exact = {*self._exact, *(form for part in long for form in _forms(part))}
        spelt = {_squeeze(spelling) for part in long for spelling in _spellings(part)}
        # The longest first: another one may be a part of it.
        self._exact = tuple(sorted(exact, key=len, reverse=True))
        found = {*self._squeezed, *(each for each in spelt if len(each) >= SHORTEST_SQUEEZED)}
        self._squeezed = tuple(sorted(found, key=len, reverse=True))

    def star(self, text: str) -> str:
        """The text without them."""
        for secret in self._exact:
            if secret in text:
                text = text.replace(secret, STARS)
        squeezed = _squeeze(text)
        for spelling in self._squeezed:
            if spelling in squeezed:
                return self._star_spelt(text)
        return text

    def _star_spelt(self, text: str) -> str:
        """From a spelling's first letter or digit to its last one, whatever stands in between."""
        places = [at for at, letter in enumerate(text) if _SQUEEZED.get(ord(letter), letter) is not None]
        escapes = {at for found in _ESCAPE.finditer(text.translate(_SQUEEZED)) for at in range(*found.span())}
        places = [place for at, place in enumerate(places) if at not in escapes]
        squeezed = _squeeze(text)
        spans: list[tuple[int, int]] = []
        for spelling in self._squeezed:
            at = squeezed.find(spelling)
            while at >= 0:
                spans.append((places[at], places[at + len(spelling) - 1] + 1))
                at = squeezed.find(spelling, at + 1)
        made, done = [], 0
        for first, end in sorted(spans):
            if first >= done:
                made += [text[done:first], STARS]
            done = max(done, end)
        return "".join(made) + text[done:]


def star_suspects(text: str) -> str:
    """The text without anything that looks like a key, a token, a phrase, a password in a URL or a webhook.

    For what people typed somewhere: a key that was put where an address belongs must not end in an error.
    """
    starred = _USER.sub(STARS, _LOOKS_SECRET.sub(STARS, text))
    return _URL.sub(lambda url: _PART.sub(STARS, url[0]), starred)


def _squeeze(text: str) -> str:
    """Its letters and digits in lower case: the same for any separators, quotes, breaks of lines and alphabets of base 64."""
    squeezed = text.translate(_SQUEEZED)
    return _ESCAPE.sub("", squeezed) if "\\" in squeezed else squeezed


def _forms(secret: str) -> set[str]:
    """As it is, escaped for JSON, Python and URLs, and as Python shows its bytes: hardly a letter of them."""
    as_bytes, shown = secret.encode("utf-8", "replace"), repr(_raw(secret))[2:-1]
    found = {secret, json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1], repr(secret)[1:-1]}
    found |= {quote(as_bytes, safe=""), quote_plus(as_bytes), shown, json.dumps(shown)[1:-1]}
    return {form for form in found if len(form) >= SHORTEST}


def _raw(secret: str) -> bytes:
    """The bytes that a text stands for, in hex digits or in base 64; empty for others."""
    hexadecimal = _HEX.fullmatch(secret)
    if hexadecimal is not None:
        return bytes.fromhex(hexadecimal[1]) if len(hexadecimal[1]) % 2 == 0 else b""
    with suppress(binascii.Error, ValueError):
        if _BASE64.fullmatch(secret):
            return base64.b64decode(secret.replace("-", "+").replace("_", "/") + "==")
    return b""


def _spellings(secret: str) -> set[str]:
    """What `_squeeze` leaves of these is looked for. Of hex digits those alone: what is before them is found with or without."""
    found, text = {secret, json.dumps(secret)[1:-1], quote(secret, safe=""), html.escape(secret)}, secret
    hexadecimal = _HEX.fullmatch(secret)
    if hexadecimal is not None:
        text, number = hexadecimal[1], int(hexadecimal[1], 16)
        found |= {text, str(number), f"{number:x}", f"{number:o}", f"{number:b}"}
    found.add("".join(f"u{ord(character):04x}" for character in text))
    return found | _of_bytes(text.encode("utf-8", "replace")) | _of_bytes(_raw(secret))


def _of_bytes(raw: bytes) -> set[str]:
    """In digits, byte by byte, and in base 32 and 64."""
    digits = {"".join(f"{before}{byte:02x}" for byte in raw) for before in ("", "x", "0x")} | {"".join(map(hex, raw))}
    # Within a longer text its first and last characters depend on what is beside it.
    inner = {
        coded.decode()[-(-(before * 8) // 6) : (before + len(raw)) * 8 // 6] for before, coded in enumerate(_in_64(raw))
    }
    return {*digits, "".join(map(str, raw)), base64.b32encode(raw).decode().rstrip("="), *inner}


def _in_64(raw: bytes) -> list[bytes]:
    """Where it begins at any of the three places of a group."""
    return [base64.b64encode(bytes(before) + raw) for before in range(3)]


QUEUE_LINES = 10_000
CLOSE_LIMIT_S = 2.0


class Log(Protocol):
    """What is passed to everything that logs. `event` is snake_case."""

    def debug(self, event: str, /, **fields: Any) -> Any:
        """Of use when hunting a fault."""

    def info(self, event: str, /, **fields: Any) -> Any:
        """An ordinary event."""

    def warning(self, event: str, /, **fields: Any) -> Any:
        """Something a person may have to look at."""

    def error(self, event: str, /, **fields: Any) -> Any:
        """Something that stops part of the work."""

    def bind(self, **fields: Any) -> Log:
        """The same log with more fields on every line."""


class LineWriter:
    """Writes lines to a descriptor from its own thread; drops and counts when the queue is full."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._queue: queue.Queue[bytes | None] = queue.Queue(QUEUE_LINES)
        self.dropped = 0
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
        self._thread.start()

    def put(self, line: str) -> None:
        """Queue one line without waiting."""
        try:
            self._queue.put_nowait(line.encode("utf-8", "backslashreplace") + b"\n")
        except queue.Full:
            self.dropped += 1

    def close(self) -> None:
        """Write what is queued, waiting at most CLOSE_LIMIT_S for a reader that does not read."""
        try:
            self._queue.put_nowait(None)
        except queue.Full:
            self.dropped += 1
        self._thread.join(CLOSE_LIMIT_S)

    def _run(self) -> None:
        while (line := self._queue.get()) is not None:
            view = memoryview(line)
            while view:
                try:
                    view = view[os.write(self._descriptor, view) :]
                except BlockingIOError:  # somebody who shares the terminal made it non-blocking
                    select.select((), (self._descriptor,), (), 1)
                except OSError:  # the reader is gone: keep draining, so that the caller never waits
                    self.dropped += 1
                    break


class _Format:
    """The last processor: makes the JSON line."""

    def __init__(self, writer: LineWriter) -> None:
        self._writer = writer
        self._sequence = itertools.count(1)
        self.secrets = Secrets()

    def __call__(self, _logger: Any, level: str, fields: MutableMapping[str, Any]) -> str:
        line = {
            "time": datetime.now(UTC).isoformat(timespec="microseconds"),
            "seq": next(self._sequence),
            "level": level,
            "event": fields.pop("event"),
            **fields,
        }
        if self._writer.dropped:
            line["dropped"] = self._writer.dropped
        try:
            text = json.dumps(line, default=str, ensure_ascii=False, allow_nan=False)
        except (TypeError, ValueError):  # NaN, a key that is no text, a circle: as Python shows it
            plain = {key: value if isinstance(value, str | int) else str(value) for key, value in line.items()}
            text = json.dumps(plain, ensure_ascii=False)
        return self.secrets.star(text)


class Logging:
    """The logging of one process. Make one at its start, close it at its end."""

    def __init__(self, descriptor: int | None = None, **fields: Any) -> None:
        """descriptor: where lines go, stdout by default. fields: on every line."""
        self._writer = LineWriter(sys.stdout.fileno() if descriptor is None else descriptor)
        self._format = _Format(self._writer)
        structlog.configure(
            processors=[structlog.contextvars.merge_contextvars, structlog.processors.format_exc_info, self._format],
            logger_factory=lambda *_: _Sink(self._writer),
            cache_logger_on_first_use=False,
        )
        self.log: Log = structlog.get_logger().bind(**fields)
        logging.basicConfig(handlers=[_Bridge(self.log)], level=logging.WARNING, force=True)

    @property
    def dropped(self) -> int:
        """How many lines were dropped because nobody read them in time."""
        return self._writer.dropped

    def hide(self, secret: str) -> None:
        """Star this text in every later line, however it is spelt. One shorter than 8 characters is no secret but a word."""
        self._format.secrets.add(secret)

    def close(self) -> None:
        """Write what is queued."""
        self._writer.close()


class _Sink:
    """What structlog calls at the end: every level goes the same way."""

    def __init__(self, writer: LineWriter) -> None:
        self._put = writer.put

    def msg(self, line: str) -> None:
        self._put(line)

    debug = info = warning = error = critical = exception = msg


class _Bridge(logging.Handler):
    """Routes the standard library's loggers into the same lines."""

    def __init__(self, log: Log) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        try:
            message = record.getMessage()
        except (TypeError, ValueError, KeyError):  # the library's arguments do not fit its text
            message = f"{record.msg} {record.args}"
        fields: dict[str, Any] = {"logger": record.name, "message": message}
        if record.exc_info:
            fields["exc_info"] = record.exc_info
        write = self._log.error if record.levelno >= logging.ERROR else self._log.warning
        write("library_message", **fields)
