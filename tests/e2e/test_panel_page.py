"""The page in a real headless Chromium, served by a real panel, fed with real status files."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from decimal import Decimal
from pathlib import Path

import pytest
import pytest_asyncio

from bus import (
    Bus,
    Control,
    ControlStatus,
    FeedStatus,
    Instance,
    InstanceFile,
    ManualStatus,
    Mode,
    RiskLimits,
    Role,
    Status,
    Step,
    SystemClock,
    Totals,
    append_step,
    is_halted,
    new_id,
    read_control,
    read_requests,
    write_control,
)
from tests.e2e.chromium import EXECUTABLE, Page, chromium
from tests.e2e.rig import until
from tests.unit.panel.ledgers import make_day, make_ledger
from tests.unit.panel.notifying import sink
from tests.unit.panel.running import Bot, RunningPanel, deployer_runs, make_status, running_panel

pytestmark = [
    pytest.mark.skipif(not EXECUTABLE.exists(), reason=f"{EXECUTABLE} is missing: install Debian's package chromium"),
    pytest.mark.asyncio(loop_scope="module"),
]

VERDICT = "document.querySelector('#verdict-title').textContent"
BEAT_S = 0.4


class FollowingBot:
    """Writes status twice a second; sees and applies control when it is told to."""

    def __init__(self, panel: RunningPanel) -> None:
        self._bus, self._bot = panel.bus, Bot(panel.bus)
        self.follows = True
        self.fields: dict[str, object] = {}
        self.refuses: tuple[str, ...] = ()
        self._applied: Control = read_control(self._bus)

    def status(self) -> Status:
        """What an active bot would say now."""
        wanted = read_control(self._bus)
        if self.follows:
            self._applied = wanted
        manual = tuple(ManualStatus(id=one.id, state="refused", text="above the limit") for one in self._applied.manual)
        said = ControlStatus(
            seen=wanted.generation, applied=self._applied.generation, refused=self.refuses, manual=manual
        )
        status = make_status(control=said)
        slots = tuple(
            slot.model_copy(update={"enabled": (own := self._applied.slots.get(slot.slot)) is None or own.enabled})
            for slot in status.slots
        )
        mode = self._applied.mode_at(SystemClock().wall_ms())  # a pause with an end is over by itself
        entries = "open" if mode is Mode.RUN else f"{mode} was asked for"
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


@contextmanager
def spare_stands_by(bus: Bus) -> Iterator[None]:
    """A healthy instance that does not trade."""
    clock = SystemClock()
    spare = Instance(id=new_id(clock, "green", "abc"), role=Role.STANDBY, color="green", sha="abc", healthy=True)
    file = InstanceFile(bus, clock, spare)
    file.write(spare)
    try:
        yield
    finally:
        file.close()


@contextmanager
def all_well(directory: Path, **settings: str) -> Iterator[RunningPanel]:
    """A panel whose bus has a deployer and a spare."""
    with running_panel(directory, **settings) as running, deployer_runs(running.bus), spare_stands_by(running.bus):
        yield running


@pytest.fixture
def panel(tmp_path: Path) -> Iterator[RunningPanel]:
    """A panel on a fresh bus, and a deployer's lock, as if one ran."""
    with all_well(tmp_path) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Page]:
    """One browser for all tests: each panel has a port of its own, so that nothing in it is another's."""
    async with chromium(tmp_path_factory.mktemp("browser")) as opened:
        yield opened


@pytest_asyncio.fixture(loop_scope="module")
async def page(browser: Page) -> AsyncIterator[Page]:
    """A tab; at the end it must have had nothing to complain about."""
    await browser.look(width=1440, height=900, dark=True)
    browser.errors.clear()
    yield browser
    errors = list(browser.errors)
    await browser.call("Page.navigate", url="about:blank")
    assert errors == []


