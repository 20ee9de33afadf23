"""Everything public of a market, live: its streams, its markets, and the lead prices. No key, nothing but reading."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable

import aiohttp

from recording.discovery import Discovery, Grid
from recording.errors import RecordingError
from recording.format import Origin
from recording.hosts import Hosts
from recording.streams import Send, Sink, Source, Stream, Timing, said

_MOST_TOKENS = 450  # beyond 500 a connection loses books (docs/reference/venue.md 3)
_RTDS_TOPICS = ("crypto_prices", "crypto_prices_chainlink", "crypto_prices_twap_thirty", "crypto_prices_twap_sixty")
_BINANCE_STREAMS = ("bookTicker", "trade")
_CANDLES = 1_000
_CANDLES_LIMIT_S = 10.0
_RENEW_AFTER_S = 5.0  # a book that is still in doubt so long after it was asked for anew


class Capture:
    """Follows the windows of some slots and the prices of their assets.

    Args:
        hosts: where it all is.
        sink: takes the frames.
        wall_ms: UTC ms.
        random: uniform in [0, 1), for the jitter of waits.
        say: told of faults, by name and facts.
    """

    def __init__(
        self,
        hosts: Hosts,
        grid: Grid,
        *,
        sink: Sink,
        session: aiohttp.ClientSession,
        wall_ms: Callable[[], int],
        random: Callable[[], float],
        say: Callable[[str, dict[str, object]], None],
        timing: Timing | None = None,
    ) -> None:
        self._hosts, self._assets, self._sink, self._session = hosts, grid.assets, sink, session
        self._wall_ms, self._say = wall_ms, say
        self.discovery = Discovery(
            hosts,
            session=session,
            sink=sink,
            slots=grid.slugs,
            wall_ms=wall_ms,
            say=say,
        )
        self._followed: set[str] = set()
        self._again: dict[str, float] = {}  # tokens whose books are asked for anew, and when that began
        names = "/".join(f"{asset.lower()}usdt@{name}" for asset in grid.assets for name in _BINANCE_STREAMS)
        self._clob = Stream(
            Source(Origin.CLOB, hosts.clob_ws, "PING"),
            session=session,
            sink=sink,
            talk=self._follow,
            random=random,
            timing=timing,
            needed=lambda: bool(self.discovery.tokens(wall_ms())),
        )
        rtds = Stream(
            Source(Origin.RTDS, hosts.rtds_ws, "ping"),
            session=session,
            sink=sink,
            talk=_subscribe,
            random=random,
            timing=timing,
        )
        binance = Stream(
            Source(Origin.BINANCE, f"{hosts.binance_ws}/stream?streams={names}"),
            session=session,
            sink=sink,
            talk=_silent,
            random=random,
            timing=timing,
        )
        self._streams = (self._clob, rtds, binance)

    async def check(self) -> None:
        """Reach every source once.

        Raises:
            RecordingError: one cannot be reached; the text names it.
        """
        problems = await asyncio.gather(self.discovery.check(), *(stream.check() for stream in self._streams))
        failed = [problem for problem in problems if problem]
        if failed:
            raise RecordingError(f"cannot be reached: {failed[0]}")

    async def run(self) -> None:
        """Follow everything until cancelled."""
        await self.candles()
        async with asyncio.TaskGroup() as group:
            group.create_task(self.discovery.run(), name="discovery")
            for stream in self._streams:
                group.create_task(stream.run(), name=stream.source)

    async def candles(self) -> None:
        """Fetch the lead's candles of the time before; what does not come in time is gone without."""

        async def fetch(asset: str, interval: str) -> None:
            url = f"{self._hosts.binance}/api/v3/klines?symbol={asset}USDT&interval={interval}&limit={_CANDLES}"
            try:
                async with asyncio.timeout(_CANDLES_LIMIT_S), self._session.get(url) as answer:
                    rows = json.loads(await answer.text()) if answer.status == 200 else None
            except (OSError, TimeoutError, ValueError, aiohttp.ClientError) as error:
                self._say("candles_not_read", {"url": url, "reason": said(error)})
                return
            if isinstance(rows, list):
                frame = {"symbol": f"{asset}USDT", "interval": interval, "rows": rows}
                self._sink.frame(Origin.KLINES, json.dumps(frame, separators=(",", ":")))

        for interval in ("1m", "1s"):  # the finer ones last: they are the newer ones
            await asyncio.gather(*(fetch(asset, interval) for asset in self._assets))

    def refresh(self, tokens: Iterable[str]) -> None:
        """Ask for the books of some tokens anew; where that does not help, the connection is replaced."""
        now = asyncio.get_running_loop().time()
        for token in tokens:
            self._again.setdefault(token, now)

    def settled(self, tokens: Iterable[str]) -> None:
        """The books of these tokens can be believed again."""
        for token in tokens:
            self._again.pop(token, None)

    async def _follow(self, send: Send, first: bool) -> None:
        """Subscribe to the tokens that are wanted, and to those in doubt once more."""
        wanted = set(sorted(self.discovery.tokens(self._wall_ms()))[:_MOST_TOKENS])
        if first:
            self._followed = set()
            self._again.clear()
        now = asyncio.get_running_loop().time()
        doubtful = {token for token in self._again if token in self._followed & wanted}
        if any(now - self._again[token] > _RENEW_AFTER_S for token in doubtful):
            self._again.clear()
            self._clob.renew()
            return
        asked = {token for token in doubtful if now - self._again[token] <= 0.3}
        if less := sorted((self._followed - wanted) | asked):
            await send(json.dumps({"operation": "unsubscribe", "assets_ids": less}))
        if more := sorted((wanted - self._followed) | asked):
            head = {"operation": "subscribe"} if self._followed else {"type": "market"}
            await send(json.dumps({**head, "assets_ids": more, "custom_feature_enabled": True}))
        self._followed = wanted


async def _subscribe(send: Send, first: bool) -> None:
    if first:
        topics = [{"topic": topic, "type": "update"} for topic in _RTDS_TOPICS]
        await send(json.dumps({"action": "subscribe", "subscriptions": topics}))


async def _silent(_send: Send, _first: bool) -> None:
    """Binance is told what is wanted by the address."""
