"""Who trades, what was missed, how handovers and deploys went: what trading dashboards usually miss."""

from __future__ import annotations

from typing import Any

from monitoring.grafana import GREEN, Panel, Query, Row, dashboard
from monitoring.parts import DEPLOYS, DOUBT, LAST_GAP, MISSED, SINCE, TAKES, WHO, lines, quantiles, rate_by


def continuity() -> dict[str, Any]:
    """Who trades, what was missed, how handovers went."""
    return dashboard(
        "ns-continuity",
        "Never Sleeps: continuity",
        "Who trades, since when, and whether anything was ever missed.",
        (
            Row("Now", (WHO, SINCE, MISSED, LAST_GAP, DOUBT)),
            Row(
                "Who trades",
                (
                    Panel(
                        "state-timeline",
                        "Active",
                        "Which bot held the lease. Exactly one line is lit at any time.",
                        "none",
                        (Query("bot_active", "{{instance}}"),),
                        width=16,
                        steps=((None, "transparent"), (1, GREEN)),
                        mappings=(("0", "standby"), ("1", "active")),
                    ),
                    Panel(
                        "table",
                        "Bots",
                        "Every bot that is scraped, with its commit.",
                        "none",
                        (Query("bot_build_info", instant=True),),
                    ),
                    lines(
                        "Age of the newest tick",
                        "Saw-tooth up to one interval; more means that nobody polls.",
                        "s",
                        Query("time() - never_sleeps:tick_timestamp_seconds", "age"),
                        Query("max(bot_poll_interval_seconds)", "interval"),
                    ),
                    lines(
                        "Bots by role",
                        "Living instances. One active; a spare on standby; more during a deploy.",
                        "none",
                        Query("max by (role) (deployer_instances)", "{{role}}"),
                    ),
                    lines(
                        "Epoch",
                        "Rises by one at every take.",
                        "none",
                        Query("max(deployer_epoch)", "ledger"),
                        Query("max by (instance) (bot_epoch)", "{{instance}}"),
                    ),
                ),
            ),
            Row(
                "Polls",
                (
                    lines(
                        "Polls missed in 5 minutes",
                        "Stays at 0 through handovers, and through crashes with a spare beside.",
                        "none",
                        Query("never_sleeps:polls_missed - min_over_time(never_sleeps:polls_missed[5m])", "missed"),
                    ),
                    lines(
                        "Polls a second",
                        "Made by all bots together.",
                        "ops",
                        Query(rate_by("bot_polls_total", "kind"), "{{kind}}"),
                    ),
                    lines(
                        "Poll lag",
                        "From a tick's due time to the start of its poll.",
                        "s",
                        *quantiles("bot_poll_lag_seconds"),
                    ),
                ),
            ),
            Row(
                "Deploys and handovers",
                (
                    lines(
                        "Gap without a trader",
                        "The newest gap of each kind. A death's counts from its last claim, so up to an interval too much.",
                        "s",
                        Query("max by (kind) (deployer_last_gap_seconds)", "{{kind}}"),
                    ),
                    lines(
                        "Deploys in an hour",
                        "By how they ended.",
                        "none",
                        Query("sum by (result) (increase(deployer_deploys_total[1h]))", "{{result}}"),
                    ),
                    Panel(
                        "bargauge",
                        "Time of a deploy's steps",
                        "The mean of each step since the deployer started.",
                        "s",
                        (
                            Query(
                                "sum by (step) (deployer_step_seconds_sum) / sum by (step) (deployer_step_seconds_count)",
                                "{{step}}",
                                instant=True,
                            ),
                        ),
                    ),
                    lines(
                        "Bots that died or were killed, in an hour",
                        "Deaths: ended without being asked. Kills: showed no sign of life.",
                        "none",
                        Query("sum(increase(deployer_unit_deaths_total[1h]))", "deaths"),
                        Query("sum(increase(deployer_unit_kills_total[1h]))", "kills"),
                    ),
                    lines(
                        "Commit to trading",
                        "From queued to the take.",
                        "s",
                        Query(
                            "sum(deployer_deploy_to_trading_seconds_sum) / sum(deployer_deploy_to_trading_seconds_count)",
                            "mean",
                        ),
                    ),
                    lines(
                        "Healthy",
                        "Which bots could trade.",
                        "none",
                        Query("max by (instance) (bot_healthy)", "{{instance}}"),
                    ),
                ),
            ),
        ),
        (*DEPLOYS, TAKES),
    )