async def test_status_appears_updates_itself_and_greys_when_it_is_old(panel: RunningPanel, page: Page) -> None:
    """16 slots show; a take changes color and epoch without a reload; a bot that falls silent greys the page within 5 s."""
    bot = FollowingBot(panel)
    await page.open(panel.link())
    await page.until(f"{VERDICT} === 'No status'")
    async with bot.beating():
        await page.until("document.querySelectorAll('#slot-rows tr').length === 16")
        await page.show("trade")
        await page.until(f"{VERDICT} === 'Trading'")
        assert await page.evaluate("document.querySelectorAll('tr[data-snipe]').length") == 2
        await page.evaluate("window.stillTheSamePage = true")
        bot.fields = {"color": "green", "epoch": 8, "sha": "b81d0e3c55aa93be1029384756abcdef01234567"}
        await page.until("document.querySelector('#fact-active').textContent === 'green b81d0e3'")
        await page.until("document.querySelector('#log').textContent.includes('epoch 7 → 8')")
        assert await page.evaluate("window.stillTheSamePage")
        before = await page.evaluate("document.querySelector('#slots').getBoundingClientRect().top")
    await page.until("document.body.dataset.stale")
    assert "Status is old" in await page.text("#verdict")
    assert await page.evaluate("document.querySelector('#slots').getBoundingClientRect().top") == before
    async with bot.beating():
        await page.until(f"{VERDICT} === 'Trading'")
        assert not await page.evaluate("document.body.dataset.stale")


async def test_pause_is_requested_seen_and_applied(panel: RunningPanel, page: Page) -> None:
    """A wrong token shows nothing, the right one is asked for once; a write shows as requested until the bot has applied it."""
    bot = FollowingBot(panel)
    bot.follows = False
    async with bot.beating():
        await page.open(panel.listening["url"])
        await page.until("document.querySelector('#token').open")
        await page.call("Input.insertText", text="w" * 43)
        await page.press("Enter")
        await page.until("document.querySelector('#token-why').textContent.includes('not accepted')")
        assert await page.evaluate("document.querySelectorAll('#slot-rows tr').length") == 0
        await page.call("Input.insertText", text=panel.token)
        await page.press("Enter")
        await page.until(f"{VERDICT} === 'Trading'")
        await page.click("#pause")
        await page.until("document.querySelector('#fact-control').textContent === 'pause · 2'")
        await page.until("document.querySelector('#fact-control-sub').textContent === '○ seen, not applied yet'")
        bot.follows = True
        await page.until("document.querySelector('#fact-control-sub').textContent === '✓ applied'")
        await page.until("document.querySelector('#log li[data-key^=write-2]').textContent.includes('✓ applied')")
        await page.until(f"{VERDICT} === 'Paused'")
        await page.click("#resume")
        await page.until(f"{VERDICT} === 'Trading'")
        assert read_control(panel.bus).generation == 3
        # One that ends by itself says until when and why. Once the time is over it is over on the page as well.
        panel.post("pause", generation=3, for_s=1800, why="CPI at 14:30")
        await page.until(f"{VERDICT}.startsWith('Paused until ')")
        assert "Why: CPI at 14:30." in await page.text("#verdict-detail")
        over = {"pause_until_ms": SystemClock().wall_ms() - 1}
        write_control(panel.bus, 4, lambda control: control.changed(**over), by="test", clock=SystemClock())
        await page.until(f"{VERDICT} === 'Trading'")
        assert await page.evaluate(
            "!document.querySelector('#pause').disabled && document.querySelector('#resume').disabled"
        )
        assert read_control(panel.bus).mode is Mode.PAUSE


async def test_halt_asks_first_and_resume_after_it_too(panel: RunningPanel, page: Page) -> None:
    """By keyboard: h and Escape change nothing, h and Enter halt; resuming asks before the halt file goes."""
    async with FollowingBot(panel).beating():
        await page.open(panel.link())
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
        await page.open(panel.link())
        await page.until("document.querySelectorAll('#slot-rows tr').length === 16")
        row = "document.querySelector('tr[data-key=\"DOGE-15m\"]')"
        await page.show("trade")
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
        await page.until("document.querySelector('#notice').textContent.includes('Somebody changed control meanwhile')")
        said = await page.text("#notice")
        assert "slot DOGE-15m off by panel/" in said, "it says who, and what they did"
        assert read_control(panel.bus).mode is Mode.RUN


