"""An order ends by proof only: a whole bot against answers that prove nothing."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from bot.strategy.api import Decision, Inputs
from bot.venue.decoding import Code, Origin
from bot.venue.types import BASE_UNITS, UserEvent, VenueOrder
from bus import read_status
from ledger.values import Outcome
from tests.unit.bot.lifecycle.test_instance import until
from tests.unit.bot.making import MARKET
from tests.unit.bot.odd import END_MS, ENTRY_PRICE, OddVenue, enter, held, rows, trading, until_ms
from tests.unit.bot.running import Running

ENTRIES = "SELECT count(*) FROM intents WHERE side = 'BUY'"
STATES = "SELECT state, text FROM orders ORDER BY id"
SEVEN = {"max_slot": 7, "max_order": 7}  # an entry of ten shares at 0.60 costs at most 6.42


@pytest.mark.parametrize("word", ["delayed", "live", "unmatched"])
@pytest.mark.parametrize("after_s", [0.06, 0.25, 0.7, 3.0])
@pytest.mark.parametrize("shown", ["LIVE", "DELAYED", None])
def test_an_answer_without_amounts_leaves_the_order_open_until_its_fill_shows(
    tmp_path: Path, word: str, after_s: float, shown: str | None
) -> None:
    """The fill comes after the market's delay, whatever a look-up says until then: one entry, and its limit holds."""
    venue = OddVenue(word, after_s=after_s, show=lambda matched: None if matched else shown)

    async def work(running: Running) -> None:
        await until("an entry", lambda: running.count(ENTRIES) == 1)
        await asyncio.sleep(after_s + 6)
        assert held(running) == 10_000_000

    running = trading(tmp_path, venue, enter, work, risk=SEVEN)
    assert running.count(ENTRIES) == 1
    assert rows(running, STATES)[-1] == ("done", "filled whole")


@pytest.mark.parametrize(
    "shown", ["UNMATCHED", "CANCELLED", "CANCELED", "ORDER_STATUS_INVALID", "CANCELED_order couldn't be"]
)
def test_an_order_that_is_shown_over_is_over_at_once(tmp_path: Path, shown: str) -> None:
    """Delayed matching failed: the slot is free for the next entry, within seconds and not after the window."""
    venue = OddVenue(after_s=None, show=lambda _matched: shown, most=1)

    async def work(running: Running) -> None:
        await until("a second entry", lambda: running.count(ENTRIES) == 2, 12)

    trading(tmp_path, venue, enter, work, risk={"max_slot": 20})


def test_a_word_that_nobody_knows_is_looked_at_again_and_ends_with_a_loud_line(tmp_path: Path) -> None:
    """Neither open nor over for ever: the order ends after more looks than others, still inside its window."""
    venue = OddVenue(after_s=None, show=lambda _matched: "PARKED_BY_OPERATOR", most=1)

    async def work(running: Running) -> None:
        await until("an entry", lambda: running.count(ENTRIES) == 1)
        await asyncio.sleep(20)
        assert running.count("SELECT count(*) FROM orders WHERE state = 'done'") == 0
        reasons = {slot.slot: slot.reason for slot in read_status(running.bus).body.slots}
        assert "the venue shows it as 'PARKED_BY_OPERATOR', which is not known" in reasons["BTC-5m"]
        assert running.world.skips.counts == {(Origin.CLOB, Code.UNFORESEEN): 1}
        await until("its end", lambda: running.count("SELECT count(*) FROM orders WHERE state = 'done'"), 40)

    running = trading(tmp_path, venue, enter, work, risk=SEVEN)
    ended = [str(text) for state, text in rows(running, STATES) if state == "done"]
    assert ended[0].startswith("nothing more came:")
    assert "PARKED_BY_OPERATOR" in ended[0]


def test_an_order_of_which_nothing_ever_shows_ends_and_its_money_stays_reserved(tmp_path: Path) -> None:
    """Delay, looks and a comparison passed with nothing: it is over; should it fill after all, no limit is passed."""
    venue = OddVenue(after_s=None, most=1)

    async def work(running: Running) -> None:
        await until("an entry", lambda: running.count(ENTRIES) == 1)
        begun = running.clock.wall_ms()
        await until("its end", lambda: running.count("SELECT count(*) FROM orders WHERE state = 'done'"), 30)
        assert running.clock.wall_ms() - begun > 5_000
        await until_ms(running, END_MS - 2_000)
        reasons = {slot.slot: slot.reason for slot in read_status(running.bus).body.slots}
        assert reasons["BTC-5m"].startswith("risk: ")
        assert running.count(ENTRIES) == 1
        usage = read_status(running.bus).body.usage
        assert usage is not None
        assert 6 < usage.total < 7

    running = trading(tmp_path, venue, enter, work, risk=SEVEN)
    assert running.count(ENTRIES) == 1


