"""The order path under a virtual clock: whatever is lost or delayed at any request, an intent is one order at most."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Literal

import pytest

from bot.account.portfolio import cost_ahead
from bot.orders.manager import AT_ONCE_MS, OrderManager, Rules
from bot.orders.open_orders import LedgerFailed, OrderEvent
from bot.orders.order_plan import OrderPlan
from bot.reasons import HALTED, Reason, ReasonCode
from bot.venue.pace import RequestPace
from bot.venue.types import Refused, VenueMode
from bus import FencedError, FsyncFailedError, LedgerFullError, Logging
from ledger import Ledger
from ledger.rows import add_fill, add_intent, positions
from ledger.values import Outcome, Side
from tests.unit.bot.fake_venue import FakeVenue, Fault, request
from tests.unit.bot.making import (
    END_MS,
    IDENTITY,
    INTENT,
    MARKET,
    SHARE,
    START_MS,
    WINDOW,
    ManualClock,
    make_ledger,
    run,
    take,
)

FAULTS: tuple[Fault, ...] = ("lost_before", "lost_after", "late", "refused")
Resend = Literal["exits", "entries"]


class Rig:
    """One ledger with its epoch 1, one venue, and desks. It is their world as well."""

    pace: RequestPace | None = None

    def __init__(self, folder: Path, faults: dict[int, Fault] | None = None, left_s: int = 60) -> None:
        self.clock = ManualClock(END_MS - left_s * 1000)
        self.ledger = make_ledger(folder, self.clock)
        self.second = Ledger.reader(folder / "ledger.db", IDENTITY)
        self.venue = FakeVenue(faults, self._durable)
        self.log = Logging(color="blue", git_sha="a", deploy_id="")
        self.stopped: Reason | None = None
        self.failures: list[Exception] = []
        self.epoch = 1

    def _durable(self, body: str) -> None:
        """Seen from another connection, at the moment of sending: the intent is committed and its epoch is in force."""
        assert self.second is not None
        rows = self.second.execute("SELECT epoch FROM intents WHERE body = ?", (body,))
        assert len(rows) == 1, "sent without an intent"
        assert self.second.is_newest(self.epoch)

    def desk(
        self,
        epoch: int = 1,
        resend: Resend = "exits",
        ledger: Ledger | None = None,
        stopped: Callable[[], Reason | None] | None = None,
    ) -> OrderManager:
        """A desk of an epoch."""
        self.epoch = epoch
        return OrderManager(
            self,
            ledger or self.ledger,
            epoch,
            stopped=stopped or (lambda: self.stopped),
            random_bits=random.Random(1).getrandbits,
            log=self.log.log,
            tell=self._heard,
            rules=Rules(resend),
        )

    def now_ms(self) -> int:
        return self.clock.wall_ms()

    def _heard(self, event: OrderEvent) -> None:
        if isinstance(event, LedgerFailed):
            self.failures.append(event.error)

    def states(self, order_id: str | None = None) -> list[str]:
        """What was recorded of an order, or of all, in this order."""
        rows = self.ledger.execute("SELECT order_id, state FROM orders ORDER BY id")
        return [str(state) for key, state in rows if order_id in (None, key)]

    def close(self) -> None:
        self.ledger.close()
        if self.second is not None:
            self.second.close()
        self.log.close()


@pytest.fixture
def make_rig(tmp_path: Path) -> Iterator[Callable[..., Rig]]:
    """Rigs, each in a folder of its own."""
    made: list[Rig] = []
    numbers = itertools.count()

    def make(faults: dict[int, Fault] | None = None, left_s: int = 60) -> Rig:
        folder = tmp_path / str(next(numbers))
        folder.mkdir()
        made.append(Rig(folder, faults, left_s))
        return made[-1]

    yield make
    for rig in made:
        rig.close()


def plan(side: Side = Side.BUY, **fields: object) -> OrderPlan:
    """Ten shares of Up at a half."""
    made = OrderPlan(
        START_MS, 1, "BTC-5m", WINDOW, END_MS, MARKET, Outcome.UP, side, Decimal("0.50"), 10 * SHARE, "test"
    )
    return replace(made, **fields)  # type: ignore[arg-type]  # the fields' names are the caller's


async def until_settled(rig: Rig, desk: OrderManager, limit_s: int = 200) -> None:
    """Settle as the bot does, every 2 s, until nothing is open and the network is empty."""
    for _ in range(limit_s // 2):
        await asyncio.sleep(2)
        await desk.settle()
        if not desk.open:
            break
    assert not desk.open, f"still open: {desk.open}"
    await rig.venue.settled()


@pytest.mark.parametrize("resend", ["exits", "entries"])
@pytest.mark.parametrize("side", list(Side))
def test_one_order_an_intent_whatever_fails_at_any_request(
    make_rig: Callable[..., Rig], side: Side, resend: Resend
) -> None:
    """One or two faults at any two of the first requests of an order's life: never a second order, and books that agree."""
    requests = range(6)
    cases: list[dict[int, Fault]] = [{at: fault} for at in requests for fault in FAULTS]
    cases += [{0: one, at: other} for at in requests[1:] for one, other in itertools.product(FAULTS, FAULTS)]
    for faults in cases:
        rig = make_rig(faults)

        async def life(rig: Rig = rig) -> None:
            desk = rig.desk(resend=resend)
            assert desk.place(plan(side)) is None
            assert desk.place(plan(side)) is not None, "the slot is taken"
            await until_settled(rig, desk)
            assert not rig.failures

        run(life())
        bodies = set(rig.venue.sent)
        assert len(bodies) == 1, f"{faults}: other bytes were sent again"
        assert len(rig.venue.placed) <= 1
        if side is Side.BUY and resend == "exits":
            assert len(rig.venue.sent) == 1, f"{faults}: an entry was sent again"
        ledger_shares = rig.ledger.integer("SELECT coalesce(sum(size), 0) FROM fills")
        assert ledger_shares == sum(order.matched for order in rig.venue.placed.values()), faults
        assert rig.states()[-1] in ("done", "refused")
        rig.close()


