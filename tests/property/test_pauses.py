"""A pause that ends by itself: what is decided of every control, at every moment."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bot.operator.control import judge
from bot.strategy.snipe import Parameters
from bus import Control, Mode
from bus.control import LATEST_MS, pause_s, pause_words

_MS = st.integers(0, LATEST_MS)
_WHY = st.text(max_size=200)


@given(mode=st.sampled_from(Mode), until=st.none() | _MS, why=_WHY, now=_MS, later=st.integers(0, 10**12))
def test_entries_open_by_time_alone_only_after_a_pauses_own_end(
    mode: Mode, until: int | None, why: str, now: int, later: int
) -> None:
    """A halt, and a pause without an end, never open them. What is open stays open. Each process decides so: nothing is kept."""
    control = Control(generation=1, by="a", mode=mode, pause_until_ms=until, why=why)
    passed_on = Control.model_validate_json(control.model_dump_json())
    found = judge(None, passed_on, (), Parameters)
    is_open = mode is Mode.RUN or (mode is Mode.PAUSE and until is not None and now >= until)
    assert (found.closed(now) is None) == is_open
    assert not is_open or found.closed(now + later) is None
    if mode is not Mode.RUN:
        assert (found.closed(now) or f"control says {mode}").startswith(f"control says {mode}")


@given(seconds=st.integers(1, 7 * 86_400))
def test_every_length_can_be_said(seconds: int) -> None:
    """In days, hours, minutes and seconds, the leading ones left out."""
    days, rest = divmod(seconds, 86_400)
    parts = zip((days, rest // 3600, rest // 60 % 60, rest % 60), "dhms", strict=True)
    assert pause_s("".join(f"{n}{unit}" for n, unit in parts if n)) == pause_s(f"{seconds}s") == seconds


@given(until=st.none() | _MS, why=_WHY)
def test_the_words_of_a_pause_can_always_be_said(until: int | None, why: str) -> None:
    """Any moment that a document can have."""
    assert pause_words(until, why).endswith(why)
