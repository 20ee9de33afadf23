"""Which markets there are, what their strikes and outcomes are: looks at public routes, within their limits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace

import aiohttp

from recording.events import MarketEvent
from recording.format import Frame, Origin
from recording.hosts import Hosts
from recording.reading import decode, parse_slug
from recording.streams import Sink, said

_AT_ONCE = 4
_A_SECOND = 8.0  # Gamma allows 50 (venue-recorded 2)
_LIMIT_S = 5.0
_LOOK_S = 0.1
_MAX_BODY = 4 << 20
_FORGET_MS = 26 * 3_600_000
_LONGEST_BACKOFF_S = 60.0
_UNITS_MS = {"s": 1_000, "m": 60_000, "h": 3_600_000}


@dataclass(slots=True)
class Looked:
    """One window: when it is to be asked about next, and what is known of it."""

    slug: str
    start_ms: int
    end_ms: int
    due_ms: int = 0
    market: MarketEvent | None = None
    rules_asked: bool = False


@dataclass(frozen=True, slots=True)
class Grid:
    """Whose windows are followed."""

    assets: tuple[str, ...]
    """upper case, such as BTC"""
    timeframes: tuple[str, ...]
    """such as 5m"""

    def slugs(self, now_ms: int) -> list[str]:
        """Of the windows of now and of the next ones."""
        slugs: list[str] = []
        for timeframe in self.timeframes:
            length_ms = int(timeframe[:-1]) * _UNITS_MS[timeframe[-1]]
            first_s = (now_ms - now_ms % length_ms) // 1000
            for asset in self.assets:
                slugs += [f"{asset.lower()}-updown-{timeframe}-{s}" for s in (first_s, first_s + length_ms // 1000)]
        return slugs


def wait_ms(looked: Looked, now_ms: int) -> int:
    """How long until a window is asked about again. Pure."""
    market = looked.market
    if market is None:
        return 2_000 if now_ms > looked.start_ms - 60_000 else 10_000
    if now_ms < looked.start_ms:
        return min(30_000, max(1_000, looked.start_ms - now_ms))
    if now_ms >= looked.end_ms:
        age = now_ms - looked.end_ms
        return 2_000 if age < 60_000 else 5_000 if age < 600_000 else 30_000
    if market.strike is None:  # shown 20 to 90 s late, sometimes never (venue-recorded 2)
        return 2_000 if now_ms < looked.start_ms + 180_000 else 10_000
    return min(60_000, max(1_000, looked.end_ms - now_ms))


class Discovery:
    """Asks Gamma about the windows of some slots, and hands on each answer that says something new.

    Args:
        slots: the slugs that are wanted at a time.
        wall_ms: UTC ms.
        say: told of faults, by name and facts.
    """

    def __init__(
        self,
        hosts: Hosts,
        *,
        session: aiohttp.ClientSession,
        sink: Sink,
        slots: Callable[[int], list[str]],
        wall_ms: Callable[[], int],
        say: Callable[[str, dict[str, object]], None],
    ) -> None:
        self._hosts, self._session, self._sink = hosts, session, sink
        self._slots, self._wall_ms, self._say = slots, wall_ms, say
        self.windows: dict[str, Looked] = {}
        self._next_at = 0.0
        self._failures = 0

    def follow(self, slug: str) -> None:
        """Follow a window until it is resolved, although it may be over."""
        if slug not in self.windows:
            _, _, start_ms, end_ms = parse_slug(slug)
            self.windows[slug] = Looked(slug, start_ms, end_ms)

    def look_soon(self, condition_id: str) -> None:
        """Ask about a market at the next look: something was said of it elsewhere."""
        for looked in self.windows.values():
            if looked.market is not None and looked.market.condition_id == condition_id:
                looked.due_ms = 0

    def tokens(self, now_ms: int) -> set[str]:
        """The tokens of the markets whose books are wanted: of windows that are not over."""
        markets = [
            one.market for one in self.windows.values() if one.market is not None and now_ms < one.end_ms + 5_000
        ]
        return {token for market in markets for token in market.token_ids}

    async def check(self) -> str:
        """Ask Gamma and Binance once; why one does not answer, or "" where both do."""
        asked = self._slots(self._wall_ms())[0]
        for url in (f"{self._hosts.gamma}/events/slug/{asked}", f"{self._hosts.binance}/api/v3/time"):
            try:
                status, _, _ = await self._get(url)
            except (OSError, TimeoutError, aiohttp.ClientError) as error:
                return f"{url}: {said(error)}"
            if status != 200 and not (status == 404 and "/events/" in url):
                return f"{url}: answered {status}"
        return ""

    async def run(self) -> None:
        """Look until cancelled."""
        gate = asyncio.Semaphore(_AT_ONCE)
        asking: set[str] = set()
        loop = asyncio.get_running_loop()

        async def ask(looked: Looked) -> None:
            try:
                async with gate:
                    await self._ask(looked)
            finally:
                asking.discard(looked.slug)

        async with asyncio.TaskGroup() as group:
            while True:
                now = self._wall_ms()
                for slug in self._slots(now):
                    self.follow(slug)
                for looked in self._due(now):
                    if looked.slug not in asking and loop.time() >= self._next_at and len(asking) < _AT_ONCE:
                        self._next_at = loop.time() + 1 / _A_SECOND
                        asking.add(looked.slug)
                        group.create_task(ask(looked), name=f"look {looked.slug}")
                await asyncio.sleep(_LOOK_S)

    def _due(self, now_ms: int) -> list[Looked]:
        for looked in [*self.windows.values()]:
            resolved = looked.market is not None and looked.market.winner is not None
            if (resolved and now_ms > looked.end_ms + 60_000) or now_ms > looked.end_ms + _FORGET_MS:
                del self.windows[looked.slug]
        due = [
            looked
            for looked in self.windows.values()
            if looked.due_ms <= now_ms and (looked.market is None or looked.market.winner is None)
        ]
        return sorted(due, key=lambda looked: (looked.end_ms, looked.slug))

    async def _ask(self, looked: Looked) -> None:
        text = await self._answer(f"{self._hosts.gamma}/events/slug/{looked.slug}")
        if text is not None:
            events = decode(Frame(self._wall_ms(), Origin.GAMMA, text))
            market = next((event for event in events if isinstance(event, MarketEvent)), None)
            if market is not None and (looked.market is None or replace(market, recv_ms=0) != looked.market):
                looked.market = replace(market, recv_ms=0)
                self._sink.frame(Origin.GAMMA, text)
        if looked.market is not None and not looked.rules_asked:
            rules = await self._answer(f"{self._hosts.clob}/clob-markets/{looked.market.condition_id}")
            if rules is not None:
                looked.rules_asked = True
                self._sink.frame(Origin.CLOB_MARKET, rules)
        now = self._wall_ms()
        looked.due_ms = now + wait_ms(looked, now)

    async def _answer(self, url: str) -> str | None:
        """The body of an answer of 200; None where there is none. Anything but 200 and 404 makes all looks wait."""
        loop = asyncio.get_running_loop()
        try:
            status, text, retry = await self._get(url)
            reason = f"answered {status}"
        except (OSError, TimeoutError, aiohttp.ClientError) as error:
            status, text, retry, reason = 0, "", "", said(error)
        if status in (200, 404):
            if self._failures:
                self._say("upstream_answers_again", {"url": url})
            self._failures = 0
            return text if status == 200 else None
        if not self._failures:
            self._say(
                "upstream_look_failed", {"url": url, "reason": reason, "action": "it is asked again, later and later"}
            )
        self._failures += 1
        wait_s = float(retry) if retry.isdecimal() else 0.5 * 2.0 ** min(self._failures, 8)
        self._next_at = max(self._next_at, loop.time() + min(_LONGEST_BACKOFF_S, wait_s))
        return None

    async def _get(self, url: str) -> tuple[int, str, str]:
        async with asyncio.timeout(_LIMIT_S), self._session.get(url, allow_redirects=False) as answer:
            body = await answer.content.read(_MAX_BODY)
            while not answer.content.at_eof() and len(body) < _MAX_BODY:
                body += await answer.content.read(_MAX_BODY - len(body))
            return answer.status, body.decode("utf-8", "replace"), answer.headers.get("Retry-After", "")
