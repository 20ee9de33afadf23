"""A real bot against a paper exchange that misbehaves: nothing is doubled, nothing is lost, and trading goes on after.

`python -m bench.faults` runs the same with every kind of fault and 200 mixtures.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bench.faults import FaultRun, doubled, life, mixtures, record_of
from tests.e2e.rig import Rig, until

SEED = 11
pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultRun]:
    """An exchange, and a bot that enters every window and leaves every second one."""
    made = FaultRun(tmp_path_factory.mktemp("faults"))
    yield made
    made.stop()


def assert_nothing_doubled(rig: Rig) -> None:
    """No entry was sent twice, no bytes differ for one order, and the audit holds against the exchange's record."""
    assert doubled(rig, record_of(rig)["requests"]) == []
    rig.assert_audit()


def test_replies_lost_or_delayed_at_every_request_of_an_orders_life(run: FaultRun) -> None:
    """Lost before, lost after, delayed beyond the limit, broken, at each request: one order an intent, and trading goes on."""
    for mixture in life():
        assert run.strike(mixture).unstruck == (), mixture.name
    assert run.problems() == []
    assert run.facts["orders that were in doubt"] >= 2, "the faults struck orders"


def test_mixtures_of_faults_break_no_invariant(run: FaultRun) -> None:
    """Two to four kinds of fault together, drawn from a seed: the audit holds, no order is doubled, no limit is passed."""
    fills = run.rig.count("SELECT count(*) FROM fills")
    for mixture in mixtures(SEED, 5):
        run.strike(mixture)
    until("it trades", lambda: run.rig.count("SELECT count(*) FROM fills") > fills)
    assert run.problems() == []
