"""What is told of limits, standstills, deploys and what is old; and how the bus is read again."""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from bus import Control, ControlStatus, Logging, RiskLimits, SystemClock, UsageStatus, write_control, write_status
from panel.actions import Actions, Asker
from panel.notify.notices import (
    ALL,
    OLDEST_MS,
    PASSING_MS,
    SILENT_MS,
    SOON_AGAIN_MS,
    Kind,
    Memory,
    Notice,
    Seen,
    begin,
    look,
    plain,
)
from panel.notify.reading import MOST_BYTES, MOST_ROWS, limits_reached, lines_since, read
from tests.unit.panel.notifying import World
from tests.unit.panel.running import Bot, make_status

NOW = 1_800_000_000_000


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A bus with a ledger."""
    made = World(tmp_path / "bus")
    yield made
    made.close()


class Looking:
    """Looks at a world, one time after the other."""

    def __init__(self, world: World, kinds: frozenset[Kind] = ALL) -> None:
        self._world, self._kinds, self.now_ms = world, kinds, NOW
        self.memory = begin(read(world.bus, Memory(), now_ms=NOW, since_ms=NOW))

    def __call__(self, after_ms: int = 0) -> list[str]:
        """The notices of one more look."""
        return [f"{one.title}: {one.text}" for one in self.notices(after_ms)]

    def notices(self, after_ms: int = 0) -> tuple[Notice, ...]:
        """The same, whole."""
        self.now_ms += after_ms
        seen = read(self._world.bus, self.memory, now_ms=self.now_ms, since_ms=NOW)
        self.memory, notices = look(self.memory, seen, self._kinds)
        return notices


def test_what_happened_before_the_first_look_is_not_told(world: World) -> None:
    """A first start on a bus with a past tells nothing of it; the deploy that is under way then is told with its author."""
    world.fill(NOW - 1)
    world.death()
    world.write("halt", NOW - 1)
    deploy, sha = world.queued(NOW - 1)
    looking = Looking(world)
    assert looking() == []
    world.step("failed", NOW, deploy=deploy, sha=sha, text="it does not compile")
    assert looking() == [f"Deploy failed: {sha[:7]} 'subject {sha[:7]}' by branch main: it does not compile"]


def test_a_deploy_is_told_with_who_pushed_it_and_how_it_was_taken_back(world: World) -> None:
    """One notice a deploy: the pusher before the branch, the reason, who trades again; one that waits for approval is told."""
    looking = Looking(world)
    deploy, sha = world.queued(NOW)
    world.step("answered", NOW, deploy=deploy, sha=sha, by="ana", text="pushed by ana", data={"push": True})
    world.step("held", NOW, deploy=deploy, sha=sha, text="waits for `./ns approve`")
    assert [text.split(":")[0] for text in looking()] == ["A deploy waits for approval"]
    world.step("taken-back", NOW, deploy=deploy, sha=sha, text="blue trades again in epoch 4")
    assert looking() == []
    world.step("failed", NOW, deploy=deploy, sha=sha, text="3 unhealthy polls in a row; 0 polls missed")
    assert looking() == [
        f"Deploy taken back: {sha[:7]} 'subject {sha[:7]}' by ana: 3 unhealthy polls in a row; 0 polls missed; "
        "blue trades again in epoch 4"
    ]


def test_a_pause_is_told_with_its_end_and_reason_and_its_end_by_itself_once(world: World, tmp_path: Path) -> None:
    """As the panel itself writes it down; a pause that somebody ends, or that a halt follows, has no end by itself."""
    clock = SystemClock()
    actions = Actions(world.bus, clock, Logging(descriptor=2).log, lambda: "id")
    looking, who = Looking(world, frozenset({Kind.PAUSES})), Asker("ana", "here")
    looking.now_ms = clock.wall_ms()

    def texts(after_ms: int = 0) -> list[str]:
        return [re.sub(r"until .* UTC", "until T", text) for text in looking(after_ms)]

    paused = "Paused: until T: CPI; by ana from here; exits go on"
    generation = actions.pause(1, who, for_s=60, why="CPI").generation
    assert texts() == [paused]
    assert texts(59_000) == []
    assert texts(2_000) == ["The pause is over: entries again, by the clock"]
    assert texts(1_000) == []
    generation = actions.pause(generation, who, for_s=3_600, why="CPI").generation
    generation = actions.resume(generation, who, confirm=False).generation
    assert texts() == [paused, "Resumed: by ana from here"]
    generation = actions.pause(generation, who, for_s=3_600, why="CPI").generation
    generation = actions.pause(generation, who, why="look at the books").generation
    actions.pause(generation, who)
    assert texts() == [
        paused,
        "Paused: look at the books; by ana from here; exits go on",
        "Paused: by ana from here; exits go on",
    ]
    assert texts(3_700_000) == []


def test_a_limit_on_losses_is_told_once_when_it_is_reached(world: World) -> None:
    """By the bot's own numbers against control; left and reached again soon it is told no second time, later it is."""
    write_control(world.bus, 0, lambda control: control, by="test", clock=SystemClock())
    bot, looking = Bot(world.bus), Looking(world, frozenset({Kind.LIMITS}))

    def lost(amount: int) -> None:
        usage = UsageStatus(loss_today=Decimal(amount))
        bot.write(make_status(now_ms=looking.now_ms, usage=usage, control=ControlStatus(seen=1, applied=1)))

    lost(499)
    assert looking() == []
    lost(500)
    text = "Loss limit reached: today's loss of 500.00 pUSD reached the limit of 500; no entries, exits go on"
    assert [looking(), looking()] == [[text], []]
    lost(499)
    assert looking() == []
    lost(500)
    assert looking(SOON_AGAIN_MS - 1) == []
    lost(499)
    assert looking() == []
    lost(500)
    assert looking(1) == [text]


