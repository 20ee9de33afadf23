"""The page before a real bot on the paper exchange: by hand in and out, a handover while it is open, the panel's sudden end."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from bus import Role, is_halted, read_control, read_status
from tests.e2e.chromium import EXECUTABLE, chromium
from tests.e2e.rig import CONFIRMED, Rig, until
from tests.unit.panel.running import RunningPanel, deployer_runs, running_panel

pytestmark = pytest.mark.skipif(
    not EXECUTABLE.exists(), reason=f"{EXECUTABLE} is missing: install Debian's package chromium"
)

SLOT = "BTC-90s"
ROW = f'tr[data-key="{SLOT}"]'
SWITCH = f"{ROW} [role=switch]"
CONTROL = "document.querySelector('#fact-control').textContent"
VERDICT = "document.querySelector('#verdict-title').textContent"
MOST_TRIES = 5


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """Blue trades in windows of 90 s, green stands by; the strategy itself enters and sells nothing."""
    made = Rig(tmp_path_factory.mktemp("rig"), timeframes="90s")
    try:
        blue = made.start_bot(CONFIRMED, "blue", BOT_ASSETS="BTC,ETH")
        made.until_role(blue, Role.ACTIVE)
        green = made.start_bot("b" * 40, "green", BOT_ASSETS="BTC,ETH")
        made.until_role(green, Role.STANDBY)
        yield made
    finally:
        made.stop()


@pytest.fixture(scope="module")
def panel(rig: Rig) -> Iterator[RunningPanel]:
    """A panel on the bots' bus."""
    with running_panel(rig.folder) as running, deployer_runs(rig.bus):
        still = running.call(
            "POST",
            "/api/strategy",
            {"generation": 1, "parameters": {"min_edge": 0.99, "exit_edge": 0.99}, "wait_s": 10},
        )
        assert still.json["progress"]["stage"] == "applied", still.body
        yield running


def by_hand(panel: RunningPanel, path: str, **body: object) -> tuple[str, str]:
    """Write and wait until the bot has done it or refused it: (state, text) of the action."""
    answer = panel.call("POST", f"/api/{path}", {"generation": panel.generation(), "wait_s": 15, **body})
    assert answer.status == 200, answer.body
    return next((one["state"], one["text"]) for one in answer.json["progress"]["manual"])


def until_another_window(rig: Rig) -> None:
    """Wait for the end of the slot's window."""

    def window() -> str | None:
        return next(slot.window for slot in read_status(rig.bus).body.slots if slot.slot == SLOT)

    before = window()
    until("another window", lambda: window() != before, limit_s=120)


def test_bought_by_hand_and_flattened_once_each_by_a_real_bot(rig: Rig, panel: RunningPanel) -> None:
    """A buy beyond risk is refused with the limit; one within is filled; flatten sells it; the ledger and the venue agree."""
    assert "no such parameter" in str(
        panel.call(
            "POST", "/api/strategy", {"generation": panel.generation(), "parameters": {"x": 1}, "wait_s": 10}
        ).json
    )
    panel.post("strategy", generation=panel.generation(), parameters={"x": None}, wait_s=10)
    state, text = by_hand(panel, "enter", slot=SLOT, outcome="Up", max_spend="60")
    assert state == "refused"
    for _ in range(MOST_TRIES):  # near a window's end nothing may be offered: then the next one is tried
        state, text = by_hand(panel, "enter", slot=SLOT, outcome="Up", max_spend="20", max_price="0.98")
        if state == "done":
            break
        until_another_window(rig)
    assert (state, text[:7]) == ("done", "bought ")
    assert by_hand(panel, "flatten", slot=SLOT)[0] in ("done", "waiting")
    held = "SELECT coalesce(sum(CASE side WHEN 'BUY' THEN size ELSE -size END), 0) FROM fills"
    until("nothing is held", lambda: rig.count(held) < 5_000_000)
    shown = panel.call("GET", "/api/ledger/orders").json["orders"]
    assert {order["side"] for order in shown} == {"BUY", "SELL"}
    assert all(order["reason"].startswith("manual ") for order in shown)
    assert panel.call("GET", "/api/ledger/fills").json["fills"]
    assert panel.call("GET", "/api/ledger/summary").json["problem"] is None
    assert rig.audit().returncode == 0


