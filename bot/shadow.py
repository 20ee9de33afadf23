"""Shadow polls: what a standby does, the same evaluation without the lease and without orders."""

from __future__ import annotations

from dataclasses import dataclass

from bot.lifecycle.context import World
from bot.operator.control import judge
from bot.slots import Slot, Window
from bot.strategy.evaluation import Evaluation, Own, View, goes_on_from, next_state
from bus import Anchor, BusError, Control, DocumentError, read_control
from ledger import Epoch, LastState, Ledger
from ledger.rows import Position, positions


@dataclass(frozen=True, slots=True)
class ShadowPoll:
    """The result of one. why_not: None when it was healthy. newest: the newest epoch in the ledger.

    own: what it counted. waits_for_venue: it was not healthy, and only for want of the venue's answers.
    """

    why_not: str | None
    anchor: Anchor | None
    newest: Epoch | None
    evaluations: list[Evaluation]
    own: Own
    waits_for_venue: bool = False


async def shadow_poll(world: World, own: Own) -> ShadowPoll:
    """Replay the ledger, read control, evaluate every slot. own: what the shadow poll before it counted."""
    anchor = newest = None
    ledger_problem: str | None = None
    held: tuple[Position, ...] = ()
    last: LastState | None = None
    applied: Control | None = None
    try:
        ledger = Ledger.reader(world.bus.ledger, world.identity)
        if ledger is not None:
            with ledger:
                anchor, newest = ledger.anchor(), ledger.newest_epoch()
                last = ledger.last_state()
                found = ledger.applied_control()
                applied = Control.model_validate_json(found.body) if found else None
                # The bot's own tables are missing in a ledger that was only just made.
                if ledger.integer("SELECT count(*) FROM sqlite_schema WHERE name = 'outcomes'"):
                    held = tuple(positions(ledger, world.now_ms()))
    except BusError as error:
        ledger_problem = f"the ledger cannot be read: {error}"
    control = judge(applied, _control_on_disk(world), [slot.id for slot in world.slots], world.strategy.parameters)
    books_problem = await world.read_books()
    now, moment = world.now_ms(), world.moment()
    rule = world.strategy.rule(control.parameters)

    def blocked(_slot: Slot, _window: Window, _held: bool) -> str:
        return "standby: without the lease no order is placed"

    evaluations = world.evaluate(
        View(
            now_ms=now,
            to_boot_ms=moment.boot_ms - now,
            books=world.books,
            positions=held,
            state=goes_on_from(last, own, rule, moment),
            strategy=world.strategy,
            parameters=control.parameters,
            enabled=lambda slot: control.slot(slot.id).enabled,
            blocked=blocked,
        )
    )
    why_not = ledger_problem or world.why_unhealthy(evaluations)
    if why_not is None and control.control is None:
        why_not = control.closed()
    if why_not is None and world.bus.fsync_failed.exists():
        why_not = "an fsync failed on this bus: look at the disk, then remove the file fsync-failed"
    silent = world.venue_is_silent(evaluations, books_problem) if why_not is None else None
    own = Own(next_state(evaluations), rule, moment.boot_ms)
    return ShadowPoll(why_not or silent, anchor, newest, evaluations, own, waits_for_venue=silent is not None)


def _control_on_disk(world: World) -> Control | DocumentError:
    try:
        return read_control(world.bus)
    except DocumentError as error:
        return error
