"""All files that this package makes, by their path in the repository."""

from __future__ import annotations

import json
from typing import cast

from prometheus_client import CollectorRegistry

import bot.metrics
import deployer.metrics
import panel.metrics
import paper.metrics
from bot.slots import DEFAULT_ASSETS, DEFAULT_TIMEFRAMES, make_slots
from deployer.observed import Policy
from monitoring.dashboards import DASHBOARDS
from monitoring.text import MADE, RUNBOOK, rules_yaml, runbook, table
from paper.exchange import Exchange
from paper.sockets import Sockets

RULES = "volumes/prometheus/rules/never-sleeps.yml"
METRICS = "docs/metrics.md"
DASHBOARDS_FOLDER = "volumes/grafana/dashboards"


def registries() -> dict[str, CollectorRegistry]:
    """The metrics of each process as they are at its start, by its name."""
    of_bot = bot.metrics.Metrics("VERSION", "SHA")
    slots = make_slots(DEFAULT_ASSETS, DEFAULT_TIMEFRAMES)
    of_bot.prepare(
        ((slot.id, slot.asset) for slot in slots),
        [f"{stream} {asset}" for stream in ("binance", "books", "settlement") for asset in DEFAULT_ASSETS],
    )
    # Nothing is asked of the exchange before a scrape.
    of_paper = paper.metrics.Metrics(cast(Exchange, None), cast(Sockets, None))
    return {
        "bot": of_bot.registry,
        "deployer": deployer.metrics.Metrics(Policy()).registry,
        "panel": panel.metrics.Metrics().registry,
        "paper": of_paper.registry,
    }


def made() -> dict[str, str]:
    """Each file's text."""
    found = {RULES: rules_yaml(), RUNBOOK: runbook(), METRICS: _metrics()}
    for name, make in DASHBOARDS.items():
        found[f"{DASHBOARDS_FOLDER}/{name}"] = json.dumps(make(), indent=1) + "\n"
    return found


def _metrics() -> str:
    lines = ["# Metrics", "", f"Every metric of every process, at `/metrics`. {MADE}", ""]
    for process, registry in registries().items():
        lines += [f"## {process}", "", table([registry])]
    return "\n".join(lines)
