"""An exit is always possible: a whole bot that holds shares, and whatever could keep them from being sold."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from bot.strategy import Decision, Inputs
from bot.strategy.guard import GuardedStrategy
from bot.strategy.snipe import Snipe
from bot.venue.types import Accepted, Answer, Book, InDoubt, Level, Refused, VenueError, VenueMode, VenueOrder
from bus import ManualAction, Role, read_status, write_control
from ledger.values import Outcome, Side
from tests.unit.bot.fake_venue import FakeVenue, Fault, Placed
from tests.unit.bot.lifecycle.test_instance import EXITS, assert_audit, until
from tests.unit.bot.making import MARKET, SHARE, WINDOW, run
from tests.unit.bot.odd import END_MS, OddVenue, enter, enter_and_leave, held, rows, trading, until_ms
from tests.unit.bot.operator.test_manual_orders import current, manual, state_of, want
from tests.unit.bot.running import INTERVAL_S, Running

POLL_MS = INTERVAL_S * 1000
FALL = ("0.58", "0.50", "0.45", "0.40", "0.35", "0.30", "0.25", "0.20", "0.15", "0.10")
NO_MATCH = Refused("no orders found to match with FAK order", "no_match")


class Falling(FakeVenue):
    """Its bid falls; a sale above it meets nothing. how: what becomes of the first exit."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how, self.sales, self.killed = how, 0, ""
        self.sold: list[tuple[int, Decimal]] = []

    def _arrive(self, body: str) -> Answer:
        order_id, request = self._signed[body]
        if request.side is Side.SELL:
            if request.price > self.bids[0].price:
                return NO_MATCH
            owned = sum(p.matched if p.request.side is Side.BUY else -p.matched for p in self.placed.values())
            if order_id not in self.placed and request.size > owned:
                return Refused("not enough balance / allowance", "not_enough_balance")
            if order_id not in self.placed:
                self.sold.append((self.now_ms(), request.price))
        return super()._arrive(body)

    async def _answer(self, body: str, fault: Fault) -> Answer:
        order_id, request = self._signed[body]
        if request.side is not Side.SELL:
            return await super()._answer(body, fault)
        self.sales += 1
        if self.sales == 1 and self.how != "sold, and lost":
            self.killed = body  # it left at 0.58 and met a bid that had moved
            if self.how == "refused":
                await asyncio.sleep(0.25)
                return NO_MATCH
            if self.how in ("delayed", "live", "unmatched"):
                await asyncio.sleep(0.25)
                return Accepted(order_id, self.how)
            await asyncio.sleep(5)
            return InDoubt("no answer within 5 s", VenueMode.UNREACHABLE)
        if self.sales == 1:
            self._arrive(body)
            await asyncio.sleep(5)
            return InDoubt("no answer within 5 s", VenueMode.UNREACHABLE)
        if body == self.killed and self.how == "duplicate":
            await asyncio.sleep(0.01)
            return Accepted("", "duplicate")
        return await super()._answer(body, fault)


@pytest.mark.parametrize("how", ["refused", "lost", "duplicate", "delayed", "live", "unmatched"])
def test_a_bad_answer_to_an_exit_is_followed_by_a_fresh_one_at_todays_price(tmp_path: Path, how: str) -> None:
    """The bid falls while the first exit is in doubt: the next one is priced anew, within two polls of its being possible."""
    venue = Falling(how)

    async def work(running: Running) -> None:
        await until("an entry", lambda: held(running))
        await until_ms(running, END_MS - 60_000)

        async def fall() -> None:
            for price in FALL:
                venue.bids = (Level(Decimal(price), 400 * SHARE),)
                await asyncio.sleep(0.2 if price == FALL[0] else 6)

        task = asyncio.create_task(fall())
        await until_ms(running, END_MS - 2_000)
        task.cancel()

    running = trading(tmp_path, venue, lambda inputs: enter_and_leave(inputs, END_MS - 60_000), work)
    assert len(venue.sold) == 1
    at_ms, price = venue.sold[0]
    assert at_ms - (END_MS - 60_000) <= 2 * POLL_MS + 5_500, "the answer is waited for, then two polls"
    assert price >= Decimal("0.40")
    assert held(running) == 0
    assert venue.sales <= 6


