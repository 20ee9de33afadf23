"""The answers that an order's connection reads: whole or in pieces, and what is none."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.venue.polymarket.http1 import Answer, read_answer

WITH_LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 400 Bad\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"
INTERIM = b"HTTP/1.1 100 Continue\r\n\r\n" + WITH_LENGTH


@pytest.mark.parametrize(
    ("received", "status", "keep"),
    [
        (WITH_LENGTH, 200, True),
        (CHUNKED, 400, True),
        (INTERIM, 200, True),
        (WITH_LENGTH.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"), 200, False),
        (WITH_LENGTH + b"more", 200, False),
    ],
)
def test_an_answer_is_read_whole_and_never_before(received: bytes, status: int, keep: bool) -> None:
    """Whatever piece has come, there is no answer until it is whole; then it is right, and says if the connection stays."""
    end = len(received) - (4 if received.endswith(b"more") else 0)
    for length in range(end):
        assert read_answer(received[:length], ended=False) is None
    assert read_answer(received, ended=False) == (Answer(status, b"hello"), keep)


def test_a_body_without_a_length_ends_with_the_connection() -> None:
    """Only the other side's closing tells that such a body is whole; the connection is not used again."""
    received = b"HTTP/1.1 502 Bad Gateway\r\n\r\noops"
    assert read_answer(received, ended=False) is None
    assert read_answer(received, ended=True) == (Answer(502, b"oops"), False)


@pytest.mark.parametrize(
    "received",
    [
        b"garbage\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"HTTP/1.1 " + b"x" * 100_000,
    ],
)
def test_what_is_no_answer_is_an_error(received: bytes) -> None:
    """It raises at once, so that the order's outcome is in doubt at once and not at the time limit."""
    with pytest.raises(ValueError, match=r"."):
        read_answer(received, ended=False)


@given(st.binary(max_size=300), st.booleans())
def test_no_bytes_break_the_reader(noise: bytes, ended: bool) -> None:
    """Anything at all is no answer yet, an answer, or a ValueError."""
    for received in (noise, b"HTTP/1.1 200 OK\r\n" + noise):
        with suppress(ValueError):
            assert read_answer(received, ended=ended) is None or received.startswith(b"HTTP/1.1")
