"""The Docker Engine: the SDK behind one door, in threads of its own, its errors as lines for people.

The only file that imports the SDK. The Engine is pinned by its socket: the SDK's `from_env` would follow the contexts of the
command line.
"""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import docker
import requests
from docker.errors import APIError, DockerException

from deployer.errors import EngineAwayError, EngineRefusedError, RuntimeFailedError
from deployer.runtimes.docker.body import BUS

T = TypeVar("T")

MIN_API = (1, 41)  # Engine 20.10: private cgroup namespaces, and the oldest that anything here was tried on
LIMIT_S = 20.0
CONNECT_LIMIT_S = 5.0
THREADS = 16


class Engine:
    """One Engine on this machine.

    Args: url: such as unix:///var/run/docker.sock.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        # Threads of its own: an Engine that hangs must not take those that write to the bus.
        self._threads = ThreadPoolExecutor(THREADS, "engine")
        self._client: Any = None

    def speaks(self, api: tuple[int, int]) -> bool:
        """Whether the Engine knows an API of that version. Raises RuntimeFailedError."""
        version = self.call_now("the Engine's version could not be asked", lambda client: str(client.api_version))
        return tuple(int(part) for part in version.split(".")) >= api

    async def call(self, what: str, method: Callable[[Any], T]) -> T:
        """Run `method(docker.APIClient)`. what: begins the error's line, such as "a bot could not be started".

        Raises EngineRefusedError (it answered with an error), RuntimeFailedError (it does not answer, is too old, or this user
        may not use it). The thread goes on when the caller is cancelled, until the SDK's own time limit.
        """
        return await asyncio.get_running_loop().run_in_executor(self._threads, self.call_now, what, method)

    def begin(self, what: str, method: Callable[[Any], None], failed: Callable[[RuntimeFailedError], None]) -> None:
        """Like `call`, without waiting for the answer, and without holding up the end of this process."""

        def run() -> None:
            try:
                self.call_now(what, method)
            except RuntimeFailedError as error:
                failed(error)

        threading.Thread(target=run, name="engine-beside", daemon=True).start()

    def call_now(self, what: str, method: Callable[[Any], T]) -> T:
        """Like `call`, in this thread."""
        try:
            if self._client is None:
                self._client = connect(self.url)
            return method(self._client)
        except APIError as error:
            status = error.response.status_code if error.response is not None else 0
            raise EngineRefusedError(f"{what}: the Docker Engine answered: {_text_of(error)}", status) from error
        except (DockerException, requests.RequestException, OSError) as error:
            raise EngineAwayError(f"{what}: {_unreachable(self.url, error)}") from error


def connect(url: str) -> Any:
    """A docker.APIClient of an Engine that answers and is new enough. Raises RuntimeFailedError."""
    path = url.removeprefix("unix://")
    if path == url or not path.startswith("/"):
        raise RuntimeFailedError(
            f"expected the socket of an Engine on this machine such as unix:///var/run/docker.sock, found {url!r}; "
            "correct DEPLOYER_ENGINE"
        )
    try:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(CONNECT_LIMIT_S)
            probe.connect(path)
        client = docker.APIClient(base_url=url, timeout=LIMIT_S)
    except (OSError, DockerException, requests.RequestException) as error:
        raise EngineAwayError(_unreachable(url, error)) from error
    version = str(client.api_version)  # negotiated with the Engine by the constructor
    if tuple(int(part) for part in version.split(".")) < MIN_API:
        raise RuntimeFailedError(
            f"the Docker Engine at {url} speaks API {version}; expected {MIN_API[0]}.{MIN_API[1]} or newer (Engine 20.10): "
            "update it, or use processes on a bus of their own (RUNTIME=process)"
        )
    return client


def _unreachable(url: str, failed: Exception) -> str:
    path, error = Path(url.removeprefix("unix://")), _cause(failed)
    if isinstance(error, PermissionError):
        return (
            f"this user (uid {os.geteuid()}) may not use the Docker Engine at {path}; "
            f"let it into the socket's group {_group_of(path)}, then log in again"
        )
    if isinstance(error, (FileNotFoundError, ConnectionRefusedError)):
        return f"no Docker Engine answers at {path}; start it, or set DEPLOYER_ENGINE"
    if isinstance(error, (TimeoutError, requests.Timeout)):
        return f"the Docker Engine at {path} did not answer in time; see whether it hangs"
    return (
        f"the Docker Engine at {path} cannot be talked to: {str(error).splitlines()[0] if str(error) else repr(error)}"
    )


def _cause(failed: BaseException) -> BaseException:
    """The error of the socket that the SDK and its HTTP library wrapped, if there is one."""
    inner: BaseException | None = failed
    while inner is not None:
        if isinstance(inner, (PermissionError, FileNotFoundError, ConnectionRefusedError, TimeoutError)):
            return inner
        inner = inner.__cause__ or inner.__context__
    return failed


def _group_of(path: Path) -> str:
    try:
        return str(path.stat().st_gid)
    except OSError:
        return "(unknown)"


def _text_of(error: APIError) -> str:
    text = error.explanation or str(error)
    return " ".join(str(text).split())[:300]


# The Engine's events: a hint that the list of containers changed, so that it is asked for when it did and not all the time.


RETRY_S = 1.0


class Events:
    """Follows what happens to the containers of one bus. live: the Engine would tell of a change now."""

    def __init__(self, engine: Engine, bus_id: str) -> None:
        self._engine, self._bus_id = engine, bus_id
        self.live = False

    async def follow(self, changed: Callable[[], None]) -> None:
        """Call `changed` after each event and whenever the stream begins or ends; until cancelled."""
        while True:
            await self._follow_once(changed)
            await asyncio.sleep(RETRY_S)  # the Engine restarts, or refuses: whoever lists the containers says why

    async def _follow_once(self, changed: Callable[[], None]) -> None:
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        streams: list[Any] = []
        filters = {"type": ["container"], "label": [f"{BUS}={self._bus_id}"]}

        def tell(live: bool) -> None:
            self.live = live
            changed()

        def in_loop(method: Callable[..., None], *arguments: bool) -> None:
            with suppress(RuntimeError):  # the deployer ended meanwhile, and its loop with it
                loop.call_soon_threadsafe(method, *arguments)

        def read(client: Any) -> None:
            stream = client.events(filters=filters)
            streams.append(stream)
            in_loop(tell, True)
            for _ in stream:
                in_loop(tell, True)
            in_loop(ended.set)

        def failed(_: RuntimeFailedError) -> None:
            in_loop(ended.set)

        self._engine.begin("the events cannot be followed", read, failed)
        try:
            await ended.wait()
        finally:
            tell(False)
            if not ended.is_set():
                for stream in streams:
                    stream.close()
