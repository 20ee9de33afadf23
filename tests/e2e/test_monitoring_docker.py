"""A real Prometheus on containers: five deploys, a SIGKILL, frozen streams, a halt; the configuration as it is committed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from functools import partial

import pytest

from bus import read_status
from tests.e2e.clone import SETTLE_S, Clone
from tests.e2e.docker_engine import docker, need_engine
from tests.e2e.prometheus import PrometheusContainer
from tests.e2e.rig import arm_fault, clear_faults, until

need_engine()
pytestmark = [
    pytest.mark.skipif(shutil.which("prometheus") is None, reason="prometheus is missing (Debian: prometheus)"),
    pytest.mark.timeout(900),
]

DEPLOYS = 5
SCRAPED_S = 60.0  # ten scrapes
STALE_S = 150.0  # 15 s old, for 15 s, and what a busy machine adds
# Four times the scrape interval, as Grafana has it.
RATE_INTERVAL = "20s"
# What may be true on a machine that builds images and runs other tests: late loops.
BUSY = {"Watchdog", "LoopSlow"}


@pytest.fixture
def clone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clone]:
    """A clone that trades, run as `make run` does."""
    made = Clone(tmp_path_factory.mktemp("monitored"))
    try:
        made.run()
        made.until_confirmed(made.git("rev-parse", "HEAD"))
        yield made
    finally:
        made.clean()


@pytest.fixture
def prometheus(clone: Clone) -> Iterator[PrometheusContainer]:
    """The service `prometheus` of compose.yaml."""
    made = PrometheusContainer(f"{clone.project}-prometheus-1", clone.networks, clone.folder)
    try:
        yield made
    finally:
        made.stop()


def test_prometheus_sees_what_happens_and_wakes_nobody_up_for_a_deploy(
    clone: Clone, prometheus: PrometheusContainer
) -> None:
    """Deploys fire no alert and leave no more places; a death, stale prices and a halt are seen, each as what it is."""
    prometheus.assert_all_are_up()
    for _ in range(DEPLOYS):
        sha = clone.commit()
        clone.until_confirmed(sha)
        is_seen = partial(prometheus.query, f'never_sleeps:trader{{git_sha="{sha}"}}')
        until("the swap is seen", is_seen, SCRAPED_S, 0.3)
    assert prometheus.fired() <= BUSY
    assert prometheus.value("never_sleeps:polls_missed") == 0
    assert prometheus.value('increase(deployer_deploys_total{result="confirmed"}[1h]) > 0')
    assert (prometheus.value('max(deployer_last_gap_seconds{kind="handover"})') or 99) < 1

    trader = until("a trader", clone.trader)
    assert trader.document is not None
    docker("kill", trader.document.unit)
    until("the death is told", lambda: "BotDied" in prometheus.firing(), SCRAPED_S, 0.3)
    until(
        "the gap is told",
        lambda: prometheus.value('deployer_last_gap_seconds{kind="death"} >= 0') is not None,
        SCRAPED_S,
        0.3,
    )
    until("one trades, one stands by", lambda: prometheus.value("sum(bot_healthy)") == 2, SETTLE_S, 0.3)
    assert prometheus.fired() <= BUSY | {"BotDied"}

    paper = f"http://{clone.address('paper')}:8700"
    arm_fault(paper, kind="freeze_streams", seconds=600)
    until("stale prices are told", lambda: "FeedStale" in prometheus.firing(), STALE_S, 0.3)
    clear_faults(paper)
    until("it is over", lambda: not prometheus.firing() & {"FeedStale", "BotUnhealthy"}, STALE_S, 0.3)

    clone.bus.halt.touch()
    until("the halt is seen", lambda: prometheus.value('max(bot_entries_closed{reason="halted"})') == 1, SCRAPED_S, 0.3)
    assert "EntriesClosed" not in prometheus.firing()
    clone.bus.halt.unlink()
    until(
        "the halt's end is seen",
        lambda: prometheus.value('max(bot_entries_closed{reason="halted"})') == 0,
        SCRAPED_S,
        0.3,
    )

    prometheus.assert_all_are_up()
    prometheus.assert_rules_evaluate()
    prometheus.assert_queries_answer(RATE_INTERVAL)
    assert prometheus.fired() <= BUSY | {"BotDied", "FeedStale", "BotUnhealthy"}
    places = prometheus.query("count by (instance) (last_over_time(bot_build_info[2h]))")
    # Three of one color were seen, two are a trader and its spare; what the third was is not established.
    most = {f"{color}-{number}" for color in ("blue", "green") for number in (1, 2, 3)}
    assert {series["metric"]["instance"] for series in places} <= most
    assert (prometheus.value("count(last_over_time(bot_build_info[2h]))") or 99) <= 2 * (DEPLOYS + 1) + 2
    epoch = read_status(clone.bus).body.epoch
    until("Prometheus agrees with the ledger", lambda: prometheus.value("max(deployer_epoch)") == epoch, SCRAPED_S, 0.3)
    audit = clone.make("audit", "ARGS=--venue http://paper:8700")
    assert audit.returncode == 0, audit.stdout + audit.stderr
