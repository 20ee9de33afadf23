"""The parent's side of bus_actors.py: start actors, order them about, read their events, kill them."""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests import patience

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 20.0


class Actor:
    """One process. Its events come from a pipe, whose end is its death."""

    def __init__(self, pid: int, output: int, order: int) -> None:
        self.pid = pid
        self._output, self._order = output, order
        self._buffer = b""
        self._ended = False

    def event(self) -> Any:
        """Its next event; None when it is dead. Fails after LIMIT_S."""
        deadline = patience.now() + LIMIT_S
        while b"\n" not in self._buffer:
            left = deadline - patience.now()
            assert left > 0, f"actor {self.pid} said nothing for {LIMIT_S:g} s"
            if select.select([self._output], [], [], left)[0]:
                chunk = os.read(self._output, 65536)
                if not chunk:
                    self._ended = True
                    return None
                self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\n")
        return json.loads(line)

    def events_until_dead(self) -> list[Any]:
        """All that it still says."""
        found = []
        while (event := self.event()) is not None:
            found.append(event)
        return found

    def order(self, order: Any) -> None:
        """Send an order without waiting for the answer."""
        os.write(self._order, json.dumps(order).encode() + b"\n")

    def ask(self, order: Any) -> Any:
        """Send an order and wait for the answer."""
        self.order(order)
        return self.event()

    def signal(self, number: int) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def kill(self) -> list[Any]:
        """SIGKILL, and wait until it is gone; returns what it had said before."""
        self.signal(signal.SIGKILL)
        return self.events_until_dead()

    def finish(self) -> list[Any]:
        """No more orders: let it end by itself; returns what it still says."""
        os.close(self._order)
        self._order = -1
        return self.events_until_dead()

    def close(self) -> None:
        """End it if it still lives."""
        if not self._ended:
            with suppress(ProcessLookupError):
                self.signal(signal.SIGKILL)
            self.events_until_dead()
        for descriptor in (self._output, self._order):
            if descriptor >= 0:
                os.close(descriptor)
        self._output = self._order = -1


class Nursery:
    """Starts actors."""

    def __init__(self) -> None:
        self._calls, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._actors: list[Actor] = []
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.e2e.bus_actors", str(theirs.fileno())],
                cwd=ROOT,
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
            )
        self._calls.settimeout(LIMIT_S)

    def start(self, actor: str, *arguments: Any) -> Actor:
        """Start an actor of bus_actors.py."""
        output, its_output = os.pipe()
        its_order, order = os.pipe()
        call = json.dumps({"actor": actor, "arguments": [str(a) if isinstance(a, Path) else a for a in arguments]})
        socket.send_fds(self._calls, [call.encode()], [its_output, its_order])
        os.close(its_output)
        os.close(its_order)
        started = Actor(int(self._calls.recv(64)), output, order)
        self._actors.append(started)
        return started

    def end_actors(self) -> None:
        """End all actors of one test."""
        for actor in self._actors:
            actor.close()
        self._actors.clear()

    def close(self) -> None:
        """End everything."""
        self.end_actors()
        self._calls.close()
        assert self._process.wait(LIMIT_S) == 0


@contextmanager
def injected(actor: Actor, injection: str) -> Iterator[None]:
    """Let strace tamper with the actor's system calls, counted from now on. Skips where strace cannot.

    injection: as after `strace -e inject=`; see strace(1).
    """
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed")
    calls = injection.partition(":")[0]
    tracer = subprocess.Popen(
        [strace, "-f", "-p", str(actor.pid), "-e", f"trace={calls}", "-e", f"inject={injection}", "-o", "/dev/null"],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert tracer.stderr is not None
    try:
        said = tracer.stderr.readline()
        if not re.search(r"Process \d+ attached", said):
            pytest.skip(f"strace may not attach to a process here: {said.strip()}")
        yield
    finally:
        tracer.terminate()
        tracer.wait(LIMIT_S)
        tracer.stderr.close()
