"""When notices leave, as which message, and what is dropped where too many wait."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from panel.notify.messages import (
    MOST_LINES,
    MOST_WAITING,
    SPACING_MS,
    TRADES_WAIT_MS,
    as_message,
    due,
    keep,
    parse_kinds,
    parse_quiet,
)
from panel.notify.notices import TRADES, URGENT, Kind, Notice
from panel.notify.outbox import MOST_MESSAGES, Outbox, Queue

NOW = 1_800_000_000_000


def notice(kind: Kind, number: int = 0, at_ms: int = NOW, pnl: str | None = None) -> Notice:
    """One of a kind."""
    return Notice(
        kind=kind,
        code="x",
        title=f"{kind} title",
        text=f"{kind} {number}.",
        time_ms=at_ms,
        pnl=Decimal(pnl) if pnl else None,
    )


def at(clock: str) -> int:
    """UTC ms of a time of a day in winter."""
    return round(datetime.fromisoformat(f"2026-12-01T{clock}:00").replace(tzinfo=UTC).timestamp() * 1000)


def test_the_trades_of_a_minute_are_one_message() -> None:
    """Fills and outcomes wait until the oldest is a minute old, and leave together with their sum."""
    trades = [notice(Kind.FILLS, number, NOW + number * 1_000) for number in range(3)]
    trades.append(notice(Kind.OUTCOMES, 3, NOW + 4_000, "-2.50"))
    early, waiting = due(trades, now_ms=NOW + TRADES_WAIT_MS - 1, last_ms=0, quiet=None)
    assert (early, waiting) == ((), tuple(trades))
    (message,), waiting = due(trades, now_ms=NOW + TRADES_WAIT_MS, last_ms=0, quiet=None)
    assert waiting == ()
    assert message.title == "3 fills, 1 outcome (-2.50 pUSD)"
    assert message.body.splitlines() == ["fills 0.", "fills 1.", "fills 2.", "outcomes 3."]


def test_many_trades_are_counted_and_a_message_stays_short() -> None:
    """Of a thousand fills a message shows some and the number of all."""
    message = as_message([notice(Kind.FILLS, number) for number in range(1_000)])
    assert len(message.body.splitlines()) == MOST_LINES + 1
    assert "in all 1000 fills" in message.body


def test_what_is_urgent_leaves_at_once_and_the_rest_keeps_its_distance() -> None:
    """A halt waits for nothing; news of 5 seconds are one message; trades wait on."""
    waiting = [notice(Kind.FILLS), notice(Kind.DEATHS, 1), notice(Kind.HALTS, 2)]
    (message,), left = due(waiting, now_ms=NOW, last_ms=NOW - SPACING_MS + 1, quiet=None)
    assert (message.title, message.level) == ("halts title", "failure")
    assert left == (waiting[0], waiting[1])
    (message,), left = due(left, now_ms=NOW + 1, last_ms=NOW - SPACING_MS, quiet=None)
    assert (message.title, message.body) == ("deaths title", "deaths 1.")
    assert left == (waiting[0],)


@pytest.mark.parametrize(
    ("quiet", "inside", "outside"),
    [
        ("22:00-07:00", ("22:00", "03:00", "06:59"), ("07:00", "21:59")),
        ("22:00-07:00 Europe/Berlin", ("21:00", "05:59"), ("06:00", "20:59")),  # an hour ahead of UTC in winter
        ("12:30-13:00 UTC", ("12:30", "12:59"), ("12:29", "13:00")),
    ],
)
def test_in_a_quiet_time_only_what_is_urgent_is_sent(
    quiet: str, inside: tuple[str, ...], outside: tuple[str, ...]
) -> None:
    """Halts, limits and standstills pass; all else waits for the end of it, in the time zone that is named."""
    for clock in (*inside, *outside):
        now = at(clock)
        waiting = [notice(kind, at_ms=now - TRADES_WAIT_MS) for kind in Kind]
        messages, left = due(waiting, now_ms=now, last_ms=0, quiet=parse_quiet(quiet))
        if clock in inside:
            assert {one.kind for one in left} == set(Kind) - URGENT
            assert len(messages) == 1
        else:
            assert left == ()


@pytest.mark.parametrize(
    "text", ["22-07", "22:00-24:00", "25:00-07:00", "22:00-22:00", "22:00-07:00 Nowhere/Land", "x"]
)
def test_a_quiet_time_that_is_none_is_refused(text: str) -> None:
    """With a sentence that says what was expected."""
    with pytest.raises(ValueError, match="expected a"):
        parse_quiet(text)


def test_kinds_are_named_and_none_named_is_all() -> None:
    """A name that is not known is refused with those that are."""
    assert parse_kinds("") == frozenset(Kind)
    assert parse_kinds("halts, deploys") == {Kind.HALTS, Kind.DEPLOYS}
    with pytest.raises(ValueError, match="expected kinds out of fills, outcomes"):
        parse_kinds("halts,dogs")


@given(st.lists(st.sampled_from(list(Kind)), max_size=MOST_WAITING + 200), st.integers(0, 700))
def test_what_waits_is_bounded_and_trades_are_dropped_before_all_else(kinds: list[Kind], cut: int) -> None:
    """Nothing is lost uncounted; while a trade waits nothing else is dropped, and of a rank the newest stay, in their order."""
    notices = [notice(kind, number) for number, kind in enumerate(kinds)]
    kept, dropped = keep(notices[:cut], notices[cut:])
    assert len(kept) == min(len(notices), MOST_WAITING)
    assert dropped == len(notices) - len(kept)
    assert [one for one in notices if one in set(kept)] == list(kept)
    others = [one for one in notices if one.kind not in TRADES]
    if len(others) <= MOST_WAITING:
        assert [one for one in kept if one.kind not in TRADES] == others


def test_dropped_notices_are_said_in_the_next_message() -> None:
    """Their number, once."""
    (message,), _ = due([notice(Kind.HALTS)], now_ms=NOW, last_ms=0, quiet=None, dropped=7)
    assert message.body.splitlines()[-1] == "7 earlier notices were dropped: too many waited"


def test_a_targets_queue_is_bounded_and_gives_up_what_is_old() -> None:
    """The oldest messages are dropped, or those of an hour ago; the next one that is sent says how many, and only that one."""
    messages = [as_message([notice(Kind.HALTS, number, NOW + number)]) for number in range(MOST_MESSAGES + 3)]
    queue = Outbox(queues={"a": Queue()}).with_messages(messages).queues["a"]
    assert (len(queue.messages), queue.dropped) == (MOST_MESSAGES, 3)
    old = queue.without_old(NOW + 3_600_000 + 10)
    assert old.messages[0].body == "halts 10."
    first = old.first
    assert first is not None
    assert first.body.splitlines()[-1] == "10 earlier messages were dropped: they could not be sent here"
    sent = old.sent(first)
    assert (sent.messages, sent.dropped) == (old.messages[1:], 0)
    assert queue.without_old(NOW + 9_999_999).first is None
