"""When an exit that shows nothing sold is followed by a fresh one: after a look, or when nobody could look for seconds."""

from __future__ import annotations

import pytest

from bot.orders.watch import BLIND_MS, FOLLOW_MS, Watch

DELAY_MS = 1_500


@pytest.mark.parametrize("is_doubted", [False, True])
def test_an_exit_is_followed_once_it_was_looked_at(is_doubted: bool) -> None:
    """One that was accepted after its delay, one in doubt or of a former holder at once.

    Six of them were followed blindly after a take and refused, since what was sold was not known yet: looks take turns.
    """
    watch = Watch(DELAY_MS)
    may = watch.may_follow_doubt if is_doubted else watch.may_follow
    if not is_doubted:
        watch.news(0)
    after_ms = DELAY_MS + FOLLOW_MS
    assert not may(0)
    assert not may(after_ms)
    watch.was_looked_at = True
    watch.looked(DELAY_MS, closed=False)
    assert may(after_ms)


@pytest.mark.parametrize("is_doubted", [False, True])
def test_an_exit_waits_for_a_look_for_some_seconds_at_most(is_doubted: bool) -> None:
    """The venue answers no question, or there is no room for one: the worst of a fresh exit is a refusal."""
    watch = Watch(DELAY_MS)
    may = watch.may_follow_doubt if is_doubted else watch.may_follow
    if not is_doubted:
        watch.news(0)
    over_ms = BLIND_MS + (0 if is_doubted else DELAY_MS)
    assert not may(0)
    assert not may(over_ms - 1)
    assert may(over_ms)
