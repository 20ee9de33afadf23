"""The Engine's events: a hint that the list of containers changed, so that it is asked for when it did and not all the time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from deployer.errors import RuntimeFailedError
from deployer.runtimes.docker.body import BUS
from deployer.runtimes.docker.engine import Engine

RETRY_S = 1.0


class Events:
    """Follows what happens to the containers of one bus. live: the Engine would tell of a change now."""

    def __init__(self, engine: Engine, bus_id: str) -> None:
        self._engine, self._bus_id = engine, bus_id
        self.live = False

    async def follow(self, changed: Callable[[], None]) -> None:
        """Call `changed` after each event and whenever the stream begins or ends; until cancelled."""
        while True:
            await self._follow_once(changed)
            await asyncio.sleep(RETRY_S)  # the Engine restarts, or refuses: whoever lists the containers says why

    async def _follow_once(self, changed: Callable[[], None]) -> None:
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        streams: list[Any] = []
        filters = {"type": ["container"], "label": [f"{BUS}={self._bus_id}"]}

        def tell(live: bool) -> None:
            self.live = live
            changed()

        def in_loop(method: Callable[..., None], *arguments: bool) -> None:
            with suppress(RuntimeError):  # the deployer ended meanwhile, and its loop with it
                loop.call_soon_threadsafe(method, *arguments)

        def read(client: Any) -> None:
            stream = client.events(filters=filters)
            streams.append(stream)
            in_loop(tell, True)
            for _ in stream:
                in_loop(tell, True)
            in_loop(ended.set)

        def failed(_: RuntimeFailedError) -> None:
            in_loop(ended.set)

        self._engine.begin("the events cannot be followed", read, failed)
        try:
            await ended.wait()
        finally:
            tell(False)
            if not ended.is_set():
                for stream in streams:
                    stream.close()
