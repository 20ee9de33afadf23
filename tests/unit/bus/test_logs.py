"""Logs: JSON lines that never stop the caller and never show a secret."""

import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from bus import Logging
from bus import logs as logs_module


@pytest.fixture(autouse=True)
def _root_logger_as_before() -> Iterator[None]:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield
    root.handlers[:] = before
    root.setLevel(level)


@contextmanager
def logged(**fields: Any) -> Iterator[tuple[Logging, Callable[[], list[dict[str, Any]]]]]:
    """Logging into a pipe, and a function that closes it and returns its lines."""
    reader, writer = os.pipe()
    logging_ = Logging(writer, **fields)
    chunks: list[bytes] = []

    def drain() -> None:
        while chunk := os.read(reader, 65536):
            chunks.append(chunk)

    thread = threading.Thread(target=drain)
    thread.start()

    def lines() -> list[dict[str, Any]]:
        logging_.close()
        os.close(writer)
        thread.join(10)
        return [json.loads(line, parse_constant=pytest.fail) for line in b"".join(chunks).splitlines()]

    yield logging_, lines
    os.close(reader)


def test_every_line_is_one_json_object_whatever_is_logged() -> None:
    """Newlines, NaN, bytes, circles, odd keys and lone surrogates still make one line of JSON, in order."""
    circle: dict[str, Any] = {}
    circle["self"] = circle
    with logged(color="blue") as (logs, lines):
        for value in ("a\nb", float("nan"), b"\xff", circle, {(1, 2): 3}, "\udc80", object(), None):
            logs.log.bind(bound=1).info("it", value=value)
        found = lines()
    assert [line["seq"] for line in found] == list(range(1, 9))
    assert {(line["event"], line["level"], line["color"], line["time"][-6:]) for line in found} == {
        ("it", "info", "blue", "+00:00")
    }
    assert found[0]["value"] == "a\nb"


def test_secrets_are_starred_wherever_they_stand() -> None:
    """A secret never leaves: not in a value, a nested one, an exception, a library's message, nor escaped by JSON."""
    secrets = ["0xdeadbeefcafe", 'quote"b\\ckslash', "0xdeadbeefcafe-and-more", "pässwörd-ü"]
    with logged() as (logs, lines):
        for secret in secrets:
            logs.hide(secret)
        logs.hide("BTC")  # too short for a secret
        for secret in secrets:
            logs.log.info("it", key=secret, deep={"list": [f"<{secret}>"]}, slot="BTC")
            try:
                raise ValueError(f"bad key {secret}")
            except ValueError:
                logs.log.error("failed", exc_info=True)
            logging.getLogger("lib").warning("sent %s", secret)
        found = lines()
    text = json.dumps(found, ensure_ascii=False)
    assert len(found) == 12
    assert all(part not in text for part in ("deadbeef", "ckslash", "and-more", "pässwörd"))
    assert text.count("***") >= 12
    assert found[0]["slot"] == "BTC"


def test_library_messages_become_lines_even_when_they_are_wrong() -> None:
    """Warnings of the standard library's loggers come out as JSON; wrong arguments do not raise into the library's caller."""
    with logged() as (_, lines):
        logging.getLogger("lib").warning("one %s", "two")
        logging.getLogger("lib").error("%d", "no number")
        logging.getLogger("lib").info("too quiet")
        found = lines()
    assert [(line["level"], line["message"]) for line in found] == [
        ("warning", "one two"),
        ("error", "%d ('no number',)"),
    ]


def test_a_full_pipe_never_blocks_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    """With nobody reading, logging stays quick, keeps a bounded queue, counts what it drops, and closing is bounded."""
    monkeypatch.setattr(logs_module, "QUEUE_LINES", 50)
    monkeypatch.setattr(logs_module, "CLOSE_LIMIT_S", 0.1)
    reader, writer = os.pipe()
    logs = Logging(writer)
    start = time.monotonic()
    for _ in range(1000):
        logs.log.info("it", text="x" * 500)
    assert logs.dropped >= 1000 - 50 - 1 - (1 << 16) // 500
    logs.close()
    assert time.monotonic() - start < 5
    os.close(reader)  # frees the thread that still writes


def test_after_the_jam_a_line_says_how_many_were_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once somebody reads again the next line carries the number of lost lines."""
    monkeypatch.setattr(logs_module, "QUEUE_LINES", 5)
    reader, writer = os.pipe()
    logs = Logging(writer)
    while not logs.dropped:
        logs.log.info("it", text="x" * 500)
    with os.fdopen(reader, "rb") as file:
        while not logs._writer._queue.empty():
            file.readline()
        logs.log.info("after")
        line = file.readline()
        while b'"after"' not in line:
            line = file.readline()
        assert json.loads(line)["dropped"] >= 1
        logs.close()
        os.close(writer)


def test_a_reader_that_left_does_not_stop_the_process() -> None:
    """With the pipe's other end closed, lines are dropped and counted."""
    reader, writer = os.pipe()
    os.close(reader)
    logs = Logging(writer)
    logs.log.info("one")
    logs.close()
    assert logs.dropped == 1
    os.close(writer)


def test_a_non_blocking_descriptor_loses_no_byte() -> None:
    """A terminal that another program made non-blocking still gets whole lines."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    logs = Logging(writer)
    for _ in range(400):
        logs.log.info("it", text="x" * 500)
    got: list[bytes] = []
    while b"".join(got[-2:]).count(b"\n") < 1 or sum(chunk.count(b"\n") for chunk in got) < 400:
        got.append(os.read(reader, 65536))
    logs.close()
    assert [json.loads(line)["seq"] for line in b"".join(got).splitlines()] == list(range(1, 401))
    assert logs.dropped == 0
    os.close(writer)
    os.close(reader)