async def test_it_is_never_green_while_something_is_wrong(tmp_path: Path, page: Page) -> None:
    """No deployer, no spare, every slot off, a venue that is closed: each takes the green away, and is named."""
    detail = "document.querySelector('#verdict-detail').textContent"
    green = f"{VERDICT} === 'Trading' && {detail} === 'All is well.'"
    with running_panel(tmp_path) as panel:
        bot = FollowingBot(panel)
        off = tuple(slot.model_copy(update={"enabled": False}) for slot in bot.status().slots)
        async with bot.beating():
            await page.open(panel.link())
            await page.until(f"{VERDICT} !== 'Trading' && {detail}.includes('No deployer runs')")
            with deployer_runs(panel.bus):
                await page.until(
                    f"{VERDICT} !== 'Trading' && {detail} === 'No spare stands by: a crash would cost polls.'"
                )
                with spare_stands_by(panel.bus):
                    await page.until(green)
                    assert (await page.text("#mode")).split() == ["PAPER", "invented", "prices"]
                    bot.fields = {"venue_mode": "cancel-only"}
                    await page.until(f"{VERDICT} !== 'Trading' && {detail}.includes('Venue is cancel-only')")
                    bot.fields = {"slots": off, "venue": "live"}
                    await page.until(f"{VERDICT} !== 'Trading' && {detail}.includes('Every slot is off')")
                    assert await page.evaluate("document.querySelector('#mode').dataset.mode") == "live"
                    bot.fields = {}
                    await page.until(green)


async def test_a_refused_change_is_said_with_its_reason(panel: RunningPanel, page: Page) -> None:
    """What the bot does not take stands in the page's notice, its log and its header until somebody has read it."""
    bot = FollowingBot(panel)
    async with bot.beating():
        await page.open(panel.link())
        await page.until(f"{VERDICT} === 'Trading'")
        bot.refuses = ("strategy.kelly: expected a number from 0 to 1, found 7; 0.25 stays",)
        await page.show("strategy")
        await page.click("#strategy-change")
        await page.until("document.querySelector('#ask').open")
        await page.evaluate("document.querySelector('#ask-fields [name=kelly]').value = '7'")
        await page.click("#ask-yes")
        await page.until("document.querySelector('#notice').textContent.includes('0.25 stays')")
        assert read_control(panel.bus).strategy == {"kelly": 7}
        await page.until("document.querySelector('#log li[data-key^=write-2] .mark').textContent === '✕'")
        await page.until("document.querySelector('#fact-control-sub').textContent === '! applied in part'")
        assert await page.text("#verdict-title") == "Trading, with concerns"


async def test_buying_and_flattening_by_hand_are_asked_written_and_followed(panel: RunningPanel, page: Page) -> None:
    """A buy says what it would cost before it is made; flatten asks first; what the bot says of each is shown."""
    bot = FollowingBot(panel)
    async with bot.beating():
        await page.open(panel.link())
        await page.until("document.querySelectorAll('#slot-rows tr').length === 16")
        await page.show("trade")
        await page.click('tr[data-key="BTC-5m"] [data-part=enter]')
        await page.until("document.querySelector('#ask').open")
        assert "offered at" in await page.text("#ask-text")
        await page.evaluate("document.querySelector('#ask-fields [name=max_spend]').focus()")
        await page.call("Input.insertText", text="12.5")
        await page.press("Enter")
        await page.until("document.querySelector('#notice').textContent.includes('refused: above the limit')")
        (wanted,) = read_control(panel.bus).manual
        assert (wanted.slot, wanted.outcome, str(wanted.max_spend)) == ("BTC-5m", "Up", "12.5")
        await page.press("f")
        await page.until("document.querySelector('#ask').open")
        assert "SOL-5m: Up 42.5" in await page.text("#ask-text")
        await page.press("Escape")
        assert len(read_control(panel.bus).manual) == 1
        await page.press("f")
        await page.until("document.querySelector('#ask').open")
        await page.click("#ask-yes")
        await page.until("document.querySelector('#notice').textContent.includes('16 refused')")
        exits = [one for one in read_control(panel.bus).manual if one.action == "exit"]
        assert len({one.window for one in exits}) == len(exits) == 16


