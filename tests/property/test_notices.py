"""Notices of random histories: each thing that happens is told once, however often it is looked and the panel starts anew."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from bus import Role, clear_halt, set_halt
from panel.notify.notices import EXPLAINED_MS, OLDEST_MS, REFUSALS, Memory, begin, look
from panel.notify.reading import read
from tests.unit.panel.notifying import World

HAPPENS = (
    *("fill", "outcome", "refused", "no-match", "queued", "confirmed", "taken-back", "pause", "resume", "halt"),
    *("death", "stopped", "nobody", "again", "torn"),
)
# What happens, or a look, or a look after a new start.
histories = st.lists(st.sampled_from([*HAPPENS, *["look"] * 4, *["restart"] * 2]), min_size=5, max_size=40)


class History:
    """Lets things happen, and knows which notices they must make."""

    def __init__(self, folder: Path) -> None:
        self.world, self.now_ms, self.expected = World(folder), 1_800_000_000_000, list[str]()
        self._open: list[tuple[str, str]] = []
        self._refused, self._nobody = 0, False
        self.memory = begin(read(self.world.bus, Memory(), now_ms=self.now_ms, since_ms=self.now_ms))
        self.told: list[str] = []

    def look(self, *, restart: bool = False) -> None:
        """As the panel's task does it. A new start has what was kept in a file."""
        if restart:
            self.memory = Memory.model_validate_json(self.memory.model_dump_json())
        seen = read(self.world.bus, self.memory, now_ms=self.now_ms, since_ms=self.now_ms)
        self.memory, notices = look(self.memory, seen)
        self.told += [f"{notice.title}: {notice.text}" for notice in notices]

    def happen(self, what: str) -> None:
        """One thing, a second after the last."""
        self.now_ms += 1_000
        world, now = self.world, self.now_ms
        match what:
            case "fill":
                self.expected.append(world.fill(now))
                self._refused = 0
            case "outcome":
                self.expected.append(world.outcome(now))
            case "refused":
                world.refused(now)
                self._refused += 1
                if self._refused in REFUSALS:
                    self.expected.append(f"{self._refused} orders in a row were refused")
            case "no-match":
                world.refused(now, "no_match: no orders found to match")  # neither counts nor ends a row
            case "queued":
                self._open.append(world.queued(now))
            case "confirmed" | "taken-back" if self._open:
                deploy, sha = self._open.pop()
                if what == "taken-back":
                    world.step("taken-back", now, deploy=deploy, sha=sha, text="blue trades again")
                world.step("confirmed" if what == "confirmed" else "failed", now, deploy=deploy, sha=sha, text="words")
                title = "Deploy confirmed" if what == "confirmed" else "Deploy taken back"
                self.expected.append(f"{title}: {sha[:7]} 'subject {sha[:7]}' by branch main: words")
            case "pause" | "resume":
                self.expected.append(world.write(what, now))
            case "halt":
                set_halt(world.bus)
                self.expected.append(world.write("halt", now))
            case "death":
                self.expected.append(world.death())
            case "stopped":
                world.death(Role.STOPPED)
            case "nobody" if not self._nobody:
                self._nobody = True
                world.step("nobody-trades", now, text="no bot is healthy", data={"code": "not-healthy"})
                self.expected.append("Nobody trades: no bot is healthy")
            case "again" if self._nobody:
                self._nobody = False
                world.step("trades-again", now, text="green trades")
                self.expected.append("Trading again: green trades")
            case "torn":
                with world.bus.deploys.open("ab") as file:
                    file.write(b'{"deploy": "x", "st')


@settings(max_examples=60, deadline=None)
@given(histories)
def test_each_thing_that_happens_is_told_once_whatever_the_looks_and_starts(history: list[str]) -> None:
    """By rows, lines and instances of a real bus: no notice is lost, none is made twice, and nothing else is told."""
    with TemporaryDirectory() as folder:
        made = History(Path(folder) / "bus")
        try:
            for what in history:
                if what in ("look", "restart"):
                    made.look(restart=what == "restart")
                else:
                    made.happen(what)
            for _ in range(2):
                made.now_ms += EXPLAINED_MS + 1
                made.look()
        finally:
            made.world.close()
        assert made.now_ms < 1_800_000_000_000 + OLDEST_MS, "nothing was old enough for a summary"
        told = list(made.told)
        for text in made.expected:
            found = [one for one in told if text in one]
            assert found, f"{text!r} was not told: {made.told}"
            told.remove(found[0])
        assert told == []


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(["made", "removed", "look", "wait"]), max_size=20))
def test_a_halt_file_made_by_hand_is_told_once_while_it_stands(history: list[str]) -> None:
    """Told once it stands for longer than the panel's own record takes, and again only after it was gone."""
    with TemporaryDirectory() as folder:
        made = History(Path(folder) / "bus")
        expected, stands_ms, told = 0, None, False
        seen_ms: int | None = None
        try:
            for what in history:
                if what == "made":
                    set_halt(made.world.bus)
                    stands_ms = made.now_ms if stands_ms is None else stands_ms
                elif what == "removed":
                    clear_halt(made.world.bus)
                    stands_ms = None
                elif what == "wait":
                    made.now_ms += EXPLAINED_MS
                else:
                    made.look(restart=True)
                    if stands_ms is None:
                        seen_ms, told = None, False
                    elif seen_ms is None:
                        seen_ms = made.now_ms
                    elif not told and made.now_ms - seen_ms >= EXPLAINED_MS:
                        expected, told = expected + 1, True
        finally:
            made.world.close()
        assert made.told == ["Halted: a halt file is there that no write on record has made; exits go on"] * expected
