"""bench.exits: a wanted exit that nobody sent is found, and nothing else is called so."""

from __future__ import annotations

from bench.exits import late_exits

W = "btc-updown-10s-1"
STOOD = [(tick, frozenset({W})) for tick in (200, 400, 600, 800)]


def never(_tick: int) -> bool:
    return False


def test_an_exit_that_was_wanted_at_three_polls_and_not_sent_is_late() -> None:
    """None at all, one after the second poll, one of another window; each window is named once."""
    for sells in (dict[str, list[int]](), {W: [800]}, {"eth-updown-10s-1": [200]}):
        found = late_exits(STOOD, sells, never)
        assert [text.partition(":")[0] for text in found] == [W]
        assert "from tick 200 to 600" in found[0]


def test_an_exit_within_two_polls_or_whose_reason_went_or_that_no_venue_would_take_is_not_late() -> None:
    """Sent at the reason's own poll or the second after it; wanted at two polls alone; while the venue took no orders."""
    assert [late_exits(STOOD, {W: [tick]}, never) for tick in (200, 600)] == [[], []]
    assert late_exits([STOOD[0], (400, frozenset()), *STOOD[2:]], {}, never) == []
    assert late_exits(STOOD, {}, lambda tick: tick == 400) == []
