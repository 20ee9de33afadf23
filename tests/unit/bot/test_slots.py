"""Which windows a bot looks up ahead of time."""

from __future__ import annotations

import pytest

from bot.market_data.markets import AHEAD_MS, wanted_windows
from bot.slots import Slot

NOW_MS = 1_795_556_517_543


@pytest.mark.parametrize("timeframe", ["10s", "30s", "5m"])
@pytest.mark.parametrize("offset", [0, 1])
def test_no_window_begins_that_was_not_wanted_before(timeframe: str, offset: int) -> None:
    """A bot that only just started has asked for every window that it meets in the next half minute, short ones too."""
    slot = Slot("BTC", timeframe, offset)
    wanted = wanted_windows([slot], [], NOW_MS)
    assert {slot.window(NOW_MS + later) for later in range(0, AHEAD_MS + 1, 250)} <= wanted
    assert len(wanted) <= 2 + AHEAD_MS // 10_000
