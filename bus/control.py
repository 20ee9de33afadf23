"""Control: the desired state, written by people through the panel, never pulses.

Every write names the generation that it was based on. The writer holds a flock from reading to the directory's fsync.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from bus import documents
from bus.clock import Clock
from bus.documents import Document, Part, Stamp, open_regular
from bus.errors import BusError, DocumentError, StaleGenerationError
from bus.layout import DIRECTIVES, HALT, LOCK_LIMIT_S, Bus
from bus.lease import FileLock

MOST_WHY = 200  # characters
LATEST_MS = 253_402_300_799_000  # the year 9999
LONGEST_PAUSE_S = 7 * 24 * 3600
_DURATION = re.compile(r"(?:(\d{1,2})d)?(?:(\d{1,3})h)?(?:(\d{1,5})m)?(?:(\d{1,6})s)?", re.ASCII)


class Mode(StrEnum):
    """What the bot may do: everything; no entries; no entries, and the halt file is set as well."""

    RUN = "run"
    PAUSE = "pause"
    HALT = "halt"


class SlotControl(Part):
    """One slot. max_order: most pUSD one entry may spend here; None leaves it to the risk limits."""

    enabled: bool = True
    max_order: Decimal | None = Field(default=None, gt=0)


class RiskLimits(Part):
    """Limits that no strategy can reach past, and that hold whatever the venue answers. They close entries, never exits.

    Money in pUSD. What is None has no limit.
    """

    max_order: Decimal = Field(default=Decimal(50), gt=0)
    """The most that one entry may cost, at its worst fee."""
    max_slot: Decimal = Field(default=Decimal(100), gt=0)
    """The most at stake in one slot."""
    max_asset: Decimal = Field(default=Decimal(300), gt=0)
    """The most at stake in one asset."""
    max_total: Decimal = Field(default=Decimal(1000), gt=0)
    """The most at stake in all."""
    daily_loss: Decimal = Field(default=Decimal(500), gt=0)
    """Lost since midnight UTC: by exits at once, by the rest of a window when it resolves."""
    orders_per_minute: int = Field(default=60, ge=1)
    """Entries and exits of the last 60 s."""
    hourly_loss: Decimal | None = Field(default=None, gt=0)
    """Lost in the last 60 minutes, counted in the same way."""
    count_open: bool = False
    """Whether open positions count as losses too, by as much as their best bid is below their cost; gains never count."""
    losses_in_a_row: int | None = Field(default=None, ge=1, le=100)
    """Windows that ended with a loss, one after the other; then entries wait for cool_down_minutes after the last of them."""
    cool_down_minutes: int = Field(default=60, ge=1, le=1440)
    """How long entries wait; each further loss begins the wait anew, until a window ends without one."""
    max_direction: Decimal | None = Field(default=None, gt=0)
    """The most at stake on one outcome less what is held of the other, over the assets of `correlated`."""
    correlated: tuple[str, ...] = ()
    """The assets that move together, such as BTC and ETH; empty: all."""
    failed_trades_per_hour: int = Field(default=10, ge=1, le=10_000)
    """Trades of the last 60 minutes' orders that failed on the chain."""


class ManualAction(Part):
    """A manual entry or exit as desired state; its id is done at most once.

    enter: one order for `outcome`, fee included at most max_spend pUSD, at up to max_price (None: the best offer).
    exit: nothing is held in the window and nothing is entered in it. window: the one that was meant, and no later one;
    expires_ms: its end, UTC ms.
    """

    id: str
    action: Literal["enter", "exit"]
    slot: str
    outcome: Literal["Up", "Down"] | None = None
    max_spend: Decimal | None = Field(default=None, gt=0)
    max_price: Decimal | None = Field(default=None, gt=0, lt=1)
    window: str | None = None
    expires_ms: int | None = None


class Control(Document):
    """The whole desired state. strategy: parameters by name, checked by the strategy that takes them.

    why: the reason for a pause, in the words of whoever asked for it.
    """

    KIND: ClassVar[str] = "control"
    MINOR: ClassVar[int] = 1

    generation: int = Field(ge=1)
    by: str
    mode: Mode = Mode.RUN
    pause_until_ms: int | None = Field(default=None, ge=0, le=LATEST_MS)
    """UTC ms: a pause is over from then on, whoever lives then; None: it lasts until somebody resumes."""
    why: str = Field(default="", max_length=MOST_WHY)
    slots: dict[str, SlotControl] = Field(default_factory=dict)
    risk: RiskLimits = Field(default_factory=RiskLimits)
    strategy: dict[str, str | int | Annotated[float, Field(allow_inf_nan=False)] | bool] = Field(default_factory=dict)
    manual: tuple[ManualAction, ...] = ()

    def mode_at(self, now_ms: int) -> Mode:
        """What the bot may do at a moment, UTC ms. Pure: a pause that has an end needs nobody to end it."""
        over = self.mode is Mode.PAUSE and self.pause_until_ms is not None and now_ms >= self.pause_until_ms
        return Mode.RUN if over else self.mode