def test_an_exit_in_doubt_is_sent_again_at_once_with_the_same_bytes(make_rig: Callable[..., Rig]) -> None:
    """The answer to an exit is lost: the identical bytes follow at once, and the duplicate proves that they had arrived."""
    rig = make_rig({0: "lost_after"})

    async def life() -> None:
        desk = rig.desk()
        desk.place(plan(Side.SELL))
        await until_settled(rig, desk)

    run(life())
    assert len(rig.venue.sent) == 2
    assert len(set(rig.venue.sent)) == 1
    assert [order.arrivals for order in rig.venue.placed.values()] == [2]
    assert rig.states() == ["in_doubt", "accepted", "done"]


def test_an_entry_in_doubt_waits_for_its_windows_end(make_rig: Callable[..., Rig]) -> None:
    """An entry that never arrived blocks its slot until the window has closed, and is not sent again."""
    rig = make_rig({0: "lost_before"})

    async def life() -> None:
        desk = rig.desk()
        desk.place(plan(Side.BUY))
        await asyncio.sleep(30)
        await desk.settle()
        assert desk.is_busy("BTC-5m", "another window")
        assert desk.is_busy("BTC-5m+1", WINDOW)
        assert not desk.is_busy("ETH-5m", "another window")
        assert desk.place(plan(Side.BUY, slot="BTC-5m")) is not None
        await until_settled(rig, desk)
        assert rig.clock.wall_ms() > END_MS

    run(life())
    assert len(rig.venue.sent) == 1
    assert rig.states() == ["in_doubt", "done"]


def test_a_takers_resend_that_is_refused_settles_nothing(make_rig: Callable[..., Rig]) -> None:
    """An intent of a dead holder may have arrived: the venue's refusing of the second sending does not make it refused."""
    rig = make_rig()
    exiting = replace(INTENT, side=Side.SELL, cost=0)
    rig.venue.adopt(exiting.body, exiting.order_id, request(Side.SELL))
    add_intent(rig.ledger, exiting, START_MS, 0)
    epoch = take(rig.ledger, rig.clock, "two")
    rig.venue.refuse_with = Refused("400 not enough balance", "not_enough_balance")

    async def life() -> None:
        desk = rig.desk(epoch)
        await desk.settle()
        await asyncio.sleep(5)
        assert "refused" not in rig.states()
        assert desk.is_busy("BTC-5m", WINDOW)
        rig.venue.refuse_with = None
        await until_settled(rig, desk)

    run(life())
    assert set(rig.venue.sent) == {exiting.body}
    assert rig.states() == ["accepted", "done"]


