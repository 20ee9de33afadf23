r"""The exchange's engine: books, matching, money. Integers only, no clock, no I/O; the same calls give the same result.

A market has two tokens, and a complete set (one Up and one Down) is worth exactly ONE. So buying Down at p is offering Up
at 1 - p: each market is one book in terms of Up, and four kinds of match come out of it:

    bid \ ask     SELL Up                BUY Down
    BUY Up        Up changes hands       a set is minted
    SELL Down     a set is merged        Down changes hands

Priority is price, then time. A fill happens at the resting order's price. An order with a budget spends it: at a better
price it gets more shares (on chain: 100 at a limit of 0.90 brought 112.359545 at 0.89). Money is conserved to the base
unit: all balances, plus the collateral locked in sets, only change by deposits.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Literal

from paper.engine.book import ONE, Book, Order, fee, format_units, value_floor
from paper.engine.faults import draw
from paper.errors import RefusedError

# What becomes of a trade after its match. Pure.

Fate = Literal["confirmed", "retried", "failed"]


def fate_of(ref: str, seed: int, failed: float, retried: float) -> Fate:
    """Draw a trade's fate. One user saw 12 of 34 buys fail (py-clob-client issue 338).

    Args:
        ref: of its first fill: the ids of both orders.
        failed, retried: shares of all trades, 0 to 1 together.
    """
    drawn = draw(seed, "fate", ref)
    return "failed" if drawn < failed else "retried" if drawn < failed + retried else "confirmed"


def stages(fate: str, settle_ms: int) -> tuple[tuple[int, str], ...]:
    """Return the statuses of a trade and its age in ms at which each begins.

    Args:
        fate: one of ``Fate``.
        settle_ms: time from an ordinary trade to its confirmation.
    """
    half = settle_ms // 2
    if fate == "failed":
        return (0, "MATCHED"), (half, "RETRYING"), (settle_ms, "FAILED")
    if fate == "retried":
        return (0, "MATCHED"), (half, "RETRYING"), (settle_ms, "MINED"), (settle_ms + half, "CONFIRMED")
    return (0, "MATCHED"), (half, "MINED"), (settle_ms, "CONFIRMED")


def trade_status(fate: str, age_ms: int, settle_ms: int) -> str:
    """Return the status of a trade at an age of 0 ms or more."""
    return [status for begins, status in stages(fate, settle_ms) if begins <= max(0, age_ms)][-1]


__all__ = ["CASH", "FEES", "MIN_SIZE", "Engine", "Entry", "Fill", "Placement"]

CASH = "pUSD"
FEES = "fees"  # the wallet that collects the fees
MIN_SIZE = 5 * ONE
_DUST = 2  # base units of a budget that rounding leaves over

_NOT_FILLED = {
    "FOK": "order couldn't be fully filled. FOK orders are fully filled or killed.",
    "FAK": "no orders found to match with FAK order. FAK orders are partially filled or killed if no match is found.",
}


@dataclass(frozen=True, slots=True)
class Fill:
    """One match. ``taker_value`` and ``maker_value`` are the collateral each side pays or gets, before the fee."""

    taker: Order
    maker: Order
    size: int
    taker_price: int
    taker_value: int
    maker_value: int
    fee: int

    @property
    def ref(self) -> str:
        """Names it in the ledger: both order ids. Two orders meet only once."""
        return f"{self.taker.order_id}:{self.maker.order_id}"


@dataclass(frozen=True, slots=True)
class Entry:
    """One movement of money or shares: ``amount`` base units of ``asset`` (CASH or a token id) into ``wallet``."""

    wallet: str
    asset: str
    amount: int
    reason: str
    ref: str


@dataclass(frozen=True, slots=True)
class Placement:
    """What became of an order: its fills, the movements they caused, and whether it now rests in the book."""

    order: Order
    fills: tuple[Fill, ...]
    entries: tuple[Entry, ...]
    resting: bool


class Engine:
    """All books and all balances.

    Args:
        small_takers: let FAK and FOK orders be smaller than the market's least size, which is that of resting orders.
    """

    def __init__(self, *, small_takers: bool = True) -> None:
        self.small_takers = small_takers
        self.books: dict[str, Book] = {}
        self.orders: dict[str, Order] = {}  # resting ones
        self.balances: dict[str, dict[str, int]] = {}
        self._reserved: dict[str, dict[str, int]] = {}

    def open(self, book: Book) -> None:
        """Add a market."""
        self.books[book.condition_id] = book

    def deposit(self, wallet: str, amount: int, ref: str) -> Entry:
        """Give ``wallet`` collateral from outside."""
        return self._move(wallet, CASH, amount, "deposit", ref)

    def restore(self, wallet: str, asset: str, amount: int) -> None:
        """Set a balance, as the record has it."""
        self._move(wallet, asset, amount, "restore", "")

    def rest(self, order: Order) -> None:
        """Put an order into its book without matching it."""
        self.books[order.condition_id].add(order)
        self.orders[order.order_id] = order
        self._reserve(order, order.reserve)

    def balance(self, wallet: str, asset: str) -> int:
        """Base units of ``asset`` that ``wallet`` has, reserved ones included."""
        return self.balances.get(wallet, {}).get(asset, 0)

    def available(self, wallet: str, asset: str) -> int:
        """Base units that no resting order of ``wallet`` binds."""
        return self.balance(wallet, asset) - self._reserved.get(wallet, {}).get(asset, 0)

    def crosses(self, order: Order) -> bool:
        """Whether the order would match at once."""
        return bool(self.books[order.condition_id].opposite(order))

    def place(self, order: Order, now_ms: int) -> Placement:
        """Match an order and rest what is left of a GTC or GTD.

        Raises:
            RefusedError: with the venue's text; nothing has changed then.
        """
        book = self.check(order, now_ms)
        fills = self._match(book, order)
        self._check_result(order, fills)
        rests = order.order_type in ("GTC", "GTD") and sum(fill.size for fill in fills) < order.size
        self._check_funds(order, fills, rests)
        entries = tuple(entry for fill in fills for entry in self._apply(book, fill))
        if rests:
            self.rest(order)
        return Placement(order, tuple(fills), entries, rests)

    def meet(self, taker: Order, maker: Order) -> Placement:
        """Fill a resting order with the house's order, which came from elsewhere: no priority, no checks.

        Args:
            taker: of at most the shares that the maker still offers, on the other side of the book.
        """
        value, maker_value = _values(maker, taker.size, same=maker.outcome == taker.outcome)
        price = maker.price if maker.outcome == taker.outcome else ONE - maker.price
        fill = Fill(taker, maker, taker.size, price, value, maker_value, 0)
        return Placement(taker, (fill,), tuple(self._apply(self.books[taker.condition_id], fill)), resting=False)

    def resize(self, order_id: str, remaining: int) -> None:
        """Let a resting order offer another number of shares, above 0; its place in the queue stays."""
        order = self.orders[order_id]
        book, before = self.books[order.condition_id], order.reserve
        book.resize(order, remaining)
        self._reserve(order, order.reserve - before)

    def hold(self, order: Order, now_ms: int) -> tuple[str, int]:
        """Reserve what an order needs while it is held back (venue.md 2.3); ``release`` takes asset and amount again.

        Raises:
            RefusedError: with the venue's text; nothing is reserved then.
        """
        self.check(order, now_ms)
        asset = CASH if order.side == "BUY" else order.token_id
        needed = order.value if order.side == "BUY" else order.size
        available = self.available(order.wallet, asset)
        if needed > available:
            raise _no_funds(available, needed)
        if order.side == "BUY":
            needed = min(available, needed + _dearest_fee(order))
        self.bind(order.wallet, asset, needed)
        return asset, needed

    def release(self, wallet: str, asset: str, amount: int) -> None:
        """Give back what ``hold`` or ``freeze`` bound."""
        self.bind(wallet, asset, -amount)

    def freeze(self, entries: Iterable[Entry]) -> list[tuple[str, str, int]]:
        """Bind what a match brought, as long as it may still fail; return (wallet, asset, amount) for ``release``."""
        brought: dict[tuple[str, str], int] = {}
        for entry in entries:
            brought[entry.wallet, entry.asset] = brought.get((entry.wallet, entry.asset), 0) + entry.amount
        bound = [(wallet, asset, amount) for (wallet, asset), amount in brought.items() if amount > 0]
        for wallet, asset, amount in bound:
            self.bind(wallet, asset, amount)
        return bound

    def reverse(self, entries: Iterable[Entry]) -> list[Entry]:
        """Undo a match that failed; what it brought has been frozen since, so it is all there."""
        undone = [Entry(entry.wallet, entry.asset, -entry.amount, "reversal", entry.ref) for entry in entries]
        # What is given back first, so that no balance is below zero on the way.
        undone.sort(key=lambda entry: -entry.amount)
        return [self._move(entry.wallet, entry.asset, entry.amount, entry.reason, entry.ref) for entry in undone]

    def cancel(self, order_id: str) -> Order | None:
        """Take a resting order out of its book; None if it does not rest."""
        order = self.orders.pop(order_id, None)
        if order is not None:
            self.books[order.condition_id].remove(order)
            self._reserve(order, -order.reserve)
        return order

    def settle(self, condition_id: str, payouts: tuple[int, int], among: Collection[str] | None = None) -> list[Entry]:
        """Forget a market, and redeem the shares of everybody, or of these wallets alone.

        Every order of the market must have been cancelled.

        Args:
            payouts: what a share of Up and of Down pays, in base units; ONE together.
        """
        book = self.books.pop(condition_id)
        assert book.is_empty, "a market is settled after its orders are cancelled"
        wallets = [wallet for wallet in self.balances if among is None or wallet in among]
        return [entry for wallet in wallets for entry in self.redeem(wallet, book.token_ids, payouts, condition_id)]

    def redeem(self, wallet: str, token_ids: tuple[str, str], payouts: tuple[int, int], ref: str) -> list[Entry]:
        """Pay a wallet for its shares of a resolved market, a part of a base unit less where a half is paid."""
        entries: list[Entry] = []
        held = self.balances.setdefault(wallet, {})
        for outcome, token in enumerate(token_ids):
            shares = held.get(token, 0)
            if shares:
                entries.append(self._move(wallet, token, -shares, "redeem", ref))
                paid = value_floor(shares, payouts[outcome])
                if paid:
                    entries.append(self._move(wallet, CASH, paid, "redeem", ref))
            held.pop(token, None)
        return entries

    def check(self, order: Order, now_ms: int) -> Book:
        """Check what does not depend on the book's orders, and return the book.

        Raises:
            RefusedError: closed market, price off the tick, size too small, expired.
        """
        book = self.books.get(order.condition_id)
        name = f"order {order.order_id} is invalid"
        if book is None or now_ms >= book.closes_ms:
            raise RefusedError(400, f"{name}. The market is closed and accepts no orders")
        if order.price % book.tick or not book.tick <= order.price <= ONE - book.tick:
            price, tick = format_units(order.price), format_units(book.tick)
            raise RefusedError(400, f"{name}. Price ({price}) breaks minimum tick size rule: {tick}")
        # The least of 5 shares is for orders that may rest; 1.37 shares were sold at once (clob-client users, 2026).
        if order.size < MIN_SIZE and not (self.small_takers and order.order_type in ("FAK", "FOK")):
            size, least = format_units(order.size), format_units(MIN_SIZE)
            raise RefusedError(400, f"{name}. Size ({size}) lower than the minimum: {least}")
        if order.expires_ms is not None and order.expires_ms <= now_ms:
            raise RefusedError(400, "invalid expiration")
        return book

    def _match(self, book: Book, order: Order) -> list[Fill]:
        """Plan the fills; nothing changes yet."""
        fills: list[Fill] = []
        left, money = order.size, order.budget
        for maker in book.opposite(order):
            same = maker.outcome == order.outcome
            price = maker.price if same else ONE - maker.price
            size = min(left, maker.remaining) if money is None else min(money * ONE // price, maker.remaining)
            value, maker_value = _values(maker, size, same=same)
            while money is not None and value > money:  # by the rounding of the maker's side
                size -= 1
                value, maker_value = _values(maker, size, same=same)
            if not size:
                break
            cost = fee(size, price)
            fills.append(
                Fill(order, maker, size, price, value, maker_value, cost if order.side == "BUY" else min(cost, value))
            )
            left -= size
            money = None if money is None else money - value
            if (money is None and not left) or (money is not None and money <= _DUST):
                break
        return fills

    def _check_result(self, order: Order, fills: list[Fill]) -> None:
        done = sum(fill.size for fill in fills)
        if order.side == "BUY" and fills and order.value < ONE:
            raise RefusedError(
                400, f"invalid amount for a marketable BUY order (${format_units(order.value)}), min size: $1"
            )
        if order.post_only and fills:
            raise RefusedError(400, "invalid post-only order: order crosses book")
        if (order.order_type == "FOK" and not _is_whole(order, fills)) or (order.order_type == "FAK" and not done):
            raise RefusedError(400, _NOT_FILLED[order.order_type], orderID=order.order_id)

    def _check_funds(self, order: Order, fills: list[Fill], rests: bool) -> None:
        done = sum(fill.size for fill in fills)
        if order.side == "BUY":
            asset, needed = CASH, sum(fill.taker_value + fill.fee for fill in fills)
            needed += order.worth(order.size) - order.worth(done) if rests else 0
        else:
            asset, needed = order.token_id, order.size if rests else done
        available = self.available(order.wallet, asset)
        if needed > available:
            raise _no_funds(available, needed)

    def _apply(self, book: Book, fill: Fill) -> list[Entry]:
        taker, maker = fill.taker, fill.maker
        before = maker.reserve
        taker.filled += fill.size
        book.fill(maker, fill.size)
        self._reserve(maker, maker.reserve - before)
        if not maker.remaining:
            self.cancel(maker.order_id)
        book.last_price = maker.up_price
        book.volume += fill.taker_value
        book.last_side = taker.side if taker.outcome == 0 else ("SELL" if taker.side == "BUY" else "BUY")
        entries: list[Entry] = []
        for order, value in ((taker, fill.taker_value), (maker, fill.maker_value)):
            sign = 1 if order.side == "BUY" else -1
            entries.append(self._move(order.wallet, CASH, -sign * value, "trade", fill.ref))
            entries.append(self._move(order.wallet, order.token_id, sign * fill.size, "trade", fill.ref))
        if fill.fee:
            entries.append(self._move(taker.wallet, CASH, -fill.fee, "fee", fill.ref))
            entries.append(self._move(FEES, CASH, fill.fee, "fee", fill.ref))
        return entries

    def _move(self, wallet: str, asset: str, amount: int, reason: str, ref: str) -> Entry:
        held = self.balances.setdefault(wallet, {})
        held[asset] = held.get(asset, 0) + amount
        assert held[asset] >= 0, f"{wallet} would have {held[asset]} of {asset}: the funds check let too much through"
        return Entry(wallet, asset, amount, reason, ref)

    def _reserve(self, order: Order, amount: int) -> None:
        self.bind(order.wallet, CASH if order.side == "BUY" else order.token_id, amount)

    def bind(self, wallet: str, asset: str, amount: int) -> None:
        """Keep ``amount`` base units more from being used; less, where it is negative."""
        reserved = self._reserved.setdefault(wallet, {})
        reserved[asset] = reserved.get(asset, 0) + amount
        if not reserved[asset]:
            del reserved[asset]


def _values(maker: Order, size: int, *, same: bool) -> tuple[int, int]:
    """The collateral that taker and maker pay or get for ``size`` shares of a resting order."""
    maker_value = maker.worth(maker.filled + size) - maker.worth(maker.filled)
    return (maker_value if same else size - maker_value), maker_value


def _is_whole(order: Order, fills: list[Fill]) -> bool:
    """Whether an order is filled whole: its shares, or its money but for what rounding leaves."""
    if order.budget is None:
        return sum(fill.size for fill in fills) >= order.size
    return order.budget - sum(fill.taker_value for fill in fills) <= _DUST


def _dearest_fee(order: Order) -> int:
    """The most that an order's fee can be. A budget's shares grow as the price falls: its fee is budget * rate * (1 - p)."""
    if order.budget is None:
        return fee(order.size, min(order.price, ONE // 2))
    return fee(4 * order.budget, ONE // 2)


def _no_funds(available: int, needed: int) -> RefusedError:
    text = "not enough balance / allowance: the balance is not enough -> "
    return RefusedError(400, f"{text}balance: {available}, order amount: {needed}")
