"""A recording is written by the hour, within its budget, and is whole after a kill up to the last flush."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from recording import Frame, Note, NoteKind, ProblemKind, Reader, RecordingError, Writer
from recording.format import HOUR_MS

NOW = 1_790_877_850_000


class Clock:
    """A wall clock and a monotonic one, both in ms."""

    def __init__(self) -> None:
        self.wall, self.mono = NOW, 5_000

    def pass_ms(self, ms: int) -> None:
        self.wall += ms
        self.mono += ms


def make(folder: Path, clock: Clock, said: list[str], budget: int = 1 << 30) -> Writer:
    return Writer(
        folder,
        writer="test",
        wall_ms=lambda: clock.wall,
        mono_ms=lambda: clock.mono,
        say=lambda event, facts: said.append(event),
        budget=budget,
    )


def frames(folder: Path) -> list[Frame]:
    return [item for item in Reader(folder) if isinstance(item, Frame)]


def test_frames_come_back_to_the_letter_in_files_of_their_hours(tmp_path: Path) -> None:
    """Whatever a stream sends is read back byte for byte, whether it is JSON or not."""
    clock, texts = (
        Clock(),
        ['{"a": 1,  "b":[]}', "PONG", '{"a":\n1}', "[NaN]", '{"t":",\\"frame\\":"}', "é\u2028", '"frame"'],
    )
    writer = make(tmp_path, clock, [])
    for text in texts:
        writer.add("clob", text)
    writer.flush()
    clock.pass_ms(HOUR_MS)
    writer.add('a,"frame":b', "{}")
    writer.close()
    reader = Reader(tmp_path)
    assert [item.text for item in reader if isinstance(item, Frame)] == [*texts, "{}"]
    assert [path.name.partition(".")[0] for path in reader.files] == ["2026-10-01T18", "2026-10-01T19"]
    assert reader.header.writer == "test"
    assert {kind for kind, _ in reader.counts.items()} == {
        ProblemKind.GAP
    }  # the hour in which this test recorded nothing


def test_a_kill_costs_nothing_that_was_flushed(tmp_path: Path) -> None:
    """A SIGKILL in the middle of the hour leaves a file that is read up to its last flush; the next start goes on beside it."""
    code = (
        "import sys, time; from pathlib import Path; from recording import Writer\n"
        "w = Writer(Path(sys.argv[1]), writer='t', wall_ms=lambda: time.time_ns() // 1000000,"
        " mono_ms=lambda: time.monotonic_ns() // 1000000, say=print)\n"
        "for n in range(1000):\n    w.add('clob', str(n))\n    w.flush()\nw.add('clob', 'unflushed')\n"
        "print('up', flush=True)\ntime.sleep(60)"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, cwd=Path(__file__).parents[3]
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"up\n"
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    child.stdout.close()
    reader = Reader(tmp_path)
    assert [item.text for item in reader if isinstance(item, Frame)] == [str(n) for n in range(1000)]
    assert reader.counts[ProblemKind.CUT] == 1
    again = make(tmp_path, Clock(), [])  # whose clock stands before the files that are there
    again.add("clob", "more")
    again.close()
    assert [frame.text for frame in frames(tmp_path)][-1] == "more"


def test_the_oldest_files_go_when_the_budget_is_reached(tmp_path: Path) -> None:
    """All files together keep to the budget, even within one hour; the newest frames are there, and the log says what went."""
    clock, said = Clock(), list[str]()
    writer = make(tmp_path, clock, said, budget=1 << 20)
    for n in range(300):
        writer.add("clob", f"{n} {os.urandom(8_000).hex()}")
        writer.flush()
        clock.pass_ms(100)
    writer.close()
    sizes = [path.stat().st_size for path in Reader(tmp_path).files]
    kept = [int(frame.text.split()[0]) for frame in frames(tmp_path)]
    assert sum(sizes) <= (1 << 20) + max(sizes)
    assert kept == [*range(kept[0], 300)]
    assert 0 < kept[0] < 250
    assert said.count("recording_trimmed") == writer.written.removed_files > 0


def test_a_full_disk_costs_frames_that_are_counted_and_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the disk refuses, frames are dropped and counted; the recording goes on by itself and says how many are missing."""
    clock, said = Clock(), list[str]()
    writer = make(tmp_path, clock, said)
    writer.add("clob", "before")
    writer.flush()
    real, calls = os.write, [0]

    def full(fd: int, data: bytes) -> int:
        calls[0] += 1
        if calls[0] == 1:
            return real(fd, bytes(data)[:5])  # a part of it still fits
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("recording.writer.os.write", full)
    for text in ("lost 1", "lost 2"):
        clock.pass_ms(500)
        writer.add("clob", text)
        writer.flush()
    monkeypatch.setattr("recording.writer.os.write", real)
    clock.pass_ms(500)
    writer.add("clob", "after")
    writer.close()
    reader = Reader(tmp_path)
    assert [item.text for item in reader if isinstance(item, Frame)] == ["before", "after"]
    assert reader.counts[ProblemKind.DROPPED] == writer.written.dropped == 2
    assert "No space left on device" in next(p.text for p in reader.problems if p.kind is ProblemKind.DROPPED)
    assert said == ["recording_refused", "recording_goes_on"]