async def test_every_action_is_pressed_on_the_page_and_done_by_a_real_bot(
    rig: Rig, panel: RunningPanel, tmp_path: Path
) -> None:
    """Each of the eight shows as applied, and the bot goes by it; one that it refuses says why; a silent bot greys the page."""
    async with chromium(tmp_path / "profile") as page:
        await page.open(panel.link())
        await page.until(f"{VERDICT} === 'Trading'")

        async def press(selector: str, **fields: str) -> None:
            """Press it, fill in what is asked, say yes, and wait until the bot has applied it."""
            generation = panel.generation()
            await page.click(selector)
            for name, value in fields.items():
                await page.until(f"document.querySelector('#ask-fields [name={name}]')")
                await page.evaluate(f"document.querySelector('#ask-fields [name={name}]').value = '{value}'")
            if await page.evaluate("document.querySelector('#ask').open"):
                await page.click("#ask-yes")
            await page.until(f"Number({CONTROL}.split(' · ')[1]) > {generation}")
            wanted = panel.generation()
            await asyncio.to_thread(
                until, "applied", lambda: (read_status(rig.bus).body.control.applied or 0) >= wanted
            )
            await page.until("/[✓!] applied/.test(document.querySelector('#fact-control-sub').textContent)")

        await press("#pause")
        await page.until(f"{VERDICT} === 'Paused'")
        assert "pause" in read_status(rig.bus).body.entries
        await press("#resume")
        await page.until(f"{VERDICT} === 'Trading'")
        await press("#halt")
        await page.until(f"{VERDICT} === 'Halted'")
        assert is_halted(rig.bus)
        await press("#resume")
        await page.until(f"{VERDICT} === 'Trading'")
        assert not is_halted(rig.bus)
        await page.show("strategy")
        await press("#risk-change", max_total="750")
        assert "of 750.00" in await page.text("#risk")
        await press("#strategy-change", kelly="0.5")
        await page.until("document.querySelector('#strategy').textContent.includes('0.5')")
        await press("#strategy-change", kelly="7")
        await page.until("document.querySelector('#notice').textContent.includes('0.5 stays')")
        strategy = read_status(rig.bus).body.strategy
        assert strategy is not None
        assert strategy.parameters["kelly"] == 0.5
        await press("#strategy-change", kelly="0.25")
        await page.show("trade")
        await press(SWITCH)
        assert [slot.enabled for slot in read_status(rig.bus).body.slots if slot.slot == SLOT] == [False]
        await press(SWITCH)
        await press(f"{ROW} [data-part=enter]", max_spend="70")
        await page.until("/refused: /.test(document.querySelector('#notice').textContent)")
        await press("#flatten")
        await page.until("/done|waiting/.test(document.querySelector('#notice').textContent)")

        rig.bots[0].process.send_signal(signal.SIGSTOP)
        await page.until("document.body.dataset.stale")
        rig.bots[0].process.send_signal(signal.SIGCONT)
        await page.until(f"{VERDICT} === 'Trading'")
        assert page.errors == []


async def test_a_handover_shows_by_itself_and_the_panels_death_is_not_noticed(
    rig: Rig, panel: RunningPanel, tmp_path: Path
) -> None:
    """The color changes without a reload; SIGKILL in the midst of writes leaves control whole, and the bot goes on."""
    async with chromium(tmp_path / "profile") as page:
        await page.open(panel.link())
        await page.until("document.querySelector('#fact-active').textContent.startsWith('blue')", 30)
        await page.evaluate("window.stillTheSamePage = true")
        rig.name(rig.bots[1])
        await page.until("document.querySelector('#fact-active').textContent.startsWith('green')", 30)
        assert await page.evaluate("window.stillTheSamePage")
        assert page.errors == []

        def write_until_it_dies() -> int:
            newest = panel.generation()
            while True:
                try:
                    newest = panel.post("risk", generation=newest, max_total=900 + newest).json["generation"]
                except (OSError, KeyError):
                    return newest

        writing = asyncio.create_task(asyncio.to_thread(write_until_it_dies))
        await asyncio.to_thread(until, "some writes", lambda: read_control(rig.bus).risk.max_total > 900)
        panel.process.kill()
        acknowledged = await writing
        assert read_control(rig.bus).generation - acknowledged in (0, 1)
        await page.until("document.querySelector('#verdict-title').textContent === 'Panel not reached'", 30)
    ticks = rig.count("SELECT count(*) FROM polls_completed")
    await asyncio.to_thread(
        until, "polls go on", lambda: rig.count("SELECT count(*) FROM polls_completed") >= ticks + 4
    )
    assert rig.count("SELECT max(epoch) FROM epochs") == 2, "the same instance goes on"
    assert rig.bots[1].process.poll() is None
