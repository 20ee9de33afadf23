"""The dead-man switch (venue.md 4.3): one chain of heartbeats an API key, kept in the record.

A key that never sent one is not watched. Once it has, it must go on: there is no disarming. A restarted exchange knows
the chains, and gives every armed key one whole time limit again.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from paper.engine.record import Record
from paper.errors import RefusedError

__all__ = ["Heartbeats"]


@dataclass(slots=True)
class _Chain:
    """``expected`` is the id that the next heartbeat must carry; ``armed`` until the switch has struck."""

    expected: str
    seen_ms: int
    armed: bool


class Heartbeats:
    """The chains of all keys.

    Args:
        limit_ms: how long a key may be silent.
    """

    def __init__(self, record: Record, limit_ms: int, now_ms: int) -> None:
        self._record = record
        self._limit_ms = limit_ms
        rows = record.query("SELECT key, expected, armed FROM heartbeats")
        self._chains = {str(key): _Chain(str(expected), now_ms, bool(armed)) for key, expected, armed in rows}

    def beat(self, key: str, heartbeat_id: str, now_ms: int) -> str:
        """Arm or renew a key's switch; return the id for its next heartbeat.

        Raises:
            RefusedError: 400 with the expected id; the switch keeps running down.
        """
        chain = self._chains.get(key)
        if heartbeat_id != (chain.expected if chain else ""):
            text = "Invalid Heartbeat ID"
            raise RefusedError(400, text, error_msg=text, heartbeat_id=chain.expected if chain else "")
        self._keep(key, _Chain(str(uuid.uuid4()), now_ms, armed=True))
        return self._chains[key].expected

    def silent(self, now_ms: int) -> set[str]:
        """Return the keys whose time has just run out. Their chains stay: the next heartbeat arms them again."""
        ended = {key for key, chain in self._chains.items() if chain.armed and now_ms - chain.seen_ms > self._limit_ms}
        for key in ended:
            self._keep(key, _Chain(self._chains[key].expected, now_ms, armed=False))
        return ended

    def _keep(self, key: str, chain: _Chain) -> None:
        self._chains[key] = chain
        sql = "INSERT OR REPLACE INTO heartbeats (key, expected, armed) VALUES (?, ?, ?)"
        self._record.add(sql, (key, chain.expected, int(chain.armed)))
