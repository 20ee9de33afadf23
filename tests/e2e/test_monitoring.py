"""A real Prometheus on a real run: a deploy and a death later every query of every dashboard and rule has its answer."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator

import apsw
import pytest

from tests.e2e.prometheus_rig import MonitoredRig
from tests.e2e.rig import until
from tests.unit.monitoring.files import metrics_table

pytestmark = [
    pytest.mark.skipif(shutil.which("prometheus") is None, reason="prometheus is missing (Debian: prometheus)"),
    pytest.mark.timeout(300),
]


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MonitoredRig]:
    """One deploy after the first, then SIGKILL of the trader; everything scraped all the while."""
    made = MonitoredRig(tmp_path_factory.mktemp("monitored"))
    try:
        made.begin()
        made.until_step(made.git("rev-parse", "HEAD"), "confirmed", 100)
        sha = made.commit_bot()
        made.until_step(sha, "confirmed", 100)
        made.assert_steady(sha, limit_s=90)
        prometheus = made.prometheus
        until("the swap is seen", lambda: prometheus.query(f'never_sleeps:trader{{git_sha="{sha}"}}'), every_s=0.3)
        made.signal_holder(signal.SIGKILL)
        until(
            "the death is seen",
            lambda: (
                prometheus.value('deployer_last_gap_seconds{kind="death"} >= 0') is not None
                and prometheus.value("sum(deployer_unit_deaths_total) > 0") is not None
                and prometheus.value("never_sleeps:active") == 1
            ),
            every_s=0.3,
        )
        yield made
    finally:
        made.stop()


def test_everything_is_scraped_and_every_rule_evaluates(rig: MonitoredRig) -> None:
    """All targets are up under their places, every rule evaluates without error, and what was never wrong fires nothing."""
    rig.prometheus.assert_all_are_up()
    rig.prometheus.assert_rules_evaluate()
    wrong = {"NoActiveBot", "TwoActiveBots", "VersionMismatch", "FsyncFailed", "DeployFailed", "NoSpare"}

    def settled() -> bool:
        firing = rig.prometheus.firing()
        return "Watchdog" in firing and not firing & wrong

    until("nothing fires that has no cause", settled, every_s=0.3)


def test_what_is_scraped_is_what_the_documents_say(rig: MonitoredRig) -> None:
    """Each process that runs exports the series of its table in docs/reference/metrics.md, with those labels, and no other."""
    for process in ("bot", "deployer", "panel", "paper"):
        listed = {
            name: labels
            for line in metrics_table()
            if line.process == process
            for name, labels in line.series().items()
        }
        added = {"__name__", "job", "instance"} | ({"color"} if process == "bot" else set())
        scraped: dict[str, set[str]] = {}
        for series in rig.prometheus.query(f'{{job="{process}",__name__!~"up|scrape_.*|ALERTS.*|never_sleeps:.*"}}'):
            scraped.setdefault(series["metric"]["__name__"], set()).update(series["metric"].keys() - added)
        assert scraped == listed, process


def test_every_query_of_every_dashboard_has_its_answer(rig: MonitoredRig) -> None:
    """Each query answers without error, with series where something must be, with the labels that its legend names."""
    rig.prometheus.assert_queries_answer("20s")


def test_totals_do_not_double_and_a_take_is_seen(rig: MonitoredRig) -> None:
    """With several bots scraped a lifetime total is the ledger's own number, and the commit that trades is the confirmed one."""
    prometheus = rig.prometheus

    def agree() -> bool:
        epochs = rig.count("SELECT max(epoch) FROM epochs")
        missed = rig.count("SELECT coalesce(sum(ticks), 0) FROM polls_missed")
        return (
            prometheus.value("max(deployer_epoch)") == epochs
            and prometheus.value("never_sleeps:polls_missed") == missed
        )

    until("Prometheus agrees with the ledger", agree, every_s=0.3)
    assert prometheus.value("count(never_sleeps:trader * on (git_sha) group_left () deployer_confirmed_info)") == 1
    assert (prometheus.value('max(deployer_last_gap_seconds{kind="handover"})') or 99) < 30


def test_planted_secrets_appear_nowhere(rig: MonitoredRig) -> None:
    """Neither the bots' key nor their API credentials are in any file that was written: logs, bus, metrics kept by Prometheus."""
    paper = rig.folder / "paper"
    connection = apsw.Connection(str(paper / "paper.db"), flags=apsw.SQLITE_OPEN_READONLY)
    rows = list(connection.execute("SELECT secret, passphrase FROM api_keys"))
    connection.close()
    assert rows, "the bots derived no credentials"
    planted = [rig.key.encode(), *(str(value).encode() for row in rows for value in row)]
    # Their own places: the key's file, and on paper the credentials that candidates without a key are healthy by.
    places = (rig.key_file, rig.bus.directory / "paper.credentials")
    assert all(place.stat().st_mode & 0o077 == 0 for place in places)
    files = [
        path for path in rig.folder.rglob("*") if path.is_file() and paper not in path.parents and path not in places
    ]
    names = {path.name for path in files}
    assert {"status.json", "ledger.db", "inputs.db", "deployer.log", "panel.log", "bots.json", "00000000"} <= names, (
        names
    )
    contents = {path: path.read_bytes() for path in files if path.exists()}
    assert [
        (path, n) for path, content in contents.items() for n, secret in enumerate(planted) if secret in content
    ] == []