def test_a_first_refusal_frees_the_slot(make_rig: Callable[..., Rig]) -> None:
    """What was refused at its first sending does not exist: the slot is free and the venue's mode is believed for a while."""
    rig = make_rig({0: "refused"})

    async def life() -> None:
        desk = rig.desk()
        desk.place(plan())
        await asyncio.sleep(0.1)
        assert rig.states() == ["refused"]
        modes = [desk.mode]
        await asyncio.sleep(1)
        modes.append(desk.mode)
        assert modes == [VenueMode.DISABLED, VenueMode.NORMAL], "else no order would ever find out that it is over"
        assert desk.place(plan()) is None
        await until_settled(rig, desk)

    run(life())
    assert len(rig.venue.placed) == 1


def test_nothing_is_sent_once_a_newer_epoch_exists(make_rig: Callable[..., Rig]) -> None:
    """A taker's epoch between intent and sending: no byte leaves, and whoever owns the desk is told."""
    rig = make_rig()
    rig.venue.warm = False

    async def life() -> None:
        desk = rig.desk()
        desk.place(plan())
        take(rig.ledger, rig.clock, "two")
        await asyncio.sleep(1)
        with pytest.raises(FencedError):
            desk.place(plan(slot="ETH-5m", window="eth-updown-5m-1800000000"))

    run(life())
    assert rig.venue.sent == []
    assert [type(error) for error in rig.failures] == [FencedError]


def test_an_order_leaves_in_the_turn_in_which_it_is_placed(make_rig: Callable[..., Rig]) -> None:
    """Over a warm connection nothing is waited for between the durable intent and the bytes; a cold one is made by the task."""
    for warm in (True, False):
        rig = make_rig()
        rig.venue.warm = warm

        async def life(rig: Rig = rig) -> None:
            desk = rig.desk()
            assert desk.place(plan()) is None
            assert len(rig.venue.sent) == rig.venue.warm
            await until_settled(rig, desk)
            assert len(rig.venue.sent) == 1

        run(life())
        assert rig.states()[-1] == "done"


@pytest.mark.parametrize("stood_ms", [AT_ONCE_MS, AT_ONCE_MS + 1])
def test_a_process_that_stood_still_looks_anew_before_it_sends(make_rig: Callable[..., Rig], stood_ms: int) -> None:
    """Stopped between the durable intent and the sending while a taker began its epoch: after a while no byte leaves."""
    rig = make_rig()
    looks = 0

    def stand_still() -> Reason | None:
        nonlocal looks
        looks += 1
        if looks == 1:
            rig.clock.moved_ms += stood_ms
            if stood_ms > AT_ONCE_MS:
                take(rig.ledger, rig.clock, "two")
        return None

    async def life() -> None:
        desk = rig.desk(stopped=stand_still)
        desk.place(plan())
        await asyncio.sleep(1)

    run(life())
    assert len(rig.venue.sent) == (stood_ms <= AT_ONCE_MS)
    assert [type(error) for error in rig.failures] == [FencedError] * (stood_ms > AT_ONCE_MS)


@pytest.mark.parametrize("warm", [True, False])
@pytest.mark.parametrize(("side", "sent"), [(Side.BUY, 0), (Side.SELL, 1)])
def test_a_halt_between_intent_and_sending_stops_entries_only(
    make_rig: Callable[..., Rig], side: Side, sent: int, warm: bool
) -> None:
    """The last look before bytes leave: an entry is abandoned, an exit goes."""
    rig = make_rig()
    rig.venue.warm = warm

    async def life() -> None:
        desk = rig.desk()
        rig.stopped = HALTED if warm else None
        desk.place(plan(side))
        rig.stopped = HALTED
        await asyncio.sleep(1)
        await until_settled(rig, desk)

    run(life())
    assert len(rig.venue.sent) == sent
    assert rig.states()[-1] == ("done" if sent else "abandoned")


def test_a_halt_stops_the_resending_of_entries(make_rig: Callable[..., Rig]) -> None:
    """With BOT_RESEND=entries an entry in doubt is not sent again after a halt or pause was seen."""
    rig = make_rig({0: "lost_before"})

    async def life() -> None:
        desk = rig.desk(resend="entries")
        desk.place(plan())
        await asyncio.sleep(1)
        rig.stopped = Reason(ReasonCode.PAUSED, "control says pause")
        await until_settled(rig, desk)

    run(life())
    assert len(rig.venue.sent) == 1


def test_a_handover_sends_what_the_last_poll_placed(make_rig: Callable[..., Rig]) -> None:
    """Closing lets the orders of the poll just made leave and waits for their answers: no handover costs a signal."""
    rig = make_rig()

    async def life() -> None:
        desk = rig.desk()
        desk.place(plan())
        await desk.close(1)

    run(life())
    assert len(rig.venue.sent) == 1
    assert rig.states() == ["accepted"]


