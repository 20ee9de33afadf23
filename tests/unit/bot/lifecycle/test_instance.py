"""One instance in virtual time, when what it stands on fails: disk, fsync, lease, one slot's strategy, control."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import pytest

from bot.context import Context
from bot.market_data.binance_messages import PriceUpdate, Source
from bot.orders.manager import OrderManager
from bot.strategy.api import Decision, Inputs
from bot.strategy.guard import GuardedStrategy
from bot.strategy.snipe import Parameters, Snipe
from bot.venue.types import Level
from bus import (
    FsyncFailedError,
    LedgerFullError,
    Role,
    read_handover,
    read_instances,
    read_status,
    write_control,
    write_handover,
)
from ledger import Ledger
from ledger.checks import audit
from ledger.values import Outcome, Side
from tests.unit.bot.fake_venue import request
from tests.unit.bot.making import END_MS, MARKET, SHARE, run
from tests.unit.bot.running import ASSETS, INTERVAL_S, PRICE, Running

FULL = LedgerFullError("no room left on the disk of the bus; free some")
POLLS = "SELECT count(*) FROM polls_completed"
ENTRIES = "SELECT count(*) FROM intents WHERE side = 'BUY'"
EXITS = "SELECT count(*) FROM intents WHERE side = 'SELL'"


async def until(what: str, look: Callable[[], object], limit_s: float = 120) -> None:
    """Wait in virtual time until something is so."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + limit_s
    while not look():
        assert loop.time() < deadline, f"waited {limit_s:g} s for: {what}"
        await asyncio.sleep(0.1)


def assert_audit(running: Running) -> None:
    """Every invariant that the ledger alone can show."""
    ledger = Ledger.reader(running.bus.ledger)
    assert ledger is not None
    with ledger:
        broken = [violation for check in audit(ledger, None) for violation in check.violations]
    assert broken == []


def live(folder: Path, work: Callable[[Running, str], Awaitable[None]], **control: Any) -> Running:
    """Run one instance while `work` looks at it."""
    running = Running(folder, **control)

    async def life() -> None:
        async with running.instance() as me:
            await until("the lease", lambda: running.document(me).role is Role.ACTIVE)
            await work(running, me)

    run(life())
    assert_audit(running)
    return running


def test_an_instance_enters_resolves_and_gives_the_lease_back(tmp_path: Path) -> None:
    """The whole way: healthy, active, two confirmed entries, their outcomes, a release; no tick without a completed poll."""

    async def work(running: Running, me: str) -> None:
        await until("entries", lambda: running.count(ENTRIES) == 2)
        running.venue.describe = lambda slug: replace(MARKET, slug=slug, closed=True, winner=Outcome.UP)
        await until("outcomes", lambda: running.count("SELECT count(*) FROM outcomes") == 2, 200)
        status = read_status(running.bus).body
        assert status.totals.wins == 2
        assert status.totals.pnl == sum(outcome.pnl for outcome in status.outcomes)

    running = live(tmp_path, work)
    assert running.count("SELECT count(*) FROM releases") == 1
    assert running.count("SELECT count(*) FROM polls_missed") == 0
    assert running.failures == []


def test_an_instance_collects_its_garbage_before_it_says_that_it_is_healthy(tmp_path: Path) -> None:
    """The first collection takes longest; the lease may be passed to an instance as soon as it says that it is healthy."""
    running = Running(tmp_path)
    said: list[bool] = []

    async def life() -> None:
        async with running.instance(after_poll=lambda: said.append(all(s.document.healthy for s in known()))) as me:
            await until("a healthy poll", lambda: running.document(me).healthy)
            assert said[:1] == [False]

    def known() -> list[Any]:
        return [seen for seen in read_instances(running.bus) if seen.document is not None]

    run(life())


def test_a_starting_instance_says_that_it_is_healthy_moments_after_it_could(tmp_path: Path) -> None:
    """Its first look comes before prices and markets are there; the next ones follow in tenths of a second."""
    running = Running(tmp_path)
    began_ms = running.clock.boot_ms()

    async def life() -> None:
        async with running.instance() as me:
            ages = cast(dict[str, int | None], running.world.feed.state().age_ms)
            ages.update(dict.fromkeys(ASSETS))
            asyncio.get_running_loop().call_later(0.15, ages.update, dict.fromkeys(ASSETS, 0))
            await until("a healthy poll", lambda: running.document(me).healthy)
            assert running.clock.boot_ms() - began_ms < 500

    run(life())


