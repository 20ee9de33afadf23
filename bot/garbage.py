"""The garbage collector works in the quiet right after a poll, and not between a price and its order.

What stands when an instance is ready (modules, tables, the feeds' past) is taken out of its sight once, so that a collection
looks at what came since: a few ms, where it was a few hundred.
"""

from __future__ import annotations

import gc

MOST_NEW = 50_000
"""Objects that may come and stay between two polls before it works in their midst all the same: a bound on memory."""


class Garbage:
    """Call `after_poll` after each healthy poll."""

    def __init__(self) -> None:
        self._settled = False

    def after_poll(self) -> None:
        """Collect now. The first time: everything that is there stays for good, and is looked at no more."""
        gc.collect()
        if not self._settled:
            self._settled = True
            gc.freeze()
            gc.set_threshold(MOST_NEW, 10, 10)