def test_every_limit_on_losses_has_its_words() -> None:
    """Of the day, of the hour, in a row, of failed trades; what has no limit is not reached."""
    usage = UsageStatus(
        loss_today=Decimal(500),
        loss_last_hour=Decimal(90),
        losses_in_a_row=4,
        cooling_until_ms=1,
        failed_trades_last_hour=10,
    )
    status = make_status(usage=usage)
    limited = Control(generation=1, by="x", risk=RiskLimits(hourly_loss=Decimal(80), losses_in_a_row=4))
    assert list(limits_reached(status, limited)) == ["daily_loss", "hourly_loss", "losses_in_a_row", "failed_trades"]
    assert "hourly_loss" not in limits_reached(status, Control(generation=1, by="x"))
    assert limits_reached(make_status(usage=None), limited) == {}


def test_a_standstill_that_passes_is_told_when_it_lasts(world: World) -> None:
    """A start that takes seconds is no news; one that takes a minute is, and its end then too."""
    looking = Looking(world)
    world.step("nobody-trades", NOW, text="a bot of abc is being started", data={"code": "starting"})
    assert looking(PASSING_MS - 1) == []
    world.step("trades-again", looking.now_ms, text="green trades")
    assert looking() == []
    world.step("nobody-trades", looking.now_ms, text="abc is being built", data={"code": "building"})
    assert looking() == []
    assert looking(PASSING_MS) == ["Nobody trades: abc is being built"]
    assert looking(PASSING_MS) == []
    world.step("trades-again", looking.now_ms, text="green trades")
    assert looking() == ["Trading again: green trades"]


def test_silence_is_told_even_where_the_deployer_is_dead(world: World) -> None:
    """A status that grows old while this process looks; one that was old at its start is given time first."""
    looking = Looking(world)
    write_status(world.bus, make_status(now_ms=NOW), 1, NOW)
    began_later = read(world.bus, looking.memory, now_ms=NOW + 10 * SILENT_MS, since_ms=NOW + 10 * SILENT_MS)
    assert look(looking.memory, began_later)[1] == ()
    assert looking(SILENT_MS - 1) == []
    assert looking(1) == [
        "Nobody trades: no bot has written its status for 30 s, and no deployer runs that would start another"
    ]
    assert looking(SILENT_MS) == []
    write_status(world.bus, make_status(now_ms=NOW), 2, looking.now_ms)
    assert looking() == ["A bot is heard again: its status is fresh"]


