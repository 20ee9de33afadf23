"""The table of the proof: what was run, and what stands there from before."""

from __future__ import annotations

from proof.report import Found, Row, table

MODEL = Found("abc", "2026-01-01 00:00", 5.0, (Row("model", "ideal lock", 1_000, "states"),))
SOAK = Found("abc", "2026-01-01 00:00", 9.0, (Row("soak", "a week", 168, "hours", ("the disk grows",)),))


def test_a_part_that_was_not_run_in_this_checkout_keeps_what_the_table_says() -> None:
    """On a new machine one part alone replaces its own rows; the others stay, and are stale by their commit."""
    before = table({"model": MODEL, "soak": SOAK}, "abc")
    assert "stale" not in before
    assert "| soak | a week | 168 hours | **no**: the disk grows |  |" in before
    newer = Found("def", "2026-01-02 00:00", 6.0, (Row("model", "ideal lock", 2_000, "states"),))
    for page in (before, table({"model": MODEL, "soak": None}, "def", before)):
        lines = table({"model": newer, "soak": None}, "def", page).splitlines()
        assert lines[2:4] == ["| model | ideal lock | 2,000 states | yes |  |", before.splitlines()[3]]
        assert lines[5:] == [
            "- model: on def, 2026-01-02 00:00 UTC, 6 s",
            "- soak: on abc, 2026-01-01 00:00 UTC, 9 s; stale: the commit is another now",
        ]
    assert "| soak | never run | | | |" in table({"model": newer, "soak": None}, "def")
