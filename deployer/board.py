"""The demo's table of steps: live on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from deployer.errors import DeployerError

LIVE_EVERY_S = 0.25
PLAIN_EVERY_S = 5.0


class StepFailedError(DeployerError):
    """A step did not end as it should; the text says what was expected and what was seen."""


@dataclass(slots=True)
class Line:
    """One line of the table: what is done, since when, how it ended. Times in seconds since the demo began."""

    what: str
    began_s: float | None = None
    took_s: float | None = None
    result: str = ""
    failed: bool = False


class Board:
    """The live table; without a terminal one line for each step that ended, and who trades now and then."""

    def __init__(self, console: Console, lines: list[Line], clock: Callable[[], float]) -> None:
        self._console, self._lines, self._clock = console, lines, clock
        self._began = clock()
        self._live = Live(console=console, auto_refresh=False, transient=False) if console.is_terminal else None
        self._footer = ""
        self._shown_s = 0.0

    def __enter__(self) -> Board:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._live is not None:
            self.show(self._footer, force=True)
            self._live.stop()

    @property
    def now_s(self) -> float:
        """Seconds since the demo began."""
        return self._clock() - self._began

    @contextmanager
    def step(self, line: Line) -> Iterator[None]:
        """Do one step; a StepFailedError marks its line and goes on."""
        line.began_s = self.now_s
        try:
            yield
        except StepFailedError as error:
            line.failed, line.result = True, str(error)
            raise
        finally:
            line.took_s = self.now_s - line.began_s
            if self._live is None:
                mark = "FAILED" if line.failed else "ok"
                self._console.print(
                    f"{self.now_s:5.1f} s  {mark}: {line.what} ({line.took_s:.1f} s): {line.result}", soft_wrap=True
                )

    def show(self, footer: str, *, force: bool = False) -> None:
        """Draw the table with a line about who trades."""
        if not force and self.now_s - self._shown_s < (LIVE_EVERY_S if self._live else PLAIN_EVERY_S):
            return
        self._shown_s, self._footer = self.now_s, footer
        if self._live is None:
            self._console.print(f"{self.now_s:5.1f} s  {footer}", soft_wrap=True)
            return
        table = Table(box=None, pad_edge=False)
        for name in ("", "step", "began", "took", ""):
            table.add_column(name, overflow="fold")
        for line in self._lines:
            mark = "[red]✗[/red]" if line.failed else "[green]✓[/green]" if line.took_s is not None else ""
            table.add_row(
                mark or ("…" if line.began_s is not None else ""),
                line.what,
                "" if line.began_s is None else f"{line.began_s:.1f} s",
                "" if line.took_s is None else f"{line.took_s:.1f} s",
                line.result,
            )
        self._live.update(Group(table, Text(footer)), refresh=True)
