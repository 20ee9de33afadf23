"""What people say to a running bot: adopting what the account has, settling what the venue never resolved."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from bot.operator.requests import OperatorRequest, answer_of, folder, leave_operator_request
from bot.venue.types import Holding
from bus import Role, read_status
from ledger.values import Side
from tests.unit.bot.fake_venue import request
from tests.unit.bot.lifecycle.test_instance import ENTRIES, assert_audit, live, until
from tests.unit.bot.making import END_MS, MARKET, SHARE, run
from tests.unit.bot.running import Running


async def say(running: Running, **fields: Any) -> tuple[bool, str]:
    """Leave an ask and wait, in virtual time, for its answer."""
    ask: OperatorRequest = leave_operator_request(running.bus, running.clock, who="ann", **fields)
    await until("an answer", lambda: answer_of(running.bus, ask.id))
    await until("the file is gone", lambda: not any(folder(running.bus).iterdir()))
    found = answer_of(running.bus, ask.id)
    assert found is not None
    return found


def test_a_wallet_with_orders_of_its_own_waits_until_they_are_adopted(tmp_path: Path) -> None:
    """Shown, not traded; adopted as shown and not as something else; then traded, in later epochs too, and never asked again."""
    running = Running(tmp_path)
    signed = running.venue.sign(request(Side.BUY), MARKET, 1, 1)
    running.venue.held = [Holding("77", "0xother", "", 3 * SHARE)]

    async def life() -> None:
        await running.venue.send(signed.body)
        async with running.instance() as me:
            await until("it is said", lambda: signed.order_id in entries(running))
            done, shown = await say(running, action="strangers")
            name, _, lines = shown.partition("\n")
            assert done
            assert signed.order_id in lines
            assert "position in token 77:  3 shares" in lines
            assert await say(running, action="adopt", seen="something else") == (
                False,
                "what the account shows changed meanwhile; look again",
            )
            assert running.count(ENTRIES) == 0
            assert (await say(running, action="adopt", seen=name, note="mine"))[0]
            await until("entries", lambda: running.count(ENTRIES) == 2)
            assert running.document(me).role is Role.ACTIVE
        async with running.instance("green"):
            await until("the second epoch", lambda: read_status(running.bus).body.epoch == 2)
            await asyncio.sleep(25)
            assert "does not know" not in entries(running)
            assert await say(running, action="strangers") == (True, "")

    run(life())
    assert running.count("SELECT count(*) FROM adopted WHERE who = 'ann' AND note = 'mine'") == 2
    assert_audit(running)


def test_strangers_are_remembered_by_the_next_epoch(tmp_path: Path) -> None:
    """An unknown order of an hour ago: the next holder looks back to the last comparison that found nothing, and shows it."""
    running = Running(tmp_path)

    async def life() -> None:
        async with running.instance():
            await until("a comparison", lambda: running.count("SELECT count(*) FROM compared"))
            signed = running.venue.sign(request(Side.BUY), MARKET, 9, 9)
            await running.venue.send(signed.body)
            await until("it is said", lambda: signed.order_id in entries(running))
        running.clock.moved_ms += 3_600_000
        async with running.instance("green"):
            await until("the second epoch", lambda: read_status(running.bus).body.epoch == 2)
            await asyncio.sleep(5)
            assert "does not know" in entries(running)

    run(life())
    assert running.count("SELECT count(*) FROM compared WHERE strangers > 0") >= 1


def entries(running: Running) -> str:
    """What status says of entries."""
    return read_status(running.bus).body.entries if running.bus.status.exists() else ""


def test_a_person_ends_a_doubt_that_the_venue_never_resolves(tmp_path: Path) -> None:
    """The venue said matched and shows no trade: not before the window closed, then as said, by whom and why; PnL counts it."""

    async def work(running: Running, me: str) -> None:
        running.venue.shows_trades = False
        await until("entries", lambda: running.count(ENTRIES) == 2)
        first, second = running.venue.placed
        refused, words = await say(running, action="settle", order_id=first, note="early")
        assert not refused
        assert "has not closed" in words
        await until("doubt", lambda: running.count("SELECT count(*) FROM orders WHERE state = 'in_doubt'") == 2, 200)
        assert running.clock.wall_ms() > END_MS
        assert (await say(running, action="settle", order_id=first, note="the site shows it"))[0]
        assert (await say(running, action="settle", order_id=second, verdict="refused", note="never there"))[0]
        assert not (await say(running, action="settle", order_id=second, verdict="refused", note="again"))[0]
        assert read_status(running.bus).body.totals.in_doubt == 0

    running = live(tmp_path, work)
    assert running.count("SELECT count(*) FROM settled_by_hand WHERE who = 'ann' AND note <> ''") == 2
    assert running.count("SELECT count(*) FROM fills WHERE trade_id LIKE 'by-hand:%' AND status = 'MATCHED'") == 1
