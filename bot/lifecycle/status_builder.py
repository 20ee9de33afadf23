"""Builds the status document: the view of the active instance for people and the panel."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from decimal import Decimal

from bot.account.entry_risk import EntryRisk
from bot.account.portfolio import Portfolio
from bot.context import Context
from bot.operator.control import InForce
from bot.orders.manager import OrderManager
from bot.orders.risk import Usage
from bot.reasons import Reason
from bot.strategy.api import about_parameters
from bot.strategy.evaluation import Evaluation
from bot.venue.types import BASE_UNITS, Book
from bus import (
    ControlStatus,
    ManualStatus,
    OutcomeStatus,
    PositionStatus,
    SlotStatus,
    Status,
    StrategyStatus,
    Totals,
    UsageStatus,
)
from ledger.rows import Position
from ledger.schema import OrderState
from ledger.values import Outcome


def pusd(units: int) -> Decimal:
    """Base units as pUSD, to the cent's hundredth."""
    return (Decimal(units) / BASE_UNITS).quantize(Decimal("0.0001"))


def build_status(
    world: Context,
    *,
    epoch: int,
    instance: str,
    since_ms: int,
    tick: int | None,
    entries: Reason | None,
    control: InForce,
    evaluations: Iterable[Evaluation],
    books: Mapping[str, Book],
    desk: OrderManager,
    manual: tuple[ManualStatus, ...],
    risk: EntryRisk,
    holdings: Portfolio,
) -> Status:
    """The whole status as it is now. entries: why entries are closed, or None."""
    positions, totals = holdings.positions, holdings.totals
    limits = None if control.control is None else control.control.risk
    held = [_position(position, holdings.lot(position).cost, books) for position in positions if position.shares > 0]
    by_window = {position.window: position for position in held}
    doubtful = [order for order in desk.in_doubt if order.state is OrderState.IN_DOUBT or order.state is None]
    in_doubt = Counter(order.intent.slot for order in doubtful)
    orders = Counter(order.intent.slot for order in desk.open.values())
    account = world.account.account
    return Status(
        epoch=epoch,
        instance=instance,
        sha=world.settings.sha,
        color=world.settings.color,
        since_ms=since_ms,
        tick=tick,
        interval_ms=world.settings.interval_ms,
        entries=entries or "open",
        entries_code="open" if entries is None else entries.code,
        venue=world.settings.venue,
        venue_mode=desk.mode,
        wallet=world.identity.wallet,
        balance=None if account is None else pusd(account.balance),
        clock_offset_ms=world.account.clock_offset_ms,
        control=ControlStatus(
            seen=control.seen,
            applied=control.control.generation if control.control else None,
            problem=control.problem,
            refused=control.refused,
            manual=manual,
        ),
        strategy=StrategyStatus(
            name=world.strategy.name,
            parameters=asdict(control.parameters),
            about=about_parameters(world.strategy.parameters),
        ),
        usage=_usage(risk.usage(limits), risk.cooling_until_ms(limits), risk.bankroll),
        slots=tuple(
            _slot(
                e,
                books,
                by_window.get(e.window.slug),
                enabled=control.slot(e.slot.id).enabled,
                in_doubt=in_doubt[e.slot.id],
                orders=orders[e.slot.id],
                pnl=holdings.pnl_by_slot.get(e.slot.id, 0),
            )
            for e in evaluations
        ),
        feeds=world.feed_status(),
        positions=tuple(held),
        outcomes=tuple(
            OutcomeStatus(window=window, slot=slot, winner=winner, pnl=pusd(pnl), fees=pusd(fees), resolved_ms=at)
            for window, slot, winner, pnl, fees, at in holdings.outcomes
        ),
        totals=Totals(
            polls_completed=totals.polls_completed,
            polls_missed=totals.polls_missed,
            orders=totals.orders,
            fills=totals.fills,
            in_doubt=len(doubtful),
            exposure=pusd(sum(max(0, p.cost + p.fees) for p in positions if p.shares > 0)),
            pnl=pusd(totals.pnl),
            pnl_today=pusd(holdings.pnl_today()),
            fees=pusd(totals.fees),
            wins=totals.wins,
            losses=totals.losses,
            failed_trades=holdings.failed_trades,
        ),
    )


def _usage(usage: Mapping[str, Usage], cooling_until_ms: int | None, bankroll: int | None) -> UsageStatus:
    newest = next(iter(usage.values()), None)
    if newest is None:
        return UsageStatus()
    return UsageStatus(
        slots={slot: pusd(own.slot) for slot, own in usage.items() if own.slot},
        assets={slot.split("-")[0]: pusd(own.asset) for slot, own in usage.items() if own.asset},
        total=pusd(newest.total),
        loss_today=pusd(newest.loss_today + newest.open_loss),
        orders_last_minute=newest.orders_last_minute,
        loss_last_hour=pusd(newest.loss_last_hour + newest.open_loss),
        losses_in_a_row=newest.losses_in_a_row,
        cooling_until_ms=cooling_until_ms,
        directions={str(outcome): pusd(net) for outcome, net in newest.directions.items() if net},
        failed_trades_last_hour=newest.failed_last_hour,
        bankroll=None if bankroll is None else pusd(bankroll),
    )


def _position(position: Position, spent: int, books: Mapping[str, Book]) -> PositionStatus:
    """spent: what the shares that are left cost with their fees, in base units; what others were sold for is not in it."""
    book = books.get(position.token_id)
    bid = book.bids[0].price if book and book.bids else None
    cost = pusd(spent)
    value = None if bid is None else (bid * position.shares / BASE_UNITS).quantize(Decimal("0.0001"))
    return PositionStatus(
        window=position.window,
        outcome=position.outcome,
        shares=pusd(position.shares),
        cost=cost,
        value=value,
        average=(cost / pusd(position.shares)).quantize(Decimal("0.0001")) if position.shares > 0 else None,
        pnl=None if value is None else value - cost,
    )


def _slot(
    e: Evaluation,
    books: Mapping[str, Book],
    position: PositionStatus | None,
    *,
    enabled: bool,
    in_doubt: int,
    orders: int,
    pnl: int,
) -> SlotStatus:
    def best_ask(outcome: Outcome) -> Decimal | None:
        book = books.get(e.market.token(outcome)) if e.market else None
        return book.asks[0].price if book and book.asks else None

    def best_bid(outcome: Outcome) -> Decimal | None:
        book = books.get(e.market.token(outcome)) if e.market else None
        return book.bids[0].price if book and book.bids else None

    return SlotStatus(
        slot=e.slot.id,
        asset=e.slot.asset,
        timeframe=e.slot.timeframe,
        enabled=enabled,
        window=e.window.slug,
        start_ms=e.window.start_ms,
        end_ms=e.window.end_ms,
        in_snipe=e.decision.in_snipe,
        strike=e.inputs.strike if e.inputs else None,
        lead_price=e.inputs.lead_price if e.inputs else None,
        probability_up=e.decision.probability_up,
        edge=e.decision.edge,
        best_ask_up=best_ask(Outcome.UP),
        best_ask_down=best_ask(Outcome.DOWN),
        best_bid_up=best_bid(Outcome.UP),
        best_bid_down=best_bid(Outcome.DOWN),
        settlement_price=e.inputs.average_price if e.inputs else None,
        decision=e.decision.action,
        reason=e.decision.reason,
        code=e.decision.code,
        position=position,
        in_doubt=in_doubt,
        orders=orders,
        pnl=pusd(pnl),
    )
