"""The venue's price WebSockets: RTDS (older) and PolyBolt, which authenticates and numbers its frames (venue.md 3).

At the venue each has a host of its own; here RTDS is at ``/`` and ``/rtds``, PolyBolt at ``/polybolt``.
"""

from __future__ import annotations

import asyncio
import json
import math
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from aiohttp import web

from paper.engine.faults import draw
from paper.engine.feed import Feed, Tick
from paper.engine.prices import ASSETS, average
from paper.errors import RefusedError
from paper.streams.sockets import POLICY, Broadcaster, Connection, Sockets

if TYPE_CHECKING:  # the exchange makes the streams
    from paper.engine.exchange import Exchange

# The venue's crypto price streams, once a second for each asset: RTDS (older) and PolyBolt (venue.md 3).
#
# Binance's price is the lead price. Chainlink's is the settlement price, and its time average over 60 s is what decides
# windows. Pyth's, PolyBolt's default provider, is the lead price here.


RTDS_TOPICS = ("crypto_prices", "crypto_prices_chainlink", "crypto_prices_twap_thirty", "crypto_prices_twap_sixty")
_KEPT = 120  # seconds in a snapshot
_SLOWER = 1.29  # the 90 % quantile of the delay over its middle, about
_E18 = 10**18


@dataclass(frozen=True, slots=True)
class Second:
    """One asset's prices at a whole second, in USD: lead, settlement, and the settlement price's mean of 30 s and 60 s."""

    time_ms: int
    asset: str
    lead: float
    settlement: float
    mean_30s: float
    mean_60s: float


class PriceStreams:
    """Sends RTDS messages to topics ``rtds:TOPIC`` and ``rtds:TOPIC:SYMBOL``, and tells ``followers`` (PolyBolt's
    connections) of each second.

    Args:
        clock: UTC ms.
        delay_s: by which the settlement prices are late, in the middle; 0 for not at all.
        seed: of how late each is.
    """

    def __init__(
        self, hub: Broadcaster, feed: Feed, clock: Callable[[], int], delay_s: float = 0.0, seed: int = 0
    ) -> None:
        self._hub = hub
        self._clock = clock
        self._due: dict[str, float] = {}
        self._feed = feed
        self._delay_s = delay_s
        self._seed = seed
        self._connection_id = str(uuid.uuid4())  # one of all connections: their messages are framed once
        self.followers: set[Callable[[Second], None]] = set()
        self.recent: dict[str, deque[Second]] = {asset: deque(maxlen=_KEPT) for asset in ASSETS}

    def publish(self, ticks: list[Tick]) -> None:
        """Send the ticks that begin a second."""
        for tick in ticks:
            if tick.closed is None:
                continue
            second = self._second(tick)
            self._send("crypto_prices", second)
            delay_s = self._delay(second)
            if delay_s:
                loop = asyncio.get_running_loop()
                due = max(loop.time() + delay_s, self._due.get(second.asset, 0.0))  # none overtakes another
                self._due[second.asset] = due
                loop.call_at(due, self._send_settlement, second)
            else:
                self._send_settlement(second)

    def publish_raw(self, topic: str, symbol: str, message: str) -> None:
        """Send a message of RTDS' own to those who follow its topic or symbol."""
        self._hub.publish(message, f"rtds:{topic}", f"rtds:{topic}:{symbol}")

    def follow_second(self, second: Second) -> None:
        """Tell PolyBolt's connections of a second."""
        self.recent[second.asset].append(second)
        for follower in tuple(self.followers):
            follower(second)

    def _delay(self, second: Second) -> float:
        """How late a second's settlement price is: 0.79 to 1.29 of the middle, so that 1.4 gives 1.1 to 1.8."""
        return self._delay_s * math.pow(_SLOWER, 2 * draw(self._seed, "stream", f"{second.asset}:{second.time_ms}") - 1)

    def _send_settlement(self, second: Second) -> None:
        for topic in RTDS_TOPICS[1:]:
            self._send(topic, second)
        self.follow_second(second)

    def _send(self, topic: str, second: Second) -> None:
        topics = f"rtds:{topic}", f"rtds:{topic}:{rtds_symbol(topic, second.asset)}"
        if self._hub.wanted(*topics):
            self._hub.publish(_rtds_event(topic, second, self._connection_id, self._clock()), *topics)

    def _second(self, tick: Tick) -> Second:
        history, now = self._feed.history[tick.asset], tick.time_ms
        # Rounded, as a mean of decimals has no end.
        means = [round(average(history.between(now - length, now)), 8) for length in (30_000, 60_000)]
        return Second(now, tick.asset, tick.price, tick.settlement, *means)


def rtds_symbol(topic: str, asset: str) -> str:
    """Return how a topic writes an asset."""
    return f"{asset.lower()}usdt" if topic == "crypto_prices" else f"{asset.lower()}/usd"


