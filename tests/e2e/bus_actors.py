"""Processes that use the bus, for tests: `python -m tests.e2e.bus_actors SOCKET` forks one for every message it gets.

Forking from one process that has imported everything makes a new actor in milliseconds. Every actor tells its events as JSON
lines and reads its orders as lines; the parent's side is in bus_nursery.py.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bus import (
    Bus,
    BusError,
    Control,
    Instance,
    InstanceFile,
    Lease,
    Role,
    StaleGenerationError,
    SystemClock,
    append_durably,
    new_id,
    read_control,
    write_atomically,
    write_control,
)
from ledger import Identity, Ledger

PR_SET_PTRACER = 0x59616D61


def tell(**event: Any) -> None:
    """One event to the parent."""
    os.write(1, json.dumps(event).encode() + b"\n")


def orders() -> Any:
    """The parent's orders, one JSON value at a time."""
    return map(json.loads, sys.stdin)


def files(path: str) -> None:
    """Does what it is ordered: [function, content]; answers with the error's number, or None."""
    functions: dict[str, Callable[[bytes], None]] = {
        "durable": lambda data: write_atomically(Path(path), data, durable=True),
        "quick": lambda data: write_atomically(Path(path), data, durable=False),
        "append": lambda data: append_durably(Path(path), data),
    }
    tell(ready=True)
    for function, content in orders():
        try:
            functions[function](content.encode())
        except OSError as error:
            tell(errno=error.errno)
        else:
            tell(errno=None)


def control_writer(directory: str, name: str, times: int) -> None:
    """Makes `times` changes of control, each repeated until it was not stale."""
    bus, clock, conflicts = Bus(Path(directory)), SystemClock(), 0
    tell(ready=True)
    next(orders())
    for number in range(times):

        def change(control: Control, number: int = number) -> Control:
            return control.model_copy(update={"strategy": {**control.strategy, f"{name}-{number}": number}})

        while True:
            try:
                write_control(bus, read_control(bus).generation, change, by=name, clock=clock)
                break
            except StaleGenerationError:
                conflicts += 1
    tell(conflicts=conflicts)


def control_writer_forever(directory: str) -> None:
    """Writes control until it is killed, telling every acknowledged generation."""
    bus, clock = Bus(Path(directory)), SystemClock()
    while True:
        after = write_control(
            bus,
            read_control(bus).generation,
            lambda control: control.model_copy(update={"strategy": {"pad": "x" * 20_000}}),
            by="forever",
            clock=clock,
        )
        tell(generation=after.generation)


def lease_holder(path: str) -> None:
    """Obeys try, unlock, check, child (starts one that outlives this process)."""
    lease = Lease(Path(path))
    tell(ready=True)
    for order in orders():
        if order == "child":
            # close_fds=False: as a program is started by those who do not think of it.
            child = subprocess.Popen(
                ["sleep", "60"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, close_fds=False
            )
            tell(pid=child.pid)
        elif order == "fork":
            pid = os.fork()
            if pid == 0:
                signal.pause()
            tell(pid=pid)
        else:
            try:
                answer = {"try": lease.try_lock, "unlock": lease.unlock, "check": lease.check}[order]()
                tell(answer=answer)
            except BusError as error:
                tell(error=type(error).__name__, text=str(error))


def instance(directory: str) -> None:
    """Is an instance until it is killed or told to end."""
    bus, clock = Bus(Path(directory)), SystemClock()
    document = Instance(id=new_id(clock, "green", "abc"), role=Role.STANDBY, color="green", sha="abc")
    file = InstanceFile(bus, clock, document)
    file.write(document)
    tell(id=document.id)
    for _ in orders():
        file.write(file.document)
        tell(written=True)
    file.close()


def ledger(path: str) -> None:
    """Holds the ledger at the order "hold"; then every order is [method, arguments, keyword arguments]."""
    held: Ledger | None = None
    tell(ready=True)
    for method, arguments, keywords in orders():
        try:
            if method == "hold":
                held = Ledger.hold(Path(path), Identity("paper", "137", "0xwallet"), *arguments)
                tell(ok=None)
            elif held is not None:
                tell(ok=getattr(held, method)(*arguments, **keywords))
        except BusError as error:
            tell(error=type(error).__name__, text=str(error))


def ledger_forever(path: str, polls: int) -> None:
    """Takes an epoch, then completes polls until it is killed, telling every tick that was acknowledged."""
    with Ledger.hold(Path(path), Identity("paper", "137", "0xwallet")) as held:
        epoch = held.take(
            instance=str(os.getpid()), sha="", color="blue", request="", wall_ms=1, boot_ms=1, boot_id="b"
        )
        tell(epoch=epoch)
        tick = held.last_tick() or 0
        for number in range(polls):
            tick += 1
            held.claim(tick, epoch, 1)
            held.complete(tick, epoch, healthy=True, lag_ms=0, duration_ms=1, state="x" * 500)
            tell(tick=tick)
            if number % 20 == 19:
                held.checkpoint()


ACTORS: dict[str, Callable[..., None]] = {
    actor.__name__: actor
    for actor in (
        files,
        control_writer,
        control_writer_forever,
        lease_holder,
        instance,
        ledger,
        ledger_forever,
    )
}


def main(descriptor: int) -> None:
    """Fork an actor for every message: its name and arguments, with its output's and input's descriptor."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps them; their parent sees the end of their output
    with socket.socket(fileno=descriptor) as calls:
        while True:
            message, descriptors, _, _ = socket.recv_fds(calls, 65536, 2)
            if not message:
                return
            pid = os.fork()
            if pid == 0:
                calls.close()
                _act(json.loads(message), *descriptors)
            for each in descriptors:
                os.close(each)
            calls.send(str(pid).encode())


def _act(call: dict[str, Any], output: int, order: int) -> None:
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.dup2(output, 1)
        os.dup2(order, 0)
        os.close(output)
        os.close(order)
        if sys.platform == "linux":  # lets strace attach also where only ancestors may trace (Yama)
            ctypes.CDLL(None).prctl(PR_SET_PTRACER, ctypes.c_ulong(-1), 0, 0, 0)
        ACTORS[call["actor"]](*call["arguments"])
    except BrokenPipeError:
        os._exit(1)  # the test is over
    finally:
        os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]))
