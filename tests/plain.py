"""The plain exchange of tests: nothing is late, nothing fails, nothing is left out, and both prices are one.

Paper's defaults are as the venue was recorded, and draw what becomes of orders and windows. A test that needs to know what
comes takes these instead, and names beside them what it is about.
"""

from __future__ import annotations

from typing import Any

from paper.settings import Settings

__all__ = ["OFTEN", "PLAIN", "plain_environment", "plain_settings"]

PLAIN: dict[str, Any] = {
    "basis": 0,
    "basis_drift": 0,
    "stream_delay": 0,
    "strike": "spot",
    "strike_delay": 0,
    "strike_spread": 0,
    "strike_missing": 0,
    "void_windows": 0,
    "taker_delay": 0.25,
    "delayed_answers": 0,
    "unmatched_delays": 0,
    "vanished_delays": 0,
    "market_buys": "shares",
    "trades": "single",
    "trade_price": "average",
    "prefixed_statuses": 0,
    "failed_trades": 0,
    "retried_trades": 0,
    "fresh_shares": "at_once",
    "stale_balances": 0,
}
"""What differs from paper's defaults, by the names of its settings."""

OFTEN = {
    "PAPER_DELAYED_ANSWERS": "0.3",
    "PAPER_UNMATCHED_DELAYS": "0.1",
    "PAPER_VANISHED_DELAYS": "0.05",
    "PAPER_PREFIXED_STATUSES": "0.2",
    "PAPER_FAILED_TRADES": "0.03",
    "PAPER_RETRIED_TRADES": "0.03",
    "PAPER_VOID_WINDOWS": "0.05",
    "PAPER_STALE_BALANCES": "0.1",
    "PAPER_FRESH_SHARES": "mined",
}
"""The other end, for an exchange in a process: as live, and what is rare there comes up in minutes."""


def plain_settings(**chosen: Any) -> Settings:
    """The settings of a plain exchange with these beside."""
    return Settings(**PLAIN | chosen)


def plain_environment() -> dict[str, str]:
    """The same for an exchange in a process or container of its own."""
    return {f"PAPER_{name.upper()}": str(value) for name, value in PLAIN.items()}
