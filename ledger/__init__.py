"""The ledger: what was decided, sent, filled and paid, in SQLite, append-only and fenced by epoch (design section 4).

A worker of its own needs what is exported here: one connection, its identity, and append-only tables beside the base's.
"""

from ledger.base import IN_FORCE, AppliedControl, Epoch, Identity, LastState, Ledger, append_only
from ledger.connection import Row, Value

__all__ = ["IN_FORCE", "AppliedControl", "Epoch", "Identity", "LastState", "Ledger", "Row", "Value", "append_only"]
