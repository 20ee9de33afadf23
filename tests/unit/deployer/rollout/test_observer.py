"""Durations that the deployer measures by its own samples, and the history that it folds."""

from __future__ import annotations

from bus import Instance, InstanceView, Role, Step
from deployer.deploys import KEEP, fold
from deployer.rollout.observer import Since, Stillness


def seen(sequence: int) -> InstanceView:
    """A living instance whose document has that sequence."""
    return InstanceView("one", True, Instance(id="one", role=Role.ACTIVE, color="blue", sha="a" * 40), sequence)


def test_stillness_counts_while_the_sequence_stands() -> None:
    """It grows by the time between samples, and begins anew when the sequence moves."""
    stillness = Stillness()
    durations = [
        stillness.sample([seen(sequence)], ms, bus_answers=True)["one"]
        for ms, sequence in [(0, 1), (200, 1), (400, 1), (600, 2), (800, 2)]
    ]
    assert durations == [0, 200, 400, 0, 200]


def test_a_pause_of_the_deployer_makes_nobody_look_stuck() -> None:
    """A gap between samples counts as one wake-up, however long it was."""
    stillness = Stillness()
    stillness.sample([seen(1)], 0, bus_answers=True)
    assert stillness.sample([seen(1)], 3_600_000, bus_answers=True)["one"] <= 500


def test_nothing_counts_while_the_bus_does_not_answer() -> None:
    """When the deployer's own write to the bus fails, the bus stands, and nobody is to blame."""
    stillness = Stillness()
    stillness.sample([seen(1)], 0, bus_answers=True)
    stillness.sample([seen(1)], 400, bus_answers=True)
    assert stillness.sample([seen(1)], 800, bus_answers=False)["one"] == 0


def test_a_timer_begins_anew_after_a_break() -> None:
    """A key's time is that of the first sample since it was last missing."""
    since = Since()
    assert since.note(["a"], 10) == {"a": 10}
    assert since.note(["a", "b"], 20) == {"a": 10, "b": 20}
    assert since.note([], 30) == {}
    assert since.note(["a"], 40) == {"a": 40}


def steps(deploy: str, *names: str, sha: str = "a" * 40, at: int = 0) -> list[Step]:
    """Steps of a deploy."""
    return [Step(deploy=deploy, step=name, time_ms=at, sha=sha) for name in names]


def test_the_history_tells_what_is_open_confirmed_and_before_it() -> None:
    """The newest confirmed commit, the one before it, and the deploy without a verdict."""
    a, b, c = "a" * 40, "b" * 40, "c" * 40
    history = fold(
        [
            *steps("1", "queued", "confirmed", "retired", sha=a),
            *steps("2", "queued", "failed", sha=c),
            *steps("3", "queued", "confirmed", sha=b),
            *steps("4", "queued", "built", sha=c),
        ]
    )
    assert history.confirmed is not None
    assert history.open is not None
    assert (history.confirmed.sha, history.previous_sha, history.open.id) == (b, a, "4")
    assert (history.open.phase, history.last_tip) == ("built", c)


def test_a_long_history_is_bounded_and_never_forgets_what_runs() -> None:
    """However many deploys failed since, the confirmed one and the one before it are remembered."""
    found = [*steps("1", "queued", "confirmed", sha="a" * 40), *steps("2", "queued", "confirmed", sha="b" * 40)]
    for number in range(KEEP + 50):
        found += steps(f"x{number}", "queued", "failed", sha=f"{number:040x}")
    history = fold(found)
    assert len(history.deploys) == KEEP
    assert history.confirmed is not None
    assert history.confirmed.sha == "b" * 40
    assert history.previous_sha == "a" * 40


def test_steps_whose_beginning_was_cut_off_are_left_out() -> None:
    """A deploy whose queued step is no longer in the file is no deploy."""
    assert fold(steps("1", "taken", "confirmed")).deploys == ()
