"""Limits of losses in a whole bot: an exit's loss counts when it is filled, and the next holder counts it as well."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from bot.strategy import Decision, Inputs
from bot.strategy.guard import GuardedStrategy
from bot.venue.types import Level, Market, VenueOrder
from bus import Role, Status, read_status
from ledger.values import Outcome, Side
from tests.unit.bot.lifecycle.test_instance import assert_audit, until
from tests.unit.bot.making import END_MS, MARKET, SHARE, run
from tests.unit.bot.odd import Deciding
from tests.unit.bot.running import Running

MINUTE_MS = 60_000


def buy_high_sell_low(inputs: Inputs) -> Decision:
    """Buys ten shares at 0.60 in each whole window, and sells them 100 s later at 0.20: 4.02 pUSD lost in each."""
    if inputs.slot.endswith("+1") or inputs.blocked:
        return Decision("none", inputs.blocked or "no business here")
    if inputs.held is not None and inputs.held_shares:
        if inputs.now_ms < inputs.start_ms + 100_000:
            return Decision("none", "holding")
        return Decision("exit", "stop", outcome=inputs.held, price=Decimal("0.20"), size=inputs.held_shares)
    if inputs.asks_up and inputs.start_ms >= END_MS:
        return Decision("enter", "buy", outcome=Outcome.UP, price=Decimal("0.60"), size=10 * SHARE)
    return Decision("none", "nothing")


def resolves_after(running: Running, delay_s: int) -> Callable[[str], Market]:
    """Markets that the venue resolves, as Down, so long after their windows' ends."""

    def describe(slug: str) -> Market:
        end_ms = (int(slug.rsplit("-", 1)[1]) + 300) * 1000
        now_ms = running.clock.wall_ms()
        done = now_ms >= end_ms + delay_s * 1000
        return replace(MARKET, slug=slug, closed=done, accepting=now_ms < end_ms, winner=Outcome.DOWN if done else None)

    return describe


def is_active(running: Running, instance_id: str) -> bool:
    """Whether it holds the lease."""
    return running.document(instance_id).role is Role.ACTIVE


def live(
    tmp_path: Path, risk: dict[str, Any], minutes: int, *, decide: Callable[[Inputs], Decision], more: int = 2
) -> tuple[Running, Status]:
    """One instance for so many minutes after the first whole window began, then a new one on the same bus for `more`."""
    running = Running(tmp_path, risk=risk)
    running.strategy = GuardedStrategy(Deciding(decide), "test")
    running.venue.describe = resolves_after(running, 1800)
    running.venue.bids = (Level(Decimal("0.20"), 400 * SHARE),)

    async def life() -> Status:
        status = None
        for color, to_minute in (("blue", minutes), ("green", minutes + more)):
            async with running.instance(color) as me:
                await until("the lease", partial(is_active, running, me))
                await asyncio.sleep(max(10.0, (END_MS + to_minute * MINUTE_MS - running.clock.wall_ms()) / 1000))
                status = read_status(running.bus).body
        assert status is not None
        return status

    status = run(life())
    assert_audit(running)
    return running, status


@pytest.mark.parametrize(
    ("risk", "reason"),
    [
        ({"daily_loss": 8}, "risk: today's loss 8.04 reached"),
        ({"hourly_loss": 8, "losses_in_a_row": 9}, "risk: the last hour's loss 8.04 reached"),
        ({"losses_in_a_row": 2, "cool_down_minutes": 30}, "risk: 2 losses in a row"),
    ],
    ids=["a day's loss", "an hour's loss", "losses in a row"],
)
def test_what_exits_lost_closes_entries_before_the_venue_resolves(
    tmp_path: Path, risk: dict[str, Any], reason: str
) -> None:
    """Two assets lose in one window, whose outcome comes half an hour later: nothing more is entered, by the next holder neither.

    Failed before: a sale's loss counted from the resolution on, and five more windows were entered.
    """
    running, status = live(tmp_path, risk | {"max_order": 10}, 4, decide=buy_high_sell_low)
    assert running.count("SELECT count(*) FROM intents WHERE side = 'BUY'") == 2
    assert running.count("SELECT count(*) FROM outcomes") == 0
    assert status.entries.startswith(reason)
    assert status.usage is not None
    assert status.usage.losses_in_a_row == 2
    assert status.usage.loss_today == status.usage.loss_last_hour == -status.totals.pnl_today == Decimal("8.04")


def test_assets_that_move_together_are_not_all_bought_in_one_direction(tmp_path: Path) -> None:
    """Of two assets that want Up at the same poll one is entered: both together would be above the limit."""
    running, status = live(tmp_path, {"max_direction": 7, "max_order": 10}, 1, decide=buy_high_sell_low, more=0)
    assert running.count("SELECT count(*) FROM intents WHERE side = 'BUY'") == 1
    assert any(slot.reason.startswith("risk: 12.4") and "net on Up" in slot.reason for slot in status.slots)


def test_open_positions_count_at_their_bid_where_that_is_wanted(tmp_path: Path) -> None:
    """What is held and would fetch less than it cost is a loss already, if control says so."""

    def buy(inputs: Inputs) -> Decision:
        decision = buy_high_sell_low(inputs)
        return Decision("none", "holds") if decision.action == "exit" else decision

    _running, status = live(tmp_path, {"daily_loss": 3, "count_open": True, "max_order": 10}, 1, decide=buy, more=0)
    assert status.entries.startswith("risk: today's loss 8.02, 8.02 of it not sold yet")


def test_what_rests_elsewhere_is_no_money_to_spend(tmp_path: Path) -> None:
    """Orders of the account's owner that rest reserve their money: the bankroll is the balance less that."""
    running = Running(tmp_path)
    inputs_seen: list[float | None] = []

    def look(inputs: Inputs) -> Decision:
        inputs_seen.append(inputs.bankroll)
        return Decision("none", "looks")

    running.strategy = GuardedStrategy(Deciding(look), "test")
    theirs = VenueOrder("0xown", "9", "0xother", Side.BUY, Decimal("0.5"), 300 * SHARE, 100 * SHARE, "LIVE")

    async def open_orders() -> list[VenueOrder]:
        return [theirs]

    running.venue.open_orders = open_orders  # type: ignore[method-assign]  # this venue has another's order

    async def life() -> Status:
        async with running.instance() as me:
            await until("the lease", lambda: running.document(me).role is Role.ACTIVE)
            await asyncio.sleep(20)
            return read_status(running.bus).body

    status = run(life())
    assert status.balance == 1000
    assert status.usage is not None
    assert status.usage.bankroll == 900
    assert inputs_seen[-1] == 900.0