def pause_s(text: str) -> int | None:
    """Seconds of a time such as 30m, 2h, 1h30m or 90s; None of an empty one. Raises ValueError: no time, or too long."""
    if not text:
        return None
    found = _DURATION.fullmatch(text)
    parts = found.groups(default="0") if found else ()
    seconds = sum(int(part) * unit for part, unit in zip(parts, (86_400, 3600, 60, 1), strict=False))
    if not 1 <= seconds <= LONGEST_PAUSE_S:
        raise ValueError(
            f"expected a time such as 30m, 2h or 1h30m, at most {LONGEST_PAUSE_S // 86_400}d, found {text[:40]!r}"
        )
    return seconds


def pause_reason(text: str) -> str:
    """Why somebody pauses. Raises ValueError: it is more than one line, or longer than the page shows."""
    if len(text) > MOST_WHY or not text.isprintable():
        raise ValueError(f"expected one line of at most {MOST_WHY} characters as the reason, found {len(text)}")
    return text


def pause_words(until_ms: int | None, why: str) -> str:
    """Until when and why a pause lasts, to follow after the word: ` until 2026-11-30 14:30:00 UTC: CPI`."""
    until = (
        f" until {datetime.fromtimestamp(until_ms / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC" if until_ms is not None else ""
    )
    return until + (f": {why}" if why else "")


def read_control(bus: Bus) -> Control:
    """The control document. Raises a DocumentError."""
    return documents.read(bus.control, Control).body


def write_control(
    bus: Bus,
    based_on: int,
    change: Callable[[Control], Control],
    *,
    by: str,
    clock: Clock,
    last_applied: Control | None = None,
) -> Control:
    """Apply `change` to the control of generation `based_on` and write it durably as the next generation.

    based_on=0 creates the first one. Where the file is missing or cannot be read, `last_applied` (from the ledger) stands
    in for it, so that a person can bring it back. A halt sets the halt file before control is written.

    Raises StaleGenerationError, DocumentError (unreadable and nothing to stand in), BusError (lock not had in time),
    pydantic.ValidationError (`change` made something that is no control), OSError: then the write may or may not be there.
    """
    lock = FileLock(bus.control_lock)
    _lock_within(lock, LOCK_LIMIT_S)
    try:
        current = _current(bus, last_applied)
        if current.generation != based_on:
            raise StaleGenerationError(based_on, current.generation)
        wanted = change(current).changed(generation=based_on + 1, by=by)
        if wanted.mode is Mode.HALT:
            set_halt(bus)
        stamp = Stamp(by, wanted.generation, clock.wall_ms())
        documents.write(bus.control, wanted, stamp, durable=True, mirror=bus.directory / bus.control.name)
        return wanted
    finally:
        lock.unlock()


def _current(bus: Bus, last_applied: Control | None) -> Control:
    try:
        on_disk = read_control(bus)
    except DocumentError:
        if last_applied is not None:
            return last_applied
        if not bus.control.exists():
            return Control.model_construct(generation=0, by="nobody")
        raise
    if last_applied is not None and last_applied.generation > on_disk.generation:
        return last_applied  # an older file was put back: generations only rise
    return on_disk


def _lock_within(lock: FileLock, limit_s: float) -> None:
    deadline = time.monotonic() + limit_s
    while not lock.try_lock():
        if time.monotonic() > deadline:
            raise BusError(f"{lock.path.name} was held by another writer for {limit_s:g} s; try again")
        time.sleep(0.005)


def is_halted(bus: Bus) -> bool:
    """Whether entries are stopped by a halt file; a bus that cannot be read counts as halted."""
    # Looked at before every order: no Path is made for it.
    for halt in (f"{bus.directory}/{HALT}", f"{bus.directory}/{DIRECTIVES}/{HALT}"):
        try:
            os.lstat(halt)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError:
            return True
        return True
    return not bus.directory.is_dir()


def set_halt(bus: Bus) -> None:
    """Make the halt files. Raises OSError; a link, or whatever else has their name, halts as well."""
    for halt in dict.fromkeys((bus.kept_halt, bus.halt)):
        try:
            os.close(open_regular(halt, os.O_WRONLY | os.O_CREAT))
        except PermissionError:
            if not is_halted(bus):
                raise


def clear_halt(bus: Bus) -> None:
    """Remove the halt files. Raises OSError."""
    for halt in (bus.halt, bus.kept_halt):
        with suppress(FileNotFoundError):
            halt.unlink()
