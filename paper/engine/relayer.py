"""The venue's relayer, as far as it runs without a chain: redemption from a wallet that is a contract (venue.md 2.2).

A wallet's owner signs a batch of contract calls with a nonce (``paper.batches``); the relayer executes it. Here two kinds
of call have an effect: ``redeemPositions`` of the collateral adapter, and what lets the exchange take pUSD and shares.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

from paper.accounts import Accounts
from paper.batches import Call, read_batch
from paper.engine.journal import Journal
from paper.engine.markets import Market, Markets
from paper.engine.matching import Engine
from paper.engine.record import Record, Value
from paper.engine.signing import EXCHANGE
from paper.errors import RefusedError
from paper.evm import keccak
from paper.funds import Funds

__all__ = ["Relayer"]

_ADAPTER = "0xAdA100Db00Ca00073811820692005400218FcE1f"
_COLLATERAL = bytes.fromhex("C011a7E12a19f7B1f670d46F03B03f3342E82DFB").rjust(32, b"\0")
_TOKEN, _SHARES = "0xC011a7E12a19f7B1f670d46F03B03f3342E82DFB", "0x4D97DCd97eC945f40cF65F87097ACe5EA0476045"
_APPROVE = keccak(b"approve(address,uint256)")[:4]
_APPROVE_ALL = keccak(b"setApprovalForAll(address,bool)")[:4]
_APPROVALS = {(_TOKEN, _APPROVE): "collateral", (_SHARES, _APPROVE_ALL): "shares"}
_REDEEM = keccak(b"redeemPositions(address,bytes32,bytes32,uint256[])")[:4]


class Relayer:
    """Takes signed batches, and says what became of them. Every batch is final at once."""

    def __init__(
        self,
        record: Record,
        engine: Engine,
        markets: Markets,
        accounts: Accounts,
        funds: Funds,
        journal: Journal,
        clock: Callable[[], int],
    ) -> None:
        self._record = record
        self._engine = engine
        self._markets = markets
        self._accounts = accounts
        self._funds = funds
        self._journal = journal
        self._clock = clock
        rows = record.query("SELECT wallet, COUNT(*) FROM transactions GROUP BY wallet")
        self._nonces = {str(wallet): count for wallet, count in rows if isinstance(count, int)}

    def nonce(self, owner: str, signature_type: int) -> int:
        """Return the nonce of the next batch of an owner's wallet of a type (1 to 3)."""
        return self._nonces.get(self._accounts.wallet_of(owner, signature_type, self._clock()), 0)

    def submit(self, payload: Any) -> dict[str, object]:
        """Execute a batch; return the relayer's answer.

        Raises:
            RefusedError: 400, the batch is malformed, of another kind, stale, out of turn, or not signed by the owner.
        """
        batch = read_batch(payload)
        expected = self._nonces.get(batch.wallet, 0)
        if batch.deadline is not None and batch.deadline * 1000 <= self._clock():
            raise RefusedError(400, "batch deadline has passed")
        if batch.nonce != expected:
            raise RefusedError(400, f"batch nonce {batch.nonce} does not match on-chain nonce {expected}")
        self._nonces[batch.wallet] = expected + 1
        state, error = "STATE_CONFIRMED", ""
        try:
            for effect in [self._effect(batch.wallet, call) for call in batch.calls]:  # all of them, or none
                effect()
        except RefusedError as refused:
            state, error = "STATE_FAILED", refused.text
        name = str(uuid.uuid4())
        tx_hash = "0x" + keccak(b"transaction:" + name.encode()).hex()
        row: dict[str, Value] = {
            "id": name,
            "wallet": batch.wallet,
            "time_ms": self._clock(),
            "state": state,
            "hash": tx_hash,
            "error": error,
        }
        self._record.insert("transactions", row)
        return {"transactionID": name, "transactionHash": tx_hash, "state": "STATE_NEW"}

    def transaction(self, name: str) -> dict[str, object] | None:
        """Return what became of a batch."""
        rows = self._record.query("SELECT state, hash, error FROM transactions WHERE id = ?", [name])
        if not rows:
            return None
        state, tx_hash, error = rows[0]
        return {"transaction_id": name, "state": state, "transaction_hash": tx_hash, "error_msg": error or None}

    def _effect(self, wallet: str, call: Call) -> Callable[[], None]:
        """What a call does.

        Raises:
            RefusedError: it would be reverted.
        """
        kind = _APPROVALS.get((call.target, call.data[:4]))
        if kind is not None:
            approved = any(call.data[36:68])
            if call.data[4:36] != bytes.fromhex(EXCHANGE[2:]).rjust(32, b"\0"):
                return lambda: None  # another contract's business
            return lambda: self._funds.approve(wallet, kind, approved=approved)
        market = self._redeemed(call)
        return lambda: self._redeem(wallet, market)

    def _redeem(self, wallet: str, market: Market) -> None:
        window, winner = market.window, int(market.winner == 1)
        paid = self._engine.redeem(wallet, window.token_ids, winner, window.condition_id)
        self._journal.entries(paid, self._clock())
        self._funds.arrived(paid, self._clock())

    def _redeemed(self, call: Call) -> Market:
        """Return the resolved market that a call redeems.

        Raises:
            RefusedError: another call, or a market that is unknown or not resolved.
        """
        data = call.data
        collateral, parent, condition = data[4:36], data[36:68], data[68:100]
        if call.target != _ADAPTER or data[:4] != _REDEEM or collateral != _COLLATERAL or any(parent):
            raise RefusedError(
                400, "execution reverted: paper executes redeemPositions of the collateral adapter alone"
            )
        market = self._markets.of_condition("0x" + condition.hex(), self._clock())
        if market is None or market.winner is None:
            raise RefusedError(400, "execution reverted: result for condition not received yet")
        return market
