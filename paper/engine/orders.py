"""Orders on their way through the exchange: checks, the taker's hold, the engine; cancels; and what is told of them."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from paper.engine.book import Book, Order, format_units
from paper.engine.faults import Faults, draw
from paper.engine.funds import Accounts, Funds
from paper.engine.journal import Journal
from paper.engine.keys import ApiKey
from paper.engine.market_maker import HOUSE
from paper.engine.markets import OUTCOMES, Market, Markets
from paper.engine.matching import Engine, Entry, Fate, Fill, Placement, fate_of, stages
from paper.engine.offers import Offer, read_order
from paper.engine.signing import order_signer, wallets
from paper.errors import RefusedError
from paper.settings import Settings
from paper.streams.venue import MarketStreams
from paper.wire.forms import delayed_answer, order_answer

__all__ = ["Orders"]

_LOG = logging.getLogger("paper")

_PATH = "/order"  # what faults of trades match against
_SHOW_AFTER_S = 0.02  # changes of books gather this long before they are sent
_FLOW = 15
_RETRY_S = "5"  # what a closed venue asks to wait
_LIVE_SHARE = 0.25  # of the early answers: they say live, the others delayed
_SHOWN_SHARE = 0.5  # of the orders held: a look-up shows them DELAYED, the others are null
_EMPTY_SHARE = 0.5  # of the early answers: their amounts are empty, those of the others zero
_MODES = {  # The documented error codes.
    "disabled": "Trading is currently disabled. Check polymarket.com for updates",
    "cancel_only": "Trading is currently cancel-only. New orders are not accepted, but cancels are allowed.",
}


@dataclass(frozen=True, slots=True)
class _Held:
    """An order in the taker's hold, and what it binds meanwhile: ``amount`` base units of ``asset``."""

    order: Order
    asset: str
    amount: int


