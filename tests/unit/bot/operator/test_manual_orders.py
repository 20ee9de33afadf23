"""Manual entries and exits: what is decided about one, and a whole instance that carries them out."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.operator.manual_rules import Ordered, Verdict, judge
from bot.orders.order_plan import worst_cost
from bot.slots import Slot, Window
from bot.strategy.api import Decision, invalid_reason
from bot.strategy.evaluation import Evaluation
from bot.venue.types import BASE_UNITS, Level
from bus import ManualAction, ManualStatus, clear_halt, read_control, read_status, write_control
from ledger.values import Outcome
from tests.unit.bot.lifecycle.test_instance import ENTRIES, EXITS, assert_audit, live, until
from tests.unit.bot.making import END_MS, MARKET, SHARE, WINDOW, inputs, run
from tests.unit.bot.running import Running

NOW = END_MS - 60_000
ENTER = ManualAction(
    id="1800000000000-0000000a",
    action="enter",
    slot="BTC-5m",
    outcome="Up",
    max_spend=Decimal(20),
    window=WINDOW,
    expires_ms=END_MS,
)
EXIT = ManualAction(id="1800000000000-0000000b", action="exit", slot="BTC-5m", window=WINDOW, expires_ms=END_MS)
# With such an edge the strategy itself never enters: what is placed is by hand.
STILL = {"strategy": {"min_edge": 0.99}}


def evaluation(**fields: Any) -> Evaluation:
    """The slot as it was evaluated; the strategy wants nothing."""
    slot = Slot("BTC", "5m", 0)
    found = inputs(now_ms=NOW, **fields)
    return Evaluation(slot, slot.window(NOW), MARKET, found, Decision("none", "no edge"), evaluated=True)


def verdict(action: ManualAction, ordered: Ordered | None = None, *, busy: bool = False, **fields: Any) -> Verdict:
    """What is decided about an action now."""
    return judge(action, evaluation(**fields), ordered or Ordered(), busy=busy, now_ms=NOW)


@given(
    spend=st.decimals(min_value="0.5", max_value="500", places=2),
    best=st.integers(1, 99),
    limit=st.none() | st.decimals(min_value="0.001", max_value="0.999", places=3),
)
def test_an_entry_never_costs_more_than_it_may(spend: Decimal, best: int, limit: Decimal | None) -> None:
    """Whatever is ordered costs, fee and rounding included, at most max_spend and max_price a share, and is sound."""
    action = ENTER.model_copy(update={"max_spend": spend, "max_price": limit})
    asks = (Level(Decimal(best) / 100, 400 * SHARE),)
    found = verdict(action, asks_up=asks)
    if found.decision is None:
        assert found.state == "refused"
        return
    price, size = found.decision.price, found.decision.size
    assert price is not None
    assert worst_cost(price, size, MARKET) <= spend * BASE_UNITS
    assert limit is None or price <= max(limit, MARKET.tick)
    assert invalid_reason(found.decision, inputs(now_ms=NOW, asks_up=asks)) is None


@pytest.mark.parametrize(
    ("action", "change", "state", "says"),
    [
        (ENTER, {"blocked": "halted: the file halt is on the bus"}, "refused", "halted"),
        (ENTER, {"asks_up": ()}, "refused", "nothing is offered of Up"),
        (ENTER, {"held": Outcome.DOWN, "held_shares": SHARE}, "refused", "held in this window already"),
        (ENTER.model_copy(update={"max_price": Decimal("0.59")}), {}, "refused", "above the limit of 0.59"),
        (ENTER.model_copy(update={"max_spend": Decimal(2)}), {}, "refused", "the least is about"),
        (ENTER.model_copy(update={"window": "btc-updown-5m-1"}), {}, "refused", "trades the window"),
        (ENTER.model_copy(update={"window": None}), {}, "refused", "names no window"),
        (ENTER.model_copy(update={"expires_ms": NOW}), {}, "refused", "its window is over"),
        (EXIT.model_copy(update={"expires_ms": NOW}), {}, "refused", "its window is over"),
        (EXIT, {}, "done", "nothing is held"),
        (EXIT, {"held": Outcome.UP, "held_shares": SHARE // 100 - 1}, "done", "too few to sell"),
        (EXIT, {"held": Outcome.UP, "held_shares": 9 * SHARE, "bids_up": ()}, "waiting", "nobody bids"),
    ],
)
def test_what_cannot_be_done_is_said(action: ManualAction, change: dict[str, Any], state: str, says: str) -> None:
    """Each hindrance has its words; an entry is refused for good, an exit waits where waiting may help."""
    found = verdict(action, **change)
    assert (found.state, found.decision) == (state, None)
    assert says in found.text


def test_an_order_is_made_once_and_an_exit_repeated_until_nothing_is_held() -> None:
    """An entry with an intent is never ordered again; what an exit left over is ordered again, also while entries are closed."""
    assert verdict(ENTER, Ordered(1, open=True)).state == "ordered"
    assert verdict(ENTER, Ordered(1, shares=12_500_000)) == Verdict("done", "bought 12.5")
    assert verdict(ENTER, Ordered(1, text="not enough balance")).text == "nothing bought: not enough balance"
    held: dict[str, Any] = {"held": Outcome.UP, "held_shares": 9 * SHARE, "blocked": "halted"}
    again = verdict(EXIT, Ordered(1, shares=3 * SHARE), **held).decision
    assert again is not None
    assert (again.action, again.outcome, again.size, again.price) == ("exit", Outcome.UP, 9 * SHARE, Decimal("0.58"))
    assert verdict(EXIT, busy=True, **held).decision is None
    rest = verdict(EXIT, held=Outcome.UP, held_shares=SHARE).decision
    assert rest is not None
    assert rest.size == SHARE, "what is below the minimum of resting orders is tried"
    assert verdict(EXIT, Ordered(2, shares=9 * SHARE)) == Verdict("done", "sold 9")


def want(running: Running, *actions: ManualAction) -> None:
    """Write the actions into control, as the panel does."""
    based_on = read_control(running.bus).generation
    write_control(
        running.bus,
        based_on,
        lambda found: found.changed(manual=[*found.manual, *actions]),
        by="test",
        clock=running.clock,
    )


def manual(running: Running) -> dict[str, ManualStatus]:
    """What the bot says of each action."""
    if not running.bus.status.exists():
        return {}
    return {one.id: one for one in read_status(running.bus).body.control.manual}


def state_of(running: Running, action: ManualAction) -> str:
    """How far an action has come."""
    found = manual(running).get(action.id)
    return found.state if found else ""


def current(running: Running, action: ManualAction, slot: str = "BTC-5m") -> ManualAction:
    """The action, for the slot's window of now."""
    asset = slot.partition("-")[0]
    window: Window = Slot(asset, "5m", 0).window(running.clock.wall_ms())
    return action.model_copy(update={"slot": slot, "window": window.slug, "expires_ms": window.end_ms})


