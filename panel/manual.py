"""Manual entries and exits in control: which to add and which to forget. Pure. What becomes of them is the bot's matter."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Literal

from bus import ManualAction, SlotStatus
from panel.errors import TooManyActionsError

MOST = 200
# People still want to read what became of one whose window is over.
KEPT_MS = 600_000
FINAL = ("done", "refused")

Actions = tuple[ManualAction, ...]


def forget_over(standing: Actions, now_ms: int) -> Actions:
    """Without those whose window ended a while ago, and those that name none: no bot does these."""
    return tuple(one for one in standing if one.expires_ms is not None and one.expires_ms > now_ms - KEPT_MS)


def add_exits(
    standing: Actions, slots: Iterable[SlotStatus], said: Mapping[str, str], new_id: Callable[[], str]
) -> Actions:
    """An exit for the window of each slot, unless one is wanted there already and is not over.

    said: the state of actions by id, as the bot says it. Raises TooManyActionsError.
    """
    wanted = {one.window for one in standing if one.action == "exit" and said.get(one.id) not in FINAL}
    # Two slots may be in one window for a moment.
    new = {slot.window: slot for slot in slots if slot.window not in wanted}
    exits = tuple(
        ManualAction(id=new_id(), action="exit", slot=slot.slot, window=slot.window, expires_ms=slot.end_ms)
        for slot in new.values()
    )
    return _bounded((*standing, *exits))


def add_entry(
    standing: Actions,
    slot: SlotStatus,
    outcome: Literal["Up", "Down"],
    max_spend: Decimal,
    max_price: Decimal | None,
    new_id: Callable[[], str],
) -> Actions:
    """One entry in the slot's window. Raises TooManyActionsError."""
    entry = ManualAction(
        id=new_id(),
        action="enter",
        slot=slot.slot,
        outcome=outcome,
        max_spend=max_spend,
        max_price=max_price,
        window=slot.window,
        expires_ms=slot.end_ms,
    )
    return _bounded((*standing, entry))


def _bounded(actions: Actions) -> Actions:
    if len(actions) > MOST:
        raise TooManyActionsError(MOST)
    return actions
