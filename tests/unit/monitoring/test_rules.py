"""Each alert fires in its case and no other does; calm and an ordinary handover fire none. promtool on the committed rules."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.unit.monitoring.calm import BLUE, SAMPLES, SPARE, Series, calm, handover
from tests.unit.monitoring.files import RULES, alerts

FIRING = 'count by (alertname) (ALERTS{alertstate="firing",alertname!="Watchdog"})'
DEPLOYER = 'instance="deployer",job="deployer"'
HALF = SAMPLES // 2  # what breaks does so after 10 minutes
END = "16m"

pytestmark = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is missing (Debian: prometheus)")


def _then(before: float, after: float) -> str:
    return f"{before:g}x{HALF} {after:g}x{HALF}"


STOPPED_CLOCK = f"0+5x{HALF} {5 * HALF}x{HALF}"

# What is different from calm, by alert; None: the series is not there. Beside it what else must fire then.
CASES: dict[str, tuple[Series, tuple[str, ...]]] = {
    "NoActiveBot": ({f"bot_active{{{BLUE}}}": _then(1, 0), f"bot_healthy{{{SPARE}}}": "1x240"}, ()),
    "TwoActiveBots": ({f"bot_active{{{SPARE}}}": _then(0, 1)}, ("NoSpare",)),
    "TickStale": ({f"bot_tick_timestamp_seconds{{{who}}}": STOPPED_CLOCK for who in (BLUE, SPARE)}, ()),
    "BotUnhealthy": ({f"bot_healthy{{{BLUE}}}": _then(1, 0)}, ()),
    "PollMissed": ({f"bot_ledger_polls_missed{{{BLUE}}}": _then(3, 4)}, ()),
    "HandoverSlow": ({f'deployer_handover_gap_seconds_count{{{DEPLOYER},kind="handover"}}': _then(0, 1)}, ()),
    "FsyncFailed": ({f"bot_fsync_failed{{{SPARE}}}": _then(0, 1)}, ()),
    "OrderInDoubt": ({f"bot_ledger_in_doubt{{{BLUE}}}": _then(0, 2)}, ()),
    "TradesFailed": ({f"bot_ledger_failed_trades{{{BLUE}}}": _then(1, 4)}, ()),
    "LossLimitReached": ({f'bot_entries_closed{{{BLUE},reason="daily_loss"}}': f"0x{HALF} 1x{HALF}"}, ()),
    "VersionMismatch": (
        {
            f'deployer_confirmed_info{{{DEPLOYER},git_sha="aaa"}}': f"1x{HALF} stale",
            f'deployer_confirmed_info{{{DEPLOYER},git_sha="bbb"}}': f"_x{HALF} 1x{HALF}",
        },
        (),
    ),
    "NoSpare": ({f"bot_healthy{{{SPARE}}}": _then(1, 0)}, ()),
    "BotDied": ({f"deployer_unit_deaths_total{{{DEPLOYER}}}": _then(0, 1)}, ()),
    "BotKeepsDying": ({f"deployer_unit_deaths_total{{{DEPLOYER}}}": f"0x{HALF} 0+1x6 6x{HALF}"}, ("BotDied",)),
    "DeployFailed": ({f'deployer_deploys_total{{{DEPLOYER},result="failed"}}': _then(0, 1)}, ()),
    "DeployerDown": ({f"deployer_look_timestamp_seconds{{{DEPLOYER}}}": STOPPED_CLOCK}, ()),
    "DeployerProblem": ({f"deployer_problem{{{DEPLOYER}}}": _then(0, 1)}, ()),
    "FeedStale": ({f'bot_feed_timestamp_seconds{{{BLUE},feed="binance BTC"}}': STOPPED_CLOCK}, ()),
    "EntriesClosed": ({f'bot_entries_closed{{{BLUE},reason="clock"}}': "1x240"}, ()),
    "DiskNearlyFull": ({f"bot_bus_free_bytes{{{BLUE}}}": _then(50e9, 0.9e9)}, ()),
    "BuildsRefused": ({f'deployer_disk_low{{{DEPLOYER},disk="builds"}}': _then(0, 1)}, ()),
    "DiskFull": ({f"bot_bus_free_bytes{{{BLUE}}}": _then(50e9, 10e6)}, ("DiskNearlyFull",)),
    "ClockOff": ({f"bot_clock_offset_seconds{{{BLUE}}}": _then(0, 2)}, ()),
    "LoopSlow": ({f'bot_loop_lag_seconds_bucket{{{who},le="0.01"}}': "0x240" for who in (BLUE, SPARE)}, ()),
    "BotNotScraped": ({f"up{{{SPARE}}}": _then(1, 0)}, ()),
    "VenueDataSkipped": ({f'bot_venue_data_skipped_total{{{BLUE},source="gamma",code="shape"}}': _then(0, 500)}, ()),
    "NotificationsFail": ({'panel_notify_failing{instance="panel",job="panel"}': f"0x6 1x{SAMPLES}"}, ()),
    "LogLinesDropped": ({f"bot_log_lines_dropped_total{{{BLUE}}}": _then(0, 7)}, ()),
}
# What looks like it and is none: it must not fire.
SILENT: dict[str, Series] = {
    "one slow scrape: nobody active in a single sample": {f"bot_active{{{BLUE}}}": f"1x{HALF} 0 1x{HALF}"},
    "a pause by people closes entries for long": {f'bot_entries_closed{{{BLUE},reason="paused"}}': "1x240"},
    "a standby's feed is stale": {f'bot_feed_timestamp_seconds{{{SPARE},feed="binance BTC"}}': STOPPED_CLOCK},
    "a standby knows of a missed poll later": {f"bot_ledger_polls_missed{{{SPARE}}}": "_x60 3x180"},
    "an order is in doubt for two minutes": {f"bot_ledger_in_doubt{{{BLUE}}}": f"0x{HALF} 1x24 0x{HALF}"},
    "the spare warms up for four minutes": {f"bot_healthy{{{SPARE}}}": f"1x{HALF} 0x48 1x{HALF}"},
    "the clock of the ticks is one interval late": {f"bot_tick_timestamp_seconds{{{BLUE}}}": "_ 0+5x239"},
}


def _test(name: str, series: Series, expected: tuple[str, ...], *at: str) -> dict[str, Any]:
    return {
        "name": name,
        "interval": "5s",
        "input_series": [{"series": key, "values": values} for key, values in series.items()],
        "promql_expr_test": [
            {
                "expr": FIRING,
                "eval_time": time,
                "exp_samples": [{"labels": f'{{alertname="{alert}"}}', "value": 1} for alert in expected],
            }
            for time in at
        ],
    }


def _run(tests: list[dict[str, Any]], folder: Path, evaluated: str = "30s") -> None:
    file = folder / "rules_test.json"  # JSON is YAML
    content = {"rule_files": [str(RULES)], "evaluation_interval": evaluated, "tests": tests}
    file.write_text(json.dumps(content))
    done = subprocess.run(
        ["promtool", "test", "rules", str(file)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_fires_in_its_case_alone(tmp_path: Path) -> None:
    """For every alert there is a case in which it fires, and nothing else but what must follow."""
    assert set(CASES) == alerts().keys() - {"Watchdog"}
    tests = [
        _test(name, {**calm(), **changed}, tuple(sorted((name, *also))), END) for name, (changed, also) in CASES.items()
    ]
    _run(tests, tmp_path)


def test_calm_and_an_ordinary_handover_fire_nothing(tmp_path: Path) -> None:
    """No alert fires while all is well, through a handover as scrapes may see it, or for what only looks like trouble."""
    times = [f"{n}s" for n in range(240, 600, 5)]
    _run([_test(f"handover, {seen}", handover(seen), (), *times) for seen in ("nobody", "both")], tmp_path, "5s")
    _run([_test(name, {**calm(), **changed}, (), "11m", END) for name, changed in SILENT.items()], tmp_path)
    _run([_test("calm", calm(), (), END)], tmp_path)


def test_the_watchdog_always_fires(tmp_path: Path) -> None:
    """Even with no series at all the watchdog fires: its silence says that the way to people is closed."""
    test = _test("nothing", {"unrelated": "1x240"}, (), END)
    test["promql_expr_test"][0]["expr"] = 'count by (alertname) (ALERTS{alertstate="firing",alertname="Watchdog"})'
    test["promql_expr_test"][0]["exp_samples"] = [{"labels": '{alertname="Watchdog"}', "value": 1}]
    _run([test], tmp_path)
