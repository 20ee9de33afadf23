"""Won positions: when they are looked at, when a request is sent, and that each is claimed once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bot.account.redeem import AGAIN_AFTER_MS, MOST_REQUESTS, Won, is_due, next_step
from bot.venue.types import Market
from ledger.values import Outcome
from tests.unit.bot.lifecycle.test_instance import ENTRIES, live, until
from tests.unit.bot.making import END_MS, MARKET, SHARE
from tests.unit.bot.running import Running

WON = Won("btc-updown-5m-1", "0xc", "1", 10 * SHARE, 0, "", 1_000_000)


@pytest.mark.parametrize(
    ("won", "held", "cannot", "age_ms", "step"),
    [
        (WON, 0, None, 60_000, "paid"),
        (WON, 0, "no key", 60_000, "paid"),
        (WON, SHARE, None, 60_000, "send"),
        (WON, SHARE // 10 - 1, None, 60_000, "dust"),
        (WON, SHARE, "no key", 60_000, "left"),
        (replace(WON, last="sent", requests=1), SHARE, None, AGAIN_AFTER_MS - 1, "wait"),
        (replace(WON, last="sent", requests=1), SHARE, None, AGAIN_AFTER_MS, "send"),
        (replace(WON, last="sent", requests=2), SHARE, None, 2 * AGAIN_AFTER_MS - 1, "wait"),
        (replace(WON, last="sent", requests=MOST_REQUESTS), SHARE, None, 10**9, "given_up"),
        (replace(WON, last="sent", requests=MOST_REQUESTS), 0, None, 10**9, "paid"),
    ],
)
def test_the_balance_alone_says_what_is_to_be_done(
    won: Won, held: int, cannot: str | None, age_ms: int, step: str
) -> None:
    """Nothing held is paid, whoever paid; a request is repeated only after a growing while, and not for ever."""
    assert next_step(won, held, cannot, won.last_ms + age_ms) == step


def test_what_cannot_be_redeemed_is_looked_at_once_an_hour() -> None:
    """A wallet that must claim by itself costs a request an hour and window, not one every five seconds."""
    left = replace(WON, last="left")
    assert not is_due(left, 60_000, left.last_ms + 3_599_999)
    assert is_due(left, 60_000, left.last_ms + 3_600_000)
    assert not is_due(WON, 60_000, WON.last_ms + 59_999)


@pytest.mark.parametrize("pays_by_itself", [True, False])
def test_a_won_window_is_claimed_once(tmp_path: Path, pays_by_itself: bool) -> None:
    """Two windows won: where the venue did not pay, one request each, written before it was sent; else none."""

    async def work(running: Running, me: str) -> None:
        venue = running.venue

        def describe(slug: str) -> Market:
            closed = running.clock.wall_ms() > END_MS + 2_000
            return replace(MARKET, slug=slug, closed=closed, winner=Outcome.UP if closed else None)

        venue.describe = describe
        await until("entries", lambda: running.count(ENTRIES) == 2)
        if not pays_by_itself:
            venue.unpaid = {MARKET.up_token: 10 * SHARE}
        await until("outcomes", lambda: running.count("SELECT count(*) FROM outcomes") == 2, 300)
        if not pays_by_itself:
            await until("both are sent", lambda: len(venue.redeemed) == 2, 300)
            assert running.count("SELECT count(*) FROM redemptions WHERE state = 'sent'") == 2
            venue.unpaid = {}
        await until(
            "both are paid", lambda: running.count("SELECT count(*) FROM redemptions WHERE state = 'paid'") == 2, 300
        )
        assert len(venue.redeemed) == (0 if pays_by_itself else 2)

    live(tmp_path, work)