def test_a_disk_without_room_for_the_ledger_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No row finds room for a minute: the lease is kept, entries stop, status says so, and every tick gets its row later."""

    async def work(running: Running, me: str) -> None:
        await until("a poll", lambda: running.count(POLLS) > 0)
        polls, honest = running.count(POLLS), Ledger.execute

        def execute(ledger: Ledger, sql: str, values: Any = ()) -> Any:
            if sql.startswith("INSERT"):
                raise FULL
            return honest(ledger, sql, values)

        with monkeypatch.context() as patched:
            patched.setattr(Ledger, "execute", execute)
            write_control(running.bus, 1, lambda found: found.changed(mode="run"), by="test", clock=running.clock)
            await asyncio.sleep(12 * INTERVAL_S)
            document = running.document(me)
            assert document.role is Role.ACTIVE
            assert "no room" in (document.why_not or "")
            status = read_status(running.bus).body
            assert "no room" in status.entries
            assert (status.control.seen, status.control.applied) == (2, 1)
        assert running.count(POLLS) == polls
        await until("polls go on", lambda: running.count(POLLS) >= polls + 2)
        assert running.document(me).healthy
        assert read_status(running.bus).body.control.applied == 2

    running = live(tmp_path, work)
    assert running.count("SELECT count(*) FROM epochs") == 1
    assert running.count("SELECT sum(ticks) FROM polls_missed WHERE code = 'disk'") >= 12


def test_a_reserve_that_cannot_be_restored_stops_entries_and_not_exits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a nearly full disk what is held is still sold, and nothing is bought."""

    def no_room(_: Ledger) -> None:
        raise FULL

    async def work(running: Running, me: str) -> None:
        running.venue.bids, running.venue.asks = (), (Level(Decimal("0.50"), 400 * SHARE),)
        await until("positions", lambda: running.count("SELECT count(*) FROM fills") == 2)
        with monkeypatch.context() as patched:
            patched.setattr(Ledger, "has_reserve", lambda _: False)
            patched.setattr(Ledger, "restore_reserve", no_room)
            await until("entries closed", lambda: "no room" in read_status(running.bus).body.entries)
            running.venue.bids = (Level(Decimal("0.99"), 400 * SHARE),)
            running.venue.asks = ()
            await until("exits", lambda: running.count(EXITS) == 2)
            assert running.document(me).healthy
        await until("entries open", lambda: read_status(running.bus).body.entries == "open")

    # With so high a volatility Up is worth 0.56: cheap at 0.50, and 0.99 is a gift for it.
    running = live(tmp_path, work, strategy={"min_volatility": 0.001, "kelly": 1, "market_weight": 0})
    assert running.count(ENTRIES) == 2


@pytest.mark.parametrize("method", ["claim", "complete", "checkpoint", "apply_control"])
def test_a_failed_fsync_stops_trading_until_a_person_looked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """Wherever it happens: the epoch ends at once, the lock is free, the mark stays, and nobody takes while it is there."""

    async def work(running: Running, me: str) -> None:
        await until("a poll", lambda: running.count(POLLS) > 0)

        def fail(ledger: Ledger, *_: Any, **__: Any) -> None:
            running.bus.fsync_failed.touch()  # as the ledger does, before anybody hears of it
            raise FsyncFailedError("the disk did not confirm a write")

        with monkeypatch.context() as patched:
            patched.setattr(Ledger, method, fail)
            if method == "apply_control":
                write_control(running.bus, 1, lambda found: found.changed(mode="run"), by="test", clock=running.clock)
            # A poll meets it at its tick, what follows control at once.
            limit_s = INTERVAL_S * (0.6 if method == "apply_control" else 2)
            await until("the lease given up", lambda: running.document(me).role is not Role.ACTIVE, limit_s)
        sent = len(running.venue.sent)
        await asyncio.sleep(60)
        document = running.document(me)
        assert document.role is Role.STANDBY
        assert "fsync" in (document.why_not or "")
        assert running.count("SELECT count(*) FROM epochs") == 1
        assert len(running.venue.sent) == sent
        running.bus.fsync_failed.unlink()
        await until("it takes again", lambda: running.count("SELECT count(*) FROM epochs") == 2)

    live(tmp_path, work)


