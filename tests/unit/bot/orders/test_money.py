"""Limits and the audit in money: a whole bot whose purchases bring more shares than they asked for."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from bot.venue.types import Accepted, Answer, Level
from bus import read_status
from ledger.values import Side, VenueTrade
from tests.unit.bot.fake_venue import FakeVenue, Placed
from tests.unit.bot.lifecycle.test_instance import until
from tests.unit.bot.making import MARKET, SHARE
from tests.unit.bot.odd import END_MS, enter, held, rows, trading, until_ms
from tests.unit.bot.running import Running


class Generous(FakeVenue):
    """Fills every purchase at one price, however much better than its limit, for all of its money and the fee of its shares."""

    def __init__(self, price: str, asks: str) -> None:
        super().__init__()
        self.price = Decimal(price)
        self.asks = (Level(Decimal(asks), 400 * SHARE),)

    def _arrive(self, body: str) -> Answer:
        answer = super()._arrive(body)
        order_id, request = self._signed[body]
        if request.side is Side.BUY:
            money = int(request.price * request.size)
            self.placed[order_id] = Placed(
                replace(request, price=self.price), matched=int(money / self.price), at_ms=max(1, self.now_ms())
            )
        return answer

    def trade(self, order_id: str, status: str = "CONFIRMED") -> VenueTrade:
        trade = super().trade(order_id, status)
        fee = int(trade.size * MARKET.fee_rate * trade.price * (1 - trade.price)) // 10 * 10
        return replace(trade, fee=fee)


@pytest.mark.parametrize(("limit", "price"), [("0.60", "0.57"), ("0.60", "0.20"), ("0.90", "0.89"), ("0.99", "0.01")])
def test_more_shares_for_the_same_money_pass_no_limit(tmp_path: Path, limit: str, price: str) -> None:
    """Whatever a purchase brings, its money and the fee on it stay within its worst cost, and that within the slot's limit."""
    least = Decimal(limit) * 10 * Decimal("1.0701") + Decimal("0.01")

    async def work(running: Running) -> None:
        await until("a fill", lambda: held(running))
        await until("its end", lambda: running.count("SELECT count(*) FROM orders WHERE state = 'done'"), 10)
        await until_ms(running, END_MS - 1_000)
        usage = read_status(running.bus).body.usage
        assert usage is not None
        assert usage.total <= least

    running = trading(
        tmp_path,
        Generous(price, limit),
        lambda inputs: enter(inputs, price=Decimal(limit)),
        work,
        risk={"max_slot": float(least), "max_order": float(least)},
    )
    assert held(running) > 10 * SHARE
    assert [state for (state,) in rows(running, "SELECT state FROM orders ORDER BY id")][-1] == "done"


class Terse(Generous):
    """Answers with what was paid; its trade has the order's limit as its price, and nothing of its makers."""

    def _arrive(self, body: str) -> Answer:
        super()._arrive(body)
        order_id, request = self._signed[body]
        return Accepted(order_id, "matched", self.placed[order_id].matched, int(request.price * request.size))

    def trade(self, order_id: str, status: str = "CONFIRMED") -> VenueTrade:
        return replace(super().trade(order_id, status), price=Decimal("0.60"), value=None)


def test_an_answers_amount_counts_where_a_trade_has_no_price_but_the_limit(tmp_path: Path) -> None:
    """Six pUSD brought 10.53 shares at 0.57: six were paid, and not the 6.32 that they cost at the limit. Failed before."""

    async def work(running: Running) -> None:
        await until("a fill", lambda: held(running))

    running = trading(tmp_path, Terse("0.57", "0.60"), enter, work)
    assert rows(running, "SELECT size, value FROM fills") == [(10_526_315, 6_000_000)]


def test_a_limit_below_the_worst_fee_refuses_the_entry(tmp_path: Path) -> None:
    """Room for the money and the fee at the limit price is not enough: at a better price the fee is larger."""
    at_the_limit = Decimal("6.0") + Decimal("0.07") * 10 * Decimal("0.6") * Decimal("0.4") + Decimal("0.01")

    async def work(running: Running) -> None:
        await asyncio.sleep(30)

    running = trading(tmp_path, Generous("0.57", "0.60"), enter, work, risk={"max_slot": float(at_the_limit)})
    assert running.count("SELECT count(*) FROM intents") == 0
