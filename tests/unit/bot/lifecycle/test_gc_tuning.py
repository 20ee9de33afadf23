"""When the garbage collector works."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from bot.lifecycle.app import MOST_NEW, GcTuning


class Knot:
    """Refers to itself: counting references does not free it."""

    def __init__(self) -> None:
        self.self = self


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    """The collector of this process as it was before."""
    before = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*before)


def test_a_poll_leaves_no_garbage_and_between_polls_nothing_is_collected() -> None:
    """What a few thousand objects between two polls knotted stays until the next poll is over, and is gone then."""
    garbage = GcTuning()
    garbage.after_poll()
    for _ in range(2):
        knot = weakref.ref(Knot())
        assert len([Knot() for _ in range(MOST_NEW // 10)]) == MOST_NEW // 10
        assert knot() is not None
        garbage.after_poll()
        assert knot() is None
