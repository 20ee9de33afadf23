"""What was predicted and believed, kept until the poll is over and then recorded for `bot calibrate`."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from bot.strategy.evaluation import Evaluation
from ledger import Ledger
from ledger.predictions import HORIZONS_S, Belief, Prediction, add_predictions
from ledger.values import Side

MOST_KEPT = 500
KEPT_HORIZONS = 4_000


class Predictions:
    """Of one epoch. Its rows may be lost: no order and no poll waits for them."""

    def __init__(self, ledger: Ledger, epoch: int) -> None:
        self._ledger, self._epoch = ledger, epoch
        self._waiting: deque[Prediction] = deque(maxlen=MOST_KEPT)
        self._beliefs: deque[Belief] = deque(maxlen=MOST_KEPT)
        self._done: deque[tuple[str, int]] = deque(maxlen=KEPT_HORIZONS)

    def polled(self, evaluations: Iterable[Evaluation]) -> None:
        """Note the predictions that are due. Called once a poll."""
        for e in evaluations:
            found = prediction(e)
            if found is not None and (found.window, found.horizon_s) not in self._done:
                self._done.append((found.window, found.horizon_s))
                self._waiting.append(found)

    def ordered(self, e: Evaluation, side: Side, tick: int) -> None:
        """Note what stood behind an order that was just placed."""
        if e.inputs is None:
            return
        d = e.decision
        self._beliefs.append(
            Belief(e.window.slug, side, tick, e.inputs.now_ms, d.probability_up, d.market_up, d.belief_up, d.mean_price)
        )

    def write(self) -> None:
        """Record what waits. Raises LedgerError; what waits is lost then."""
        predictions, beliefs = list(self._waiting), list(self._beliefs)
        self._waiting.clear()
        self._beliefs.clear()
        add_predictions(self._ledger, self._epoch, predictions, beliefs)


def prediction(e: Evaluation) -> Prediction | None:
    """What an evaluation says of its window at one of HORIZONS_S, or None: it says nothing, or not at such a time."""
    inputs, decision = e.inputs, e.decision
    if inputs is None or decision.probability_up is None or not inputs.start_ms <= inputs.now_ms < inputs.end_ms:
        return None
    left_ms = inputs.end_ms - inputs.now_ms
    horizon_s = min((horizon for horizon in HORIZONS_S if left_ms <= horizon * 1_000), default=None)
    if horizon_s is None:
        return None
    return Prediction(
        e.window.slug, horizon_s, e.slot.id, inputs.now_ms, inputs.strike, decision.probability_up, decision.market_up,
        decision.belief_up, inputs.basis,
    )  # fmt: skip
