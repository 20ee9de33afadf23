"""Why nobody trades: every reason there is, and the same words wherever somebody looks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bus import Role, Step, SystemClock, append_step, open_bus
from bus.errors import Reason
from deployer.commands import status as report
from deployer.commands.up import trading_line
from deployer.deploys import fold
from deployer.errors import Code
from deployer.rollout.observed import Observed, Record, timers
from deployer.rollout.standstill import NOBODY_MS, SAID_AGAIN_MS, note_standstill, why_nobody_trades
from panel.views import Views
from tests.unit.deployer.rollout.test_decide import BLUE, FIRST, NOW, instance, look, steps, unit


def alone(**changes: Any) -> Observed:
    """Nobody holds the lease."""
    return replace(look([]), newest=None, instances=(), units=(), **changes)


CASES: dict[str, tuple[Observed, str]] = {
    "ledger": (
        alone(blind=True, blind_why="database is locked"),
        "who trades is unknown: the ledger cannot be read (database is locked)",
    ),
    "silent": (
        replace(look([]), quiet_ms=12_501, interval_ms=5_000),
        "blue aaaaaaa holds the lease, and no row of it has come to the ledger for two intervals",
    ),
    "not-runnable": (
        alone(failures={BLUE: Reason(Code.BUILD, "the build failed: no network")}),
        "aaaaaaa cannot be run: the build failed: no network",
    ),
    "building": (alone(busy=frozenset({f"build:{BLUE}"})), "aaaaaaa is being built"),
    "starting": (alone(), "a bot of aaaaaaa is being started"),
    "not-healthy": (
        replace(
            alone(), instances=(instance("blue", BLUE, "1", Role.WARMING, healthy=False, why_not="the feed is silent"),)
        ),
        "no bot is healthy: blue the feed is silent",
    ),
    "not-taken": (
        replace(alone(), instances=(instance("blue", BLUE, "1"),), units=(unit("blue", BLUE, "1"),)),
        "a healthy bot stands by, and none takes the lease",
    ),
    "nothing-deployed": (
        replace(alone(), history=fold([]), handover=look([]).handover.changed(confirmed_sha="")),
        "nothing was deployed yet",
    ),
    "nothing-confirmed": (
        replace(
            alone(),
            history=fold(
                [*steps("1", BLUE, "queued"), Step(deploy="1", step="failed", time_ms=1, sha=BLUE, text="it died")]
            ),
            handover=look([]).handover.changed(confirmed_sha=""),
        ),
        "nothing was ever confirmed; aaaaaaa failed: it died",
    ),
}


@pytest.mark.parametrize("code", CASES)
def test_every_reason_has_its_words(code: str) -> None:
    """A code for machines and a sentence for people."""
    seen, text = CASES[code]
    reason = why_nobody_trades(seen)
    assert reason is not None
    assert (reason.code, reason.text) == (code, text)


def test_somebody_trades_whose_rows_are_fresh() -> None:
    """Up to two intervals, and half of one for the poll itself."""
    assert why_nobody_trades(replace(look([]), quiet_ms=12_500, interval_ms=5_000)) is None
    assert why_nobody_trades(look([])) is None, "a worker that shows no polls is not judged by them"


def noted(seen: Observed, after_ms: int) -> list[Record]:
    """What is noted so long after nobody traded any more."""
    began = dict.fromkeys(timers(seen), NOW.boot_ms - after_ms)
    return [action for action in note_standstill(replace(seen, since_ms=began), NOW) if isinstance(action, Record)]


def test_a_gap_is_no_standstill_and_a_reason_is_noted_once() -> None:
    """Gaps of handovers and deaths are no steps; the same reason with other numbers, or one that passes, is no other one."""
    seen = alone(failures={BLUE: Reason(Code.BUILD, "no network for 3 s")})
    assert noted(seen, NOBODY_MS - 1) == []
    said = noted(seen, 2 * NOBODY_MS)
    assert [(one.step, one.data["code"]) for one in said] == [("nobody-trades", "not-runnable")]

    def after(other: Observed, age_ms: int) -> list[Record]:
        step = Step(
            deploy="", step=said[0].step, time_ms=NOW.wall_ms - age_ms, text=said[0].text, data=dict(said[0].data)
        )
        return noted(replace(other, history=fold([*FIRST, step])), 3 * NOBODY_MS)

    assert after(alone(failures={BLUE: Reason(Code.BUILD, "no network for 300.5 s")}), 2 * SAID_AGAIN_MS) == []
    assert after(CASES["building"][0], 2 * SAID_AGAIN_MS) == []
    other = alone(failures={BLUE: Reason(Code.START, "no network for 3 s")})
    assert len(after(other, SAID_AGAIN_MS)) == 1, "another code behind the same words is another reason"
    assert after(CASES["not-taken"][0], SAID_AGAIN_MS - 1) == []
    assert [one.data["code"] for one in after(CASES["not-taken"][0], SAID_AGAIN_MS)] == ["not-taken"]
    assert [one.step for one in after(look([]), 0)] == ["trades-again"]


@pytest.mark.parametrize("code", CASES)
def test_one_same_reason_wherever_somebody_looks(tmp_path: Path, code: str) -> None:
    """status, history, the page and `make run`; the metric and the log are made of the same step by the deployer."""
    bus, text = open_bus(tmp_path / "bus"), CASES[code][1]
    append_step(bus, Step(deploy="", step="nobody-trades", time_ms=1, text=text, data={"code": code}))
    shown: dict[str, Callable[[], str | None]] = {
        "history": lambda: report.history_text(report.history(bus), report.nobody_line(bus)),
        "up": lambda: trading_line(bus, 0),
        "page": lambda: Views(bus, SystemClock()).deploys().problem,
    }
    for where, look_at in shown.items():
        assert f"nobody trades: {text}" in str(look_at()), where
    append_step(bus, Step(deploy="", step="trades-again", time_ms=2, text="blue trades"))
    for where, look_at in shown.items():
        assert "nobody trades: " not in str(look_at()), where
