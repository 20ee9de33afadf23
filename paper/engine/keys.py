"""API keys, and the two levels of authentication (venue.md 1.7).

Level 1 proves a key by a signature of ``ClobAuth``; level 2 proves an API key by an HMAC over
timestamp, method, path and body. A wallet has one active API key: creating one with a new nonce ends the one before.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import math
import secrets
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from paper.engine.record import Record
from paper.engine.signing import auth_signer, checksum, is_address
from paper.errors import RefusedError

# Rate limits per signer, as token buckets (venue.md 4.1). Pure: time comes in.


_KEPT = 10_000  # signers


@dataclass(frozen=True, slots=True)
class Tier:
    """Tokens a second and burst, of orders and of cancels."""

    orders_s: float
    orders_burst: float
    cancels_s: float
    cancels_burst: float


# Standard is documented; the factor of Elite is not.
TIERS = {"standard": Tier(40, 60, 80, 120), "elite": Tier(400, 600, 800, 1200)}


class Limits:
    """The buckets of all signers.

    Args:
        tier: name of a tier, or ``none``: no limits and no headers.
    """

    def __init__(self, tier: str) -> None:
        self.tier = tier
        self._rates = TIERS.get(tier)
        self._buckets: dict[tuple[str, str], tuple[float, int]] = {}  # tokens, and when that was (UTC ms)

    def take(
        self, address: str, kind: Literal["order", "cancel"], count: int, now_ms: int, *, may_owe: bool = False
    ) -> dict[str, str]:
        """Take tokens for a request, all or none; return the headers of its answer.

        Args:
            may_owe: let the balance fall below zero; later requests wait for it (cancel-all).

        Raises:
            RefusedError: 429 with ``Retry-After``.
        """
        if self._rates is None:
            return {}
        rate, burst = self._rates.orders_s, self._rates.orders_burst
        if kind == "cancel":
            rate, burst = self._rates.cancels_s, self._rates.cancels_burst
        tokens, since_ms = self._buckets.pop((address, kind), (burst, now_ms))
        tokens = min(burst, tokens + max(0, now_ms - since_ms) / 1000 * rate)
        allowed = tokens >= count or (may_owe and tokens >= 0)
        left = tokens - count if allowed else tokens
        self._buckets[address, kind] = (left, now_ms)
        if len(self._buckets) > _KEPT:
            del self._buckets[next(iter(self._buckets))]
        wait_s = max(0.0, (min(count, burst) - left) / rate)
        headers = {
            "Poly-RateLimit-Remaining": str(math.floor(left)),
            "Poly-RateLimit-Reset": str(math.ceil(now_ms / 1000 + wait_s)),
            "Poly-RateLimit-Tier": self.tier,
        }
        if not allowed:
            headers["Retry-After"] = str(max(1, math.ceil(wait_s)))
            raise RefusedError(429, "Too Many Requests", headers=headers)
        return headers


# The dead-man switch (venue.md 4.3): one chain of heartbeats an API key, kept in the record.
#
# A key that never sent one is not watched. Once it has, it must go on: there is no disarming. A restarted exchange knows
# the chains, and gives every armed key one whole time limit again.


@dataclass(slots=True)
class _Chain:
    """``expected`` is the id that the next heartbeat must carry; ``armed`` until the switch has struck."""

    expected: str
    seen_ms: int
    armed: bool


class Heartbeats:
    """The chains of all keys.

    Args:
        limit_ms: how long a key may be silent.
    """

    def __init__(self, record: Record, limit_ms: int, now_ms: int) -> None:
        self._record = record
        self._limit_ms = limit_ms
        rows = record.query("SELECT key, expected, armed FROM heartbeats")
        self._chains = {str(key): _Chain(str(expected), now_ms, bool(armed)) for key, expected, armed in rows}

    def beat(self, key: str, heartbeat_id: str, now_ms: int) -> str:
        """Arm or renew a key's switch; return the id for its next heartbeat.

        Raises:
            RefusedError: 400 with the expected id; the switch keeps running down.
        """
        chain = self._chains.get(key)
        if heartbeat_id != (chain.expected if chain else ""):
            text = "Invalid Heartbeat ID"
            raise RefusedError(400, text, error_msg=text, heartbeat_id=chain.expected if chain else "")
        self._keep(key, _Chain(str(uuid.uuid4()), now_ms, armed=True))
        return self._chains[key].expected

    def silent(self, now_ms: int) -> set[str]:
        """Return the keys whose time has just run out. Their chains stay: the next heartbeat arms them again."""
        ended = {key for key, chain in self._chains.items() if chain.armed and now_ms - chain.seen_ms > self._limit_ms}
        for key in ended:
            self._keep(key, _Chain(self._chains[key].expected, now_ms, armed=False))
        return ended

    def _keep(self, key: str, chain: _Chain) -> None:
        self._chains[key] = chain
        sql = "INSERT OR REPLACE INTO heartbeats (key, expected, armed) VALUES (?, ?, ?)"
        self._record.add(sql, (key, chain.expected, int(chain.armed)))


# API keys, and the two levels of authentication (venue.md 1.7).


_MAX_SKEW_S = 300


@dataclass(frozen=True, slots=True)
class ApiKey:
    """Credentials of one address (checksum form)."""

    key: str
    address: str
    nonce: int
    secret: str
    passphrase: str
    active: bool = True

    @property
    def body(self) -> dict[str, object]:
        """As the venue shows them."""
        return {"apiKey": self.key, "secret": self.secret, "passphrase": self.passphrase}


class Keys:
    """All API keys of this exchange."""

    def __init__(self, record: Record, clock: Callable[[], int]) -> None:
        self._record = record
        self._clock = clock
        self._salt = bytes.fromhex(record.remember("salt", secrets.token_hex(32)))
        rows = record.query("SELECT key, address, nonce, secret, passphrase, active FROM api_keys")
        keys = [ApiKey(str(k), str(a), int(n), str(s), str(p), bool(on)) for k, a, n, s, p, on in rows]  # type: ignore[arg-type]  # columns are typed by the schema
        self._by_key = {key.key: key for key in keys}
        self._by_nonce = {(key.address, key.nonce): key for key in keys}

    def create(self, headers: Mapping[str, str]) -> ApiKey:
        """Make the key of (address, nonce) and end the address's other keys.

        Raises:
            RefusedError: 401 bad signature; 400 the key of this nonce exists (derive it).
        """
        address, nonce = self._level1(headers)
        if (address, nonce) in self._by_nonce:
            raise RefusedError(400, "Could not create api key")
        for old in [key for key in self._by_key.values() if key.address == address and key.active]:
            self._end(old)
        key = self._make(address, nonce)
        self._remember(key)
        values = (key.key, key.address, key.nonce, key.secret, key.passphrase, 1, self._clock())
        self._record.add("INSERT INTO api_keys VALUES (?, ?, ?, ?, ?, ?, ?)", values)
        return key

    def derive(self, headers: Mapping[str, str]) -> ApiKey:
        """Return the key of (address, nonce).

        Raises:
            RefusedError: 401 bad signature; 400 there is none, or a newer one ended it.
        """
        key = self._by_nonce.get(self._level1(headers))
        if key is None or not key.active:
            raise RefusedError(400, "Could not derive api key!")
        return key

    def delete(self, key: ApiKey) -> None:
        """End a key."""
        self._end(key)

    def active(self, address: str) -> list[str]:
        """Active keys of an address."""
        return [key.key for key in self._by_key.values() if key.address == address and key.active]

    def check(self, headers: Mapping[str, str], method: str, path: str, body: bytes) -> ApiKey:
        """Verify level 2 and return the key.

        Raises:
            RefusedError: 401 for a wrong key, passphrase, address, stale timestamp (300 s) or HMAC.
        """
        key = self._by_key.get(headers.get("POLY_API_KEY", ""))
        stamp = headers.get("POLY_TIMESTAMP", "")
        is_known = (
            key is not None
            and key.active
            and hmac.compare_digest(key.passphrase.encode(), _bytes(headers, "POLY_PASSPHRASE"))
            and key.address.lower() == headers.get("POLY_ADDRESS", "").lower()
            and self._is_fresh(stamp)
        )
        if not is_known or key is None:
            raise _unauthorized()
        digest = hmac.digest(_secret_bytes(key.secret), f"{stamp}{method}{path}".encode() + body, "sha256")
        expected = base64.urlsafe_b64encode(digest)
        if not hmac.compare_digest(expected, _bytes(headers, "POLY_SIGNATURE")):
            raise _unauthorized()
        return key

    def check_credentials(self, key: object, secret: object, passphrase: object) -> ApiKey | None:
        """Return the key that these credentials of a WebSocket belong to, or None."""
        api_key = self._by_key.get(str(key))
        right = api_key is not None and api_key.active and (api_key.secret, api_key.passphrase) == (secret, passphrase)
        return api_key if right else None

    def _level1(self, headers: Mapping[str, str]) -> tuple[str, int]:
        address, stamp = headers.get("POLY_ADDRESS", ""), headers.get("POLY_TIMESTAMP", "")
        nonce, signature = headers.get("POLY_NONCE", "0"), headers.get("POLY_SIGNATURE", "")
        if not (is_address(address) and self._is_fresh(stamp) and nonce.isdecimal() and len(nonce) < 16):
            raise RefusedError(401, "Invalid L1 Request headers")
        try:
            signer = auth_signer(address, stamp, int(nonce), bytes.fromhex(signature.removeprefix("0x")))
        except (ValueError, binascii.Error):
            signer = None
        if signer != checksum(address):
            raise RefusedError(401, "Invalid L1 Request headers")
        return signer, int(nonce)

    def _is_fresh(self, stamp: str) -> bool:
        return stamp.isdecimal() and len(stamp) < 12 and abs(int(stamp) - self._clock() // 1000) <= _MAX_SKEW_S

    def _make(self, address: str, nonce: int) -> ApiKey:
        seed = hmac.new(self._salt, f"{address}:{nonce}".encode(), hashlib.sha512).digest()
        secret = base64.urlsafe_b64encode(seed[16:48]).decode()
        return ApiKey(str(uuid.UUID(bytes=seed[:16], version=4)), address, nonce, secret, seed[32:].hex())

    def _remember(self, key: ApiKey) -> None:
        self._by_key[key.key] = self._by_nonce[(key.address, key.nonce)] = key

    def _end(self, key: ApiKey) -> None:
        self._remember(ApiKey(key.key, key.address, key.nonce, key.secret, key.passphrase, active=False))
        self._record.add("UPDATE api_keys SET active = 0 WHERE key = ?", (key.key,))


@lru_cache(maxsize=1024)
def _secret_bytes(secret: str) -> bytes:
    return base64.urlsafe_b64decode(secret)


def _bytes(headers: Mapping[str, str], name: str) -> bytes:
    return headers.get(name, "").encode(errors="surrogateescape")  # as they came, even if that is no UTF-8


def _unauthorized() -> RefusedError:
    return RefusedError(401, "Unauthorized/Invalid api key")
