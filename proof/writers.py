"""Processes that write everything that is ever acknowledged, as fast as they can, until the disk fails or they are killed.

Each tells what was acknowledged as JSON lines on a pipe; `checks` says what of it is missing afterwards.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import apsw

from bus import (
    Bus,
    BusError,
    Control,
    Handover,
    Mode,
    Step,
    SystemClock,
    append_step,
    clear_halt,
    make_request,
    read_control,
    read_handover,
    read_requests,
    read_steps,
    remove_request,
    write_control,
    write_handover,
)
from ledger import Identity, Ledger
from paper.engine.record import Record
from paper.errors import PaperError

IDENTITY = Identity("paper", "137", "0xwallet")
CHECKPOINT_EVERY = 20
Tell = Callable[..., None]


def control(folder: Path, tell: Tell) -> None:
    """Changes control; every third time it is a halt, which is then cleared again."""
    bus, clock = Bus(folder), SystemClock()
    while True:
        generation = read_control(bus).generation
        halt = generation % 3 == 0
        mode = Mode.HALT if halt else Mode.RUN

        def change(found: Control, mode: Mode = mode) -> Control:
            return found.changed(mode=mode)

        after = write_control(bus, generation, change, by="proof", clock=clock)
        tell(generation=after.generation, halt=halt)
        if halt:
            tell(generation=after.generation, halt=False)
            clear_halt(bus)


def handover(folder: Path, tell: Tell) -> None:
    """Writes one request to yield after another."""
    bus, clock = Bus(folder), SystemClock()
    number = int(read_handover(bus).request_id or 0)
    while True:
        number += 1
        wanted = Handover(wanted="green", request_id=str(number), retired=("blue",) * (number % 5))
        write_handover(bus, wanted, writer="proof", sequence=number, clock=clock)
        tell(request=number)


def steps(folder: Path, tell: Tell) -> None:
    """Appends to the history of deploys."""
    bus = Bus(folder)
    number = max((int(step.deploy) for step in read_steps(bus)), default=0)
    while True:
        number += 1
        append_step(bus, Step(deploy=str(number), step="built", time_ms=1, text="x" * (number * 37 % 900)))
        tell(step=number)


def requests(folder: Path, tell: Tell) -> None:
    """Makes requests to the deployer, and removes those of before so that the folder stays small."""
    bus, clock = Bus(folder), SystemClock()
    for old in read_requests(bus)[0]:
        remove_request(bus, old.id)
    for _ in range(90):  # the reader looks at 100
        tell(id=make_request(bus, "deploy", ref="main", by="proof", clock=clock).id)


def ledger(folder: Path, tell: Tell) -> None:
    """Takes an epoch, then completes polls, with a checkpoint now and then."""
    with Ledger.hold(Bus(folder).ledger, IDENTITY) as held:
        epoch = held.take(instance="proof", sha="", color="blue", request="", wall_ms=1, boot_ms=1, boot_id="b")
        tell(epoch=epoch)
        tick = held.last_tick() or 0
        while True:
            tick += 1
            held.claim(tick, epoch, 1)
            held.complete(tick, epoch, healthy=True, lag_ms=0, duration_ms=1, state="x" * (tick * 53 % 3000))
            tell(tick=tick)
            if tick % CHECKPOINT_EVERY == 0:
                held.checkpoint()


def paper(folder: Path, tell: Tell) -> None:
    """Adds rows to the paper exchange's record, several to a commit."""

    async def write() -> None:
        record = Record(folder / "paper")
        number = _newest_row(record)
        while True:
            for _ in range(3):
                number += 1
                record.insert("meta", {"key": f"row-{number:09}", "value": "x" * 200})
            await record.durable()
            tell(row=number)

    asyncio.run(write())


WRITERS: dict[str, Callable[[Path, Tell], None]] = {
    each.__name__: each for each in (control, handover, steps, requests, ledger, paper)
}