@pytest.mark.parametrize("part", ["0", "0.6"])
def test_what_is_reserved_for_an_entry_that_ended_leaves_the_rest_of_the_balance(tmp_path: Path, part: str) -> None:
    """A wallet of 14 pUSD whose entry of at most 6.42 came to nothing, or to 3.6: another slot enters with what is left."""
    venue = OddVenue(after_s=None if part == "0" else 0.25, part=Decimal(part), most=1)
    venue.balance = 14 * 1_000_000

    def decide(inputs: Inputs) -> Decision:
        if inputs.slot == "BTC-5m" and inputs.now_ms < END_MS - 70_000:
            return enter(inputs)
        if inputs.slot == "ETH-5m" and inputs.now_ms > END_MS - 50_000 and not inputs.held and not inputs.blocked:
            return Decision("enter", "buy", outcome=Outcome.UP, price=ENTRY_PRICE, size=10_000_000)
        return Decision("none", inputs.blocked or "nothing")

    async def work(running: Running) -> None:
        await until("its end", lambda: running.count("SELECT count(*) FROM orders WHERE state = 'done'"), 30)
        await until("another entry", lambda: running.count(ENTRIES) == 2, 60)

    trading(tmp_path, venue, decide, work)


@pytest.mark.parametrize("speaks", [True, False])
def test_a_fill_of_an_order_that_was_called_over_is_heard(tmp_path: Path, speaks: bool) -> None:
    """However late it comes: at once where the user channel speaks of it, else by the next comparison; no limit is passed."""
    venue = OddVenue(after_s=30, most=1)

    async def work(running: Running) -> None:
        await until("its end", lambda: running.count("SELECT count(*) FROM orders WHERE state = 'done'"), 30)
        await until("the venue to match it", lambda: venue.placed, 60)
        if speaks:
            (order_id,) = venue.placed
            venue.tell(UserEvent((order_id, "0xof-others"), MARKET.condition_id, f"t-{order_id[:8]}", "MATCHED"))
        await until("its fill", lambda: held(running), 3 if speaks else 25)
        usage = read_status(running.bus).body.usage
        assert usage is not None
        assert usage.total <= 7

    running = trading(tmp_path, venue, enter, work, risk=SEVEN)
    assert running.count(ENTRIES) == 1


@pytest.mark.parametrize("word", ["delayed", "live", "lost"])
@pytest.mark.parametrize("part", ["0.6", "0.9999"])
def test_an_entry_that_was_filled_in_part_ends_inside_its_window(tmp_path: Path, word: str, part: str) -> None:
    """What is left of it was killed: no word says so, and the looks after its fill find nothing more."""
    venue = OddVenue(word, part=Decimal(part))

    async def work(running: Running) -> None:
        await until("a fill", lambda: held(running))
        await until("its end", lambda: running.count("SELECT count(*) FROM orders WHERE state = 'done'"), 30)
        assert running.clock.wall_ms() < END_MS

    trading(tmp_path, venue, enter, work)


class FixedMath(OddVenue):
    """Shows orders in base units, as the venue's OpenAPI document has them, and not in decimals, as they were recorded."""

    async def order(self, order_id: str) -> VenueOrder | None:
        shown = await super().order(order_id)
        return shown and replace(shown, size=shown.size * BASE_UNITS, matched=shown.matched * BASE_UNITS)


def test_an_order_that_is_shown_in_base_units_is_read_as_one(tmp_path: Path) -> None:
    """Six of ten shares are six, and no six million that never show. Failed before: its slot waited for them."""
    venue = FixedMath(part=Decimal("0.6"), show=lambda matched: "MATCHED" if matched else "LIVE")

    async def work(running: Running) -> None:
        await until("a fill", lambda: held(running))
        await until("its end", lambda: running.count("SELECT count(*) FROM open_orders") == 0, 15)
        assert running.count("SELECT max(matched) FROM orders") == held(running) == 6 * BASE_UNITS

    trading(tmp_path, venue, enter, work)
