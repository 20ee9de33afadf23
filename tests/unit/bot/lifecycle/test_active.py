"""One instance in virtual time: what is decided between two polls, on a price."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from pathlib import Path

from bot.market_data.binance_messages import PriceUpdate, Source
from bot.strategy.api import Decision, Inputs
from bot.strategy.guard import GuardedStrategy, load_strategy
from bot.strategy.snipe import Parameters, Snipe
from bot.venue.types import Refused
from bus import Role, read_status
from tests.unit.bot.lifecycle.test_instance import ENTRIES, POLLS, assert_audit, live, until
from tests.unit.bot.making import run
from tests.unit.bot.running import PRICE, Running
from tests.unit.bot.strategy.test_guard import CHEAP

REFUSED = Refused("not enough balance / allowance")
THIRD = {"confirmations": 3}
STEP_S = 0.3  # longer than what two confirmations must lie apart


def tell(running: Running, asset: str, price: float) -> None:
    """The stream brings a price."""
    running.world.prices.take(PriceUpdate(asset, price, Source.BOOK, None, running.clock.boot_ms()))
    running.world.news.note(asset)


async def first_poll(running: Running) -> None:
    """Wait for the first poll, whose look is the second confirmation: the first one was the shadow poll's."""
    await until("a poll", lambda: running.count(POLLS) > 0)
    assert running.count(ENTRIES) == 0


def test_an_entry_is_confirmed_and_placed_on_a_price(tmp_path: Path) -> None:
    """The last confirmation comes with a price: the entry leaves at once, for that asset alone, and is on record."""

    async def work(running: Running, me: str) -> None:
        await first_poll(running)
        await asyncio.sleep(STEP_S)
        tell(running, "BTC", PRICE)
        await until("an entry", lambda: running.count(ENTRIES) == 1, 1)
        assert running.count(POLLS) == 1
        assert running.count("SELECT count(*) FROM intents WHERE slot = 'BTC-5m'") == 1
        tick = running.count("SELECT max(tick) FROM polls_completed")
        assert running.count("SELECT tick FROM intents") == tick, "it belongs to the poll before it"

    live(tmp_path, work, strategy=THIRD)
    with sqlite3.connect(tmp_path / "bus" / "inputs.db") as ring:
        records = [json.loads(body) for (body,) in ring.execute("SELECT body FROM inputs")]
    between = [row for record in records if record["between_polls"] for row in record["decisions"]]
    assert [(row["inputs"]["slot"], row["action"]) for row in between] == [("BTC-5m", "enter")]


def test_a_price_before_its_time_confirms_nothing(tmp_path: Path) -> None:
    """A burst of prices right after a confirmation is no second one; a price later on is, and one order comes of it."""

    async def work(running: Running, me: str) -> None:
        await first_poll(running)
        for _ in range(20):
            tell(running, "BTC", PRICE)
            await asyncio.sleep(0.001)
        assert running.count(ENTRIES) == 0
        await asyncio.sleep(STEP_S)
        for _ in range(20):
            tell(running, "BTC", PRICE)
            await asyncio.sleep(0.02)
        assert running.count("SELECT count(*) FROM intents WHERE slot = 'BTC-5m'") == 1

    live(tmp_path, work, strategy=THIRD)


def test_a_refused_order_is_not_tried_again_at_every_price(tmp_path: Path) -> None:
    """A venue that refuses is asked once until the next poll, however many prices come."""

    async def work(running: Running, me: str) -> None:
        await first_poll(running)
        running.venue.refuse_with = REFUSED
        await asyncio.sleep(STEP_S)
        for _ in range(30):
            tell(running, "BTC", PRICE)
            await asyncio.sleep(0.1)
        assert running.count(POLLS) == 1
        assert running.count("SELECT count(*) FROM intents WHERE slot = 'BTC-5m'") == 1

    live(tmp_path, work, strategy=THIRD)


def test_nothing_is_entered_on_a_price_after_a_halt_nor_by_who_has_yielded(tmp_path: Path) -> None:
    """A halt holds between polls, too; and once the lease is given back no price is looked at any more."""
    running = Running(tmp_path, strategy=THIRD)

    async def life() -> None:
        async with running.instance() as me:
            await until("the lease", lambda: running.document(me).role is Role.ACTIVE)
            await first_poll(running)
            running.bus.halt.touch()
            await asyncio.sleep(STEP_S)
            tell(running, "BTC", PRICE)
            await asyncio.sleep(1)
            assert running.count(ENTRIES) == 0
            running.bus.halt.unlink()
        tell(running, "BTC", PRICE)
        await asyncio.sleep(1)
        assert running.count(ENTRIES) == 0

    run(life())
    assert_audit(running)


def test_a_strategy_out_of_a_file_trades(tmp_path: Path) -> None:
    """The class that BOT_STRATEGY names decides in a whole instance, with its own parameters out of control."""
    (tmp_path / "mine.py").write_text(CHEAP)
    running = Running(tmp_path, strategy={"below": 0.65, "min_edge": 0.1})
    running.strategy = load_strategy(f"{tmp_path}/mine.py:Cheap")

    async def life() -> None:
        async with running.instance():
            await until("entries", lambda: running.count(ENTRIES) >= 4)
            status = read_status(running.bus).body
            assert status.control.refused == ("strategy.min_edge: no such parameter; known are below",)

    run(life())
    assert running.count("SELECT count(*) FROM intents WHERE reason <> 'cheap' OR size <> 10000000") == 0
    assert_audit(running)


def test_a_slow_strategy_costs_its_slot_and_no_poll(tmp_path: Path) -> None:
    """A slot whose decisions take too long is left out and says so; the others are traded, and every tick is polled."""
    spent_ns = 0

    class Slow(Snipe):
        def decide(self, inputs: Inputs, parameters: Parameters) -> Decision:
            nonlocal spent_ns
            spent_ns += 10**9 * (inputs.slot == "ETH-5m")
            return super().decide(inputs, parameters)

    running = Running(tmp_path, strategy=THIRD)
    running.strategy = GuardedStrategy(Slow(), "slow", cpu_ns=lambda: spent_ns)

    async def life() -> None:
        async with running.instance() as me:
            await until("the other slot's entry", lambda: running.count(ENTRIES) == 1)
            await until("it is left out", lambda: "left out" in (running.document(me).why_not or ""))
            shown = {slot.slot: slot.reason for slot in read_status(running.bus).body.slots}
            assert "its decision took 1000 ms of processor" in shown["ETH-5m"]

    run(life())
    assert running.count("SELECT count(*) FROM polls_missed") == 0
    assert_audit(running)