def test_an_entry_and_its_exit_by_hand_each_once_over_two_instances(tmp_path: Path) -> None:
    """An entry is bought once though control keeps it; a second instance does it no second time; the exit sells all of it."""

    running = Running(tmp_path, **STILL)

    async def life() -> None:
        async with running.instance():
            want(running, current(running, ENTER))
            await until("bought", lambda: state_of(running, ENTER) == "done")
            assert manual(running)[ENTER.id].text.startswith("bought ")
        assert (
            running.count("SELECT count(*) FROM intents WHERE manual = '1800000000000-0000000a' AND code = 'manual'")
            == 1
        )
        async with running.instance("green"):
            await until("a status of epoch 2", lambda: read_status(running.bus).body.epoch == 2)
            assert state_of(running, ENTER) == "done"
            want(running, current(running, EXIT))
            await until("sold", lambda: state_of(running, EXIT) == "done")
            late = current(running, ENTER).model_copy(update={"id": "1800000000000-0000000c"})
            want(running, late)
            await until("refused", lambda: state_of(running, late) == "refused")
            assert "traded already" in manual(running)[late.id].text

    run(life())
    assert (running.count(ENTRIES), running.count(EXITS)) == (1, 1)
    held = "SELECT sum(CASE side WHEN 'BUY' THEN size ELSE -size END) FROM fills"
    assert running.count(held) < 0.01 * SHARE
    assert running.count("SELECT count(*) FROM asks_answered WHERE done = 1") == 2
    assert_audit(running)


def test_risk_and_a_halt_stop_an_entry_by_hand_and_no_exit(tmp_path: Path) -> None:
    """Beyond a limit and under a halt an entry is refused with the reason, for good; an exit is sold under the halt."""

    async def work(running: Running, me: str) -> None:
        dear = current(running, ENTER).model_copy(update={"max_spend": Decimal(51), "id": "1800000000000-0000000d"})
        want(running, dear)
        await until("refused", lambda: state_of(running, dear) == "refused")
        assert "risk:" in manual(running)[dear.id].text
        want(running, current(running, ENTER, "ETH-5m"))
        await until("bought", lambda: state_of(running, ENTER) == "done")
        running.bus.halt.touch()
        halted = current(running, ENTER).model_copy(update={"id": "1800000000000-0000000e"})
        want(running, halted, current(running, EXIT, "ETH-5m"))
        await until("sold", lambda: state_of(running, EXIT) == "done")
        assert state_of(running, halted) == "refused"
        assert "halt" in manual(running)[halted.id].text
        clear_halt(running.bus)
        await asyncio.sleep(12)
        assert state_of(running, halted) == "refused"

    running = live(tmp_path, work, **STILL)
    assert (running.count(ENTRIES), running.count(EXITS)) == (1, 1)
