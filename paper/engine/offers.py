"""Orders as clients send them: read, checked for form, and turned into the engine's. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from paper.engine.book import ONE, Order, OrderType, format_units
from paper.engine.matching import MIN_SIZE
from paper.engine.signing import SignedOrder, checksum, is_address, order_id
from paper.errors import RefusedError

__all__ = ["Offer", "read_offer", "read_order"]

_MAX_U256 = (1 << 256) - 1
_ROUNDING = 101  # base units: clients round amounts to four decimals
_INVALID = "Invalid order payload"


@dataclass(frozen=True, slots=True)
class Offer:
    """One order of a request: the JSON as it came, its signed fields, and the id that follows from them."""

    payload: dict[str, Any]
    signed: SignedOrder
    order_id: str

    @property
    def post_only(self) -> bool:
        """Whether it must not match at once."""
        return self.payload.get("postOnly") is True


def read_offer(payload: object) -> Offer:
    """Read one order of a request.

    Raises:
        RefusedError: 400, a signed field is missing or out of range.
    """
    signed = read_signed(payload)
    return Offer(cast("dict[str, Any]", payload), signed, order_id(signed))


def read_signed(payload: object) -> SignedOrder:
    """Read the signed fields of an order from the body of ``POST /order``.

    Raises:
        RefusedError: 400, a field is missing or out of range.
    """
    fields = payload.get("order") if isinstance(payload, dict) else None
    if not isinstance(fields, dict):
        raise RefusedError(400, _INVALID)
    side, kind = fields.get("side"), fields.get("signatureType")
    if side not in ("BUY", "SELL") or not isinstance(kind, int) or isinstance(kind, bool) or not 0 <= kind <= 3:
        raise RefusedError(400, _INVALID)
    return SignedOrder(
        salt=_uint(fields.get("salt")),
        maker=_address(fields.get("maker")),
        signer=_address(fields.get("signer")),
        token_id=_uint(fields.get("tokenId")),
        maker_amount=_uint(fields.get("makerAmount")),
        taker_amount=_uint(fields.get("takerAmount")),
        is_sell=side == "SELL",
        signature_type=kind,
        timestamp=_uint(fields.get("timestamp")),
        metadata=_hex(fields.get("metadata"), 32),
        builder=_hex(fields.get("builder"), 32),
        signature=_hex(fields.get("signature"), None),
    )


def read_order(
    offer: Offer,
    *,
    owner: str,
    condition_id: str,
    outcome: int,
    tick: int,
    now_ms: int,
    spends_money: bool,
) -> Order:
    """Make the engine's order of a signed one: price and size from the two amounts.

    A BUY gives makerAmount collateral for takerAmount shares, a SELL the other way round. Market orders may carry two
    decimals of makerAmount and four of takerAmount, limit orders two of their size (venue.md 2.3).

    Args:
        spends_money: a market BUY gives its whole makerAmount and takes what that brings (nautilus_trader issue 3747: 5 pUSD
            at a limit of 0.999 brought 25 shares at 0.20).

    Raises:
        RefusedError: 400, with the venue's text.
    """
    payload, signed, name = offer.payload, offer.signed, offer.order_id
    kind, post_only = payload.get("orderType"), payload.get("postOnly", False)
    if kind not in ("GTC", "GTD", "FAK", "FOK") or not isinstance(post_only, bool):
        raise RefusedError(400, _INVALID)
    if post_only and kind in ("FAK", "FOK"):
        raise RefusedError(400, "invalid post-only order: only GTC and GTD orders can be post-only")
    size, value = signed.maker_amount, signed.taker_amount
    if not signed.is_sell:
        size, value = value, size
    if size == 0 or value == 0:
        raise RefusedError(400, f"order {name} is invalid. Size (0) lower than the minimum: {format_units(MIN_SIZE)}")
    _check_accuracy(kind, signed, size)
    price = (2 * value * ONE + size * tick) // (2 * size * tick) * tick  # the nearest multiple of the tick
    if abs(value * ONE - size * price) > _ROUNDING * ONE:
        exact = format_units(value * ONE // size)
        raise RefusedError(
            400, f"order {name} is invalid. Price ({exact}) breaks minimum tick size rule: {format_units(tick)}"
        )
    return Order(
        order_id=name,
        condition_id=condition_id,
        token_id=str(signed.token_id),
        wallet=signed.maker,
        owner=owner,
        outcome=outcome,
        side="SELL" if signed.is_sell else "BUY",
        order_type=cast(OrderType, kind),
        price=price,
        size=size,
        received_ms=now_ms,
        expires_ms=_expiry(kind, payload["order"].get("expiration", "0"), now_ms),
        post_only=post_only,
        budget=value if spends_money and kind in ("FAK", "FOK") and not signed.is_sell else None,
    )


def _check_accuracy(kind: str, signed: SignedOrder, size: int) -> None:
    if kind in ("FAK", "FOK"):
        if signed.maker_amount % 10_000 or signed.taker_amount % 100:
            side = "sell" if signed.is_sell else "buy"
            raise RefusedError(
                400,
                f"invalid amounts, the market {side} orders maker amount supports a max accuracy of 2 decimals, "
                "taker amount a max of 4 decimals",
            )
    elif size % 10_000:
        raise RefusedError(400, "invalid amounts, the size of limit orders supports a max accuracy of 2 decimals")


def _expiry(kind: str, text: object, now_ms: int) -> int | None:
    """A GTD order lives until a minute before its expiration, which is at least three minutes ahead (venue.md 2.3)."""
    expiration = _uint(text)
    if kind != "GTD":
        if expiration:
            raise RefusedError(400, "invalid expiration: only GTD orders can have an expiration")
        return None
    # One second of grace: the client checked the three minutes before it signed.
    if not now_ms // 1000 + 179 <= expiration < 1 << 40:
        raise RefusedError(400, "invalid expiration")
    return (expiration - 60) * 1000


def _uint(value: object) -> int:
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) <= 78:
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MAX_U256:
        return value
    raise RefusedError(400, _INVALID)


def _address(value: object) -> str:
    if isinstance(value, str) and is_address(value):
        return checksum(value)
    raise RefusedError(400, _INVALID)


def _hex(value: object, length: int | None) -> bytes:
    try:
        raw = bytes.fromhex(value.removeprefix("0x")) if isinstance(value, str) else None
    except ValueError:
        raw = None
    if raw is None or (length is not None and len(raw) != length):
        raise RefusedError(400, _INVALID)
    return raw
