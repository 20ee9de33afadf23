"""What is wrong with a recording is counted and said, and costs no more than what is wrong."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from recording import Frame, ProblemKind, Reader, RecordingError, UnknownVersionError

NOW = 1_790_877_850_000
HEADER = json.dumps(
    {"recording": 1, "writer": "t", "opened_ms": NOW, "origin": "live", "contents": {"lacks": ["trades"]}}
)


def line(n: int, text: str = "{}") -> str:
    return f'{{"recv_ms":{NOW + n},"source":"clob","frame":{text}}}'


def write(folder: Path, name: str, *lines: str, end: str = "\n") -> Path:
    path = folder / f"{name}.jsonl.gz"
    path.write_bytes(gzip.compress(("\n".join(lines) + end).encode()))
    return path


def read(path: Path) -> tuple[list[Frame], Reader]:
    reader = Reader(path)
    return [item for item in reader if isinstance(item, Frame)], reader


@pytest.mark.parametrize(
    ("lines", "kind", "kept"),
    [
        ((HEADER, line(0), line(20_000)), ProblemKind.GAP, 2),
        ((HEADER, line(9_000), line(1_000), line(9_500)), ProblemKind.CLOCK, 3),
        ((HEADER, line(0), "{", "[1]", '{"recv_ms":-1,"frame":1}', line(1)), ProblemKind.LINE, 2),
        ((line(0), line(1)), ProblemKind.HEADER, 2),
        ((HEADER, line(0), '{"recv_ms":1}'), ProblemKind.LINE, 1),
    ],
)
def test_each_fault_is_counted_as_what_it_is(
    tmp_path: Path, lines: tuple[str, ...], kind: ProblemKind, kept: int
) -> None:
    """A gap, a clock that ran back, lines of something else, a file without a header: the rest is read."""
    write(tmp_path, f"2026-10-01T18.{NOW}", *lines)
    frames, reader = read(tmp_path)
    assert len(frames) == kept
    assert {*reader.counts} == {kind}
    assert [frame.recv_ms for frame in frames] == sorted(frame.recv_ms for frame in frames)


@pytest.mark.parametrize("cut", [3, 60, -1, -9])
def test_a_cut_file_is_read_up_to_where_it_is_whole(tmp_path: Path, cut: int) -> None:
    """Wherever a file ends too early, the lines before are read, the file after it too, and the cut is said."""
    path = write(tmp_path, f"2026-10-01T18.{NOW}", HEADER, *(line(n, json.dumps({"n": n * 7919})) for n in range(200)))
    whole = path.read_bytes()
    path.write_bytes(whole[:cut])
    write(tmp_path, f"2026-10-01T18.{NOW + 300}", HEADER, line(300, '"next"'))
    frames, reader = read(tmp_path)
    assert reader.counts[ProblemKind.CUT] == 1
    assert frames[-1].text == '"next"'
    assert [json.loads(frame.text)["n"] for frame in frames[:-1]] == [n * 7919 for n in range(len(frames) - 1)]


def test_broken_bytes_in_the_middle_cost_the_rest_of_their_file_alone(tmp_path: Path) -> None:
    """Compression that is broken is said, not raised."""
    path = write(tmp_path, f"2026-10-01T18.{NOW}", HEADER, *(line(n, json.dumps({"n": n * 7919})) for n in range(2000)))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(bytes(data))
    write(tmp_path, f"2026-10-01T18.{NOW + 3000}", HEADER, line(3000, '"next"'))
    frames, reader = read(tmp_path)
    assert frames[-1].text == '"next"'
    assert reader.counts[ProblemKind.CUT] == 1


def test_a_file_of_another_version_is_passed_over_and_said(tmp_path: Path) -> None:
    """What it holds is not guessed at; a recording of nothing else is refused in one line."""
    newer = HEADER.replace('"recording": 1', '"recording": 2')
    write(tmp_path, f"2026-10-01T18.{NOW}", newer, line(0))
    with pytest.raises(UnknownVersionError, match="no file of version 1"):
        read(tmp_path)
    write(tmp_path, f"2026-10-01T18.{NOW + 5}", HEADER, line(5))
    frames, reader = read(tmp_path)
    assert len(frames) == 1
    assert reader.counts == {ProblemKind.VERSION: 1}
    assert reader.contents.lacks == ("trades",)


def test_a_span_of_a_recording_can_be_read_alone(tmp_path: Path) -> None:
    """From and until are held to the millisecond, over several files and several gzip members in one."""
    path = write(tmp_path, f"2026-10-01T18.{NOW}", HEADER, *(line(n) for n in range(10)))
    path.write_bytes(path.read_bytes() + gzip.compress("".join(f"{line(n)}\n" for n in range(10, 20)).encode()))
    write(tmp_path, f"2026-10-01T18.{NOW + 20}", HEADER, *(line(n) for n in range(20, 30)))
    reader = Reader(tmp_path)
    spans = [(0, None, 30), (NOW + 15, NOW + 25, 10), (NOW + 25, None, 5), (0, NOW + 5, 5)]
    assert [len([*reader.read(start, end)]) for start, end, _ in spans] == [count for _, _, count in spans]


def test_what_is_no_recording_is_said_in_one_line(tmp_path: Path) -> None:
    """A path that is missing, and a folder without files of a recording."""
    for path in (tmp_path / "missing", tmp_path):
        with pytest.raises(RecordingError, match="recording"):
            Reader(path)
