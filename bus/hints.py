"""inotify as a hint that something changed. Its instances are few, and all processes of a user share them: it may be missing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver

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
