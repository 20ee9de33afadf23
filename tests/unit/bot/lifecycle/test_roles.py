"""Waiting for those who are preferred: what ends the wait, and what does not."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from bot.lifecycle import instance
from bot.lifecycle.instance import HELD_TRIES, Runner
from bot.lifecycle.roles import OTHER_DELAY_MS, Candidate
from bus import Handover, Role
from tests.unit.bot.making import ManualClock


def tries(monkeypatch: pytest.MonkeyPatch, locked: list[bool]) -> list[float]:
    """Runs `_win_lease` with these answers of the lock until it takes; returns how long it slept each time, in seconds."""
    answers, slept = iter(locked), list[float]()
    runner: Any = object.__new__(Runner)
    runner._armed = None
    runner._seen, runner._named = SimpleNamespace(healthy=True, role=Role.STANDBY), False
    runner._world = SimpleNamespace(clock=ManualClock())
    runner._lease = SimpleNamespace(unlock=lambda: None)
    runner._try_lock = lambda: next(answers)
    runner._me = lambda: Candidate("me", "a", healthy=True, yielded=False, distrusted=False)
    runner._handover = lambda: Handover()

    async def take() -> str:
        return "taken"

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    runner._take = take
    with monkeypatch.context() as patched:
        patched.setattr(instance, "asyncio", SimpleNamespace(sleep=sleep))
        assert asyncio.run(runner._win_lease()) == "taken"
    assert next(answers, None) is None, "it took before the last answer"
    return slept


def test_a_wait_is_over_also_when_another_standby_tried_the_lease_at_that_moment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two standbys that meet at the lock do not begin to wait anew: only then somebody is sure to take it."""
    slept = tries(monkeypatch, [True, False, True])
    assert slept.count(OTHER_DELAY_MS / 1000) == 1


def test_a_wait_begins_anew_after_somebody_held_the_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    """Held at several tries in a row is held by a holder: when it is free again, the preferred ones are first again."""
    slept = tries(monkeypatch, [True, *[False] * HELD_TRIES, True, True])
    assert slept.count(OTHER_DELAY_MS / 1000) == 2