class Orders:
    """Everything that places, fills and cancels orders, users' and the house's."""

    def __init__(
        self,
        settings: Settings,
        engine: Engine,
        markets: Markets,
        accounts: Accounts,
        funds: Funds,
        journal: Journal,
        streams: MarketStreams,
        faults: Faults,
    ) -> None:
        self._settings = settings
        self._record = journal.record
        self._engine = engine
        self._markets = markets
        self._accounts = accounts
        self._funds = funds
        self._journal = journal
        self._streams = streams
        self._faults = faults
        self._clock = journal.clock
        self._held: dict[str, _Held] = {}
        self._delayed: set[asyncio.Task[None]] = set()
        self._changed: dict[str, Book] = {}  # books whose changes are still to be sent
        # The last trades, newest first, as people read them: all of them, and those of users.
        self.flow: deque[dict[str, object]] = deque(maxlen=_FLOW)
        self.users_flow: deque[dict[str, object]] = deque(maxlen=_FLOW)
        self._failing: dict[str, tuple[int, list[Entry], list[tuple[str, str, int]]]] = {}

    @property
    def held(self) -> int:
        """How many orders are in the taker's hold now."""
        return len(self._held)

    def shows_delayed(self, order_id: str) -> Order | None:
        """Return an order that was answered early and is held still, if a look-up shows it; others are not there yet."""
        held = self._held.get(order_id)
        return held.order if held is not None and self._draw("shown", held.order) < _SHOWN_SHARE else None

    def restore(self) -> None:
        """Bring resting orders, and trades that are still to fail, back from the record."""
        for order in self._journal.live_orders():
            self._engine.rest(order)
        for trade_id, due_ms, entries in self._journal.failing():
            self._failing[trade_id] = (due_ms, entries, self._engine.freeze(entries))

    async def post(self, key: ApiKey, offer: Offer) -> dict[str, object]:
        """Take one order through its checks, the taker's hold and the engine; return the venue's answer.

        Raises:
            RefusedError: with the venue's status and text.
        """
        self._check_mode(offer)
        _check_owner(key, offer)
        market, order = self._read(key, offer)
        self._accounts.open(order.wallet, self._clock())
        self._funds.check(order)
        delay_s = market.delay_s(self._settings)
        if delay_s and not order.post_only and self._engine.crosses(order):
            held = self._hold(order)
            if self._draw("delayed", order) < self._settings.delayed_answers:
                return self._answer_early(held, market, key.key)
            try:
                await asyncio.sleep(delay_s)
            finally:
                self._let_go(held)
        return self._place(order, market, key.key)

    def _place(self, order: Order, market: Market, api_key: str) -> dict[str, object]:
        """Match an order and return the venue's answer.

        Raises:
            RefusedError: with the venue's status and text.
        """
        book = self._engine.books.get(order.condition_id)
        try:
            placement = self._engine.place(order, self._clock())
        except RefusedError as refusal:
            if "orderID" in refusal.extra and order.order_type in ("FAK", "FOK"):
                self._journal.order_killed(order, api_key, refusal.text)
            raise
        trades = self.placed(placement, market, api_key)
        if book is not None:
            self.show_soon(book)
        return order_answer(placement, trades)

    def placed(self, placement: Placement, market: Market, api_key: str) -> list[str]:
        """Record and publish what a placement did; return the ids of its trades."""
        order, now, slug = placement.order, self._clock(), market.window.slug
        for fill in placement.fills:
            self._streams.publish_trade(self._engine.books[order.condition_id], fill, now)
            self.flow.appendleft(_shown(fill, slug, now))
            if {fill.taker.wallet, fill.maker.wallet} - HOUSE:
                self.users_flow.appendleft(self.flow[0])
        trades = [self._trade(placement, fills, slug, api_key, now) for fills in self._matches(placement)]
        for fill in placement.fills:
            if fill.maker.wallet not in HOUSE:
                self._journal.order_changed(fill.maker, "LIVE" if fill.maker.remaining else "MATCHED", "UPDATE")
        if order.wallet not in HOUSE:
            self._journal.order_accepted(order, slug, api_key, resting=placement.resting)
        return trades

    def _matches(self, placement: Placement) -> list[tuple[Fill, ...]]:
        """The fills of each trade that is a user's: all of a placement in one trade, as on chain, or one in each."""
        joint = self._settings.trades == "joint"
        groups = [placement.fills] if joint and placement.fills else [(fill,) for fill in placement.fills]
        return [
            group
            for group in groups
            if {who for fill in group for who in (fill.taker.wallet, fill.maker.wallet)} - HOUSE
        ]

    def _trade(self, placement: Placement, fills: tuple[Fill, ...], slug: str, api_key: str, now: int) -> str:
        """Record a trade and what it moved; return its id."""
        match_id, refs = str(uuid.uuid4()), {fill.ref for fill in fills}
        fate = self._fate(fills[0].ref, now)
        entries = [entry for entry in placement.entries if entry.ref in refs]
        self._journal.trade(match_id, fills, slug, api_key, fate, now)
        self._journal.entries(entries, now)
        if fate == "failed":
            self._failing[match_id] = (now + self._settings.settle_ms, entries, self._engine.freeze(entries))
        else:
            mined_ms = now + next(age for age, status in stages(fate, self._settings.settle_ms) if status == "MINED")
            self._funds.arrived([entry for entry in entries if entry.wallet not in HOUSE], mined_ms)
        return match_id

    def fail_trades(self, now: int, condition_id: str | None = None) -> None:
        """Undo the trades whose failure is due; all of a market's before it is resolved."""
        for trade_id, (due_ms, entries, frozen) in [*self._failing.items()]:
            tokens = self._engine.books[condition_id].token_ids if condition_id is not None else ()
            if now >= due_ms or any(entry.asset in tokens for entry in entries):
                del self._failing[trade_id]
                for wallet, asset, amount in frozen:
                    self._engine.release(wallet, asset, amount)
                self._journal.trade_failed(trade_id, self._engine.reverse(entries), now)

    def cancel(self, key: ApiKey, ids: Iterable[str]) -> dict[str, object]:
        """Cancel orders of this key's address by id; return what was and what was not."""
        done: list[str] = []
        failed: dict[str, str] = {}
        for oid in ids:
            order = self._engine.orders.get(oid)
            if order is not None and order.owner == key.address:
                self.end(order, "CANCELED")
                done.append(oid)
            else:
                is_known = self._journal.knows(oid)
                failed[oid] = "the order is already canceled or matched" if is_known else "order can't be found"
        return {"canceled": done, "not_canceled": failed}

    def cancel_where(self, key: ApiKey, condition_id: object = None, token_id: object = None) -> dict[str, object]:
        """Cancel all orders of this key's address, or those of a market, or of a token."""
        chosen = [
            order
            for order in self._engine.orders.values()
            if order.owner == key.address
            and condition_id in (None, order.condition_id)
            and token_id in (None, order.token_id)
        ]
        return {"canceled": self.end_all(chosen, "CANCELED"), "not_canceled": {}}

    def cancel_keys(self, keys: set[str]) -> None:
        """Cancel everything that came with these API keys."""
        mine = [order for order in self._engine.orders.values() if self._journal.key_of(order.order_id) in keys]
        self.end_all(mine, "CANCELED")

    def end(self, order: Order, status: str) -> None:
        """End a resting order."""
        self._engine.cancel(order.order_id)
        if order.wallet not in HOUSE:
            self._journal.order_changed(order, status, "CANCELLATION")
        self.show_soon(self._engine.books[order.condition_id])

    def end_all(self, orders: Iterable[Order], status: str) -> list[str]:
        """End resting orders; return their ids."""
        ended = [*orders]
        for order in ended:
            self.end(order, status)
        return [order.order_id for order in ended]

    def show_soon(self, book: Book) -> None:
        """Send a book's changes a moment later, together with what follows them closely."""
        if self._streams.follows(book):
            if not self._changed:
                asyncio.get_running_loop().call_later(_SHOW_AFTER_S, self.show_changes)
            self._changed[book.condition_id] = book

    def show_changes(self) -> None:
        """Send the changes that have gathered."""
        changed, self._changed = self._changed, {}
        for book in changed.values():
            self._streams.publish_changes(book, self._clock())

    def _check_mode(self, offer: Offer) -> None:
        """Refuse what the venue's mode forbids (venue.md 4.2)."""
        now = self._clock()
        for kind, text in _MODES.items():
            if self._faults.strike((kind,), "POST", _PATH, now):  # type: ignore[arg-type]  # keys are kinds
                raise RefusedError(503, text, headers={"Retry-After": _RETRY_S})
        fault = None if offer.post_only else self._faults.strike(("post_only",), "POST", _PATH, now)
        if fault is not None:
            left_s = 1 if fault.until_ms is None else max(1, -(-(fault.until_ms - now) // 1000))
            text = "post-only mode: only post-only orders are accepted"
            raise RefusedError(
                503, text, headers={"Retry-After": str(left_s)}, code="post_only_mode", retry_after_seconds=left_s
            )

    def _read(self, key: ApiKey, offer: Offer) -> tuple[Market, Order]:
        oid, token, now = offer.order_id, str(offer.signed.token_id), self._clock()
        if oid in self._held or self._journal.knows(oid):
            raise RefusedError(400, f"order {oid} is invalid. Duplicated.")
        market = self._markets.of_token(token, now)
        if market is None:
            raise RefusedError(400, f"the orderbook {token} does not exist")
        book = self._markets.book(market)
        order = read_order(
            offer,
            owner=key.address,
            condition_id=market.window.condition_id,
            outcome=market.window.token_ids.index(token),
            tick=book.tick,
            now_ms=now,
            spends_money=self._settings.market_buys == "money",
        )
        self._engine.check(order, now)
        return market, order

    def _hold(self, order: Order) -> _Held:
        """Keep a taker's order back (venue.md 2.3): its funds are bound; it cannot be cancelled or repeated meanwhile.

        Raises:
            RefusedError: 400, there are not enough of them.
        """
        asset, amount = self._engine.hold(order, self._clock())
        self._held[order.order_id] = held = _Held(order, asset, amount)
        return held

    def _let_go(self, held: _Held) -> None:
        del self._held[held.order.order_id]
        self._engine.release(held.order.wallet, held.asset, held.amount)

    def _answer_early(self, held: _Held, market: Market, api_key: str) -> dict[str, object]:
        """Answer an order while it is held, without amounts and trades; what becomes of it is seen after the delay."""
        order = held.order
        task = asyncio.create_task(self._match_later(held, market, api_key), name="delayed order")
        self._delayed.add(task)
        task.add_done_callback(self._delayed_ended)
        status = "live" if self._draw("answer", order) < _LIVE_SHARE else "delayed"
        return delayed_answer(order.order_id, status, "" if self._draw("amounts", order) < _EMPTY_SHARE else "0")

    async def _match_later(self, held: _Held, market: Market, api_key: str) -> None:
        order, settings, slug = held.order, self._settings, market.window.slug
        await asyncio.sleep(market.delay_s(settings))
        self._let_go(held)
        drawn = self._draw("outcome", order)
        if drawn < settings.vanished_delays:
            self._journal.forget(order)
        elif drawn < settings.vanished_delays + settings.unmatched_delays:
            self._journal.order_ended(order, slug, api_key, "UNMATCHED")
        else:
            try:
                self._place(order, market, api_key)
            except RefusedError as refusal:
                _LOG.info("delayed order unmatched", extra={"facts": {"order": order.order_id, "why": refusal.text}})
                self._journal.order_ended(order, slug, api_key, "UNMATCHED")
        await self._record.durable()

    def _delayed_ended(self, task: asyncio.Task[None]) -> None:
        self._delayed.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            asyncio.get_running_loop().call_exception_handler({"message": "delayed order failed", "exception": error})

    def _draw(self, what: str, order: Order) -> float:
        return draw(self._settings.seed, what, order.order_id)

    def _fate(self, ref: str, now: int) -> Fate:
        fault = self._faults.strike(("failing_trades", "retried_trades"), "POST", _PATH, now)
        if fault is None:
            return fate_of(ref, self._settings.seed, self._settings.failed_trades, self._settings.retried_trades)
        return "failed" if fault.kind == "failing_trades" else "retried"


def _shown(fill: Fill, slug: str, now: int) -> dict[str, object]:
    users = [role for role, order in (("taker", fill.taker), ("maker", fill.maker)) if order.wallet not in HOUSE]
    return {
        "time_ms": now,
        "slug": slug,
        "outcome": OUTCOMES[fill.taker.outcome],
        "side": fill.taker.side,
        "price": format_units(fill.taker_price),
        "size": format_units(fill.size),
        "whose": "user as " + " and ".join(users) if users else "house",
    }


def _check_owner(key: ApiKey, offer: Offer) -> None:
    """Check that the API key's address signed the order, for a wallet of its own."""
    signed = offer.signed
    if offer.payload.get("owner") != key.key:
        raise RefusedError(400, "the order owner has to be the owner of the API KEY")
    if order_signer(signed) != key.address:
        raise RefusedError(400, "invalid signature")
    signer = signed.maker if signed.signature_type == 3 else key.address
    if signed.maker not in wallets(key.address, signed.signature_type) or signed.signer != signer:
        raise RefusedError(400, "the order signer address has to be the address of the API KEY")
