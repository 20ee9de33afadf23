"""The ring of recent decisions' inputs: exactly what each was given, so that another version can be asked what it would do.

Of every poll all slots; between polls those whose evaluation changed its state or acted. They are written a moment later, a few
a record, so that neither an order nor a price waits for them.

It may be lost: what goes wrong here is a warning and costs no poll.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from bot.strategy.api import Inputs
from bot.strategy.evaluation import Evaluation
from bus import Bus, InputsRing, LedgerError, Log

WRITE_EVERY_S = 0.02
AT_ONCE = 16  # decisions a record: so many cost the loop about a millisecond
MOST_WAITING = 500


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A record that is still to be written."""

    tick: int
    epoch: int
    evaluations: Sequence[Evaluation]
    parameters: Any
    given: Iterable[str]
    between: bool


class Recorder:
    """Writes the inputs of evaluations, a few at a time. strategy, sha: what decided, as BOT_STRATEGY and BOT_SHA name it."""

    def __init__(self, bus: Bus, log: Log, strategy: str, sha: str) -> None:
        self._log, self._strategy, self._sha = log, strategy, sha
        self._waiting: deque[_Waiting] = deque(maxlen=MOST_WAITING)  # what does not fit is lost, oldest first
        self._timer: asyncio.TimerHandle | None = None
        self._ring: InputsRing | None = None
        try:
            self._ring = InputsRing(bus.inputs)
        except LedgerError as error:
            self._log.warning("inputs_not_recorded", reason=str(error))

    def add(
        self,
        tick: int,
        epoch: int,
        evaluations: Sequence[Evaluation],
        parameters: Any,
        given: Iterable[str],
        *,
        between: bool,
    ) -> None:
        """Keep what was decided, at a poll or between two, a moment later. given: the parameters that control names."""
        if self._ring is None:
            return
        for start in range(0, len(evaluations), AT_ONCE):
            some = evaluations[start : start + AT_ONCE]
            self._waiting.append(_Waiting(tick, epoch, some, parameters, given, between))
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(WRITE_EVERY_S, self._write_one)

    def close(self) -> None:
        """Write what waits and close the ring."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._ring is not None:
            while self._waiting:
                self._write(self._ring, self._waiting.popleft())
            self._ring.close()
            self._ring = None

    def _write_one(self) -> None:
        self._timer = None
        if self._ring is None or not self._waiting:
            return
        self._write(self._ring, self._waiting.popleft())
        if self._waiting:
            self._timer = asyncio.get_running_loop().call_later(WRITE_EVERY_S, self._write_one)

    def _write(self, ring: InputsRing, waiting: _Waiting) -> None:
        body = record(
            waiting.evaluations,
            waiting.parameters,
            waiting.given,
            self._strategy,
            between=waiting.between,
            sha=self._sha,
        )
        try:
            ring.add(waiting.tick, waiting.epoch, body)
        except LedgerError as error:
            self._log.warning("inputs_not_recorded", reason=str(error))


def record(
    evaluations: Sequence[Evaluation],
    parameters: Any,
    given: Iterable[str],
    strategy: str,
    *,
    between: bool,
    sha: str = "",
) -> str:
    """The inputs of decisions as JSON; `bot.tools.decision_diff` reads them.

    given: the parameters that control names; the others have their defaults, which another version may change.
    between: made between two polls, else all of a poll. sha: the commit that decided.
    """
    rows = [
        {
            "inputs": _as_dict(e.inputs),
            "action": e.decision.action,
            "reason": e.decision.reason,
            "wanted": e.wanted,
            "outcome": e.decision.outcome,
            "price": e.decision.price,
            "size": e.decision.size,
        }
        for e in evaluations
        if e.inputs is not None
    ]
    body = {
        "schema": "1.3",
        "sha": sha,
        "strategy": strategy,
        "between_polls": between,
        "parameters": asdict(parameters),
        "given": sorted(given),
        "decisions": rows,
    }
    return json.dumps(body, default=str)


_FIELDS = tuple(one.name for one in fields(Inputs))
_LEVELS = ("asks_up", "bids_up", "asks_down", "bids_down")


def _as_dict(inputs: Inputs) -> dict[str, Any]:
    """As dataclasses.asdict, which copies every Decimal and takes ten times as long: the loop waits for it."""
    fields_by_name = {name: getattr(inputs, name) for name in _FIELDS}
    for name in _LEVELS:
        fields_by_name[name] = [{"price": level.price, "size": level.size} for level in fields_by_name[name]]
    return fields_by_name