def test_an_exit_that_was_sold_and_whose_answer_was_lost_is_not_sold_twice(tmp_path: Path) -> None:
    """The fresh one is for what is not shown as sold; what it sold at once is shown by its trade."""
    venue = Falling("sold, and lost")

    async def work(running: Running) -> None:
        await until("an entry", lambda: held(running))
        await until("the end of all", lambda: running.clock.wall_ms() > END_MS)

    running = trading(tmp_path, venue, lambda inputs: enter_and_leave(inputs, END_MS - 60_000), work)
    assert len(venue.sold) == 1
    assert held(running) == 0


@pytest.mark.parametrize("word", ["delayed", "live", "lost"])
@pytest.mark.parametrize("part", ["0.6", "0.9941", "1"])
@pytest.mark.parametrize("shown", [None, "LIVE"])
def test_an_entrys_doubt_keeps_no_exit_back(tmp_path: Path, word: str, part: str, shown: str | None) -> None:
    """What is recorded as bought can be sold, within two polls of its fill, though nobody says that the entry is over."""
    venue = OddVenue(word, part=Decimal(part), show=lambda _matched: shown)
    filled_ms: list[int] = []

    async def work(running: Running) -> None:
        await until("a fill", lambda: held(running))
        filled_ms.append(running.clock.wall_ms())
        await until("an exit", lambda: running.count(EXITS), 2 * INTERVAL_S + 1)
        await until("it is sold", lambda: held(running) < SHARE // 100, 5)

    trading(tmp_path, venue, enter_and_leave, work)


class Mute(OddVenue):
    """Of its first sale, made in part, no answer ever comes; a look-up of it fails once, or shows a word that nobody knows."""

    def __init__(self, word: str | None) -> None:
        super().__init__("lost", part=Decimal("0.4"), show=lambda _matched: word, sides=(Side.SELL,), most=1)
        self.fails_once = word is None

    async def _answer(self, body: str, fault: Fault) -> Answer:
        if self.odd.get(self._signed[body][0]) is None:
            return await super()._answer(body, fault)
        await asyncio.sleep(5)
        return InDoubt("no answer within 5 s", VenueMode.UNREACHABLE)

    async def order(self, order_id: str) -> VenueOrder | None:
        if self.fails_once and self.odd.get(order_id):
            self.fails_once = False
            raise VenueError("no answer")
        return await super().order(order_id)


@pytest.mark.parametrize("word", [None, "PARKED", "MATCHED"])
def test_an_exit_of_which_no_answer_comes_is_followed_whatever_shows_that_the_venue_has_it(
    tmp_path: Path, word: str | None
) -> None:
    """Its trade, while its look-up fails, or an unknown word: the rest is sold by a fresh exit, and the first one ends.

    Failed before: looks at it did not count, so it kept every exit of its window back until that was over.
    """

    async def work(running: Running) -> None:
        await until("a part is sold", lambda: 0 < held(running) < 10 * SHARE, 30)
        await until("the rest is", lambda: held(running) == 0, 5 + 3 * INTERVAL_S)
        await until("nothing is open", lambda: running.count("SELECT count(*) FROM open_orders") == 0, 60)
        assert running.clock.wall_ms() < END_MS

    trading(tmp_path, Mute(word), enter_and_leave, work)


def test_what_was_said_to_be_sold_is_not_sold_again_before_its_trades_show(tmp_path: Path) -> None:
    """An exit is answered as matched and its trade shows late: no second exit is placed for those shares."""
    venue = FakeVenue()

    async def work(running: Running) -> None:
        await until("an entry", lambda: held(running))
        await until("an exit", lambda: running.count(EXITS))
        venue.shows_trades = False
        await asyncio.sleep(4 * INTERVAL_S)
        assert running.count(EXITS) == 1
        venue.shows_trades = True
        await until("its fill", lambda: held(running) == 0)

    trading(tmp_path, venue, enter_and_leave, work)


class Phantom(FakeVenue):
    """Says of the first sale that it was matched, and it was not."""

    said = False

    async def _answer(self, body: str, fault: Fault) -> Answer:
        order_id, request = self._signed[body]
        if request.side is Side.BUY or self.said:
            return await super()._answer(body, fault)
        self.said = True
        await asyncio.sleep(0.05)
        return Accepted(order_id, "matched", request.size)


def test_what_was_said_to_be_sold_and_never_shows_is_offered_again(tmp_path: Path) -> None:
    """Many looks and a comparison find no trade of an exit that was answered as matched: its shares are sold in its window.

    Failed before: they were taken for sold until the window was over.
    """

    async def work(running: Running) -> None:
        await until("a second exit", lambda: running.count(EXITS) == 2, 75)
        await until("sold", lambda: held(running) == 0, 5)
        assert running.clock.wall_ms() < END_MS

    trading(tmp_path, Phantom(), enter_and_leave, work)


def leave_early(inputs: Inputs) -> Decision:
    """Buys in the next window of BTC; sells as soon as that is the current one, in whichever slot it is."""
    if inputs.held is not None and inputs.held_shares:
        if inputs.now_ms < inputs.start_ms or inputs.blocked:
            return Decision("none", f"held {inputs.blocked}")
        return Decision("exit", "out", outcome=inputs.held, price=inputs.bids_up[0].price, size=inputs.held_shares)
    if inputs.slot == "BTC-5m+1" and inputs.asks_up and not inputs.blocked and inputs.start_ms == END_MS:
        return Decision("enter", "buy", outcome=Outcome.UP, price=inputs.asks_up[0].price, size=10 * SHARE)
    return Decision("none", "nothing")


@pytest.mark.parametrize("off", ["nothing", "the base slot", "both, later", "the next slot, later"])
def test_a_position_of_the_next_window_is_managed_when_its_slots_are_off(tmp_path: Path, off: str) -> None:
    """It rolls into the base slot, which looks at it though it is switched off; nothing is entered there."""
    slots = {"BTC-5m": {"enabled": False}} if off == "the base slot" else {}

    async def work(running: Running) -> None:
        await until("an entry", lambda: held(running))
        if off.endswith("later"):
            names = ("BTC-5m", "BTC-5m+1") if off.startswith("both") else ("BTC-5m+1",)
            later = {name: {"enabled": False} for name in names}
            write_control(running.bus, 1, lambda c: c.changed(slots=later), by="test", clock=running.clock)
        await until_ms(running, END_MS + 2 * POLL_MS)
        assert running.count(EXITS) == 1
        assert held(running) == 0
        await until_ms(running, END_MS + 10 * POLL_MS)

    running = trading(tmp_path, FakeVenue(), leave_early, work, slots=slots)
    assert running.count("SELECT count(*) FROM intents WHERE side = 'BUY'") == 1


@pytest.mark.parametrize("limit", [{"stop_price": 0.3}, {"take_profit": 0.9}])
@pytest.mark.parametrize("missing", ["a fresh price", "the strike"])
def test_stop_and_profit_need_the_bid_only(tmp_path: Path, limit: dict[str, float], missing: str) -> None:
    """The lead price is old, or the strike never came: the position is sold at its limits all the same."""
    running = Running(tmp_path, strategy={"exit_edge": 1.0, **limit})

    async def life() -> None:
        async with running.instance() as me:
            await until("the lease", lambda: running.document(me).role is Role.ACTIVE)
            await until("entries", lambda: running.count("SELECT count(*) FROM fills") == 2)
            if missing == "the strike":
                running.venue.describe = lambda slug: replace(MARKET, slug=slug, strike=None)
                for entry in running.world.markets._known.values():
                    entry.market = None if entry.market is None else replace(entry.market, strike=None)
            else:
                ages = running.world.feed.state().age_ms
                assert isinstance(ages, dict)
                ages.update(BTC=60_000, ETH=60_000)
            bid = "0.20" if "stop_price" in limit else "0.95"
            running.venue.bids, running.venue.asks = (Level(Decimal(bid), 400 * SHARE),), ()
            await until("exits", lambda: running.count(EXITS) == 2, 2 * INTERVAL_S + 1)
            await until("all is sold", lambda: held(running) < SHARE // 50, 5)

    run(life())
    assert_audit(running)


@pytest.mark.parametrize(("limit", "odd"), [({"stop_price": 0.3}, "0.01"), ({"take_profit": 0.9}, "0.99")])
def test_one_odd_book_fires_no_stop_and_no_profit(tmp_path: Path, limit: dict[str, float], odd: str) -> None:
    """A single answer of 0.01 or 0.99 between sane ones sells nothing."""
    running = Running(tmp_path, strategy={"exit_edge": 1.0, **limit})

    async def life() -> None:
        async with running.instance() as me:
            await until("the lease", lambda: running.document(me).role is Role.ACTIVE)
            await until("entries", lambda: running.count("SELECT count(*) FROM fills") == 2)
            answer, odd_now = running.venue.books, list[bool]()

            async def books(token_ids: list[str]) -> dict[str, Book]:
                found = await answer(token_ids)
                if not odd_now:
                    return found
                odd_now.clear()
                bids = (Level(Decimal(odd), 400 * SHARE),)
                return {token: replace(book, bids=bids, asks=()) for token, book in found.items()}

            running.venue.books = books  # type: ignore[method-assign]
            for _ in range(3):
                odd_now.append(True)
                await until("it was told", lambda: not odd_now)
                await asyncio.sleep(2 * INTERVAL_S)

    run(life())
    assert running.count(EXITS) == 0


class Least(FakeVenue):
    """Its bid is thinner than it shows; a sale below `least` shares is refused, where there is a least."""

    def __init__(self, least: int | None) -> None:
        super().__init__()
        self.least = least
        self.bids = (Level(Decimal("0.45"), 400 * SHARE),)

    async def _answer(self, body: str, fault: Fault) -> Answer:
        order_id, request = self._signed[body]
        if request.side is not Side.SELL:
            return await super()._answer(body, fault)
        await asyncio.sleep(0.05)
        if self.least is not None and request.size < self.least:
            return Refused("400 Size (3) lower than the minimum: 5", "min_size")
        matched = min(request.size, 7 * SHARE)
        self.placed[order_id] = Placed(request, matched=matched, at_ms=max(1, self.now_ms()))
        return Accepted(order_id, "matched", matched)


class Picky(FakeVenue):
    """Refuses the first sale for its amounts."""

    refused = False

    async def _answer(self, body: str, fault: Fault) -> Answer:
        if self._signed[body][1].side is Side.SELL and not self.refused:
            self.refused = True
            await asyncio.sleep(0.05)
            return Refused("400 invalid amounts", "amounts")
        return await super()._answer(body, fault)


def test_a_whole_position_that_is_refused_for_its_amounts_is_tried_again(tmp_path: Path) -> None:
    """Only what is below the market's minimum is learned to be too small: at another price the amounts are others."""

    async def work(running: Running) -> None:
        await until("a second exit", lambda: running.count(EXITS) == 2, 40)
        await until("sold", lambda: held(running) == 0, 5)

    trading(tmp_path, Picky(), enter_and_leave, work)


def flatten(running: Running) -> ManualAction:
    """What *Flatten all* writes for the window of BTC-5m."""
    action = ManualAction(id="1800000000000-0000000b", action="exit", slot="BTC-5m", window=WINDOW, expires_ms=END_MS)
    want(running, current(running, action))
    return action


def said(running: Running, action: ManualAction) -> str:
    """What the bot says of an action."""
    found = manual(running).get(action.id)
    return found.text if found else ""


@pytest.mark.parametrize("least", [None, 5 * SHARE])
def test_a_rest_below_the_minimum_is_tried_and_said_once_where_it_is_refused(tmp_path: Path, least: int | None) -> None:
    """Ten shares meet a bid for seven: the rest of three is tried as a market order; a refusal is learned from, and told."""
    venue = Least(least)

    async def work(running: Running) -> None:
        await until("an entry", lambda: held(running))
        action = flatten(running)
        await until("its end", lambda: state_of(running, action) in ("done", "refused"), 60)
        found = manual(running)[action.id]
        if least is None:
            assert (found.state, held(running)) == ("done", 0)
            assert "sold 10" in found.text
        else:
            assert (found.state, held(running)) == ("refused", 3 * SHARE)
            assert "refuses to sell 3 shares" in found.text
            assert "lower than the minimum" in found.text
        sales = running.count(EXITS)
        await asyncio.sleep(4 * INTERVAL_S)
        assert running.count(EXITS) == sales

    trading(tmp_path, venue, enter, work)


@pytest.mark.parametrize("how", ["lost", "duplicate", "delayed"])
def test_flatten_goes_on_though_its_first_exit_is_in_doubt(tmp_path: Path, how: str) -> None:
    """Nothing is held in the end, at whatever price that was to be had."""
    venue = Falling(how)

    async def work(running: Running) -> None:
        await until("an entry", lambda: held(running))
        action = flatten(running)
        await until("an exit", lambda: running.count(EXITS))
        venue.bids = (Level(Decimal("0.40"), 400 * SHARE),)
        await until("its end", lambda: state_of(running, action) == "done", 30)
        assert held(running) == 0
        assert "sold 10" in manual(running)[action.id].text

    trading(tmp_path, venue, enter, work)


def test_flatten_says_what_is_held_still_when_its_window_is_over(tmp_path: Path) -> None:
    """Nobody bids until the end: the answer says how much is held, and that it waits for the outcome."""
    venue = FakeVenue()

    async def work(running: Running) -> None:
        await until("an entry", lambda: held(running))
        venue.bids = ()
        action = flatten(running)
        await until("it waits", lambda: "nobody bids" in said(running, action), 20)
        await until("its end", lambda: state_of(running, action) == "refused", 90)
        assert "10 are held still" in said(running, action)

    trading(tmp_path, venue, enter, work)


class Breaking:
    """Enters once, and raises wherever something is held."""

    parameters = Snipe.parameters

    def decide(self, inputs: Inputs, parameters: object) -> Decision:
        if inputs.held is not None:
            raise RuntimeError("broken")
        return enter(inputs)


def test_a_person_can_sell_what_a_broken_strategy_holds(tmp_path: Path) -> None:
    """A strategy that raises costs its own decisions; *Flatten* sells all the same."""
    running = Running(tmp_path)
    running.strategy = GuardedStrategy(Breaking(), "broken")

    async def life() -> None:
        async with running.instance() as me:
            await until("the lease", lambda: running.document(me).role is Role.ACTIVE)
            await until("an entry", lambda: held(running))
            action = flatten(running)
            await until("sold", lambda: state_of(running, action) == "done", 20)

    run(life())
    assert held(running) == 0


def test_exits_and_doubt_are_told_in_status(tmp_path: Path) -> None:
    """A slot whose exit is on its way says so; one that holds shares in doubt of its entry shows both."""
    venue = OddVenue("delayed", part=Decimal("0.6"), show=lambda _matched: "LIVE")

    async def work(running: Running) -> None:
        await until("a fill", lambda: held(running))
        await asyncio.sleep(INTERVAL_S + 0.5)
        slot = next(one for one in read_status(running.bus).body.slots if one.slot == "BTC-5m")
        assert slot.position is not None
        assert slot.orders == 1

    running = trading(tmp_path, venue, enter, work)
    assert rows(running, "SELECT state FROM orders")[0] == ("accepted",)