def missing(folder: Path, name: str, acknowledged: list[dict[str, Any]], later: bool) -> list[str]:
    """What was acknowledged and is not there, in words; told: all that the writer told. later: it did more after that."""
    bus, lost = Bus(folder), list[str]()
    if not acknowledged:
        return lost
    last = acknowledged[-1]
    match name:
        case "control":
            control = read_control(bus)
            if control.generation < last["generation"]:
                lost.append(f"control has generation {control.generation}, {last['generation']} was acknowledged")
            if last["halt"] and not later and not bus.halt.exists():
                lost.append(f"the halt of generation {last['generation']} is gone")
        case "handover":
            if (request := int(read_handover(bus).request_id or 0)) < last["request"]:
                lost.append(f"handover has request {request}, {last['request']} was acknowledged")
        case "steps":
            there = {step.deploy for step in read_steps(bus)}
            lost += [f"step {each['step']} is gone" for each in acknowledged if str(each["step"]) not in there]
        case "requests":
            good, bad = read_requests(bus)
            ids = {request.id for request in good}
            lost += [
                f"request {each['id']} is gone; unreadable: {bad}" for each in acknowledged if each["id"] not in ids
            ]
        case "ledger":
            lost += _missing_polls(bus, acknowledged)
        case "paper":
            record = Record(folder / "paper", read_only=True)
            if (row := _newest_row(record)) < last["row"]:
                lost.append(f"paper has row {row}, {last['row']} was acknowledged")
            lost += [str(row) for (row,) in record.query("PRAGMA integrity_check") if row != "ok"]
            record.close()
    return lost


def _missing_polls(bus: Bus, acknowledged: list[dict[str, Any]]) -> list[str]:
    reader = Ledger.reader(bus.ledger, IDENTITY)
    if reader is None:
        return ["the ledger is gone"]
    with reader:
        ticks = {int(str(tick)) for (tick,) in reader.execute("SELECT tick FROM polls_completed")}
        epochs = {int(str(epoch)) for (epoch,) in reader.execute("SELECT epoch FROM epochs")}
        whole = [str(row) for (row,) in reader.execute("PRAGMA integrity_check") if row != "ok"]
    lost = [f"tick {each['tick']} is gone" for each in acknowledged if "tick" in each and each["tick"] not in ticks]
    lost += [
        f"epoch {each['epoch']} is gone" for each in acknowledged if "epoch" in each and each["epoch"] not in epochs
    ]
    if sorted(epochs) != list(range(1, len(epochs) + 1)):
        lost.append(f"epochs do not rise by one: {sorted(epochs)}")
    return lost + whole


def _newest_row(record: Record) -> int:
    return int(str(record.query("SELECT coalesce(max(substr(key, 5)), '0') FROM meta WHERE key LIKE 'row-%'")[0][0]))


class Writer:
    """One writer in a process of its own. unsafe: its fsync and fdatasync do nothing, to show that a loss is found."""

    def __init__(self, name: str, folder: Path, *, unsafe: bool = False) -> None:
        self.name, self.folder = name, folder
        self._output, output = os.pipe()
        self._buffer = b""
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._output)
            _write(name, folder, output, unsafe=unsafe)
        os.close(output)

    def told_so_far(self) -> list[dict[str, Any]]:
        """All that it told up to now, without waiting."""
        os.set_blocking(self._output, False)
        with suppress(BlockingIOError):
            while chunk := os.read(self._output, 65536):
                self._buffer += chunk
        os.set_blocking(self._output, True)
        return self._events()

    def told(self) -> list[dict[str, Any]]:
        """Waits for the writer's end; all that it told since the last look. A line that was cut by its death was not told."""
        while chunk := os.read(self._output, 65536):
            self._buffer += chunk
        os.close(self._output)
        os.waitpid(self.pid, 0)
        return self._events()

    def _events(self) -> list[dict[str, Any]]:
        *lines, self._buffer = self._buffer.split(b"\n")
        return [json.loads(line) for line in lines]

    def wait_for_first(self) -> None:
        """Until it told something, or ended."""
        self._buffer += os.read(self._output, 65536)


def _write(name: str, folder: Path, output: int, *, unsafe: bool) -> None:
    """Never returns. A disk that fails is what it is here for; anything else is told."""

    def tell(**event: Any) -> None:
        os.write(output, json.dumps(event).encode() + b"\n")

    try:
        if unsafe:
            os.fsync = os.fdatasync = lambda _descriptor: None  # type: ignore[assignment]
        with suppress(OSError, BusError, apsw.Error, PaperError):
            WRITERS[name](folder, tell)
    finally:
        os._exit(0)
