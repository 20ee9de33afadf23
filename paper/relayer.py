"""The venue's relayer, as far as it runs without a chain: redemption from a deposit wallet (venue.md 2.2).

A deposit wallet's owner signs a batch of contract calls (EIP-712 ``Batch``, domain of the wallet, with a nonce and a
deadline); the relayer executes it. Here one kind of call has an effect: ``redeemPositions`` of the collateral adapter.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from paper.accounts import Accounts
from paper.engine import Engine
from paper.errors import RefusedError
from paper.evm import is_address, keccak, words
from paper.journal import Journal
from paper.markets import Market, Markets
from paper.record import Record, Value
from paper.signing import CHAIN_ID, digest_signer
from paper.wallets import deposit_wallets

__all__ = ["Relayer"]

_ADAPTER = "0xadA100db00ca00073811820692005400218FcE1f".lower()
_COLLATERAL = bytes.fromhex("C011a7E12a19f7B1f670d46F03B03f3342E82DFB").rjust(32, b"\0")
_REDEEM = keccak(b"redeemPositions(address,bytes32,bytes32,uint256[])")[:4]
_DOMAIN_TYPE = keccak(b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)")
_WALLET_DOMAIN = keccak(b"DepositWallet"), keccak(b"1")
_CALL = b"Call(address target,uint256 value,bytes data)"
_BATCH_TYPE = keccak(b"Batch(address wallet,uint256 nonce,uint256 deadline,Call[] calls)" + _CALL)
_CALL_TYPE = keccak(_CALL)
_MAX_CALLS = 20


@dataclass(frozen=True, slots=True)
class _Batch:
    wallet: str
    nonce: int
    deadline: int
    calls: tuple[tuple[str, int, bytes], ...]  # target, value, data

    @property
    def digest(self) -> bytes:
        """What the owner signs."""
        domain = keccak(words(_DOMAIN_TYPE, *_WALLET_DOMAIN, CHAIN_ID, self.wallet))
        hashes = (keccak(words(_CALL_TYPE, target, value, keccak(data))) for target, value, data in self.calls)
        struct = words(_BATCH_TYPE, self.wallet, self.nonce, self.deadline, keccak(b"".join(hashes)))
        return keccak(b"\x19\x01" + domain + keccak(struct))


class Relayer:
    """Takes signed batches, and says what became of them. Every batch is final at once."""

    def __init__(
        self,
        record: Record,
        engine: Engine,
        markets: Markets,
        accounts: Accounts,
        journal: Journal,
        clock: Callable[[], int],
    ) -> None:
        self._record = record
        self._engine = engine
        self._markets = markets
        self._accounts = accounts
        self._journal = journal
        self._clock = clock
        rows = record.query("SELECT wallet, COUNT(*) FROM transactions GROUP BY wallet")
        self._nonces = {str(wallet): count for wallet, count in rows if isinstance(count, int)}

    def nonce(self, owner: str) -> int:
        """Return the nonce of the next batch of an owner's deposit wallet."""
        return self._nonces.get(self._accounts.wallet_of(owner, 3, self._clock()), 0)

    def submit(self, payload: Any) -> dict[str, object]:
        """Execute a batch; return the relayer's answer.

        Raises:
            RefusedError: 400, the batch is malformed, of another kind, stale, out of turn, or not signed by the owner.
        """
        batch, owner, signature = _read(payload)
        expected = self._nonces.get(batch.wallet, 0)
        if batch.wallet not in deposit_wallets(owner) or digest_signer(batch.digest, signature) != owner:
            raise RefusedError(400, "invalid signature")
        if batch.deadline * 1000 <= self._clock():
            raise RefusedError(400, "batch deadline has passed")
        if batch.nonce != expected:
            raise RefusedError(400, f"batch nonce {batch.nonce} does not match on-chain nonce {expected}")
        self._nonces[batch.wallet] = expected + 1
        state, error = "STATE_CONFIRMED", ""
        try:
            for market in [self._redeemed(target, data) for target, _, data in batch.calls]:  # all of them, or none
                window, winner = market.window, int(market.winner == 1)
                paid = self._engine.redeem(batch.wallet, window.token_ids, winner, window.condition_id)
                self._journal.entries(paid, self._clock())
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

    def _redeemed(self, target: str, data: bytes) -> Market:
        """Return the resolved market that a call redeems.

        Raises:
            RefusedError: another call, or a market that is unknown or not resolved.
        """
        collateral, parent, condition = data[4:36], data[36:68], data[68:100]
        if target.lower() != _ADAPTER or data[:4] != _REDEEM or collateral != _COLLATERAL or any(parent):
            raise RefusedError(
                400, "execution reverted: paper executes redeemPositions of the collateral adapter alone"
            )
        market = self._markets.of_condition("0x" + condition.hex(), self._clock())
        if market is None or market.winner is None:
            raise RefusedError(400, "execution reverted: result for condition not received yet")
        return market


def _read(payload: Any) -> tuple[_Batch, str, bytes]:
    """Return batch, owner and signature of a submitted transaction."""
    try:
        if payload["type"] != "WALLET":
            raise RefusedError(400, "paper relays deposit wallets (type WALLET) alone")
        params = payload["depositWalletParams"]
        calls = tuple(
            (_address(one["target"]), int(one["value"]), bytes.fromhex(one["data"].removeprefix("0x")))
            for one in params["calls"][:_MAX_CALLS]
        )
        batch = _Batch(_address(params["depositWallet"]), int(payload["nonce"]), int(params["deadline"]), calls)
        if not all(
            0 <= number < 1 << 64 for number in (batch.nonce, batch.deadline, *(value for _, value, _ in calls))
        ):
            raise ValueError("a number is out of range")
        return batch, _address(payload["from"]), bytes.fromhex(payload["signature"].removeprefix("0x"))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RefusedError(400, "invalid transaction") from error


def _address(text: object) -> str:
    if not isinstance(text, str) or not is_address(text):
        raise ValueError("expected an address")
    return text
