"""Accounts: any wallet that authenticates has one, with a start balance."""

from __future__ import annotations

from paper.engine.journal import Journal
from paper.engine.matching import Engine
from paper.engine.record import Record
from paper.funds import Funds
from paper.wallets import wallets

__all__ = ["Accounts"]


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
