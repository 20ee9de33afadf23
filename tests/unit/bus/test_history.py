"""The history of deploys: only appended; a torn line spoils nothing but itself."""

import os

import pytest

from bus import Bus, DocumentCorruptError, Step, append_step, read_steps


def step(n: int, text: str = "") -> Step:
    """The n-th step."""
    return Step(deploy="d", step=f"s{n}", time_ms=n, text=text)


def test_steps_come_back_in_order(bus: Bus) -> None:
    """What was appended is read oldest first; no file is no history."""
    assert read_steps(bus) == []
    steps = [step(n, "two\nlines ☃") for n in range(3)]
    for each in steps:
        append_step(bus, each)
    assert read_steps(bus) == steps


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_torn_last_line_is_left_out_and_the_next_step_is_whole(bus: Bus, cut: int) -> None:
    """After a power cut in the middle of a line, all earlier steps and all later ones are read."""
    append_step(bus, step(1))
    append_step(bus, step(2, "x" * 40))
    whole = bus.deploys.read_bytes()
    bus.deploys.write_bytes(whole[:-cut])
    expected = [step(1)] if cut > 1 else [step(1), step(2, "x" * 40)]  # without its newline alone it is still whole
    assert read_steps(bus) == expected
    append_step(bus, step(3))
    assert read_steps(bus) == [*expected, step(3)]


@pytest.mark.parametrize("call", ["fdatasync", "fsync"])
def test_a_step_that_could_not_be_made_durable_is_not_there(
    bus: Bus, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """Whoever reads the history sees what its writer knows; a later step is whole."""
    append_step(bus, step(1))
    with monkeypatch.context() as patched:

        def fails(_descriptor: int) -> None:
            raise OSError(28, "No space left on device")

        patched.setattr(os, call, fails)
        with pytest.raises(OSError, match="No space"):
            append_step(bus, step(2))
        assert read_steps(bus) == [step(1)]
    append_step(bus, step(3))
    assert read_steps(bus) == [step(1), step(3)]


def test_only_the_newest_part_is_read(bus: Bus) -> None:
    """A long history costs a bounded read, and the line that is cut by the bound is left out."""
    for n in range(50):
        append_step(bus, step(n))
    size = bus.deploys.stat().st_size
    found = read_steps(bus, max_bytes=size // 2)
    assert 20 <= len(found) <= 25
    assert found == [step(n) for n in range(50 - len(found), 50)]


def test_text_from_outside_cannot_stop_the_history(bus: Bus) -> None:
    """A lone surrogate, as undecodable output of git has it, is replaced; junk in the file is skipped."""
    append_step(bus, step(1, "caf\udce9"))
    with bus.deploys.open("ab") as file:
        file.write(b'\xff\xfe\n[]\n[9]\n"s"\n{"deploy": 3}\n' + b"[" * 100_000 + b"\n")
    append_step(bus, step(2))
    assert read_steps(bus) == [step(1, "caf?"), step(2)]


def test_a_history_that_cannot_be_opened_is_said_so(bus: Bus) -> None:
    """An unreadable history is an error and not an empty one."""
    bus.deploys.mkdir()
    with pytest.raises(DocumentCorruptError, match="cannot be read"):
        read_steps(bus)
