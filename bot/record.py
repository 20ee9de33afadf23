"""The ring of recent decisions' inputs: exactly what each was given, so that another version can be asked what it would do.

It may be lost: what goes wrong here is a warning and costs no poll.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

from bot.evaluation import Evaluation
from bot.strategy import Parameters
from bus import Bus, InputsRing, LedgerError, Log


class Recorder:
    """Writes the inputs of polls."""

    def __init__(self, bus: Bus, log: Log) -> None:
        self._log = log
        self._ring: InputsRing | None = None
        try:
            self._ring = InputsRing(bus.inputs)
        except LedgerError as error:
            self._log.warning("inputs_not_recorded", reason=str(error))

    def add(self, tick: int, epoch: int, evaluations: Sequence[Evaluation], parameters: Parameters) -> None:
        """Keep what a poll decided upon."""
        if self._ring is None:
            return
        try:
            self._ring.add(tick, epoch, record(evaluations, parameters))
        except LedgerError as error:
            self._log.warning("inputs_not_recorded", reason=str(error))

    def close(self) -> None:
        """Close the ring."""
        if self._ring is not None:
            self._ring.close()


def record(evaluations: Sequence[Evaluation], parameters: Parameters) -> str:
    """The inputs of all decisions of a poll as JSON."""
    rows = [
        {"inputs": asdict(e.inputs), "action": e.decision.action, "reason": e.decision.reason}
        for e in evaluations
        if e.inputs is not None
    ]
    return json.dumps({"schema": "1.0", "parameters": asdict(parameters), "decisions": rows}, default=str)
