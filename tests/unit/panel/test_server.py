"""The panel as one: what runs beside the server does not end unnoticed."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest
import structlog

from bus import SystemClock, open_bus
from panel.events import Events
from panel.guard import Scope, Token
from panel.notify.service import Notifier
from panel.server import PanelSettings, serve
from tests import patience


async def broken(_self: object) -> None:
    await asyncio.sleep(0)
    raise KeyError("a bug")


@pytest.mark.parametrize("part", [Notifier, Events])
async def test_a_part_that_dies_ends_the_panel_so_that_it_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: type
) -> None:
    """Without it the page would look alive and tell nobody anything."""
    monkeypatch.setattr(part, "run", broken)
    with socket.create_server(("127.0.0.1", 0)) as sock:
        async with patience.timeout(30):
            code = await serve(
                bus=open_bus(tmp_path / "bus"),
                settings=PanelSettings(token_file=tmp_path / "token"),
                tokens=[Token("t" * 43, Scope.CONTROL, "t")],
                sock=sock,
                clock=SystemClock(),
                log=structlog.get_logger(),
            )
    assert code == 1