def _rtds_event(topic: str, second: Second, connection_id: str, sent_ms: int) -> str:
    """A message as recorded (pb rtds_crypto_prices; nautilus_trader rtds_crypto_twap_sixty_update)."""
    value, extra = second.settlement, {}
    if topic == "crypto_prices":
        value = second.lead
    elif topic == "crypto_prices_twap_thirty":
        value, extra = second.mean_30s, {"window_s": 30}
    elif topic == "crypto_prices_twap_sixty":
        value, extra = second.mean_60s, {"window_s": 60}
    exact = f"{value:.8f}" if topic == "crypto_prices" else str(int(Decimal(str(value)) * _E18))
    payload = {
        "full_accuracy_value": exact,
        "symbol": rtds_symbol(topic, second.asset),
        "timestamp": second.time_ms,
        "value": value,
        **extra,
    }
    return json.dumps(
        {"connection_id": connection_id, "payload": payload, "timestamp": sent_ms, "topic": topic, "type": "update"}
    )


def price_payload(channel: str, provider: str, second: Second) -> dict[str, object]:
    """Return the payload of a PolyBolt update.

    Args:
        channel: ``price.crypto`` or ``price.crypto.twap``.
        provider: ``pyth`` or ``chainlink``; the average is always Chainlink's.
    """
    return _head(channel, provider, second.asset) | _point(channel, provider, second)


def price_snapshot(channel: str, provider: str, asset: str, recent: deque[Second]) -> dict[str, object]:
    """Return the payload of a PolyBolt snapshot: the last two minutes, oldest first."""
    points = [_point(channel, provider, second) for second in recent]
    return _head(channel, provider, asset) | {"data": points}


def _head(channel: str, provider: str, asset: str) -> dict[str, object]:
    symbol = f"{asset.lower()}usd"
    if channel == "price.crypto.twap":
        return {"symbol": symbol, "source": "chainlink", "window_seconds": 60}
    return {"symbol": symbol, "source": provider}


def _point(channel: str, provider: str, second: Second) -> dict[str, object]:
    value = second.lead if provider == "pyth" else second.settlement
    if channel == "price.crypto.twap":
        value = second.mean_60s
    return {"timestamp": second.time_ms, "value": value, "full_accuracy_value": str(Decimal(str(value)))}


# The venue's price WebSockets: RTDS (older) and PolyBolt, which authenticates and numbers its frames (venue.md 3).


_CHANNELS = ("price.crypto", "price.crypto.twap")
_PROVIDERS = ("pyth", "chainlink")
_MAX_SUBSCRIPTIONS = 64
_FRAMES_A_SECOND = 20
_AUTH_FAILED, _AUTH_ATTEMPTS = 4001, 3
_POLICY = 4008
_PING_S = 25.0

_Key = tuple[str, str, str]  # channel, asset, provider


def routes(exchange: Exchange, sockets: Sockets) -> list[web.RouteDef]:
    """Return the routes of the price streams."""

    async def rtds(request: web.Request) -> web.StreamResponse:
        async with sockets.open(request) as connection:

            async def on_message(message: Any) -> None:
                wanted = message.get("subscriptions") if isinstance(message, dict) else None
                if not isinstance(wanted, list) or not all(isinstance(item, dict) for item in wanted):
                    raise RefusedError(POLICY, "invalid message")
                change = exchange.hub.unsubscribe if message.get("action") == "unsubscribe" else exchange.hub.subscribe
                for item in wanted:
                    for topic in _chosen(item):
                        change(connection.listener, topic)

            try:
                await sockets.talk(connection, on_message, lambda: True)
            finally:
                exchange.hub.leave(connection.listener)
        return connection.socket

    async def polybolt(request: web.Request) -> web.StreamResponse:
        async with sockets.open(request) as connection:
            session = _PolyBolt(exchange, connection)
            exchange.price_streams.followers.add(session.publish)
            pings = asyncio.create_task(session.ping(), name="polybolt pings")
            try:
                await sockets.talk(connection, session.on_message, lambda: True)
            finally:
                exchange.price_streams.followers.discard(session.publish)
                pings.cancel()
                await asyncio.gather(pings, return_exceptions=True)
        return connection.socket

    return [web.get("/rtds", rtds), web.get("/", rtds), web.get("/polybolt", polybolt)]


def _chosen(subscription: dict[str, Any]) -> list[str]:
    """The hub's topics that an RTDS subscription names.

    ``filters`` is empty, JSON with one symbol, or, for Binance's prices alone, symbols with commas between: a list with
    commas brings nothing from Chainlink's (venue.md 3). A filter that names nothing brings nothing.
    """
    topic, filters = subscription.get("topic"), subscription.get("filters") or ""
    if topic not in RTDS_TOPICS or not isinstance(filters, str):
        return []
    if not filters:
        return [f"rtds:{topic}"]
    try:
        symbol = json.loads(filters).get("symbol")
        symbols = [symbol] if isinstance(symbol, str) else []
    except (ValueError, AttributeError, RecursionError):
        symbols = filters.split(",") if topic == "crypto_prices" else []
    topics = {rtds_symbol(topic, asset) for asset in ASSETS}
    return [f"rtds:{topic}:{one.strip().lower()}" for one in symbols if one.strip().lower() in topics]


