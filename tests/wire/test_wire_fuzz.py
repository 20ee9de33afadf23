"""The HTTP surface under arbitrary input: refusals in the venue's shape, never a server error."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import os
import re
import tempfile
import time
import urllib.parse
from pathlib import Path
from typing import Any

import httpx
import pytest
from eth_account import Account
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from polymarket._internal.l1_auth import sign_api_key_auth
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from paper import Exchange, Record, Settings
from paper.wire.app import make_app

OWNER = Account.from_key("0x" + "77" * 32)
LIMIT_S = 30

_TEXT = st.text(st.characters(), max_size=8)  # halves of surrogate pairs too, which JSON can carry and no file can
_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | _TEXT
    | st.sampled_from(["BUY", "GTC", "0", "1" * 90, "٣", "²", "0x" + "a" * 40, "0x" + "0" * 64, "MA==", "LTE="])
)
_NAMES = [
    "kind",
    "count",
    "seconds",
    "path",
    "offset",
    "nonce",
    "signature",
    "to",
    "data",
    "proxyWallet",
    "signatureParams",
    "deadline",
    "method",
    "order",
    "orderID",
    "orderType",
    "owner",
    "market",
    "asset_id",
    "token_id",
    "side",
    "heartbeat_id",
    "postOnly",
    "type",
    "depositWalletParams",
    "calls",
    "from",
]
_JSON = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_NAMES), inner, max_size=5),
    max_leaves=12,
)
_FIELDS = "salt maker signer tokenId makerAmount takerAmount side signatureType timestamp metadata builder signature expiration"
_CHANGES = st.dictionaries(st.sampled_from(_FIELDS.split()), _JSON, min_size=1, max_size=3)
_PARTS = st.sampled_from(["0xff", "btc-updown-5m-1", "1", "9" * 15, "x", "btcusdt@trade"]) | _TEXT


def _routes() -> list[tuple[str, str]]:
    """Every method and path that the exchange serves, as it says itself."""
    with tempfile.TemporaryDirectory() as folder:
        record = Record(Path(folder))
        app, _ = make_app(Exchange(Settings.model_validate({"data": folder}), record, {}, lambda: 0))
        record.close()
    found = {(one.method, one.resource.canonical) for one in app.router.routes() if one.resource is not None}
    return sorted(found - {("DELETE", "/auth/api-key")})  # which would end the key that all of this is asked with


_ROUTES = _routes()
_WRITES = st.sampled_from([one for one in _ROUTES if one[0] in ("POST", "DELETE")])
_READS = st.sampled_from([path for method, path in _ROUTES if method == "GET"])
_QUERY = st.dictionaries(
    st.sampled_from(
        [
            "token_id",
            "side",
            "after",
            "before",
            "limit",
            "next_cursor",
            "after_cursor",
            "slug",
            "symbol",
            "interval",
            "id",
            "condition_ids",
            "clob_token_ids",
            "closed",
            "address",
            "signature_type",
            "asset_type",
            "market",
            "user",
            "offset",
            "cursor",
            "startTime",
            "startTs",
            "fidelity",
        ]
    ),
    st.text(max_size=6) | st.sampled_from(["9" * 30, "9" * 5000, "-1", "٣", "BTCUSDT", "1s", "LTE=", "MA==", "BUY"]),
    max_size=4,
)


class Session:
    """Sends authenticated requests."""

    def __init__(self, url: str) -> None:
        self.client = httpx.Client(base_url=url, timeout=LIMIT_S)
        signed = sign_api_key_auth(OWNER, chain_id=137, timestamp=int(time.time()))
        level1 = {"POLY_ADDRESS": OWNER.address, "POLY_SIGNATURE": signed.signature, "POLY_NONCE": "0"}
        answer = self.client.post("/auth/api-key", headers=level1 | {"POLY_TIMESTAMP": str(signed.timestamp)})
        self.key: dict[str, str] = answer.json()

    def send(
        self, method: str, path: str, body: bytes = b"", query: Any = None, changes: dict[str, bytes] | None = None
    ) -> httpx.Response:
        stamp = str(int(time.time()))
        text = f"{stamp}{method}{urllib.parse.unquote(path)}".encode() + body
        digest = hmac.new(base64.urlsafe_b64decode(self.key["secret"]), text, hashlib.sha256).digest()
        headers = {
            "POLY_ADDRESS": OWNER.address,
            "POLY_API_KEY": self.key["apiKey"],
            "POLY_PASSPHRASE": self.key["passphrase"],
            "POLY_SIGNATURE": base64.urlsafe_b64encode(digest).decode(),
            "POLY_TIMESTAMP": stamp,
            "RELAYER_API_KEY": "any",
            "Content-Type": "application/json",
        }
        sent = {name: value.encode() for name, value in headers.items()} | (changes or {})
        return self.client.request(method, path, content=body, params=query, headers=sent)


@pytest.fixture(scope="module")
def session(quiet: Any) -> Session:
    return Session(quiet.url)


@pytest.fixture(scope="module")
def token(quiet: Any) -> str:
    return str(quiet.market()["tokens"][0])


def _check(answer: httpx.Response) -> None:
    assert answer.status_code < 500, answer.text
    if answer.status_code >= 400 and "Got more than 8190 bytes" not in answer.text:
        body = answer.json()
        assert body.get("error") or body["msg"], "Binance says msg"


# The same inputs each time, so that a release does not wait for luck; FUZZ=5000 looks for new ones.
_EXAMPLES = int(os.environ.get("FUZZ", "0"))
_LIMITS = settings(
    max_examples=_EXAMPLES or 150,
    derandomize=not _EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@_LIMITS
@given(target=_WRITES, body=_JSON.map(lambda found: json.dumps(found).encode()) | st.binary(max_size=30))
def test_no_body_breaks_it(session: Session, target: tuple[str, str], body: bytes) -> None:
    """Any body is answered with success or a refusal that has an error text."""
    _check(session.send(*target, body))


@_LIMITS
@given(changes=_CHANGES, kind=_SCALARS | st.sampled_from(["GTC", "GTD", "FAK", "FOK"]))
def test_no_changed_order_passes(session: Session, token: str, changes: dict[str, Any], kind: Any) -> None:
    """An order that was changed after it was signed, or never was, is refused."""
    order: dict[str, Any] = {
        "salt": 1,
        "maker": OWNER.address,
        "signer": OWNER.address,
        "tokenId": token,
        "makerAmount": "5000000",
        "takerAmount": "10000000",
        "side": "BUY",
        "signatureType": 0,
        "timestamp": "1",
        "metadata": "0x" + "0" * 64,
        "builder": "0x" + "0" * 64,
        "signature": "0x" + "00" * 65,
        "expiration": "0",
    }
    body = {"order": order | changes, "owner": session.key["apiKey"], "orderType": kind}
    answer = session.send("POST", "/order", json.dumps(body).encode())
    _check(answer)
    assert answer.status_code == 400


@_LIMITS
@given(path=_READS, part=_PARTS, query=_QUERY)
def test_no_query_breaks_it(session: Session, path: str, part: str, query: dict[str, str]) -> None:
    """Any path and query is answered with success or a refusal that has an error text."""
    part = urllib.parse.quote(part, safe="", errors="surrogatepass") or "-"
    _check(session.send("GET", re.sub(r"{[a-z]+}", part, path), query=query))


_HEADERS = ["ADDRESS", "API_KEY", "PASSPHRASE", "SIGNATURE", "TIMESTAMP", "NONCE"]
_BYTES = st.lists(st.integers(0x21, 0x7E) | st.integers(0x80, 0xFF), max_size=12).map(bytes)


@_LIMITS
@given(
    target=_WRITES,
    changes=st.dictionaries(st.sampled_from(_HEADERS), _BYTES | st.sampled_from([b"0", b"9" * 400]), min_size=1),
)
def test_no_header_breaks_it(session: Session, target: tuple[str, str], changes: dict[str, bytes]) -> None:
    """Any bytes in the headers that say who asks are answered with success or a refusal, and are recorded."""
    _check(session.send(*target, b"{}", changes={f"POLY_{name}": value for name, value in changes.items()}))
    assert session.client.get("/paper/record", params={"limit": 1}).status_code == 200


def test_oversized_body_is_refused(session: Session) -> None:
    """A body of more than 1 MB is refused with 413."""
    answer = session.send("POST", "/order", b" " * (1 << 20) + b"{}")
    assert (answer.status_code, "too large" in answer.json()["error"]) == (413, True)


_FRAMES = st.dictionaries(
    st.sampled_from(
        [
            "op",
            "rid",
            "auth",
            "subscriptions",
            "action",
            "type",
            "assets_ids",
            "markets",
            "operation",
            "method",
            "params",
        ]
    ),
    _JSON | st.sampled_from(["auth", "subscribe", "unsubscribe", "SUBSCRIBE", "UNSUBSCRIBE", "market", "user"]),
    max_size=5,
)


@_LIMITS
@given(
    path=st.sampled_from(["/ws/market", "/ws/user", "/rtds", "/polybolt", "/ws/btcusdt@trade", "/stream"]),
    frames=st.lists(_FRAMES.map(json.dumps) | st.text(max_size=20), min_size=1, max_size=4),
)
def test_no_frame_breaks_a_stream(quiet: Any, path: str, frames: list[str]) -> None:
    """Whatever a client sends over a WebSocket is answered, passed over, or ends it with a code for the client's fault."""
    with connect(quiet.ws_url + path, open_timeout=LIMIT_S) as socket:
        with contextlib.suppress(ConnectionClosed):
            for frame in frames:
                socket.send(frame)
            socket.send("PING")  # Binance has no such message, and ends the connection at it
            while socket.recv(timeout=LIMIT_S) != "PONG":
                pass
        socket.close()
        assert socket.close_code in (1000, 1008, 4001, 4008)
