"""The four dashboards by the names of their files."""

from __future__ import annotations

from monitoring.continuity import continuity
from monitoring.machine import machine
from monitoring.market_data import market_data
from monitoring.trading import trading

DASHBOARDS = {
    "continuity.json": continuity,
    "trading.json": trading,
    "market-data.json": market_data,
    "machine.json": machine,
}
