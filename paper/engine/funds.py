"""What order entry lets a wallet use: less than it has, where its caches are old, its trades not mined, or it approved nothing.

- The venue keeps balances in a cache; a sale is refused with yesterday's balance until ``/balance-allowance/update`` is
  asked (py-clob-client issues 287, 290, 274).
- Shares that a trade brings are there once its transaction is mined ("not enough balance" within seconds of a buy).
- pUSD and shares are allowed to the exchange apart: who forgot the second can buy and never sell (issues 265, 109).
"""

from __future__ import annotations

from collections.abc import Iterable

from paper.engine.book import Order
from paper.engine.faults import draw
from paper.engine.journal import Journal
from paper.engine.matching import CASH, Engine, Entry
from paper.engine.record import Record
from paper.engine.signing import EXCHANGE, wallets
from paper.errors import RefusedError
from paper.settings import Settings

# Accounts: any wallet that authenticates has one, with a start balance.


class Accounts:
    """The wallets that are known.

    Args:
        start_balance: collateral of a new one in base units.
    """

    def __init__(self, engine: Engine, journal: Journal, funds: Funds, start_balance: int) -> None:
        self._engine = engine
        self._funds = funds
        self._journal = journal
        self._start_balance = start_balance
        self._known: set[str] = set()

    def restore(self, record: Record) -> None:
        """Bring all balances back."""
        for wallet, asset, amount in record.query(
            "SELECT wallet, asset, SUM(amount) FROM ledger GROUP BY wallet, asset HAVING SUM(amount) > 0"
        ):
            assert isinstance(amount, int), "the ledger holds integers"
            self._engine.restore(str(wallet), str(asset), amount)
        self._known = {str(wallet) for (wallet,) in record.query("SELECT DISTINCT wallet FROM ledger")}

    def open(self, wallet: str, now_ms: int) -> None:
        """Give a wallet that is new its start balance."""
        if wallet not in self._known:
            self._known.add(wallet)
            deposit = self._engine.deposit(wallet, self._start_balance, "start balance")
            self._journal.entries([deposit], now_ms)
            self._funds.opened(wallet)

    def wallet_of(self, address: str, signature_type: int, now_ms: int) -> str:
        """Return the wallet that an address trades with under a signature type (0 to 3); an older kind if it has one."""
        choice = wallets(address, signature_type)
        wallet = next((one for one in reversed(choice) if one in self._known), choice[0])
        self.open(wallet, now_ms)
        return wallet


_Key = tuple[str, str]  # wallet, asset


class Funds:
    """Amounts that are bound in the engine because nobody may use them yet, and what each wallet approved."""

    def __init__(self, settings: Settings, record: Record, engine: Engine) -> None:
        self._settings = settings
        self._record = record
        self._engine = engine
        self._unseen: dict[_Key, int] = {}
        self._unmined: list[tuple[int, list[tuple[str, str, int]]]] = []  # due (UTC ms), what is bound until then
        rows = record.query("SELECT wallet, kind FROM unapproved")
        self._unapproved = {(str(wallet), str(kind)) for wallet, kind in rows}

    def arrived(self, entries: Iterable[Entry], mined_ms: int) -> None:
        """Hold back what entries brought to users: until it is mined, or until the balance is asked to be read anew."""
        settings = self._settings
        mining: list[tuple[str, str, int]] = []
        for entry in entries:
            if entry.amount <= 0 or entry.reason == "reversal":
                continue
            if draw(settings.seed, "stale", f"{entry.ref}:{entry.wallet}:{entry.asset}") < settings.stale_balances:
                key = entry.wallet, entry.asset
                self._unseen[key] = self._unseen.get(key, 0) + entry.amount
                self._engine.bind(entry.wallet, entry.asset, entry.amount)
            elif settings.fresh_shares == "mined" and entry.reason == "trade" and entry.asset != CASH:
                mining.append((entry.wallet, entry.asset, entry.amount))
                self._engine.bind(entry.wallet, entry.asset, entry.amount)
        if mining:
            self._unmined.append((mined_ms, mining))

    def mine(self, now_ms: int) -> None:
        """Let go of what is mined by now."""
        due = [bound for due_ms, bound in self._unmined if due_ms <= now_ms]
        self._unmined = [entry for entry in self._unmined if entry[0] > now_ms]
        for bound in due:
            for wallet, asset, amount in bound:
                self._engine.bind(wallet, asset, -amount)

    def refresh(self, wallet: str, asset: str) -> None:
        """Read a balance anew."""
        amount = self._unseen.pop((wallet, asset), 0)
        if amount:
            self._engine.bind(wallet, asset, -amount)

    def forget(self, assets: Iterable[str]) -> None:
        """Let go of everything that is held back of these assets, before they are redeemed or taken back."""
        gone = set(assets)
        for wallet, asset in [key for key in self._unseen if key[1] in gone]:
            self.refresh(wallet, asset)
        for _, bound in self._unmined:
            for wallet, asset, amount in [one for one in bound if one[1] in gone]:
                self._engine.bind(wallet, asset, -amount)
                bound.remove((wallet, asset, amount))

    def seen(self, wallet: str, asset: str) -> int:
        """The balance that the venue shows, in base units."""
        return max(0, self._engine.balance(wallet, asset) - self._unseen.get((wallet, asset), 0))

    # --- approvals

    def opened(self, wallet: str) -> None:
        """Note what a new wallet does not approve from the start."""
        missing = {"all": (), "collateral": ("shares",), "none": ("collateral", "shares")}
        for kind in missing[self._settings.approvals]:
            self.approve(wallet, kind, approved=False)

    def approve(self, wallet: str, kind: str, *, approved: bool) -> None:
        """Let the exchange take a wallet's ``collateral`` or ``shares``, or not."""
        if approved:
            self._unapproved.discard((wallet, kind))
            self._record.add("DELETE FROM unapproved WHERE wallet = ? AND kind = ?", (wallet, kind))
        else:
            self._unapproved.add((wallet, kind))
            self._record.add("INSERT OR IGNORE INTO unapproved (wallet, kind) VALUES (?, ?)", (wallet, kind))

    def is_approved(self, wallet: str, kind: str) -> bool:
        """Whether the exchange may take a wallet's ``collateral`` or ``shares``."""
        return (wallet, kind) not in self._unapproved

    def check(self, order: Order) -> None:
        """Check that the exchange may take what an order gives.

        Raises:
            RefusedError: 400, it may not.
        """
        if not self.is_approved(order.wallet, "collateral" if order.side == "BUY" else "shares"):
            needed = order.value if order.side == "BUY" else order.size
            text = "not enough balance / allowance: the allowance is not enough -> "
            raise RefusedError(400, f"{text}spender: {EXCHANGE}, allowance: 0, order amount: {needed}")
