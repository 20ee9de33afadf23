"""Builds held back in snipe windows: for how long, and that time limits do not count meanwhile."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployer.hold import WINDOW_MS, Held, Hold
from deployer.hold import next_hold as decide

TOTAL_MS = 120_000


def next_hold(before: Hold, now_ms: int, *, builds: bool, in_snipe: bool) -> Hold:
    """With the default of the setting."""
    return decide(before, now_ms, builds=builds, in_snipe=in_snipe, most_ms=TOTAL_MS)


def held_ms(looks: list[tuple[int, bool]]) -> tuple[list[int], int]:
    """How long a build is held in each window that opens, and altogether. looks: ms since the one before, window open."""
    hold, now, windows, was_open = Hold(), 0, [0], False
    for after_ms, in_snipe in looks:
        now += after_ms
        windows[-1] += after_ms if hold.held else 0
        hold = next_hold(hold, now, builds=True, in_snipe=in_snipe)
        if in_snipe and not was_open:
            windows.append(0)
        was_open = in_snipe
    return windows, sum(windows)


LOOKS = st.lists(st.tuples(st.integers(1, 5_000), st.booleans()), max_size=400)


@given(LOOKS)
def test_a_build_is_never_held_for_long(looks: list[tuple[int, bool]]) -> None:
    """Whatever windows open, one holds a build 30 s and all hold it 120 s, but for the time between two looks."""
    windows, total = held_ms(looks)
    assert max(windows) < WINDOW_MS + 5_000
    assert total < TOTAL_MS + 5_000


def test_many_short_windows_hold_a_build_for_two_minutes_altogether() -> None:
    """Windows of 20 s with a second between them: after 120 s of standing still the build goes on through all that follow."""
    looks = [(100, second % 21 < 20) for second in range(1_000) for _ in range(10)]
    windows, total = held_ms(looks)
    assert len(windows) > 40
    assert TOTAL_MS <= total <= TOTAL_MS + 200


def test_a_build_stands_still_exactly_while_a_window_is_open() -> None:
    """From the look that sees it open to the one that sees it closed; the next window holds it again; a new build begins anew."""
    hold = next_hold(Hold(), 1_000, builds=True, in_snipe=True)
    assert hold.held
    hold = next_hold(hold, 11_000, builds=True, in_snipe=False)
    assert (hold.held, hold.total_ms) == (False, 10_000)
    for now in range(20_000, 50_000, 150):
        hold = next_hold(hold, now, builds=True, in_snipe=True)
        assert hold.held
    hold = next_hold(hold, 50_000, builds=True, in_snipe=True)
    assert not hold.held, "30 s of one window"
    assert not next_hold(hold, 60_000, builds=True, in_snipe=True).held, "and not again in the same one"
    assert next_hold(next_hold(hold, 60_000, builds=True, in_snipe=False), 60_150, builds=True, in_snipe=True).held
    assert next_hold(hold, 60_000, builds=False, in_snipe=True) == Hold(at_ms=60_000)
    assert not decide(Hold(), 1_000, builds=True, in_snipe=True, most_ms=0).held, (
        "where nobody wants it, no build is held"
    )


async def test_a_limit_counts_only_while_nothing_is_held() -> None:
    """A limit of 50 ms does not strike during 200 ms of holding, and does afterwards; what begins while held waits."""
    held, struck = Held(), asyncio.Event()

    async def work() -> None:
        with pytest.raises(TimeoutError):
            async with held.limit(0.05):
                await asyncio.Event().wait()
        struck.set()

    first = asyncio.create_task(work())
    await asyncio.sleep(0)
    held.set(True)
    second = asyncio.create_task(work())
    waits = asyncio.create_task(held.passed())
    done, _ = await asyncio.wait([first, second, waits], timeout=0.2)
    assert not done
    held.set(False)
    async with asyncio.timeout(5):
        await asyncio.gather(first, second, waits)
