"""Real bots on one bus against a real paper exchange: who trades, and what survives whom."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from bus import Role, SystemClock, read_control, read_status, write_control
from tests.e2e.rig import CONFIRMED, Bot, Rig, until

BLUE, GREEN = CONFIRMED, "b" * 40


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    """A bus, a paper exchange, no bot yet."""
    made = Rig(tmp_path, interval=1.0, timeframes="10s")
    yield made
    made.stop()


def test_ten_handovers_miss_no_tick_and_double_none(rig: Rig) -> None:
    """Passing the lease back and forth ten times while positions are open misses no tick and breaks no invariant."""
    blue = rig.start_bot(BLUE, "blue")
    rig.until_role(blue, Role.ACTIVE)
    green = rig.start_bot(GREEN, "green")
    rig.until_role(green, Role.STANDBY)
    until("a first fill", lambda: rig.count("SELECT count(*) FROM fills"))
    for round_number in range(10):
        taker = green if round_number % 2 == 0 else blue
        rig.name(taker)
        rig.until_role(taker, Role.ACTIVE)
    until("a window resolved", lambda: rig.count("SELECT count(*) FROM outcomes"))
    rig.assert_audit("--max-missed", "0")
    assert rig.count("SELECT count(*) FROM releases WHERE reason = 'handover'") == 10


def test_while_the_venue_is_down_only_a_request_that_says_so_passes_the_lease(rig: Rig) -> None:
    """Both wait for the venue: an ordinary request waits with them, one without the venue is obeyed; trading goes on later."""
    blue = rig.start_bot(BLUE, "blue", BOT_REQUEST_LIMIT="1")
    rig.until_role(blue, Role.ACTIVE)
    green = rig.start_bot(GREEN, "green", BOT_REQUEST_LIMIT="1")
    rig.until_role(green, Role.STANDBY)
    rig.paper.fault(kind="error", path="/", count=1_000_000)
    rig.paper.fault(
        kind="freeze_streams", path="/ws/market", seconds=600
    )  # else the books of windows known ahead would come

    def waits(bot: Bot) -> bool:
        seen = rig.seen(bot)
        return seen is not None and seen.document is not None and seen.document.waits_for_venue

    until("both wait for the venue", lambda: waits(blue) and waits(green))
    rig.name(green)
    polls = rig.count("SELECT count(*) FROM polls_completed")
    until("blue polls on", lambda: rig.count("SELECT count(*) FROM polls_completed") > polls + 3)
    assert rig.count("SELECT count(*) FROM epochs") == 1
    rig.name(green, without_venue=True)
    rig.until_role(green, Role.ACTIVE, healthy=False)
    rig.paper.clear_faults()
    rig.until_role(green, Role.ACTIVE)
    rig.assert_audit()


def test_a_killed_holder_is_replaced_by_the_spare(rig: Rig) -> None:
    """SIGKILL of the active instance lets the standby trade on, with no tick missed and no order placed twice."""
    first = rig.start_bot(BLUE, "blue")
    rig.until_role(first, Role.ACTIVE)
    for round_number in range(4):
        spare = rig.start_bot(BLUE, "green" if round_number % 2 == 0 else "blue")
        rig.until_role(spare, Role.STANDBY)
        first.kill()
        rig.until_role(spare, Role.ACTIVE)
        first = spare
    polls = rig.count("SELECT count(*) FROM polls_completed")
    until("polls go on", lambda: rig.count("SELECT count(*) FROM polls_completed") > polls + 2)
    rig.assert_audit("--max-missed", "0")


def test_a_lone_bot_that_was_killed_carries_on_where_it_stopped(rig: Rig) -> None:
    """Without a spare a restart trades on from the ledger, and every missed tick has its reason."""
    bot = rig.start_bot(BLUE)
    rig.until_role(bot, Role.ACTIVE)
    until("a fill", lambda: rig.count("SELECT count(*) FROM fills"))
    bot.kill()
    back_ms = rig.clock.boot_ms() + round(2_000 * rig.interval)
    until("two ticks pass with nobody there", lambda: rig.clock.boot_ms() > back_ms)
    again = rig.start_bot(BLUE)
    rig.until_role(again, Role.ACTIVE)
    until("positions resolve", lambda: rig.count("SELECT count(*) FROM outcomes"))
    assert rig.count("SELECT coalesce(sum(ticks), 0) FROM polls_missed") > 0
    rig.assert_audit()


def stop_outside_a_commit(rig: Rig, bot: Bot) -> None:
    """SIGSTOP at a moment when the bot does not hold the ledger's write lock: with it nobody else could begin an epoch."""

    def stopped() -> bool:
        bot.process.send_signal(signal.SIGSTOP)
        ledger = apsw.Connection(str(rig.bus.ledger))
        ledger.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        try:
            ledger.execute("BEGIN IMMEDIATE; ROLLBACK")
        except apsw.BusyError:
            bot.process.send_signal(signal.SIGCONT)
            return False
        finally:
            ledger.close()
        return True

    until("it stands still outside a commit", stopped)


