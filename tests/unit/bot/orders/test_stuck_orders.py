"""What may block a slot for ever, and does not: a FAK that is shown as open, and shares in a window that no slot looks at."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bus import ManualAction, Role, read_status, write_control
from tests.unit.bot import running as rig
from tests.unit.bot.lifecycle.test_instance import assert_audit, until
from tests.unit.bot.making import END_MS, WINDOW, run
from tests.unit.bot.odd import OddVenue, enter, held, rows, trading
from tests.unit.bot.running import Running


@pytest.mark.parametrize("status", ["LIVE", "DELAYED", "ORDER_STATUS_LIVE"])
def test_a_fak_that_is_shown_as_open_for_ever_ends_while_its_window_runs(tmp_path: Path, status: str) -> None:
    """After the delay, many looks and a comparison it is called over, loudly; its money stays reserved until its window closes.

    Failed before: its slot was blocked until a person settled it.
    """
    venue = OddVenue(after_s=None, show=lambda _matched: status, most=1)

    async def work(running: Running) -> None:
        await until("an entry", lambda: running.count("SELECT count(*) FROM intents") == 1)
        await until("it is over", lambda: running.count("SELECT count(*) FROM open_orders") == 0, limit_s=70)
        assert running.clock.wall_ms() < END_MS
        usage = read_status(running.bus).body.usage
        assert usage is not None
        assert usage.total > 6, "it may be filled still"

    running = trading(tmp_path, venue, enter, work)
    ((text,),) = rows(running, "SELECT text FROM orders WHERE state = 'done' ORDER BY id LIMIT 1")
    assert str(text).startswith("nothing more came:")


def test_what_is_held_where_no_slot_looks_is_sold_when_a_person_flattens_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A release with fewer slots takes over in mid-window: the shares are shown, looked at and sold as any.

    Failed before: the wish waited with "no slot of this instance trades the window" until the window was over.
    """
    running = Running(tmp_path, strategy={"confirmations": 1})

    async def life() -> None:
        async with running.instance() as me:
            await until("the lease", lambda: running.document(me).role is Role.ACTIVE)
            await until("entries", lambda: running.count("SELECT count(*) FROM fills") >= 2)
        monkeypatch.setattr(rig, "ASSETS", ("ETH",))
        async with running.instance("green") as me:
            await until("the lease", lambda: running.document(me).role is Role.ACTIVE)
            await until("a poll", lambda: any(slot.window == WINDOW for slot in read_status(running.bus).body.slots))
            assert running.document(me).healthy, "what is held beside its slots makes no poll unhealthy"
            shown = [slot.window for slot in read_status(running.bus).body.slots if slot.position is not None]
            actions = tuple(
                ManualAction(id=str(n), action="exit", slot="all", window=window, expires_ms=END_MS)
                for n, window in enumerate(shown)
                if window is not None
            )
            write_control(
                running.bus,
                1,
                lambda control: control.changed(manual=actions),
                by="test",
                clock=running.clock,
            )
            await until("all is sold", lambda: held(running) == 0, limit_s=40)
            await asyncio.sleep(1)

    run(life())
    assert_audit(running)
