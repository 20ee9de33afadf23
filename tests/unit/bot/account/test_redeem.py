"""Won positions: when they are looked at, when a request is sent, and that each is claimed once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bot.account.redeem import AGAIN_AFTER_MS, MOST_REQUESTS, Won, is_due, next_step, won_positions
from bot.venue.types import Market
from ledger import Identity, Ledger
from ledger.schema import SCHEMA
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


def test_what_a_failed_sale_brought_back_is_claimed_though_the_window_was_called_paid(tmp_path: Path) -> None:
    """A sale that fails on chain after the window was paid opens it once more, until it is paid after that."""
    with Ledger.hold(tmp_path / "ledger.db", Identity("paper", "137", "0xabc"), SCHEMA) as ledger:
        epoch = ledger.take(instance="i", sha="s", color="blue", request="", wall_ms=1, boot_ms=1, boot_id="b")
        ledger.apply_control(1, epoch, body='{"mode":"run"}', refused="[]", wall_ms=1)
        ledger.execute(
            "INSERT INTO intents VALUES ('0x1', ?, 1, 1, 'BTC-5m', 'w', 9000, 'c', 't', 'Up', 'BUY', 1, '0.5', 10000000, "
            "5000000, 'FAK', '{}', 'edge', 1, 1, 'edge', '')",
            (epoch,),
        )
        ledger.execute(
            "INSERT INTO fills VALUES ('t1','0x1','MATCHED',?,'w','Up','BUY','0.5',10000000,1,0,1)", (epoch,)
        )
        ledger.execute("INSERT INTO outcomes VALUES ('w', ?, 'BTC-5m', 'Up', 4000000, 1, 0, 10000)", (epoch,))

        def paid(wall_ms: int) -> None:
            ledger.execute("INSERT INTO redemptions VALUES (NULL, ?, 'w', 'c', 'paid', 1, '', ?)", (epoch, wall_ms))

        assert [one.window for one in won_positions(ledger, 20_000)] == ["w"]
        paid(11_000)
        assert won_positions(ledger, 20_000) == []
        correction = (
            "INSERT INTO corrections(epoch, window, slot, payout, pnl, fees, reason, wall_ms) "
            "VALUES (?,'w','BTC-5m',?,0,0,'x',?)"
        )
        ledger.execute(correction, (epoch, -1_000_000, 12_000))
        assert won_positions(ledger, 20_000) == [], "less than was paid is nothing to claim"
        ledger.execute(correction, (epoch, 6_000_000, 13_000))
        (won,) = won_positions(ledger, 20_000)
        assert (won.shares, won.last) == (9 * SHARE, "paid")
        assert is_due(won, 5_000, 20_000)
        paid(20_000)
        assert won_positions(ledger, 30_000) == []


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
