"""Which containers count as units, by an Engine that exists on paper only."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bus import Bus, SystemClock
from deployer import RuntimeFailedError, Start
from deployer.runtimes.docker.body import Mount, Place
from deployer.runtimes.docker.runtime import DockerRuntime, Given

SHA, PLACE = "a" * 40, Place(bus=Mount("bind", "/srv/bus"), network="net", user="1000:1000")


class SlowEngine:
    """Makes another container than the one that was asked for, and takes its time to remove it."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.removing: Callable[[], Any] | None = None

    async def call(self, _what: str, method: Callable[[Any], Any]) -> Any:
        """One request; `removing` is called while a container is being removed."""
        found = method(self)
        if self.rows and self.rows[0]["State"] == "removing" and self.removing is not None:
            then, self.removing = self.removing, None
            await then()
            self.rows.clear()
        return found

    def create_container_from_config(self, body: dict[str, Any], name: str) -> None:
        image = body["Labels"]["never-sleeps.image"]
        self.rows = [{"Id": "1", "Names": [f"/{name}"], "Labels": body["Labels"], "ImageID": image, "State": "created"}]

    def inspect_container(self, _name: str) -> dict[str, Any]:
        return {"State": {"ExitCode": 0}}

    def remove_container(self, _name: str, *, v: bool) -> None:
        assert v, "its volumes go with it"
        self.rows[0]["State"] = "removing"

    def containers(self, **_: Any) -> list[dict[str, Any]]:
        return list(self.rows)


class OneImage:
    """The image of one commit."""

    async def by_sha(self) -> dict[str, str]:
        return {SHA: "sha256:1"}

    def tag(self, sha: str) -> str:
        return f"never-sleeps-bot:{sha}"

    def labels(self, _sha: str) -> frozenset[str]:
        return frozenset()


async def test_a_container_that_is_removed_because_it_was_refused_is_no_unit(tmp_path: Path) -> None:
    """A look that falls between a container's refusal and its removal shows nothing that had started and died."""
    engine: Any = SlowEngine()
    images: Any = OneImage()
    images.engine = engine
    runtime = DockerRuntime(images, PLACE, Bus(tmp_path), tmp_path, SystemClock(), print, keep=1, given=Given({}))
    seen: list[Any] = []

    async def look() -> None:
        seen.append(await runtime.units())

    engine.removing = look
    with pytest.raises(RuntimeFailedError, match="was refused"):
        await runtime.start(Start(SHA, "green", "deploy-1"))
    assert seen == [()]
    assert await runtime.units() == ()
