"""What all tests share: limits follow the machine, with REQUIRE_ALL=1 a skip is a failure, authorities are loaded once."""

from __future__ import annotations

import functools
import os
import ssl
from collections.abc import Generator
from typing import Any

import hypothesis
import pytest

from tests import patience

# An HTTP client loads all authorities of the machine, also for http://: 0.1 s of processor each, and tests make hundreds.
ssl.create_default_context = functools.cache(ssl.create_default_context)  # type: ignore[assignment]  # its callers pass what can be hashed

patience.wait_patiently()

# How long one example takes is the machine's: hypothesis' own limit of 200 ms of the wall fails good tests under load.
hypothesis.settings.register_profile("patient", hypothesis.settings.default, deadline=None)
hypothesis.settings.load_profile("patient")

REQUIRE_ALL = os.environ.get("REQUIRE_ALL") == "1"
# What no machine needs to have; a skip that begins so is none of what REQUIRE_ALL forbids.
OPTIONAL = "optional: "


def _forbid(report: Any) -> None:
    if REQUIRE_ALL and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if OPTIONAL in reason:
            return
        report.outcome = "failed"
        report.longrepr = f"REQUIRE_ALL=1 forbids skips; this machine lacks something: {reason}"


def pytest_timeout_set_timer(item: pytest.Item, settings: Any) -> bool | None:
    """A test's own limit follows the machine, too."""
    return patience.set_timer(item, settings)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that skips itself fails under REQUIRE_ALL=1."""
    report = yield
    _forbid(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """A module that skips itself fails under REQUIRE_ALL=1."""
    report = yield
    _forbid(report)
    return report
