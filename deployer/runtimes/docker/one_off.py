"""Comparisons of decisions as one-off containers: of the commit's image, the bus to read, no network, little processor."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from deployer.errors import EngineRefusedError, RuntimeFailedError
from deployer.runtimes.api import COMPARE_LIMIT_S, OneOff
from deployer.runtimes.docker.body import COMPARES, Place, comparison_body, faults_of_comparison
from deployer.runtimes.docker.engine import Engine
from deployer.runtimes.docker.images import Images

MAX_BYTES = 4 << 20
CALL_S = 10.0


class Comparisons:
    """The comparisons of one bus. environment: the deployer's own."""

    def __init__(self, engine: Engine, images: Images, place: Place, environment: Mapping[str, str]) -> None:
        self._engine, self._images, self._place, self._environment = engine, images, place, environment
        self._running: set[str] = set()

    async def run(self, sha: str, by: str) -> OneOff:
        """One comparison with what the commit `by` decided; its container is always removed. Raises RuntimeFailedError."""
        failed = "it could not be compared"
        await self.clear()
        image_id = (await self._images.by_sha()).get(sha)
        if image_id is None:
            raise RuntimeFailedError("its image is gone")
        name = f"compare-{sha[:7]}-{secrets.token_hex(3)}"
        body = comparison_body(sha, by, self._images.tag(sha), image_id, self._place, self._environment)
        self._running.add(name)
        try:
            await self._engine.call(failed, lambda client: client.create_container_from_config(body, name))
            inspected = await self._engine.call(failed, lambda client: client.inspect_container(name))
            if faults := faults_of_comparison(inspected, self._place):
                raise RuntimeFailedError(f"the container that the Engine made was refused: {'; '.join(faults)}")
            await self._engine.call(failed, lambda client: client.start(name))
            try:
                async with asyncio.timeout(COMPARE_LIMIT_S):
                    # The Engine answers when it ended, so this call alone has a longer limit of its own.
                    ended = await self._engine.call(
                        failed, lambda client: client.wait(name, timeout=COMPARE_LIMIT_S + CALL_S)
                    )
            except TimeoutError as error:
                raise RuntimeFailedError(f"it did not end within {COMPARE_LIMIT_S:g} s") from error
            out, errors = await self._said(name, stdout=True), await self._said(name, stdout=False)
        finally:
            self._running.discard(name)
            await self._remove(name)
        return OneOff(int(ended["StatusCode"]), out, errors)

    async def clear(self) -> None:
        """Remove what a deployer left that died in the middle of one. Raises RuntimeFailedError."""
        found = await self._engine.call(
            "the comparisons could not be listed",
            lambda client: client.containers(all=True, filters={"label": [f"{COMPARES}={self._place.bus_id}"]}),
        )
        for row in found:
            if self._running.isdisjoint(name.lstrip("/") for name in row.get("Names") or []):
                await self._remove(row["Id"])

    async def _said(self, name: str, *, stdout: bool) -> str:
        def read(client: Any) -> bytes:
            said = b""
            for piece in client.logs(name, stdout=stdout, stderr=not stdout, stream=True, follow=False):
                said += piece
                if len(said) > MAX_BYTES:
                    raise RuntimeFailedError(f"it wrote more than {MAX_BYTES >> 20} MB")
            return said

        return (await self._engine.call("what it said could not be read", read)).decode("utf-8", "replace")

    async def _remove(self, container: str) -> None:
        with suppress(EngineRefusedError):  # it was never made, or is being removed
            await self._engine.call(
                "a comparison could not be removed",
                lambda client: client.remove_container(container, v=True, force=True),
            )