async def test_risk_is_changed_and_a_rollback_asked_of_the_deployer(panel: RunningPanel, page: Page) -> None:
    """Only the limit that was changed is written; a rollback to a deploy's commit asks first, then leaves its request."""
    sha = "b81d0e3c55aa93be1029384756abcdef01234567"
    for number, step in enumerate(("queued", "confirmed", "answered")):
        append_step(panel.bus, Step(deploy="d1", step=step, sha=sha, by="branch main", time_ms=number, ms=number))
    append_step(panel.bus, Step(deploy="", step="answered", time_ms=9, text="runs already"))
    async with FollowingBot(panel).beating():
        await page.open(panel.link())
        await page.until("document.querySelectorAll('#deploys > li').length === 1")
        assert await page.text("#deploys .result") == "confirmed"
        await page.show("strategy")
        await page.click("#risk-change")
        await page.until("document.querySelector('#ask').open")
        await page.evaluate("document.querySelector('#ask-fields [name=max_total]').value = '900'")
        await page.click("#ask-yes")
        await page.until("document.querySelector('#risk').textContent.includes('of 900.00changed by panel/')")
        parameters = await page.text("#strategy")
        assert "0.25 of the Kelly stake" in parameters
        assert "default 0.5 · 0 to 1" in parameters
        assert read_control(panel.bus).risk == RiskLimits(max_total=Decimal(900))
        await page.show("deploys")
        await page.click("#deploys [data-part=back]")
        await page.until("document.querySelector('#ask').open")
        assert read_requests(panel.bus)[0] == []
        await page.click("#ask-yes")
        await page.until("document.querySelector('#log').textContent.includes('Asked the deployer: rollback')")
        (request,) = read_requests(panel.bus)[0]
        assert (request.action, request.ref, request.now) == ("rollback", sha, True)


async def test_the_journal_shows_what_the_ledger_holds(panel: RunningPanel, page: Page) -> None:
    """Orders, fills, outcomes and days, of one slot or all; what is shown is saved as CSV in which no text is a formula."""
    rows = "[...document.querySelectorAll('#journal > li')].map((li) => li.textContent).join(' | ')"
    make_ledger(panel.bus, SystemClock().wall_ms())
    async with FollowingBot(panel).beating():
        await page.open(panel.link())
        await page.until("document.querySelectorAll('#journal-slot option').length === 17")
        await page.show("journal")
        await page.until(f"{rows}.includes('ETH-5m BUY Up 10 at 50.0') && {rows}.includes('filled 4')")
        assert "in doubt" in await page.evaluate(rows)

        async def choose(what: str, value: str) -> None:
            await page.evaluate(
                f"(() => {{ const e = document.querySelector('#journal-{what}'); e.value = '{value}'; "
                "e.dispatchEvent(new Event('change')) })()"
            )

        await choose("slot", "BTC-5m")
        await page.until(f"!{rows}.includes('ETH-5m') && {rows}.includes('BTC-5m')")
        for kind, said in (("fills", "failed on chain"), ("outcomes", "+3.50"), ("pnl", "1 windows · 0 won, 1 lost")):
            await choose("kind", kind)
            await page.until(f"{rows}.includes('{said}') && !{rows}.includes('ETH-5m')")
        made = await page.evaluate(
            "import('/pages/journal.js').then((one) => "
            "one.csv([{ a: '=1+1', b: -0.5, c: 'x, \"y\"' }, { a: null, b: '-2+1', c: '@z' }]))"
        )
        assert made == 'a,b,c\r\n\'=1+1,-0.5,"x, ""y"""\r\n,\'-2+1,\'@z\r\n'


