"""Logs: one JSON object a line on stdout, from a bounded queue and a thread of its own.

A full pipe never stops the caller: lines are dropped and counted instead. Secrets that were named with `hide` are starred.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import queue
import select
import sys
import threading
from collections.abc import MutableMapping
from datetime import UTC, datetime
from typing import Any, Protocol

import structlog

from bus.secrecy import Secrets

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
