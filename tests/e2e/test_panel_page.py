"""The page in a real headless Chromium, served by a real panel, fed with real status files."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from bus import Control, ControlStatus, Mode, Status, is_halted, read_control
from tests.e2e.chromium import EXECUTABLE, Page, chromium
from tests.unit.panel.running import Bot, RunningPanel, make_status, running_panel

pytestmark = pytest.mark.skipif(
    not EXECUTABLE.exists(), reason=f"{EXECUTABLE} is missing: install Debian's package chromium"
)

VERDICT = "document.querySelector('#verdict-title').textContent"
BEAT_S = 0.4


class FollowingBot:
    """Writes status twice a second; sees and applies control when it is told to."""

    def __init__(self, panel: RunningPanel) -> None:
        self._bus, self._bot = panel.bus, Bot(panel.bus)
        self.follows = True
        self.fields: dict[str, object] = {}
        self._applied: Control = read_control(self._bus)

    def status(self) -> Status:
        """What an active bot would say now."""
        wanted = read_control(self._bus)
        if self.follows:
            self._applied = wanted
        status = make_status(control=ControlStatus(seen=wanted.generation, applied=self._applied.generation))
        slots = tuple(
            slot.model_copy(update={"enabled": (own := self._applied.slots.get(slot.slot)) is None or own.enabled})
            for slot in status.slots
        )
        entries = "open" if self._applied.mode is Mode.RUN else f"{self._applied.mode} was asked for"
        return status.model_copy(update={"slots": slots, "entries": entries, **self.fields})

    @asynccontextmanager
    async def beating(self) -> AsyncIterator[None]:
        """Write until the block ends."""

        async def beat() -> None:
            while True:
                self._bot.write(self.status())
                await asyncio.sleep(BEAT_S)

        task = asyncio.create_task(beat(), name="bot")
        yield
        task.cancel()


@pytest.fixture
def panel(tmp_path: Path) -> Iterator[RunningPanel]:
    """A panel on a fresh bus."""
    with running_panel(tmp_path) as running:
        yield running


@pytest.fixture
async def page(tmp_path: Path) -> AsyncIterator[Page]:
    """A browser's tab; at the end it must have had nothing to complain about."""
    async with chromium(tmp_path / "profile") as opened:
        await opened.look(width=1440, height=900, dark=True)
        yield opened
        assert opened.errors == []


async def test_status_appears_updates_itself_and_greys_when_it_is_old(panel: RunningPanel, page: Page) -> None:
    """16 slots show; a take changes color and epoch without a reload; a bot that falls silent greys the page within 5 s."""
    bot = FollowingBot(panel)
    await page.open(panel.listening["url"])
    await page.until(f"{VERDICT} === 'No status'")
    async with bot.beating():
        await page.until("document.querySelectorAll('#slot-rows tr').length === 16")
        await page.until(f"{VERDICT} === 'Trading'")
        assert await page.evaluate("document.querySelectorAll('tr[data-snipe]').length") == 2
        await page.evaluate("window.stillTheSamePage = true")
        bot.fields = {"color": "green", "epoch": 8, "sha": "b81d0e3c55aa93be1029384756abcdef01234567"}
        await page.until("document.querySelector('#fact-active').textContent === 'green b81d0e3'", limit_s=2)
        await page.until("document.querySelector('#log').textContent.includes('epoch 7 → 8')")
        assert await page.evaluate("window.stillTheSamePage")
        before = await page.evaluate("document.querySelector('#slots').getBoundingClientRect().top")
    await page.until("document.body.dataset.stale", limit_s=5)
    assert "Status is old" in await page.text("#verdict")
    assert await page.evaluate("document.querySelector('#slots').getBoundingClientRect().top") == before
    async with bot.beating():
        await page.until(f"{VERDICT} === 'Trading'")
        assert not await page.evaluate("document.body.dataset.stale")


async def test_pause_is_requested_seen_and_applied(panel: RunningPanel, page: Page) -> None:
    """The token is asked for once; the page shows requested until the bot has applied it, then Paused; resume undoes it."""
    bot = FollowingBot(panel)
    bot.follows = False
    async with bot.beating():
        await page.open(panel.listening["url"])
        await page.until(f"{VERDICT} === 'Trading'")
        await page.click("#pause")
        await page.until("document.querySelector('#token').open")
        await page.call("Input.insertText", text=panel.token)
        await page.press("Enter")
        await page.until("document.querySelector('#fact-control').textContent === 'pause · 2'")
        await page.until("document.querySelector('#fact-control-sub').textContent === '○ seen, not applied yet'")
        bot.follows = True
        await page.until("document.querySelector('#fact-control-sub').textContent === '✓ applied'")
        await page.until("document.querySelector('#log li[data-key^=write-2]').textContent.includes('✓ applied')")
        await page.until(f"{VERDICT} === 'Paused'")
        await page.click("#resume")
        await page.until(f"{VERDICT} === 'Trading'")
        assert read_control(panel.bus).generation == 3