async def test_performance_is_of_the_time_that_is_chosen_and_an_orders_life_opens(
    panel: RunningPanel, page: Page
) -> None:
    """Sums of the whole ledger by what is chosen, days as a calendar, calibration; a row of the journal opens its order."""
    groups = "[...document.querySelectorAll('#groups > li')].map((li) => li.textContent).join(' | ')"
    by_commit = (
        "(() => { const e = document.querySelector('#groups-by'); e.value = 'commit'; "
        "e.dispatchEvent(new Event('change')) })()"
    )
    make_ledger(panel.bus, SystemClock().wall_ms())
    async with FollowingBot(panel).beating():
        await page.open(panel.link())
        await page.until(
            "document.querySelector('#pnl-sub').textContent.startsWith('+3.00 in this time, +1.00 in all')"
        )
        await page.show("performance")
        await page.until(f"{groups}.includes('BTC-5m') && {groups}.includes('+1.50')")
        facts = await page.text("#performance-facts")
        assert "1 of 3" in facts
        assert "33 % (6 to 79 %)" in facts
        assert "2.00" in facts
        await page.evaluate(by_commit)
        await page.until(f"{groups}.includes('+3.50') && !{groups}.includes('BTC')")
        days = "[...document.querySelectorAll('#calendar li[data-tone]')].map((li) => li.textContent)"
        assert await page.evaluate(f"{days}.length") == 2
        calibration = "document.querySelector('#calibration').textContent"
        await page.until(f"{calibration}.includes('60 s left: the market knew better than the model')")
        await page.until(f"{calibration}.includes('market said 0.1 to 0.3')")
        await page.show("journal")
        await page.click("#journal > li:last-child .open")
        await page.until("document.querySelectorAll('.life li').length === 7")
        told = await page.text(".life")
        assert [word for word in ("intended", "accepted", "filled", "failed", "resolved") if word not in told] == []
        await page.click("#journal > li:last-child .open")
        await page.until("!document.querySelector('.life')")


async def test_who_is_notified_is_shown_and_a_test_says_what_each_answered(page: Page, tmp_path: Path) -> None:
    """The button sends a test; each answer is said and stays in the list; one that fails is a concern; no address shows."""
    file = tmp_path / "targets"
    file.touch(mode=0o600)
    with sink() as one, sink() as other:
        file.write_text(f"{one.address('S3cret')}\n{other.address('S3cret')}\n")
        other.status = 403
        with all_well(tmp_path, PANEL_NOTIFY_FILE=str(file), PANEL_NOTIFY_QUIET="22:00-07:00") as panel:
            async with FollowingBot(panel).beating():
                await page.open(panel.link())
                await page.until(f"{VERDICT} === 'Trading'")
                rows = "[...document.querySelectorAll('#notifications > li')].map((li) => li.textContent).join(' | ')"
                await page.until(f"{rows}.includes('nothing was sent yet')")
                assert await page.text("#notifications-sub") == "quiet 22:00-07:00"
                await page.show("access")
                await page.click("#notify-test")
                said = "json in line 1: sent · json in line 2: it answered with status 403"
                await page.until(f"document.querySelector('#notice-text').textContent === '{said}'")
                await page.until(f"{rows}.includes('it answered with status 403')")
                await page.until(
                    "document.querySelector('#verdict-detail').textContent.includes('Not notified: json in line 2.')"
                )
                assert len(one.words) == 1
                assert "S3cret" not in await page.evaluate("document.documentElement.outerHTML")


async def test_a_second_tab_shows_the_same_over_one_connection(panel: RunningPanel, page: Page) -> None:
    """Tabs share one stream, since a browser opens six to a host; when the tab that holds it closes another goes on."""
    async with FollowingBot(panel).beating():
        await page.open(panel.link())
        await page.until(f"{VERDICT} === 'Trading'")
        # A frame of the same origin would be refused by the page's own policy: a window is what a second tab is.
        second = await page.second_tab(panel.link())
        await second.until(f"{VERDICT} === 'Trading'")
        assert not await second.evaluate(
            "performance.getEntriesByType('resource').some((one) => one.name.endsWith('/api/events'))"
        )
        await page.call("Page.navigate", url="about:blank")
        await second.until("performance.now() > 0")
        sequence = await second.evaluate("document.querySelector('#fact-active-sub').textContent")
        assert "epoch 7" in sequence
        await second.until(f"{VERDICT} === 'Trading'")
        await second.end()


