"""The files' texts: rules as YAML, the runbook and the table of metrics as Markdown. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable

from prometheus_client import CollectorRegistry

from monitoring.alerts import ALERTS, GROUP
from monitoring.recording import RECORDINGS

MADE = "Made by `python -m monitoring`; change the code in monitoring/ instead."
RUNBOOK = "docs/runbook.md"
_SUFFIXES = ("_bucket", "_count", "_sum", "_total", "_info")


def rules_yaml() -> str:
    """Recording and alert rules for Prometheus. Scalars are written as JSON, which YAML contains."""
    lines = [f"# {MADE}", "groups:", f"  - name: {GROUP}", "    rules:"]
    for rule in RECORDINGS:
        lines += [f"      - record: {rule.name}", f"        expr: {json.dumps(rule.expr)}"]
    lines += [f"  - name: {GROUP}-alerts", "    rules:"]
    for alert in ALERTS:
        lines += [
            f"      - alert: {alert.name}",
            f"        expr: {json.dumps(alert.expr)}",
            f"        for: {alert.wait}",
            f"        labels: {{severity: {alert.severity}}}",
            "        annotations:",
            f"          summary: {json.dumps(alert.summary)}",
            f"          runbook: {json.dumps(f'{RUNBOOK}#{alert.name.lower()}')}",
        ]
    return "\n".join(lines) + "\n"


def runbook() -> str:
    """What each alert means, and what to do first."""
    lines = [
        "# Runbook",
        "",
        f"What each alert means and what to do first. {MADE}",
        "",
        "*page* wakes somebody up, *look* waits for the morning. How they reach you: [monitoring.md](monitoring.md).",
    ]
    for alert in ALERTS:
        holds = "at once" if alert.wait == "0s" else f"after {alert.wait}"
        lines += [
            "",
            f"## {alert.name}",
            "",
            f"*{alert.severity}*, {holds}: `{alert.expr}`",
            "",
            f"**It means:** {alert.means}",
            "",
            f"**Do first:** {alert.first}",
        ]
    return "\n".join(lines) + "\n"


def table(registries: Iterable[CollectorRegistry]) -> str:
    """Every metric of these registries: name, type, labels with their values, meaning."""
    lines = ["| metric | type | labels | meaning |", "|---|---|---|---|"]
    for registry in registries:
        for family in sorted(registry.collect(), key=lambda found: found.name):
            labels: dict[str, list[str]] = {}
            for sample in family.samples:
                for label, value in sample.labels.items():
                    if label != "le" and value not in labels.setdefault(label, []):
                        labels[label].append(value)
            name = family.name + {"counter": "_total", "info": "_info"}.get(family.type, "")
            shown = "; ".join(f"{label}: {', '.join(values)}" for label, values in labels.items())
            lines.append(f"| `{name}` | {family.type} | {shown} | {family.documentation} |")
    return "\n".join(lines) + "\n"