def test_what_was_not_sent_when_the_desk_closes_is_abandoned(make_rig: Callable[..., Rig]) -> None:
    """An intent made while the lease is being passed on is never sent, and says so."""
    rig = make_rig()
    rig.venue.warm = False

    async def life() -> None:
        desk = rig.desk()
        closing = asyncio.create_task(desk.close(1))
        await asyncio.sleep(0)
        desk.place(plan())
        await closing

    run(life())
    assert rig.venue.sent == []
    assert rig.states() == ["abandoned"]


def test_closing_never_waits_longer_than_its_limit(make_rig: Callable[..., Rig]) -> None:
    """A request without an answer is cut; its intent stays open for the taker, who finds it and settles it."""
    rig = make_rig({0: "lost_after"})

    async def life() -> None:
        desk = rig.desk()
        desk.place(plan(Side.SELL))
        await asyncio.sleep(0.5)
        before = asyncio.get_running_loop().time()
        await desk.close(1)
        assert asyncio.get_running_loop().time() - before <= 1.001
        assert rig.states() == []
        taker = rig.desk(take(rig.ledger, rig.clock, "two"))
        assert [found.state for found in taker.open.values()] == [None]
        await until_settled(rig, taker)

    run(life())
    assert len(rig.venue.placed) == 1
    assert rig.ledger.integer("SELECT count(*) FROM fills") == 1


def test_closing_does_not_wait_for_looks(make_rig: Callable[..., Rig]) -> None:
    """A task that only waits for trades to show is cut at once: a handover is not delayed by it."""
    rig = make_rig()
    rig.venue.shows_trades = False

    async def life() -> None:
        desk = rig.desk()
        desk.place(plan())
        await asyncio.sleep(1)
        before = asyncio.get_running_loop().time()
        await desk.close(1)
        assert asyncio.get_running_loop().time() == before

    run(life())


def test_what_the_venue_matched_survives_the_process(make_rig: Callable[..., Rig]) -> None:
    """The venue answered with ten matched and shows no trade yet: a taker does not take the order for empty."""
    rig = make_rig(left_s=3)
    rig.venue.shows_trades = False

    async def life() -> None:
        desk = rig.desk()
        desk.place(plan())
        await asyncio.sleep(1)
        await desk.close(1)
        taker = rig.desk(take(rig.ledger, rig.clock, "two"))
        for _ in range(10):
            await asyncio.sleep(2)
            await taker.settle()
        assert rig.clock.wall_ms() > END_MS + 10_000
        assert [str(found.state) for found in taker.in_doubt] == ["in_doubt"], "the difference is listed"
        rig.venue.shows_trades = True
        await until_settled(rig, taker)

    run(life())
    assert rig.states() == ["accepted", "in_doubt", "done"]
    assert rig.ledger.integer("SELECT sum(size) FROM fills") == 10 * SHARE


def test_a_fill_that_is_found_elsewhere_is_not_at_stake_twice(make_rig: Callable[..., Rig]) -> None:
    """The account's trades told of it before the order's own look did: it counts as a position, and as open no more."""
    rig = make_rig({0: "lost_after"})

    async def life() -> None:
        desk = rig.desk()
        desk.place(plan())
        await asyncio.sleep(0)
        (found,) = desk.open.values()
        assert cost_ahead(found) == found.intent.cost
        assert add_fill(rig.ledger, 1, found.intent, rig.venue.trade(found.intent.order_id))
        desk.note_fill(found.intent.order_id)
        (found,) = desk.open.values()
        assert cost_ahead(found) + found.spent == found.intent.cost
        assert found.spent == rig.ledger.integer("SELECT sum(value + fee) FROM fills")
        desk.note_fill("of nobody")
        await until_settled(rig, desk)

    run(life())
    assert [position.shares for position in positions(rig.ledger, START_MS)] == [10 * SHARE]


def test_one_order_that_cannot_be_looked_up_delays_no_other(make_rig: Callable[..., Rig]) -> None:
    """Settling goes on to the next order when the venue cannot tell of one."""
    rig = make_rig()
    rig.venue.shows_trades = False

    async def life() -> None:
        desk = rig.desk()
        desk.place(plan())
        desk.place(plan(slot="ETH-5m", window="eth-updown-5m-1800000000"))
        await asyncio.sleep(20)
        first, second = desk.open
        rig.venue.shows_trades, rig.venue.silent_about = True, first
        del rig.venue.placed[first]  # its trade would say enough
        await desk.settle()
        assert list(desk.open) == [first]
        assert rig.states(second) == ["accepted", "done"]

    run(life())