async def test_a_wrong_token_in_one_tab_shows_nothing_whatever_other_tabs_know(panel: RunningPanel, page: Page) -> None:
    """What a tab with a good token tells the others is for those alone whose own token the panel has accepted."""
    rows = "document.querySelectorAll('#slot-rows tr').length"
    async with FollowingBot(panel).beating():
        await page.open(panel.link())
        await page.until(f"{rows} === 16")
        second = await page.second_tab(panel.listening["url"])
        await second.evaluate(
            f"window.most = 0; setInterval(() => {{ window.most = Math.max(window.most, {rows}) }}, 5); null"
        )
        await second.evaluate(
            "window.used = 0; document.querySelector('#token').addEventListener('close', () => { window.used += 1 }); null"
        )
        asked = "document.querySelector('#token').open && document.querySelector('#token-input').value === ''"
        await second.until(asked)
        for wrong in (1, 2):
            await second.call("Input.insertText", text="w" * 43)
            await second.press("Enter")
            await second.until(f"window.used === {wrong} && {asked}")
            assert "not accepted" in await second.evaluate("document.querySelector('#token-why').textContent")
        assert await second.evaluate("window.most") == 0
        assert await second.evaluate("document.body.dataset.locked") == "true"
        await second.call("Input.insertText", text=panel.token)
        await second.press("Enter")
        await second.until(f"{rows} === 16")
        assert await page.evaluate(rows) == 16
        await second.end()


async def test_a_link_opens_the_page_once_and_its_address_is_worth_nothing_after(
    panel: RunningPanel, page: Page
) -> None:
    """What the browser remembers of it neither holds the token nor gets one."""
    async with FollowingBot(panel).beating():
        link = panel.link()
        await page.open(link)
        await page.until(f"{VERDICT} === 'Trading'")
        history = await page.call("Page.getNavigationHistory")
        assert panel.token not in str(history)
        await page.evaluate("sessionStorage.clear()")
        await page.call("Page.navigate", url="about:blank")
        await page.open(link)
        await page.until("document.querySelector('#token-why').textContent.includes('used before')")
        assert await page.evaluate("document.body.dataset.locked") == "true"
        page.errors.clear()


async def test_another_sites_page_can_neither_read_nor_write(panel: RunningPanel, page: Page) -> None:
    """A page of another origin that even knows the token gets nothing, and changes nothing."""
    await page.open(panel.listening["url"].replace("127.0.0.1", "localhost"))
    generation = read_control(panel.bus).generation
    headers = f"headers: {{authorization: 'Bearer {panel.token}', 'content-type': 'application/json'}}"

    def tried(path: str, more: str) -> str:
        address = f"{panel.listening['url']}/api/{path}"
        return f"fetch('{address}', {{{more}, {headers}}}).then((answer) => answer.status, () => 'refused')"

    write = f"method: 'POST', body: JSON.stringify({{generation: {generation}}})"
    # The page's own policy forbids it in the browser; a page without one meets the guard (test_panel_api).
    assert await page.evaluate(tried("pause", write)) == "refused"
    assert await page.evaluate(tried("status", "method: 'GET'")) == "refused"
    assert read_control(panel.bus).generation == generation
    page.errors.clear()


async def test_a_lost_panel_is_said_and_its_return_noticed(page: Page, tmp_path: Path) -> None:
    """While no panel answers the page greys and says that trading goes on; when it is back the page is, by itself."""
    with all_well(tmp_path) as panel:
        async with FollowingBot(panel).beating():
            await page.open(panel.link())
            await page.until(f"{VERDICT} === 'Trading'")
    await page.until(f"{VERDICT} === 'Panel not reached'")
    assert await page.evaluate("document.body.dataset.stale")
    with all_well(tmp_path, PANEL_PORT=str(panel.port)) as back:
        async with FollowingBot(back).beating():
            await page.until(f"{VERDICT} === 'Trading'")


