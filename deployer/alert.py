"""A test alert, sent to Alertmanager as Prometheus sends one: whether what wakes people up does."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from deployer.errors import DeployerError

LIMIT_S = 5
SEVERITIES = ("page", "look")
RESOLVES_AFTER = timedelta(minutes=2)


class AlertError(DeployerError):
    """The alert could not be handed over."""


def send_test_alert(url: str, severity: str, now: datetime, say: Callable[[str], None]) -> None:
    """Hand one alert to Alertmanager's API (v2); it resolves by itself after two minutes. Raises AlertError."""
    alert = {
        "labels": {"alertname": "TestAlert", "severity": severity},
        "annotations": {"summary": "A test alert of Never Sleeps; nothing is wrong."},
        "startsAt": _text(now),
        "endsAt": _text(now + RESOLVES_AFTER),
    }
    address = f"{url.rstrip('/')}/api/v2/alerts"
    try:
        request = urllib.request.Request(
            address, data=json.dumps([alert]).encode(), headers={"Content-Type": "application/json"}, method="POST"
        )
        with urllib.request.urlopen(request, timeout=LIMIT_S):
            pass
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise AlertError(
            f"expected Alertmanager at {url}, found {reason}; start it (docs/monitoring.md) or set DEPLOYER_ALERTMANAGER"
        ) from error
    say(
        f"TestAlert with severity {severity} was taken by {url}; who gets it says monitoring/alertmanager/alertmanager.yml"
    )


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
