"""The dead-man heartbeat: taken over, repeated after a lost reply, and a second sender noticed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from bot.account.reconciler import SUSPECT_S, Heartbeat
from bot.venue.types import HeartbeatMismatchError, VenueError
from bus import FencedError, Logging
from tests.unit.bot.fake_venue import FakeVenue
from tests.unit.bot.making import ManualClock, make_ledger, run, take


class Chain(FakeVenue):
    """A chain as the venue keeps it. lose: beats whose answer is lost, by their number."""

    def __init__(self, lose: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.expected, self.beats, self.lose = "from before", 0, lose

    async def heartbeat(self, previous_id: str, *, recover: bool = True) -> str:
        self.beats += 1
        if previous_id != self.expected and not recover:
            raise HeartbeatMismatchError("another id")
        self.expected = f"beat {self.beats}"
        if self.beats in self.lose:
            raise VenueError("no answer")
        return self.expected


def beat(folder: Path, venue: Chain, at_s: dict[float, Callable[[], None]], seconds: float) -> list[str | None]:
    """Run a heartbeat; what it said of entries each second. at_s: what happens when."""
    said: list[str | None] = []
    logging = Logging(color="blue", git_sha="a", deploy_id="")

    async def life() -> None:
        with make_ledger(folder, ManualClock()) as ledger:
            heart = Heartbeat(venue, ledger, 1, logging.log)
            task = asyncio.create_task(heart.run())
            loop = asyncio.get_running_loop()
            for when, what in at_s.items():
                loop.call_later(when, what)
            while len(said) < seconds and not task.done():
                await asyncio.sleep(1)
                said.append(heart.problem)
            task.cancel()
            for error in await asyncio.gather(task, return_exceptions=True):
                if isinstance(error, Exception):
                    raise error

    try:
        run(life())
    finally:
        logging.close()
    return said


def test_the_chain_is_taken_over_and_mended_after_a_lost_reply(tmp_path: Path) -> None:
    """The first beat takes the chain from the holder before; a lost reply closes entries only until the next answer."""
    venue = Chain(lose=(6,))
    said = beat(tmp_path, venue, {}, 60)
    assert [text for text in said if text] == ["the heartbeat was not answered: no answer"]
    assert venue.beats >= 12


def test_a_second_sender_closes_entries_for_a_while(tmp_path: Path) -> None:
    """The chain moved and no reply of ours was lost: somebody else trades here. The switch is kept from falling all the same."""
    venue = Chain()

    def intrude() -> None:
        venue.expected = "theirs"

    said = beat(tmp_path, venue, {22.0: intrude}, 120)
    closed = [second for second, text in enumerate(said) if text and "another sender" in text]
    assert SUSPECT_S - 5 <= len(closed) <= SUSPECT_S + 10
    assert said[-1] is None
    assert venue.beats >= 22


def test_a_beat_of_the_holder_before_that_comes_late_is_no_second_sender(tmp_path: Path) -> None:
    """Bytes may stay in the network for seconds after their process yielded."""
    venue = Chain()

    def arrive() -> None:
        venue.expected = "late"

    assert not any(beat(tmp_path, venue, {7.0: arrive}, 30))


def test_no_beat_leaves_under_an_epoch_that_is_over(tmp_path: Path) -> None:
    """A newer epoch exists: the heartbeat ends."""
    venue = Chain()
    clock = ManualClock()

    async def life() -> None:
        logging = Logging(color="blue", git_sha="a", deploy_id="")
        with make_ledger(tmp_path, clock) as ledger:
            take(ledger, clock, "two")
            with pytest.raises(FencedError):
                await Heartbeat(venue, ledger, 1, logging.log).run()
        logging.close()

    run(life())
    assert venue.beats == 0
