"""A local Polymarket and Binance at the level of the wire, on a price tape or a random walk.

``python -m paper`` serves it; docs/reference/paper.md describes it. The pure parts (engine, prices, maker, windows) know no clock
and no I/O; ``Exchange`` joins them with the durable record, and ``make_app`` puts the wire in front.
"""

from paper.engine.exchange import Exchange
from paper.engine.matching import Engine
from paper.engine.record import Record
from paper.errors import PaperError, RefusedError, UsageError
from paper.settings import Settings
from paper.wire.app import make_app

__all__ = ["Engine", "Exchange", "PaperError", "Record", "RefusedError", "Settings", "UsageError", "make_app"]