@pytest.mark.parametrize(("error", "fatal"), [(FsyncFailedError("fsync"), True), (LedgerFullError("full"), False)])
def test_a_ledger_that_fails_under_an_answer_is_told_unless_it_is_only_full(
    make_rig: Callable[..., Rig], monkeypatch: pytest.MonkeyPatch, error: Exception, fatal: bool
) -> None:
    """The answer cannot be recorded: the order stays open; a failed fsync ends the epoch, a full disk does not."""
    rig = make_rig()

    def fail(*_: object) -> None:
        raise error

    async def life() -> None:
        desk = rig.desk()
        desk.place(plan(Side.SELL))
        with monkeypatch.context() as patched:
            patched.setattr("bot.orders.open_orders.add_order_state", fail)
            await asyncio.sleep(1)
        assert list(desk.open)
        assert rig.failures == ([error] if fatal else [])
        if not fatal:
            await until_settled(rig, desk)

    run(life())
    assert len(set(rig.venue.sent)) == 1


def test_a_failed_trade_is_reversed_and_settles_its_order(make_rig: Callable[..., Rig]) -> None:
    """The only trade of an order failed before it was first seen: the order is done and nothing is held."""
    rig = make_rig()

    async def life() -> None:
        desk = rig.desk()
        desk.place(plan())
        honest = rig.venue.trade
        rig.venue.trade = lambda order_id, status="": honest(order_id, "FAILED")  # type: ignore[method-assign]  # as above
        await until_settled(rig, desk)

    run(life())
    assert rig.states() == ["accepted", "done"]
    assert [position.shares for position in positions(rig.ledger, START_MS)] == []


def test_what_refusals_say_of_the_account_or_the_rate_closes_entries(make_rig: Callable[..., Rig]) -> None:
    """A wrong wallet and a spent rate limit are told apart from the venue's mode, and an order that is taken ends the first."""
    rig = make_rig()

    async def life() -> None:
        desk = rig.desk()
        rig.venue.refuse_with = Refused(
            "400 maker address not allowed", trouble=Reason(ReasonCode.ACCOUNT, "use the deposit wallet")
        )
        desk.place(plan())
        await asyncio.sleep(0.1)
        assert (desk.closed, desk.mode) == ("use the deposit wallet", VenueMode.NORMAL)
        rig.venue.refuse_with = Refused("429 too many", "rate_limited")
        desk.place(plan(Side.SELL, slot="ETH-5m", window="eth-updown-5m-1800000000"))
        await asyncio.sleep(0.01)
        desk.place(plan(Side.SELL, slot="SOL-5m", window="sol-updown-5m-1800000000"))
        await asyncio.sleep(6)
        assert desk.closed is None
        rig.venue.refuse_with = Refused("429 too many", "rate_limited")
        desk.place(plan(Side.SELL, slot="XRP-5m", window="xrp-updown-5m-1800000000"))
        await asyncio.sleep(0.02)
        assert "budget" in (desk.closed or "")
        assert "budget" in (desk.place(plan(Side.SELL, slot="BNB-5m", window="bnb-updown-5m-1800000000")) or "")

    run(life())


def test_an_exit_waits_while_a_mode_is_believed_and_tries_again_with_pauses(make_rig: Callable[..., Rig]) -> None:
    """A restarting venue is not asked at every poll: the pauses between tries of an exit grow to the longest."""
    rig = make_rig(left_s=200)
    rig.venue.refuse_with = Refused("425 restarting", "restarting", VenueMode.RESTARTING)

    async def life() -> None:
        desk = rig.desk()
        for _ in range(600):
            desk.place(plan(Side.SELL))
            await asyncio.sleep(0.1)

    run(life())
    assert 6 <= len(rig.venue.sent) <= 8, "after 0, 1, 3, 7, 15, 30, 45 s"
    assert len(rig.venue.sent) == len(set(rig.venue.sent)), "each was refused, so each is an intent of its own"


def test_the_user_channel_hastens_a_look(make_rig: Callable[..., Rig]) -> None:
    """An order whose trades show late is looked at when the channel speaks of it, and not only when its pause is over."""
    rig = make_rig()
    rig.venue.shows_trades = False

    async def life() -> None:
        desk = rig.desk()
        desk.place(plan())
        await asyncio.sleep(1.9)  # in the midst of the last pause
        rig.venue.shows_trades = True
        desk.told(desk.open)
        await asyncio.sleep(0.1)
        assert rig.states() == ["accepted", "done"]

    run(life())
