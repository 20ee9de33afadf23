"""The user channel beside the polls: who connects again, and what is thought of one that says nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from bot.account.reconciler import AGREE_WITHIN_S, UserChannel
from bot.account.reconciler import CHANNEL_RETRY_S as RETRY_S
from bot.venue.types import UserEvent, VenueError
from bus import Logging
from tests.unit.bot.fake_venue import FakeVenue
from tests.unit.bot.making import run


class Channel(FakeVenue):
    """Ends `ends` times at once, then stays open."""

    def __init__(self, ends: int = 0) -> None:
        super().__init__()
        self.ends = ends

    async def follow_user(self, on_open: Callable[[], None], on_event: Callable[[UserEvent], None]) -> None:
        on_open()
        self.tell = on_event
        if self.ends:
            self.ends -= 1
            raise VenueError("user channel: it broke")
        await asyncio.Event().wait()


def listen(venue: Channel, life: Callable[[UserChannel], object]) -> tuple[int, int, list[str]]:
    """Run a channel while `life` does things with it; (connections, missed trades, ids of the trades it told of)."""
    opened: list[None] = []
    told: list[str] = []
    logging = Logging(color="blue", git_sha="a", deploy_id="")
    channel = UserChannel(venue, logging.log, lambda: opened.append(None), lambda event: told.append(event.trade_id))

    async def both() -> None:
        task = asyncio.create_task(channel.run())
        await asyncio.sleep(100)
        life(channel)
        await asyncio.sleep(100)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    run(both())
    logging.close()
    assert channel.connects == len(opened)
    return channel.connects, channel.missed, told


def test_a_channel_that_breaks_is_opened_again() -> None:
    """Each time it opens, what happened before is asked for."""
    connects, missed, _ = listen(Channel(ends=len(RETRY_S) + 2), lambda channel: None)
    assert (connects, missed) == (len(RETRY_S) + 3, 0)


def test_a_channel_that_tells_of_every_trade_stays_open() -> None:
    """A trade that was told of before or soon after it showed over HTTP is agreement."""
    venue = Channel()

    def life(channel: UserChannel) -> None:
        venue.tell(UserEvent(("0x01",), "0xc", "t1", "MATCHED"))
        channel.shown_over_http("t1")
        channel.shown_over_http("t2")
        asyncio.get_running_loop().call_later(
            AGREE_WITHIN_S - 1, venue.tell, UserEvent(("0x02",), "0xc", "t2", "MATCHED")
        )

    assert listen(venue, life) == (1, 0, ["t1", "t2"])


def test_a_channel_that_says_nothing_of_a_trade_is_opened_anew() -> None:
    """A trade of ours shows over HTTP and the channel never tells: it is dead, whatever it answers to a PING."""
    connects, missed, _ = listen(Channel(), lambda channel: channel.shown_over_http("t1"))
    assert (connects, missed) == (2, 1)
