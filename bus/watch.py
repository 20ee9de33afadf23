"""Noticing changes on the bus: inotify as a hint, a stat every 250 ms as the truth.

Where inotify cannot be had (its instances are few, and all containers of a user share them) the stat alone does it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from stat import S_ISDIR
from typing import Self

from watchdog.events import FileCreatedEvent, FileDeletedEvent, FileMovedEvent, FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver

# inotify as a hint that something changed. Its instances are few, and all processes of a user share them: it may be missing.


JOIN_LIMIT_S = 2.0


class Hints:
    """Calls a handler for what changes below some folders, if that can be had; whoever uses it looks from time to time as well.

    Attributes: problem, why there are no hints; None while there are. Use as a context manager.
    """

    def __init__(
        self,
        handler: FileSystemEventHandler,
        folders: Iterable[Path],
        *,
        kinds: Sequence[type[FileSystemEvent]] | None = None,
        recursive: Iterable[Path] = (),
    ) -> None:
        self._handler, self._folders, self._kinds = handler, tuple(folders), kinds
        self._recursive = frozenset(recursive)
        self._observer: BaseObserver | None = None
        self.problem: str | None = "not begun"

    def __enter__(self) -> Self:
        observer = None
        try:
            observer = Observer()  # takes an instance already
            for folder in self._folders:
                recursive = folder in self._recursive
                observer.schedule(
                    self._handler,
                    str(folder),
                    recursive=recursive,
                    event_filter=list(self._kinds) if self._kinds is not None else None,
                )
            observer.start()
        except OSError as error:
            self.problem = error.strerror or str(error)
            if observer is not None:
                with suppress(OSError):
                    observer.unschedule_all()
            return self
        self._observer, self.problem = observer, None
        return self

    @property
    def work(self) -> bool:
        """Whether changes are told."""
        return self._observer is not None and self._observer.is_alive()

    def __exit__(self, *exc: object) -> None:
        if self._observer is not None and self._observer.is_alive():
            self._observer.stop()
            self._observer.join(timeout=JOIN_LIMIT_S)


STAT_EVERY_S = 0.25


class Watch:
    """Watches some paths for being replaced, made or removed. Use as a context manager inside a running loop."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self._paths = tuple(paths)
        self._seen = {path: _signature(path) for path in self._paths}
        self._hint = asyncio.Event()
        self._hints: Hints | None = None

    def __enter__(self) -> Watch:
        handler = _Hint(asyncio.get_running_loop(), self._hint, self._paths)
        folders = {path if path.is_dir() else path.parent for path in self._paths}
        # Without the filter every commit to the ledger in this folder would wake the loop.
        self._hints = Hints(handler, folders, kinds=(FileMovedEvent, FileCreatedEvent, FileDeletedEvent))
        self._hints.__enter__()
        return self

    @property
    def has_hints(self) -> bool:
        """Whether inotify works; without it a change is noticed up to STAT_EVERY_S later."""
        return self._hints is not None and self._hints.work

    def __exit__(self, *exc: object) -> None:
        if self._hints is not None:
            self._hints.__exit__(*exc)

    async def changed(self, limit_s: float) -> frozenset[Path]:
        """The paths that changed since the last call; waits for one up to `limit_s` seconds, then returns none."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + limit_s
        while True:
            self._hint.clear()
            now = {path: _signature(path) for path in self._paths}
            paths = frozenset(path for path in self._paths if now[path] != self._seen[path])
            self._seen = now
            left = deadline - loop.time()
            if paths or left <= 0:
                return paths
            try:
                async with asyncio.timeout(min(left, STAT_EVERY_S)):
                    await self._hint.wait()
            except TimeoutError:
                continue


class _Hint(FileSystemEventHandler):
    def __init__(self, loop: asyncio.AbstractEventLoop, hint: asyncio.Event, paths: tuple[Path, ...]) -> None:
        self._loop, self._hint = loop, hint
        self._names = {str(path) for path in paths}
        self._folders = tuple(str(path) for path in paths if path.is_dir())

    def on_any_event(self, event: FileSystemEvent) -> None:
        touched = {str(event.src_path), str(event.dest_path)}
        if touched & self._names or any(name.startswith(self._folders) for name in touched if self._folders):
            self._loop.call_soon_threadsafe(self._hint.set)


def _signature(path: Path) -> tuple[int, int, int, int] | None:
    try:
        stat = path.stat()
        # Times may stand still for 4 ms: of a folder only its entries tell that one of them was replaced just now.
        entries = {(entry.name, entry.inode()) for entry in os.scandir(path)} if S_ISDIR(stat.st_mode) else ()
    except OSError:
        return None
    return stat.st_ino, stat.st_mtime_ns, stat.st_size, hash(frozenset(entries))