PAGES = ("overview", "trade", "slot/SOL-5m", "journal", "performance", "strategy", "deploys", "health", "access")
SHOWN = "document.querySelector('.page:not([hidden])').dataset.page"
DRAWN = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done())))"


async def test_pages_are_reached_by_address_and_keyboard_and_the_strip_stays(
    panel: RunningPanel, page: Page, tmp_path: Path
) -> None:
    """A link leads to its page, also anew; what is no page is the overview; whoever may look alone can press nothing."""
    read = (tmp_path / "run" / "token-read").read_text().strip()
    buttons = "[...document.querySelectorAll('[data-writes]')]"
    async with FollowingBot(panel).beating():
        await page.open(f"{panel.listening['url']}/#/slot/SOL-5m")
        await page.until("document.querySelector('#token').open")
        await page.call("Input.insertText", text=read)
        await page.press("Enter")
        await page.until("document.querySelector('#slot-facts').textContent.includes('Up 42.5')")
        assert await page.evaluate(SHOWN) == "slot"
        assert "+5.53" in await page.text("#slot-facts"), "the position's, not the slot's"
        await page.until("document.querySelector('#trail-chart').textContent.includes('182.314')")  # the strike's line
        await page.until("document.querySelector('#tokens').textContent.includes('look alone')")
        await page.until(f"{buttons}.length > 40 && {buttons}.every((one) => one.disabled)")
        await page.press("h")
        await page.evaluate(DRAWN)
        assert not await page.evaluate("document.querySelector('#ask').open")
        await page.evaluate("document.querySelector('#pages a[href=\"#/health\"]').focus()")
        await page.press("Enter")
        await page.until(f"{SHOWN} === 'health' && document.activeElement.getAttribute('aria-current') === 'page'")
        await page.evaluate("history.back()")
        await page.until(f"{SHOWN} === 'slot'")
        for nothing in ("#/nowhere", "#/slot/", "#/trade/x", "#/slot/%ff"):
            await page.evaluate("location.hash = '#/trade'; null")
            await page.until(f"{SHOWN} === 'trade'")
            await page.evaluate(f"location.hash = '{nothing}'; null")
            await page.until(f"{SHOWN} === 'overview'")
        for name in PAGES:
            await page.evaluate(f"location.hash = '#/{name}'; null")
            await page.until(f"{SHOWN} === '{name.partition('/')[0]}'")
            strip = "['verdict', 'who', 'pause', 'flatten', 'halt'].map((id) => document.getElementById(id))"
            assert await page.evaluate(f"{strip}.every((one) => one.offsetHeight > 0)"), name
        assert (await page.text("#who")).split() == ["blue", "4f2c91a"]


async def test_slots_are_sorted_and_filtered_and_a_position_shows_its_own_result(
    panel: RunningPanel, page: Page
) -> None:
    """By a heading and back; open positions alone; a position with its average, value and PnL; what is old is marked."""
    names = "[...document.querySelectorAll('#slot-rows tr')].map((tr) => tr.dataset.key)"
    bot = FollowingBot(panel)
    async with bot.beating():
        await page.open(panel.link())
        await page.until(f"{names}.length === 16")
        await page.show("trade")
        configured = await page.evaluate(names)
        await page.click("#slots [data-sort=edge] button")
        await page.until(f"{names}[0] === 'BTC-5m' && {names}[1] === 'BTC-15m'")
        assert await page.evaluate("document.querySelector('[data-sort=edge]').ariaSort") == "descending"
        assert set((await page.evaluate(names))[-4:]) == {"BTC-5m+1", "ETH-5m+1", "BTC-15m+1", "ETH-15m+1"}
        await page.click("#slots [data-sort=edge] button")
        await page.until(f"{names}.join() === '{','.join(configured)}'")
        await page.click("#slots-open")
        await page.until(f"{names}.join() === 'SOL-5m,ETH-15m'")
        held = await page.text("#positions")
        for said in ("SOL-5m Up 42.5", "+5.53", "average 73.0 ¢", "value at the bid 36.55", "left"):
            assert said in held
        assert await page.text('tr[data-key="SOL-5m"] [data-part=pnl]') == "+5.53"
        old = "[...document.querySelectorAll('[data-old]')].map((e) => e.closest('tr').dataset.key + ' ' + e.dataset.part).join()"
        assert await page.evaluate(old) == ""
        fresh = make_status().feeds
        bot.fields = {"feeds": (*fresh[1:], FeedStatus(name="binance SOL", connected=False, age_ms=9_000))}
        await page.until(f"{old} === 'SOL-5m lead'")
        bot.fields = {"feeds": (*fresh, FeedStatus(name="books ETH", connected=True, age_ms=9_000))}
        await page.until(f"{old} === 'ETH-15m up,ETH-15m down,ETH-15m cost,ETH-15m pnl'")
        await page.click("#positions button")
        await page.until("document.querySelector('#ask').open")
        assert "SOL-5m: Up 42.5" in await page.text("#ask-text")
        await page.press("Escape")