class _PolyBolt:
    """One PolyBolt connection: who it is, what it follows, and its frames' numbers."""

    def __init__(self, exchange: Exchange, connection: Connection) -> None:
        self._exchange = exchange
        self._connection = connection
        self._keys: set[_Key] = set()
        self._sequence = dict.fromkeys(_CHANNELS, 0)
        self._authenticated, self._attempts = False, 0
        self._times: deque[float] = deque(maxlen=_FRAMES_A_SECOND + 1)

    async def ping(self) -> None:
        """Ping for as long as the connection lives."""
        while True:
            await asyncio.sleep(_PING_S)
            await self._connection.socket.ping()

    def publish(self, second: Second) -> None:
        """Send a second's prices to what is followed."""
        for channel, asset, provider in self._keys:
            if asset == second.asset:
                self._frame(channel, second.time_ms, price_payload(channel, provider, second))

    async def on_message(self, message: Any) -> None:
        """Answer one frame.

        Raises:
            RefusedError: 4001, credentials were refused too often; 4008, it is no object, or too many came in a second.
        """
        if not isinstance(message, dict):
            raise RefusedError(_POLICY, "invalid frame")
        now = asyncio.get_running_loop().time()
        self._times.append(now)
        if len(self._times) > _FRAMES_A_SECOND and now - self._times[0] < 1.0:
            raise RefusedError(_POLICY, "too many frames")
        rid = message.get("rid")
        match message.get("op"):
            case "ping":
                self._say("pong", rid)
            case "auth":
                self._authenticate(message.get("auth"), rid)
            case "subscribe" | "unsubscribe" as operation:
                wanted = message.get("subscriptions")
                for item in wanted if isinstance(wanted, list) else [None]:
                    self._change(operation, item if isinstance(item, dict) else {}, rid)
            case _:
                self._refuse("bad_op", rid)

    def _authenticate(self, auth: object, rid: object) -> None:
        given = auth if isinstance(auth, dict) else {}
        key = self._exchange.keys.check_credentials(given.get("apiKey"), given.get("secret"), given.get("passphrase"))
        if key is not None:
            self._authenticated = True
            self._say("authed", rid)
            return
        self._attempts += 1
        if self._attempts >= _AUTH_ATTEMPTS:
            raise RefusedError(_AUTH_FAILED, "authentication failed")
        self._refuse("auth_invalid", rid)

    def _change(self, operation: str, item: dict[str, Any], rid: object) -> None:
        channel = item.get("channel")
        if not self._authenticated:
            self._refuse("auth_required", rid, channel)
            return
        if channel not in _CHANNELS:
            self._refuse("bad_channel", rid, channel)
            return
        key = _key(channel, item.get("filter"))
        if key is None:
            self._refuse("bad_filter", rid, channel)
        elif operation == "unsubscribe":
            self._keys.discard(key)
            self._say("unsubscribed", rid, channel)
        elif len(self._keys | {key}) > _MAX_SUBSCRIPTIONS:
            self._refuse("sub_limit", rid, channel)
        else:
            self._keys.add(key)
            self._say("subscribed", rid, channel)
            asset, recent = key[1], self._exchange.price_streams.recent[key[1]]
            payload = price_snapshot(channel, key[2], asset, recent)
            self._frame(channel, self._exchange.clock(), payload, snapshot=True)

    def _frame(self, channel: str, time_ms: int, payload: dict[str, object], *, snapshot: bool = False) -> None:
        self._sequence[channel] += 1
        frame = {"v": 1, "channel": channel, "seq": self._sequence[channel], "ts": time_ms, "payload": payload}
        self._connection.listener.say(json.dumps(frame | ({"snapshot": True} if snapshot else {})))

    def _say(self, op: str, rid: object, channel: object = None, **more: object) -> None:
        answer = {"op": op, "rid": rid} | ({} if channel is None else {"channel": channel}) | more
        self._connection.listener.say(json.dumps(answer))

    def _refuse(self, code: str, rid: object, channel: object = None) -> None:
        self._say("error", rid, channel, code=code)


def _key(channel: str, chosen: object) -> _Key | None:
    """What a subscription's filter names, or None if it names nothing."""
    if not isinstance(chosen, dict) or not isinstance(chosen.get("symbol"), str):
        return None
    asset = chosen["symbol"].upper().removesuffix("USD")
    twap = channel == "price.crypto.twap"
    provider = chosen.get("provider", "chainlink" if twap else "pyth")
    if asset not in ASSETS or provider not in _PROVIDERS or (twap and chosen.get("window_seconds") != 60):
        return None
    return channel, asset, provider