def test_a_paused_holder_that_wakes_sends_nothing(rig: Rig) -> None:
    """A holder that slept while the ledger moved on is fenced: after it wakes no row and no order of its epoch follows."""
    paused = rig.start_bot(BLUE, "blue")
    rig.until_role(paused, Role.ACTIVE)
    standby = rig.start_bot(BLUE, "green")
    rig.until_role(standby, Role.STANDBY)
    stop_outside_a_commit(rig, paused)
    # The lock is the kernel's: nobody takes from a process that only sleeps. Replacing the file is what must never be
    # done to it, and is done here to show that the fence, not the lock, is the check that counts.
    rig.bus.lease.unlink()
    rig.bus.lease.touch()
    rig.until_role(standby, Role.ACTIVE)
    paused.process.send_signal(signal.SIGCONT)
    until("the sleeper noticed", lambda: any("lease_lost" in line for line in paused.log.read_text().splitlines()))
    old = rig.count("SELECT min(epoch) FROM epochs")
    after = f"boot_ms > (SELECT boot_ms FROM epochs WHERE epoch = {old} + 1)"
    assert rig.count(f"SELECT count(*) FROM polls_claimed WHERE epoch = {old} AND {after}") == 0
    assert rig.count(f"SELECT count(*) FROM intents WHERE epoch = {old} AND {after}") == 0
    rig.assert_audit()


def test_a_halt_stops_entries_within_a_poll_and_resume_opens_them(rig: Rig) -> None:
    """With the file halt on the bus no entry is placed; without it entries go on."""
    bot = rig.start_bot(BLUE)
    rig.until_role(bot, Role.ACTIVE)
    until("status", rig.bus.status.exists)
    rig.bus.halt.touch()
    until("status says halted", lambda: "halted" in read_status(rig.bus).body.entries)
    entries = rig.count("SELECT count(*) FROM intents WHERE side = 'BUY'")
    polls = rig.count("SELECT count(*) FROM polls_completed")
    until("ten polls", lambda: rig.count("SELECT count(*) FROM polls_completed") >= polls + 10)
    assert rig.count("SELECT count(*) FROM intents WHERE side = 'BUY'") == entries
    rig.bus.halt.unlink()
    until("entries go on", lambda: rig.count("SELECT count(*) FROM intents WHERE side = 'BUY'") > entries)


def test_a_timed_pause_lasts_through_a_handover_and_ends_without_anybody(rig: Rig) -> None:
    """Neither panel nor deployer lives. No entry leaves until the time; then entries go on, of whoever trades by then."""
    blue = rig.start_bot(BLUE, "blue")
    rig.until_role(blue, Role.ACTIVE)
    green = rig.start_bot(GREEN, "green")
    rig.until_role(green, Role.STANDBY)
    until("entries are open", lambda: read_status(rig.bus).body.entries == "open")
    until_ms = SystemClock().wall_ms() + 20_000
    change = {"mode": "pause", "pause_until_ms": until_ms, "why": "CPI"}
    write_control(rig.bus, 1, lambda control: control.changed(**change), by="test", clock=SystemClock())
    until("paused", lambda: read_status(rig.bus).body.entries.endswith("UTC: CPI"))
    applied_ms = SystemClock().wall_ms()
    rig.name(green)
    rig.until_role(green, Role.ACTIVE)
    until("green says so", lambda: read_status(rig.bus).body.color == "green")
    if SystemClock().wall_ms() < until_ms - 1_000:
        assert read_status(rig.bus).body.entries.startswith("control says pause until ")
    until(
        "entries go on", lambda: rig.count(f"SELECT count(*) FROM intents WHERE side = 'BUY' AND wall_ms >= {until_ms}")
    )
    between = f"wall_ms BETWEEN {applied_ms} AND {until_ms - 1}"
    assert rig.count(f"SELECT count(*) FROM intents WHERE side = 'BUY' AND {between}") == 0
    assert read_control(rig.bus).mode == "pause", "nobody wrote control"


def test_a_corrupt_control_keeps_the_last_one_and_closes_entries(rig: Rig) -> None:
    """A control file that cannot be read is said in status; the last applied one stays in force and nothing new is opened."""
    bot = rig.start_bot(BLUE)
    rig.until_role(bot, Role.ACTIVE)
    until("control applied", lambda: rig.count("SELECT count(*) FROM controls_applied"))
    good = rig.bus.control.read_bytes()
    until("status", rig.bus.status.exists)
    rig.bus.control.write_bytes(good[: len(good) // 2])
    until("the problem is said", lambda: read_status(rig.bus).body.control.problem)
    status = read_status(rig.bus).body
    assert status.control.applied == 1
    assert "control.json" in status.entries
    rig.bus.control.write_bytes(good)
    until("entries are open again", lambda: read_status(rig.bus).body.entries == "open")
    write_control(rig.bus, 1, lambda control: control.changed(mode="pause"), by="test", clock=SystemClock())
    until("paused", lambda: read_status(rig.bus).body.entries == "control says pause")