async def test_halt_asks_first_and_resume_after_it_too(panel: RunningPanel, page: Page) -> None:
    """By keyboard: h and Escape change nothing, h and Enter halt; resuming asks before the halt file goes."""
    async with FollowingBot(panel).beating():
        await page.open(panel.listening["link"])
        await page.until(f"{VERDICT} === 'Trading'")
        assert await page.evaluate("location.hash") == ""
        await page.press("h")
        await page.until("document.querySelector('#ask').open")
        await page.press("Escape")
        await page.until("!document.querySelector('#ask').open")
        assert not is_halted(panel.bus)
        await page.press("h")
        await page.until("document.querySelector('#ask').open")
        await page.press("Enter")
        # The halt file comes first and shows at once; the generation follows.
        await page.until(f"{VERDICT} === 'Halted'")
        await page.until("document.querySelector('#fact-control').textContent === 'halt · 2'")
        assert is_halted(panel.bus)
        await page.click("#resume")
        await page.until("document.querySelector('#ask').open")
        await page.click("#ask-yes")
        await page.until(f"{VERDICT} === 'Trading'")
        assert not is_halted(panel.bus)


async def test_a_slot_is_switched_off_and_a_stale_press_is_explained(panel: RunningPanel, page: Page) -> None:
    """The switch follows; a write that came in between is not overwritten, and the page says so."""
    async with FollowingBot(panel).beating():
        await page.open(panel.listening["link"])
        await page.until("document.querySelectorAll('#slot-rows tr').length === 16")
        row = "document.querySelector('tr[data-key=\"DOGE-15m\"]')"
        await page.click('tr[data-key="DOGE-15m"] [role=switch]')
        await page.until(f"{row}.dataset.off")
        assert not read_control(panel.bus).slots["DOGE-15m"].enabled
        # The page's next write is based on an older generation, as when somebody else's write came just before it.
        await page.evaluate(
            "window.realFetch = fetch; window.fetch = async (url, options) => { window.fetch = window.realFetch; "
            "const body = JSON.parse(options.body); body.generation -= 1; "
            "return window.realFetch(url, { ...options, body: JSON.stringify(body) }) }; null"
        )
        await page.click("#pause")
        await page.until("!document.querySelector('#notice').hidden")
        assert "Somebody changed control meanwhile" in await page.text("#notice")
        assert read_control(panel.bus).mode is Mode.RUN


async def test_a_lost_panel_is_said_and_its_return_noticed(tmp_path: Path, page: Page) -> None:
    """While no panel answers the page greys and says that trading goes on; when it is back the page is, by itself."""
    with running_panel(tmp_path) as panel:
        async with FollowingBot(panel).beating():
            await page.open(panel.listening["url"])
            await page.until(f"{VERDICT} === 'Trading'")
    await page.until(f"{VERDICT} === 'Panel not reached'", limit_s=8)
    assert await page.evaluate("document.body.dataset.stale")
    with running_panel(tmp_path, PANEL_PORT=str(panel.port)) as back:
        async with FollowingBot(back).beating():
            await page.until(f"{VERDICT} === 'Trading'", limit_s=15)


@pytest.mark.parametrize("width", [360, 768, 1024, 1440])
async def test_nothing_is_cut_off_sideways(panel: RunningPanel, page: Page, width: int) -> None:
    """From phone to desktop the page never scrolls sideways, and every button can be reached."""
    await page.look(width=width, height=800, dark=False)
    async with FollowingBot(panel).beating():
        await page.open(panel.listening["url"])
        await page.until("document.querySelectorAll('#slot-rows tr').length === 16")
        assert await page.evaluate("document.documentElement.scrollWidth") <= width
        outside = (
            "[...document.querySelectorAll('main button, header button')].filter((b) => { "
            f"const r = b.getBoundingClientRect(); return r.right > {width} || r.left < 0 || r.height < 24 }}).length"
        )
        assert await page.evaluate(outside) == 0
