"""What people and the deployer say stands in a folder of its own, which bots may not write to; an older bus is taken over."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import bus.layout
from bus import (
    Bus,
    Handover,
    Step,
    SystemClock,
    append_step,
    clear_halt,
    is_halted,
    make_request,
    open_bus,
    read_control,
    read_handover,
    read_requests,
    read_steps,
    set_halt,
    write_atomically,
    write_control,
    write_handover,
)
from bus.layout import make_directives

CLOCK = SystemClock()


@pytest.fixture
def old(tmp_path: Path) -> Bus:
    """A bus as a release before the folder left it: every word beside what bots write."""
    made = open_bus(tmp_path / "bus")
    write_control(made, 0, lambda control: control.changed(generation=1), by="ann", clock=CLOCK)
    write_handover(made, Handover(confirmed_sha="a" * 40), writer="deployer", sequence=1, clock=CLOCK)
    append_step(made, Step(deploy="1", step="queued", time_ms=1))
    make_request(made, "approve", by="ann", clock=CLOCK)
    made.runtime.write_text("process\n")
    set_halt(made)
    return made


def words(bus: Bus) -> list[object]:
    """All that is said on it."""
    requests, bad = read_requests(bus)
    assert bad == {}
    control = read_control(bus)
    return [control.by, read_handover(bus).confirmed_sha, len(read_steps(bus)), [r.action for r in requests],
            bus.runtime.read_text(), is_halted(bus)]  # fmt: skip


def test_a_bus_from_before_is_taken_over_whole(old: Bus) -> None:
    """Every word is the same after it as before, and a second start changes nothing."""
    before = words(old)
    make_directives(old)
    assert old.directives == old.directory / "directives"
    assert words(old) == before
    make_directives(old)
    assert words(old) == before


def test_a_start_that_is_cut_off_anywhere_leaves_every_word_readable(old: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """At each write, and at the rename: what is read is the old folder or the new one, and the next start completes it."""
    before, done, writes = words(old), 0, write_atomically

    class CutError(Exception):
        """The process ends here."""

    for cut in range(20):
        left = cut

        def write(path: Path, data: bytes, *, durable: bool) -> None:
            nonlocal left
            if left == 0:
                raise CutError
            left -= 1
            writes(path, data, durable=durable)

        with monkeypatch.context() as patch:
            patch.setattr(bus.layout, "write_atomically", write)
            try:
                make_directives(old)
                done += 1
            except CutError:
                pass
        assert words(old) == before
    assert done
    assert not list(old.directory.glob(".directives.*"))


def test_what_a_bot_writes_where_it_may_is_heard_by_nobody(old: Bus) -> None:
    """Control, handover, history, requests and the end of a halt, written or removed beside the folder: nothing changes."""
    make_directives(old)
    before = words(old)
    (old.directory / "halt").unlink()
    control = json.loads((old.directory / "control.json").read_text())
    for name in ("control.json", "handover.json", "deploys.jsonl", "runtime", "home", "watched", "writes.jsonl"):
        (old.directory / name).write_text(json.dumps({**control, "by": "a bot"}))
    forged = Bus(old.directory / "forged")
    forged.requests.mkdir(parents=True)
    request = make_request(forged, "approve", by="a bot", clock=CLOCK)
    (old.directory / "requests").mkdir()
    (forged.requests / f"{request.id}.json").rename(old.directory / "requests" / f"{request.id}.json")
    assert words(old) == before


def test_readers_of_an_earlier_release_still_find_control_and_handover(old: Bus) -> None:
    """They look beside the folder, and see each write there; a halt as well."""
    make_directives(old)
    clear_halt(old)
    write_control(old, 1, lambda control: control.changed(mode="halt"), by="bob", clock=CLOCK)
    write_handover(old, Handover(confirmed_sha="b" * 40), writer="deployer", sequence=2, clock=CLOCK)
    assert (old.directory / "control.json").read_bytes() == old.control.read_bytes()
    assert (old.directory / "handover.json").read_bytes() == old.handover.read_bytes()
    assert (old.directory / "halt").exists()
