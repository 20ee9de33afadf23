"""Who reads the bot's log too slowly, or not at all, holds up nothing."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from bus import Logging
from tests.unit.bot import running
from tests.unit.bot.lifecycle.test_instance import until
from tests.unit.bot.making import run
from tests.unit.bot.running import Running

FULL = 1 << 22


@pytest.fixture
def full_pipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Stdout is a pipe that is full and that nobody reads."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    filled = 0
    while filled < FULL:
        try:
            filled += os.write(writer, b"x" * 4096)
        except BlockingIOError:
            break
    assert filled < FULL, "the pipe never became full"
    os.set_blocking(writer, True)
    # The test's own stdout is pytest's: the log is given the pipe by its descriptor.
    monkeypatch.setattr(running, "Logging", functools.partial(Logging, writer))
    yield
    os.close(reader)  # wakes the writer thread, which waits in the kernel
    os.close(writer)


@pytest.mark.usefixtures("full_pipe")
def test_a_full_pipe_on_stdout_stops_no_poll(tmp_path: Path) -> None:
    """With a stdout that takes not one byte the bot becomes active, polls at every tick, and ends."""
    system = Running(tmp_path)

    async def trade() -> None:
        async with system.instance():
            await until("ten polls", lambda: system.count("SELECT count(*) FROM polls_completed") >= 10)
        assert system.count("SELECT coalesce(sum(ticks), 0) FROM polls_missed") == 0

    run(trade())