def test_a_failed_fsync_under_an_answer_ends_the_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An order's own task meets it, not a poll: the epoch ends before the next tick."""

    async def work(running: Running, me: str) -> None:
        def fail(*_: Any) -> None:
            running.bus.fsync_failed.touch()
            raise FsyncFailedError("the disk did not confirm a write")

        async def nothing(_: OrderManager) -> None:
            """Settling, which would meet it, too."""

        with monkeypatch.context() as patched:
            patched.setattr("bot.orders.open_orders.add_order_state", fail)
            patched.setattr(OrderManager, "settle", nothing)
            await until("an order", lambda: running.venue.sent)
            await until("the lease given up", lambda: running.document(me).role is not Role.ACTIVE, 0.5)
        running.bus.fsync_failed.unlink()
        await until(
            "the orders settled", lambda: running.count("SELECT count(*) FROM orders WHERE state = 'done'") == 2
        )

    running = live(tmp_path, work)
    assert len(running.venue.placed) == 2


def test_a_replaced_lease_file_ends_the_epoch(tmp_path: Path) -> None:
    """Whoever holds a lock on a file that is gone holds nothing: it takes again, by the file that is on disk."""

    async def work(running: Running, me: str) -> None:
        running.bus.lease.unlink()
        running.bus.lease.touch()
        await until("a new epoch", lambda: running.count("SELECT count(*) FROM epochs") == 2, 4 * INTERVAL_S)
        await until("polls under it", lambda: running.count("SELECT count(*) FROM polls_completed WHERE epoch = 2") > 1)

    live(tmp_path, work)


def test_a_slot_whose_strategy_raises_is_skipped_and_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One slot's failure costs no other slot its entry and no tick its poll; the instance is not healthy with it."""
    honest = Snipe().decide

    def decide(given: Inputs, parameters: Parameters) -> Decision:
        if given.slot == "ETH-5m" and raising:
            raise ZeroDivisionError("float division by zero")
        return honest(given, parameters)

    raising = False
    monkeypatch.setattr(Snipe, "decide", lambda _self, given, parameters: decide(given, parameters))

    async def work(running: Running, me: str) -> None:
        nonlocal raising
        raising = True
        await until("an entry", lambda: running.count(ENTRIES) > 0)
        polls = running.count(POLLS)
        await until("polls go on", lambda: running.count(POLLS) > polls + 2)
        assert running.document(me).why_not == (
            "slot ETH-5m: the evaluation failed: ZeroDivisionError: float division by zero"
        )
        shown = {slot.slot: slot.reason for slot in read_status(running.bus).body.slots}
        assert "ZeroDivisionError" in shown["ETH-5m"]
        assert running.count("SELECT count(*) FROM intents WHERE slot = 'ETH-5m'") == 0
        raising = False
        await until("healthy again", lambda: running.document(me).healthy)

    live(tmp_path, work)


def test_a_wallet_with_orders_of_somebody_else_is_not_traded(tmp_path: Path) -> None:
    """A new ledger and an account that has traded: the orders are shown, and no entry is made."""
    running = Running(tmp_path)
    signed = running.venue.sign(request(Side.BUY), MARKET, 1, 1)

    async def life() -> None:
        await running.venue.send(signed.body)
        async with running.instance():
            await until("status", running.bus.status.exists)
            await until("it is said", lambda: signed.order_id in read_status(running.bus).body.entries)
            await asyncio.sleep(8 * INTERVAL_S)
            assert running.clock.wall_ms() < END_MS

    run(life())
    assert running.count(ENTRIES) == 0