@pytest.mark.parametrize("by_ms", [-7_200_000, 7_200_000])
def test_a_clock_that_is_set_is_noted_and_is_no_hole(tmp_path: Path, by_ms: int) -> None:
    """Times never go back, frames keep their order, and the jump is told apart from an outage."""
    clock = Clock()
    writer = make(tmp_path, clock, [])
    for n in range(10):
        if n == 5:
            clock.wall += by_ms
        writer.add("clob", str(n))
        writer.flush()
        clock.pass_ms(1_000)
    writer.close()
    reader = Reader(tmp_path)
    read = [item for item in reader if isinstance(item, Frame)]
    assert [frame.text for frame in read] == [str(n) for n in range(10)]
    assert [frame.recv_ms for frame in read] == sorted(frame.recv_ms for frame in read)
    assert reader.counts == {ProblemKind.CLOCK: 1}


def test_what_waits_for_a_slow_disk_is_bounded(tmp_path: Path) -> None:
    """Between two flushes at most 32 MiB wait; what comes beyond is counted in the recording itself."""
    writer = make(tmp_path, Clock(), [])
    for _ in range(40):
        writer.add("clob", "x" * (1 << 20))
    writer.close()
    reader = Reader(tmp_path)
    assert len([item for item in reader if isinstance(item, Frame)]) + reader.counts[ProblemKind.DROPPED] == 40
    assert reader.counts[ProblemKind.DROPPED] == writer.written.dropped > 0


def test_two_writers_do_not_share_a_folder(tmp_path: Path) -> None:
    """The second is told so in one line."""
    writer = make(tmp_path, Clock(), [])
    with pytest.raises(RecordingError, match="being recorded into already"):
        make(tmp_path, Clock(), [])
    writer.close()
    make(tmp_path, Clock(), []).close()


def test_a_lost_connection_is_a_hole_of_its_source_alone(tmp_path: Path) -> None:
    """From the loss to the next opening, the source's frames are missing, and the reader says how long."""
    clock = Clock()
    writer = make(tmp_path, clock, [])
    writer.note(NoteKind.OPENED, "rtds")
    writer.note(NoteKind.LOST, "rtds", "closed by the other side")
    clock.pass_ms(4_000)
    writer.add("clob", "{}")
    writer.note(NoteKind.OPENED, "rtds")
    writer.close()
    reader = Reader(tmp_path)
    notes = [item for item in reader if isinstance(item, Note)]
    lost = [p for p in reader.problems if p.kind is ProblemKind.LOST]
    assert notes
    assert [(p.source, p.until_ms - p.at_ms) for p in lost] == [("rtds", 4_000)]
    assert "closed by the other side" in lost[0].text
