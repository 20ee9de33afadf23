"""What the dashboards share: stats, lines, marks of deploys, and who trades, which every one of them shows first."""

from __future__ import annotations

from typing import Any

from monitoring.grafana import BLUE, GREEN, RED, YELLOW, Annotation, Panel, Query

RATE = "[$__rate_interval]"
DEPLOYS = tuple(
    Annotation(
        f"Deploys {result}",
        f'max(deployer_deploy_timestamp_seconds{{result="{result}"}}) * 1000',
        color,
        f"deploy {result}",
    )
    for result, color in (("confirmed", GREEN), ("failed", RED), ("cancelled", YELLOW))
)
TAKES = Annotation("Takes", "max(bot_epoch_began_timestamp_seconds) * 1000", BLUE, "the lease was taken")
AT_0 = ((None, GREEN), (1, RED))


def rate_by(metric: str, *by: str) -> str:
    """The rate of a counter over all processes that ever counted it."""
    return f"sum by ({', '.join(by)}) (rate({metric}{RATE}))"


def quantile(metric: str, q: float) -> str:
    return f"histogram_quantile({q}, sum by (le) (rate({metric}_bucket{RATE})))"


def quantiles(metric: str) -> tuple[Query, ...]:
    return tuple(Query(quantile(metric, q), f"p{q * 100:g}") for q in (0.5, 0.99))


def stat(title: str, description: str, unit: str, expr: str, legend: str = "", **more: Any) -> Panel:
    return Panel(
        "stat", title, description, unit, (Query(expr, legend, instant=True),), **{"width": 4, "height": 4, **more}
    )


def lines(title: str, description: str, unit: str, *queries: Query, **more: Any) -> Panel:
    return Panel("timeseries", title, description, unit, queries, **more)


WHO = stat(
    "Trades",
    "The color and the commit of the bot that holds the lease.",
    "none",
    "never_sleeps:trader",
    "{{color}} {{git_sha}}",
    names=True,
    width=8,
)
MISSED = stat(
    "Polls missed",
    "Ticks without a completed poll since the ledger began.",
    "none",
    "never_sleeps:polls_missed",
    "missed",
    steps=AT_0,
)
DOUBT = stat(
    "In doubt",
    "Orders of which it is not known whether they arrived.",
    "none",
    "never_sleeps:orders_in_doubt",
    "in doubt",
    steps=((None, GREEN), (1, YELLOW)),
)
LAST_GAP = stat(
    "Last handover's gap",
    "How long nobody held the lease in the newest handover.",
    "s",
    'max(deployer_last_gap_seconds{kind="handover"})',
    "gap",
    steps=((None, GREEN), (1, RED)),
)
SINCE = stat(
    "Trades since",
    "How long the newest epoch has lasted.",
    "s",
    "time() - max(bot_epoch_began_timestamp_seconds)",
    "since",
)
