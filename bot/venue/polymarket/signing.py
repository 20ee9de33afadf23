"""EIP-712: the id, the signature and the body of an order. Pure: equal arguments give equal bytes.

The order id is the digest of the 11-field order under the exchange's domain (venue.md 1.5), also for a deposit wallet
(type 3), whose signature is over another digest: ERC-7739's TypedDataSign, followed by the parts that the wallet needs
to check it. The words are encoded by hand, since every field is static: 0.1 ms an order instead of several.
ECDSA nonces are deterministic (RFC 6979), so a signature is too.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from decimal import Decimal

from coincurve import PrivateKey
from eth_utils.crypto import keccak
from polymarket._internal.protocol import is_v2_position_id
from polymarket._internal.wallet import SignerType, wrap_deposit_wallet_signature
from polymarket.types import HexString

from bot.venue.decoding import TICKS
from bot.venue.types import BASE_UNITS, ORDER_TYPE, Market, OrderRequest, SignedOrder
from ledger.values import Side

# From a price and a size to the two amounts that an order signs. Pure, in integers of base units.
#
# Rules (venue.md 2.3, and the client's own tables): a price is a multiple of the market's tick and lies in
# [tick, 1 - tick]; an order that is killed where it would rest (FAK) gives an amount with 2 decimals and asks for one with
# at most 4, whatever its side and the tick. The client allows 5 and 6 on fine ticks, and the venue has refused those
# (py-clob-client-v2 issue 99; "sell orders maker amount max 2 decimals, taker amount max 4", 2026); so the clamp is ours.


_CENT = BASE_UNITS // 100
_FOUR_DECIMALS = BASE_UNITS // 10_000
_FINEST_TICK = BASE_UNITS // 10_000


def order_amounts(request: OrderRequest, tick: Decimal) -> tuple[int, int]:
    """The maker amount (given) and the taker amount (asked for) of an order, both in base units.

    Sizes are rounded down to what the rules allow, so that a BUY never gives more than price * size and never asks for
    more than size. What is rounded off lets a BUY's price lie above the limit by less than the finest tick, and a SELL's
    below it by less than 0.0001 pUSD in all: the other way round neither would match what rests exactly at the price
    (py-sdk issue 291).

    Raises:
        ValueError: the tick is unknown, the price breaks it, or the size rounds to nothing.
    """
    price = _price_units(request.price, tick)
    size = request.size // _CENT * _CENT
    if size <= 0:
        raise ValueError(f"size {request.size} base units is less than 0.01 shares; ask for at least {_CENT}")
    if request.side is Side.SELL:
        asked = price * size // BASE_UNITS // _FOUR_DECIMALS * _FOUR_DECIMALS
        if asked == 0:
            raise ValueError(f"size {request.size} base units at {request.price} is worth less than 0.0001 pUSD")
        return size, asked
    maker = price * size // BASE_UNITS // _CENT * _CENT
    taker = maker * BASE_UNITS // price // _FOUR_DECIMALS * _FOUR_DECIMALS
    if taker == 0 or maker * BASE_UNITS >= taker * (price + _FINEST_TICK):
        raise ValueError(
            f"size {request.size} base units is too small to keep the price {request.price} with 2 decimals"
        )
    return maker, taker


def _price_units(price: Decimal, tick: Decimal) -> int:
    """The price in base units, checked against the tick."""
    if tick not in TICKS:
        raise ValueError(f"tick {tick} is unknown; the venue has {', '.join(str(known) for known in sorted(TICKS))}")
    if not price.is_finite() or not tick <= price <= 1 - tick:
        raise ValueError(f"price {price} lies outside {tick} .. {1 - tick}")
    if price % tick:
        raise ValueError(f"price {price} is not a multiple of the tick {tick}")
    return int(price * BASE_UNITS)


# EIP-712: the id, the signature and the body of an order. Pure: equal arguments give equal bytes.


EOA = 0
DEPOSIT_WALLET = 3
SALT_BITS = 53  # The salt travels as a JSON number, so it must fit a double exactly.

_ORDER_TYPE = (
    b"Order(uint256 salt,address maker,address signer,uint256 tokenId,uint256 makerAmount,uint256 takerAmount,"
    b"uint8 side,uint8 signatureType,uint256 timestamp,bytes32 metadata,bytes32 builder)"
)
_ORDER_TYPE_HASH = keccak(_ORDER_TYPE)
_TYPED_DATA_SIGN_HASH = keccak(
    b"TypedDataSign(Order contents,string name,string version,uint256 chainId,address verifyingContract,bytes32 salt)"
    + _ORDER_TYPE
)
_DOMAIN_TYPE_HASH = keccak(b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)")
_EXCHANGE_NAME_HASH = keccak(b"Polymarket CTF Exchange")
_EXCHANGE_VERSION_HASH = keccak(b"2")
_WALLET_NAME_HASH = keccak(b"DepositWallet")
_WALLET_VERSION_HASH = keccak(b"1")
_ZERO_WORD = bytes(32)
_ZERO_HEX = "0x" + _ZERO_WORD.hex()


@dataclass(frozen=True, slots=True)
class Exchange:
    """The contracts that orders are signed for: of standard markets and of neg-risk ones."""

    chain_id: int
    standard: str
    neg_risk: str


class OrderSigner:
    """Signs orders of one wallet.

    Args:
        private_key: 32 bytes as hex, with or without 0x.
        signer: the key's address.
        wallet: whose funds are traded (the order's maker).
        signature_type: 0 EOA, 1 proxy, 2 safe, 3 deposit wallet.
        signer_type: whether the key owns the wallet or is a session key of it (type 3 only).
        owner: the API key that the order is posted with.
    """

    def __init__(
        self,
        *,
        private_key: str,
        signer: str,
        wallet: str,
        signature_type: int,
        signer_type: SignerType,
        owner: str,
        exchange: Exchange,
    ) -> None:
        self._key = PrivateKey.from_hex(private_key.removeprefix("0x"))
        self._signer = signer
        self._wallet = wallet
        self._signature_type = signature_type
        self._signer_type = signer_type
        self._owner = owner
        self._chain_id = exchange.chain_id
        self._domains = {
            neg_risk: _domain(exchange.chain_id, address)
            for neg_risk, address in ((False, exchange.standard), (True, exchange.neg_risk))
        }

    def sign(self, request: OrderRequest, market: Market, salt: int, timestamp_ms: int) -> SignedOrder:
        """Build and sign one order.

        Raises:
            ValueError: the price, the size, the token or the salt breaks a rule.
        """
        if not 0 <= salt < 2**SALT_BITS:
            raise ValueError(f"salt {salt} does not fit {SALT_BITS} bits")
        if request.token_id not in (market.up_token, market.down_token):
            raise ValueError(f"token {request.token_id} does not belong to market {market.slug}")
        if is_v2_position_id(request.token_id):
            # Such ids trade on another exchange contract (version 3), which Up/Down markets do not use.
            raise ValueError(f"token {request.token_id} is a protocol-v2 position id, which is not supported")
        maker_amount, taker_amount = order_amounts(request, market.tick)
        order_signer = self._wallet if self._signature_type == DEPOSIT_WALLET else self._signer
        contents = keccak(
            _ORDER_TYPE_HASH
            + _uint(salt)
            + _address(self._wallet)
            + _address(order_signer)
            + _uint(int(request.token_id))
            + _uint(maker_amount)
            + _uint(taker_amount)
            + _uint(0 if request.side is Side.BUY else 1)
            + _uint(self._signature_type)
            + _uint(timestamp_ms)
            + _ZERO_WORD
            + _ZERO_WORD
        )
        domain = self._domains[market.neg_risk]
        order_hash = keccak(b"\x19\x01" + domain + contents)
        signature = self._signature(order_hash, domain, contents)
        body = {
            "deferExec": False,
            "order": {
                "builder": _ZERO_HEX,
                "expiration": "0",
                "maker": self._wallet,
                "makerAmount": str(maker_amount),
                "metadata": _ZERO_HEX,
                "salt": salt,
                "side": request.side.value,
                "signature": signature,
                "signatureType": self._signature_type,
                "signer": order_signer,
                "takerAmount": str(taker_amount),
                "timestamp": str(timestamp_ms),
                "tokenId": request.token_id,
            },
            "orderType": ORDER_TYPE,
            "owner": self._owner,
            "postOnly": False,
        }
        return SignedOrder(
            order_id="0x" + order_hash.hex(),
            body=json.dumps(body, separators=(",", ":")),
            maker_amount=maker_amount,
            taker_amount=taker_amount,
        )

    def _signature(self, order_hash: bytes, domain: bytes, contents: bytes) -> str:
        """The signature as the venue expects it for this type of wallet."""
        if self._signature_type != DEPOSIT_WALLET:
            return self._sign_digest(order_hash)
        wrapped = keccak(
            _TYPED_DATA_SIGN_HASH
            + contents
            + _WALLET_NAME_HASH
            + _WALLET_VERSION_HASH
            + _uint(self._chain_id)
            + _address(self._wallet)
            + _ZERO_WORD
        )
        digest = keccak(b"\x19\x01" + domain + wrapped)
        trailer = (domain + contents + _ORDER_TYPE + len(_ORDER_TYPE).to_bytes(2, "big")).hex()
        return wrap_deposit_wallet_signature(
            signer=self._signer,
            signer_type=self._signer_type,
            signature=HexString(self._sign_digest(digest) + trailer),
        )

    def _sign_digest(self, digest: bytes) -> str:
        """r, s and v (27 or 28) as hex."""
        signature = self._key.sign_recoverable(digest, hasher=None)
        return "0x" + signature[:64].hex() + format(signature[64] + 27, "02x")


def _domain(chain_id: int, contract: str) -> bytes:
    return keccak(
        _DOMAIN_TYPE_HASH + _EXCHANGE_NAME_HASH + _EXCHANGE_VERSION_HASH + _uint(chain_id) + _address(contract)
    )


def _uint(value: int) -> bytes:
    return value.to_bytes(32, "big")


def _address(value: str) -> bytes:
    return bytes.fromhex(value.removeprefix("0x")).rjust(32, b"\0")