def test_two_entries_of_one_poll_share_one_balance(tmp_path: Path) -> None:
    """What the first entry may spend is not there for the second: together they cost no more than there is."""

    async def work(running: Running, me: str) -> None:
        running.venue.balance = 30 * SHARE
        await until("an entry", lambda: running.count(ENTRIES) > 0)

    running = live(tmp_path, work, strategy={"kelly": 1.0})
    first = "tick = (SELECT min(tick) FROM intents)"
    assert running.count(f"SELECT count(*) FROM intents WHERE {first}") in (1, 2)
    assert 0 < running.count(f"SELECT sum(cost) FROM intents WHERE {first}") <= 30 * SHARE


def test_a_handover_in_mid_window_loses_no_signal(tmp_path: Path) -> None:
    """Blue confirms and yields; green, from the ledger's state, enters at the next tick as blue would have."""
    running = Running(tmp_path, strategy={"confirmations": 5})  # the first is the shadow poll's

    async def life() -> None:
        async with running.instance("blue") as blue:
            await until("blue trades", lambda: running.document(blue).role is Role.ACTIVE)
            async with running.instance("green") as green:
                await until("green is warm", lambda: running.document(green).healthy)
                await until("blue confirmed once", lambda: running.count(POLLS) >= 2)
                handover = read_handover(running.bus).changed(
                    wanted=green,
                    request_id="r1",
                    expires_boot_id=running.clock.boot_id,
                    expires_boot_ms=running.clock.boot_ms() + 60_000,
                )
                write_handover(running.bus, handover, writer="test", sequence=1, clock=running.clock)
                await until("green trades", lambda: running.document(green).role is Role.ACTIVE)
                await until("entries", lambda: running.count(ENTRIES) == 2)

    run(life())
    assert_audit(running)
    first = running.count("SELECT min(tick) FROM polls_completed")
    assert running.count("SELECT min(tick) FROM intents") == first + 3 * INTERVAL_S * 1000
    assert running.count("SELECT count(*) FROM polls_missed") == 0
    assert running.count("SELECT min(epoch) FROM intents") == 2


def passed_on(
    running: Running, before_stop: Callable[[Context], Awaitable[None]], *, other: bool = False
) -> tuple[int, int]:
    """Let blue trade beside a warm green and stop; how far BTC-5m's streak was at blue's last poll and at green's first."""

    async def life() -> None:
        async with AsyncExitStack() as stack:
            blue = await stack.enter_async_context(running.instance("blue"))
            world = running.world
            await until("blue trades", lambda: running.count(POLLS) >= 3)
            if other:
                running.strategy = GuardedStrategy(Snipe(), "another")
            async with running.instance("green") as green:
                await until("green is warm", lambda: running.document(green).polls >= 2)
                await before_stop(world)
                assert running.document(blue).role is Role.ACTIVE
                await stack.aclose()
                await until("green polls", lambda: running.count(f"{POLLS} WHERE epoch = 2") > 0)

    run(life())
    assert_audit(running)
    streak = "SELECT json_extract(state, '$.streaks.BTC-5m[2]') FROM polls_completed WHERE epoch"
    last = running.count(f"{streak} = 1 ORDER BY tick DESC LIMIT 1")
    return last, running.count(f"{streak} = 2 ORDER BY tick LIMIT 1")


def test_a_handover_in_mid_confirmation_passes_on_what_was_counted_between_two_polls(tmp_path: Path) -> None:
    """A price confirms after blue's last poll; green's first poll counts on from there, and not from the poll's row."""
    running = Running(tmp_path, strategy={"confirmations": 100})

    async def confirm(world: Context) -> None:
        await asyncio.sleep(0.3)  # virtual time: longer than what two confirmations must lie apart
        world.prices.take(PriceUpdate("BTC", PRICE, Source.BOOK, None, running.clock.boot_ms()))
        world.news.note("BTC")
        await asyncio.sleep(0.1)

    last, first = passed_on(running, confirm)
    assert first == last + 2


def test_a_commit_with_another_rule_begins_with_what_it_counted_itself(tmp_path: Path) -> None:
    """Blue's streak says nothing to another strategy; green counted its own in shadow, and loses none of that."""

    async def nothing(_: Context) -> None:
        """Blue ends as it is."""

    last, first = passed_on(Running(tmp_path, strategy={"confirmations": 100}), nothing, other=True)
    assert 1 < first < last + 1
