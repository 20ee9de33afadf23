"""Results of random histories: what is counted at once adds up to what is counted in the end, whoever counts and from when."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from bot.orders.risk import Usage, cooling_until_ms, directions, refuse_entry
from bot.reasons import ReasonCode
from bot.venue.types import BASE_UNITS
from bus import RiskLimits, SlotControl
from ledger import Ledger
from ledger.results import DAY_MS, HOUR_MS, Closed, Fill, Results, losses_in_a_row, sales_of
from ledger.rows import add_fill, add_intent, add_order_state, add_outcome
from ledger.schema import OrderState
from ledger.values import VOID, Outcome, Side, VenueTrade
from tests.unit.bot.making import INTENT, START_MS, ManualClock, make_ledger

History = tuple[list[tuple[int, int]], list[tuple[int, int, bool]], int, str | None, int]
MIDNIGHT_MS = (START_MS // DAY_MS + 1) * DAY_MS
money = st.integers(1, 50 * BASE_UNITS)
sizes = st.integers(1, 60 * BASE_UNITS)
# Of one window: its buys, its sales (share of what is left, price in thousandths), minutes to midnight, how it resolves.
window_histories = st.tuples(
    st.lists(st.tuples(sizes, st.integers(10, 990)), min_size=1, max_size=2),
    st.lists(st.tuples(st.integers(1, 100), st.integers(1, 999), st.booleans()), max_size=3),
    st.integers(-90, 90),
    st.sampled_from([None, "Up", "Down", VOID]),
    st.integers(0, 45),
)


@given(
    st.lists(st.tuples(sizes, money, st.integers(0, 10**6)), min_size=1, max_size=3),
    st.lists(st.tuples(st.integers(1, 100), money, st.integers(0, 10**6)), max_size=4),
)
def test_parts_of_a_window_add_up_to_its_result(
    buys: list[tuple[int, int, int]], sales: list[tuple[int, int, int]]
) -> None:
    """Sold in whatever parts, the sales' results and what is left at cost are what was paid and got, to the base unit."""
    fills = [Fill("w", "Up", Side.BUY, size, value, fee, 0) for size, value, fee in buys]
    left = sum(size for size, _, _ in buys)
    for number, (percent, value, fee) in enumerate(sales):
        size = -(-left * percent // 100)
        if not size:
            break
        fills.append(Fill("w", "Up", Side.SELL, size, value, fee, 1 + number))
        left -= size
    found = sales_of(reversed(fills))
    lot = found.lots["w", "Up"]
    net = sum((-fill.value if fill.side == Side.BUY else fill.value) - fill.fee for fill in fills)
    assert sum(part.pnl for part in found.parts) - lot.cost == net
    assert lot.shares == left
    assert lot.cost >= 0
    assert left or lot.cost == 0


def _write(ledger: Ledger, histories: list[History], after_each: Callable[[int], None]) -> None:
    """Write these windows in the order of their events; calls after_each with the time of each."""
    events: list[tuple[int, Callable[[int], None]]] = []

    def order(
        name: str, window: str, side: Side, size: int, price: int, seq: int, *, fails: bool
    ) -> Callable[[int], None]:
        def write(at_ms: int) -> None:
            intent = replace(
                INTENT,
                order_id=name,
                window=window,
                slot=window,
                side=side,
                size=size,
                seq=seq,
                window_end_ms=at_ms + HOUR_MS,
            )
            add_intent(ledger, intent, at_ms, 0)
            trade = VenueTrade(
                f"t{name}",
                name,
                "1",
                "0xc",
                side,
                Decimal(price) / 1000,
                size,
                price % 7,
                "FAILED" if fails else "MATCHED",
                1,
            )
            add_fill(ledger, 1, intent, trade, at_ms)
            add_order_state(ledger, 1, name, OrderState.DONE, "", at_ms, 0)

        return write

    for number, (buys, sales, minutes, winner, later) in enumerate(histories):
        window, at_ms = f"w{number}", MIDNIGHT_MS + minutes * 60_000
        left = sum(size for size, _ in buys)
        for count, (size, price) in enumerate(buys):
            events.append((at_ms, order(f"b{number}.{count}", window, Side.BUY, size, price, count + 1, fails=False)))
        for count, (percent, price, fails) in enumerate(sales):
            size = left * percent // 100
            if size:
                at_ms += 120_000
                name = f"s{number}.{count}"
                events.append((at_ms, order(name, window, Side.SELL, size, price, count + 1, fails=fails)))
                left -= 0 if fails else size
        if winner is not None:
            end_ms = at_ms + later * 60_000

            def resolve(now_ms: int, window: str = window, winner: str = winner) -> None:
                add_outcome(ledger, 1, window, window, winner, now_ms)

            events.append((end_ms, resolve))
    for at_ms, write in sorted(events, key=lambda event: event[0]):
        write(at_ms)
        after_each(at_ms)


@settings(deadline=None, max_examples=40)
@given(st.lists(window_histories, min_size=1, max_size=5))
def test_results_are_the_same_whoever_counts_and_no_loss_is_counted_twice(histories: list[History]) -> None:
    """A holder that followed every event, and one that takes over after any of them, count the same; two days add up to all."""
    with TemporaryDirectory() as folder, make_ledger(Path(folder), ManualClock()) as ledger:
        holder = Results(ledger)
        before_midnight = 0

        def follow(at_ms: int) -> None:
            nonlocal before_midnight
            holder.resolved(at_ms)
            taker = Results(ledger)
            taker.resolved(at_ms)
            for results in (holder, taker):
                if at_ms < MIDNIGHT_MS:
                    before_midnight = results.since_midnight(at_ms)
            assert taker.since_midnight(at_ms) == holder.since_midnight(at_ms)
            assert taker.last_hour(at_ms) == holder.last_hour(at_ms)
            assert (taker.losses_in_a_row, taker.failed) == (holder.losses_in_a_row, holder.failed)

        _write(ledger, histories, follow)
        late = MIDNIGHT_MS + DAY_MS - 1
        holder.resolved(late)
        resolved = ledger.integer("SELECT coalesce(sum(pnl), 0) FROM results")
        unresolved = sum(part.pnl for part in holder._open.parts)
        assert before_midnight + holder.since_midnight(late) == resolved + unresolved
        assert holder.failed == ledger.integer("SELECT count(*) FROM fills WHERE status = 'FAILED'")


@given(st.lists(st.tuples(st.integers(0, 100), st.integers(-3, 3)), max_size=12), st.integers(1, 5), st.integers(1, 60))
def test_losses_in_a_row_close_entries_until_they_cooled_down(
    windows: list[tuple[int, int]], most: int, minutes: int
) -> None:
    """With so many losses up to the newest window nothing is entered for so long after it, and then again."""
    closed = [Closed(f"w{number:02}", at * 60_000, pnl) for number, (at, pnl) in enumerate(windows)]
    losses, last_ms = losses_in_a_row(closed)
    newest_first = sorted(closed, key=lambda one: (one.at_ms, one.window), reverse=True)
    assert all(one.pnl < 0 for one in newest_first[:losses])
    assert losses == len(closed) or newest_first[losses].pnl >= 0
    limits = RiskLimits(losses_in_a_row=most, cool_down_minutes=minutes)
    usage = Usage(0, 0, 0, 0, 0, 10**12, losses_in_a_row=losses, last_loss_ms=last_ms)
    until_ms = cooling_until_ms(usage, limits)
    assert (until_ms is not None) == (losses >= most)
    if until_ms is not None:
        refusal = refuse_entry(1, usage, limits, SlotControl(), now_ms=until_ms - 1)
        assert refusal is not None
        assert refusal.code is ReasonCode.LOSSES_IN_A_ROW
        assert refuse_entry(1, usage, limits, SlotControl(), now_ms=until_ms) is None


@given(
    st.lists(
        st.tuples(st.sampled_from(Outcome), st.integers(1, 40 * BASE_UNITS), st.sampled_from(["open", "held", "gone"]))
    ),
    st.integers(1, 100),
)
def test_no_direction_is_ever_above_its_limit(steps: list[tuple[Outcome, int, str]], limit: int) -> None:
    """Whichever of the entries are filled: what is held of one outcome less what is held of the other stays within the limit."""
    limits = RiskLimits(
        max_direction=Decimal(limit),
        max_order=Decimal(1000),
        max_slot=Decimal(10**6),
        max_asset=Decimal(10**6),
        max_total=Decimal(10**6),
    )
    held: list[tuple[Outcome, int]] = []
    pending: list[tuple[Outcome, int]] = []
    for outcome, cost, fate in steps:
        net = directions(held + pending, held)
        usage = Usage(0, 0, 0, 0, 0, 10**12, directions=net)
        if refuse_entry(cost, usage, limits, SlotControl(), outcome=outcome) is not None:
            continue
        if fate != "gone":
            (held if fate == "held" else pending).append((outcome, cost))
        for one in Outcome:
            worst = sum(c for o, c in held + pending if o is one) - sum(c for o, c in held if o is not one)
            assert worst <= limit * BASE_UNITS


def test_a_sale_above_its_cost_makes_no_room_before_midnight_twice(tmp_path: Path) -> None:
    """A gain of yesterday's sale does not make room for today's losses when its window is resolved after midnight."""
    with make_ledger(tmp_path, ManualClock()) as ledger:
        history: History = ([(10 * BASE_UNITS, 400)], [(100, 900, False)], -10, "Down", 30)
        _write(ledger, [history], lambda _at: None)
        results = Results(ledger)
        results.resolved(MIDNIGHT_MS + HOUR_MS)
        assert ledger.integer("SELECT pnl FROM results") > 4 * BASE_UNITS
        assert results.since_midnight(MIDNIGHT_MS + HOUR_MS) == 0
