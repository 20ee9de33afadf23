"""The answers that an order's connection reads: whole or in pieces, and what is none."""

from __future__ import annotations

import time
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.venue.polymarket.http1 import Answer, AnswerReader, read_answer

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


@given(st.sampled_from([WITH_LENGTH, CHUNKED, INTERIM]), st.lists(st.integers(1, 9), min_size=1))
def test_the_pieces_in_which_an_answer_comes_do_not_matter(received: bytes, sizes: list[int]) -> None:
    """Cut anywhere, it is the same answer, and it is there with its last byte."""
    reader, rest, turn = AnswerReader(), received, 0
    while rest:
        size = sizes[turn % len(sizes)]
        found = reader.feed(rest[:size])
        rest, turn = rest[size:], turn + 1
        assert (found is None) == bool(rest)
    assert found == read_answer(received, ended=False)


def test_interim_answers_without_an_end_are_no_answer() -> None:
    """Each was a call within a call: 3,000 of them left the order without an outcome, and its connection dead."""
    with pytest.raises(ValueError, match="interim"):
        read_answer(b"HTTP/1.1 102 Processing\r\n\r\n" * 3000 + WITH_LENGTH, ended=False)
    few = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" * 3
    assert read_answer(few + WITH_LENGTH, ended=False) == (Answer(200, b"hello"), True)


def test_a_long_answer_in_small_pieces_does_not_hold_the_loop() -> None:
    """Each piece was looked at together with all before it: half a megabyte in pieces of 16 bytes took minutes."""
    reader = AnswerReader()
    assert reader.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 500000\r\n\r\n") is None
    began = time.process_time()
    found = [reader.feed(b"x" * 16) for _ in range(500_000 // 16)]
    assert found[-1] is not None
    chunked = AnswerReader()
    chunked.feed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(30_000):
        assert chunked.feed(b"1\r\nx\r\n") is None
    assert chunked.feed(b"0\r\n\r\n") == (Answer(200, b"x" * 30_000), True)
    assert time.process_time() - began < 5


@pytest.mark.parametrize("length", ["+5", " 5 5", "1_0", "0x5", "9" * 5000, "\u0665"])
def test_a_length_is_digits_alone(length: str) -> None:
    """What int() would take beside digits is refused, and thousands of digits are not computed with."""
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\nhello".encode()
    with pytest.raises(ValueError, match="length"):
        read_answer(head, ended=False)
