"""My strategy. What may be read and decided is in Never Sleeps' docs/how-to/strategy.md; a push of this file is a deploy."""

from dataclasses import dataclass

from bot.strategy import Decision, Inputs, number
from bot.strategy.snipe import Parameters as SnipeParameters
from bot.strategy.snipe import decide


@dataclass(frozen=True, slots=True)
class Parameters(SnipeParameters):
    """What the control panel may change without a deploy; each field has a default and what it may be."""

    max_stake: float = number(10.0)


class Mine:
    """Starts as the snipe strategy with smaller stakes: replace what `decide` does."""

    parameters = Parameters

    def decide(self, inputs: Inputs, parameters: Parameters) -> Decision:
        """What to do in one slot now. Pure: equal inputs give equal decisions, so nothing is read or kept here."""
        return decide(inputs, parameters)