@pytest.mark.parametrize("traded", [True, False], ids=["a day", "nothing"])
async def test_nothing_is_cut_off_sideways_and_nothing_jumps(panel: RunningPanel, page: Page, traded: bool) -> None:
    """On every page from phone to desktop, dark and light: no sideways scrolling, no cut cell, every button in reach; what is
    shown stays where it is as it changes.
    """
    rows = "document.querySelectorAll('#slot-rows tr')"
    bot = FollowingBot(panel)
    if traded:
        make_day(panel.bus, SystemClock().wall_ms())
        # Its date stands before it, as in the longest texts.
        bot.fields = {"since_ms": SystemClock().wall_ms() - 30 * 3_600_000}
    else:
        bot.fields = {"slots": (), "feeds": (), "outcomes": (), "totals": Totals(), "usage": None, "strategy": None}
    async with bot.beating():
        await page.open(panel.link())
        await page.until(f"{VERDICT} === 'Trading' && {rows}.length === {16 if traded else 0}")
        for width in (360, 390, 768, 1024, 1280, 1440) if traded else (390, 1280, 1440):
            await page.look(width=width, height=800, dark=width in (390, 1280))
            await page.until(f"innerWidth === {width}")
            for name in PAGES if width in (390, 1280, 1440) else ("overview", "trade"):
                await page.evaluate(f"location.hash = '#/{name}'; null")
                await page.until(f"{SHOWN} === '{name.partition('/')[0]}'")
                await page.evaluate(DRAWN)
                assert await page.evaluate("document.documentElement.scrollWidth") <= width, (name, width)
                outside = (
                    "[...document.querySelectorAll('button, #pages a, select')].filter((b) => { "
                    "const r = b.getBoundingClientRect(); "
                    f"return b.offsetParent && (r.right > {width} || r.left < 0 || r.height < 24) }})"
                )
                assert await page.evaluate(f"{outside}.map((b) => b.id || b.textContent)") == [], (name, width)
                cells = "[...document.querySelectorAll('main td, main td small, main th, dd, .list span, #calendar b')]"
                cut = f"{cells}.filter((e) => e.offsetParent && e.clientWidth && e.scrollWidth > e.clientWidth)"
                if width in (390, 1280, 1440):
                    assert await page.evaluate(f"{cut}.map((e) => e.textContent)") == [], f"cut: {name}, {width}"
        if not traded:
            return
        await page.show("trade")
        places = f"JSON.stringify([...{rows}, ...document.querySelectorAll('section')].map((e) => e.offsetTop))"
        await page.evaluate("window.shifts = 0; new PerformanceObserver((list) => list.getEntries().forEach((one) => { "
            "window.shifts += one.value })).observe({ type: 'layout-shift' }); null")  # fmt: skip
        before, sequence = await page.evaluate(places), panel.bus.status.stat().st_mtime_ns
        await asyncio.to_thread(
            until, "three more statuses", lambda: panel.bus.status.stat().st_mtime_ns > sequence + 3e8
        )
        await page.until("performance.now() > 0")
        assert await page.evaluate(places) == before
        assert await page.evaluate("window.shifts") == 0