def test_what_is_old_is_one_summary_of_the_kinds_that_are_told(world: World) -> None:
    """Numbers and a sum; the most urgent kind decides whether it passes a quiet time; kinds that nobody wants do not count."""
    looking, few = Looking(world), Looking(world, frozenset({Kind.OUTCOMES}))
    for _ in range(3):
        world.fill(NOW)
    world.outcome(NOW, 7)
    world.outcome(NOW, -2)
    halted = world.write("halt", NOW)
    fresh = world.fill(NOW + OLDEST_MS)
    summary, last = looking.notices(OLDEST_MS + 1)
    assert (summary.kind, summary.text) == (Kind.HALTS, "3 fills, 2 outcomes (+5.00 pUSD), 1 halt")
    assert summary.title == "While nobody looked, 1.0 h"
    assert fresh in last.text
    assert halted not in summary.text
    assert [one.text for one in few.notices(OLDEST_MS + 1)] == ["2 outcomes (+5.00 pUSD)"]


def test_more_than_can_be_read_is_said(world: World) -> None:
    """The newest rows are told, and that it was not all; the next look goes on from there."""
    looking = Looking(world)
    with world.ledger.transaction():
        for _ in range(MOST_ROWS + 5):
            world.outcome(NOW)
    notices = looking.notices()
    assert notices[0].text == "not all of these could be read: outcomes"
    assert len(notices) == MOST_ROWS + 1
    assert looking.notices() == ()


def test_another_ledger_in_its_place_is_no_news(world: World, tmp_path: Path) -> None:
    """A bus that was put back from a backup, or another one, tells of what happens from then on."""
    looking = Looking(world)
    world.fill(NOW)
    assert len(looking()) == 1
    other = World(tmp_path / "other")
    try:
        for _ in range(4):
            other.fill(NOW)
        seen = read(other.bus, looking.memory.model_copy(update={"ledger": 77}), now_ms=NOW, since_ms=NOW)
        memory, notices = look(looking.memory, seen)
        assert [one for one in notices if one.kind is Kind.FILLS] == []
        new = other.fill(NOW)
        _, notices = look(memory, read(other.bus, memory, now_ms=NOW, since_ms=NOW))
        assert [new in one.text for one in notices] == [True]
    finally:
        other.close()


def test_lines_are_read_whole_and_once(tmp_path: Path) -> None:
    """A line in the making waits for its end; a file that was cut back, a torn line, a huge file lose or repeat nothing more."""
    file = tmp_path / "lines"
    assert lines_since(file, 0, bytes.decode) == ([], 0, False)
    file.write_bytes(b"one\ntwo\nthr")
    assert lines_since(file, 0, bytes.decode) == (["one", "two"], 8, False)
    file.write_bytes(b"one\ntwo\nthree\nfour\n")
    assert lines_since(file, 8, bytes.decode) == (["three", "four"], 19, False)
    file.write_bytes(
        b"one\ntwo\nfive and more than four\n"
    )  # an append that failed was cut off again after it was read
    assert lines_since(file, 19, bytes.decode)[0] == ["five and more than four"]
    file.write_bytes(b"1\n")
    assert lines_since(file, 19, bytes.decode) == ([], 2, False)
    file.write_bytes(b"x" * 10 + b"\n" + b"y\n" * (MOST_BYTES // 2))
    lines, end, cut = lines_since(file, 0, bytes.decode)
    assert (end, cut, set(lines)) == (file.stat().st_size, True, {"y"})


def test_strangers_words_are_one_plain_line() -> None:
    """A commit's subject or a venue's text cannot draw on a terminal, break a line or fill a screen."""
    assert plain("a\nb\x1b[31m\u202ec") == "a b [31m c"
    assert len(plain("x" * 10_000)) == 300


def test_a_look_at_nothing_changes_nothing() -> None:
    """Where nothing can be read, what is known stays."""
    known = Memory(ledger=5, fills=7, steps=9, writes=2, dead=("a",))
    after, notices = look(known, Seen(now_ms=NOW, steps_to=9, writes_to=2))
    assert (after, notices) == (known, ())
