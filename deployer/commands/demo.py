"""`demo`: everything that this project promises, in about a minute, on a copy of the repository in a temporary folder.

Trades on paper at 1 s polls; deploys twice, deploys a broken version, rolls back, kills the active bot once; then prints the
audit. Exits 0 only if every step ended as it should and every invariant held, with no tick missed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from bus import Bus, DocumentError, InstanceView, Role, Status, open_bus, read_instances, read_status, read_steps
from deployer.commands.up import trading_line
from deployer.deploys import Deploy, History, fold
from deployer.errors import DeployerError, RepositoryError, StartError
from deployer.git import UPLOAD_PACK, git_now

# The demo's table of steps: live on a terminal, plain lines elsewhere.


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


class ProgressTable:
    """The live table; without a terminal one line for each step that ended, and who trades now and then."""

    def __init__(self, console: Console, lines: list[Line], clock: Callable[[], float]) -> None:
        self._console, self._lines, self._clock = console, lines, clock
        self._began = clock()
        self._live = Live(console=console, auto_refresh=False, transient=False) if console.is_terminal else None
        self._footer = ""
        self._shown_s = 0.0

    def __enter__(self) -> ProgressTable:
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


# `demo`: everything that this project promises, in about a minute, on a copy of the repository in a temporary folder.


T = TypeVar("T")

STEP_LIMIT_S = 60.0  # on a machine that has nothing else to do
LOOK_EVERY_S = 0.1
POLLS_AT_THE_END = 5
END_LIMIT_S = 30.0
STRATEGY = Path("bot/strategy/api.py")


def _limit_s() -> float:
    """Seconds for a step, longer where other work has its share of the processors."""
    return STEP_LIMIT_S * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def demo(repository: Path, console: Console) -> int:
    """Run the demo on a copy of the repository's newest commit; the exit code. Raises DeployerError."""
    with tempfile.TemporaryDirectory(prefix="never-sleeps-demo-") as name:
        return Demo(Path(name), repository.absolute(), console).run()


class Demo:
    """One run, in a folder of its own, on ports of its own."""

    def __init__(self, folder: Path, repository: Path, console: Console) -> None:
        self._copy = folder / "copy"
        self._console = console
        self._log = folder / "up.log"
        _git(folder, "clone", "--quiet", "--no-local", f"--upload-pack={UPLOAD_PACK}", str(repository), str(self._copy))
        if not (self._copy / STRATEGY).exists():
            raise StartError(f"expected {STRATEGY} in the newest commit of {repository}; the demo changes that file")
        _git(self._copy, "switch", "--quiet", "--force-create", "demo")
        self._bus: Bus = open_bus(folder / "bus")
        self._environment = {
            **{
                key: value
                for key, value in os.environ.items()
                if not key.startswith(("BOT_", "DEPLOYER_", "PAPER_", "PANEL_"))
            },
            "BUS_DIR": str(self._bus.directory),
            "DEPLOYER_DIR": str(folder / "deployer"),
            # This interpreter's environment serves all commits: they differ in one comment, not in a dependency.
            "DEPLOYER_PYTHON": sys.executable,
            "PAPER_DATA": str(folder / "paper"),
            "PAPER_PORT": "0",
            "PANEL_PORT": "0",
            "PANEL_TOKEN_FILE": str(folder / "token"),
            "BOT_POLL_INTERVAL": "1",
            "BOT_TIMEFRAMES": "10s,30s",
            "BOT_BASIS_AFTER": "5",
            "BOT_REQUESTS_PER_SECOND": "30",
            "PAPER_TIMEFRAMES": "10s,30s",
        }
        self._audit = ""

    @property
    def bus(self) -> Bus:
        """Where its bots trade."""
        return self._bus

    def run(self, steps: Sequence[tuple[str, Step]] | None = None) -> int:
        """All steps, or these; 0 only when every one ended as it should."""
        steps = STEPS if steps is None else steps
        lines = [Line(name) for name, _ in steps]
        with self._log.open("wb") as log:
            up = subprocess.Popen(
                [sys.executable, "-m", "deployer", "up"],
                cwd=self._copy,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            with ProgressTable(self._console, lines, time.monotonic) as board:
                try:
                    for line, (_, step) in zip(lines, steps, strict=True):
                        with board.step(line):
                            line.result = step(self, board, up)
                except StepFailedError as error:
                    self._audit = f"{error}\n{_tail(self._log)}"
        finally:
            _end(up)
        self._console.print(self._audit, highlight=False)
        failed = any(line.failed or line.took_s is None for line in lines)
        self._console.print("demo: FAILED" if failed else "demo: everything held")
        return 1 if failed else 0

    # --- steps: each returns what is to be said of it

    def trade(self, board: ProgressTable, up: subprocess.Popen[bytes]) -> str:
        """The main job, until it trades and has a spare."""
        self._until(board, up, "the first deploy to be confirmed", lambda: self._ended(1))
        status = self._until(board, up, "a fill", self._traded)
        self._until(board, up, "a spare", self._spare)
        return f"{len(status.slots)} slots, {status.totals.fills} fills, {len(status.positions)} positions open"

    def deploy(self, board: ProgressTable, up: subprocess.Popen[bytes]) -> str:
        """A commit becomes the trader."""
        before = len(self._history().deploys)
        sha = self._commit(f"# demo {before}\n")
        done = self._until(board, up, f"{sha[:7]} to be confirmed", lambda: self._ended(before + 1))
        if done.verdict != "confirmed":
            raise StepFailedError(f"expected {sha[:7]} to be confirmed, it {done.verdict}: {done.why}")
        return f"{sha[:7]} trades; {done.why}"

    def deploy_broken(self, board: ProgressTable, up: subprocess.Popen[bytes]) -> str:
        """A commit that cannot run is refused, and the trader is left alone."""
        before, trading = len(self._history().deploys), self._status()
        sha = self._commit("raise RuntimeError('a broken version')\n")
        done = self._until(board, up, f"{sha[:7]} to fail", lambda: self._ended(before + 1))
        after = self._status()
        reason = done.why.splitlines()[0]
        if done.verdict != "failed" or trading is None or after is None or after.epoch != trading.epoch:
            raise StepFailedError(f"expected {sha[:7]} to fail and the trader to be left alone, it was {done.verdict}")
        return f"refused, the trader was left alone: {reason[:80]}"

    def roll_back(self, board: ProgressTable, up: subprocess.Popen[bytes]) -> str:
        """The commit before trades again."""
        before = len(self._history().deploys)
        asked = subprocess.run(
            [sys.executable, "-m", "deployer", "rollback", "--no-wait"],
            cwd=self._copy,
            env=self._environment,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=_limit_s(),
            check=False,
        )
        if asked.returncode != 0:
            raise StepFailedError(f"rollback was refused: {asked.stderr.strip()}")
        done = self._until(board, up, "the rollback to be confirmed", lambda: self._ended(before + 1))
        if done.verdict != "confirmed":
            raise StepFailedError(f"expected the rollback to be confirmed, it {done.verdict}: {done.why}")
        return f"{done.sha[:7]} trades again; {done.why}"

    def kill(self, board: ProgressTable, up: subprocess.Popen[bytes]) -> str:
        """SIGKILL of the active bot: its spare trades on."""
        self._until(board, up, "a spare", self._spare)
        active = self._until(board, up, "an active bot", self._active)
        assert active.document is not None, "an active instance has a document"
        os.kill(active.document.pid, signal.SIGKILL)
        began = time.monotonic()
        after = self._until(board, up, "the spare to trade", lambda: self._active(other_than=active.id))
        took = time.monotonic() - began
        # By whoever trades: where another version's spare was quicker, the deployer passes the lease on once more.
        self._until(board, up, "some polls more", lambda: self._polled(POLLS_AT_THE_END))
        return f"{after.id.rsplit('-', 1)[-1]} took the lease {took * 1000:.0f} ms later"

    def audit(self, _: ProgressTable, up: subprocess.Popen[bytes]) -> str:
        """End everything, then hold the ledger against the exchange's own record."""
        record = self._log.with_name("record.jsonl")
        _end(up)  # asks the bots first: nothing is in flight any more
        with record.open("wb") as out:
            subprocess.run(
                [sys.executable, "-m", "paper", "record", "--data", self._environment["PAPER_DATA"]],
                cwd=self._copy,
                env=self._environment,
                stdout=out,
                timeout=_limit_s(),
                check=True,
            )
        done = subprocess.run(
            [sys.executable, "-m", "bot", "audit", "--venue", str(record), "--max-missed", "0"],
            cwd=self._copy,
            env={**self._environment, "COLUMNS": str(self._console.width)},
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=_limit_s(),
            check=False,
        )
        if done.returncode != 0:
            raise StepFailedError(f"an invariant was broken:\n{done.stdout}{done.stderr}")
        self._audit = done.stdout
        return "every invariant held, no tick missed"

    # --- looking

    def _until(self, board: ProgressTable, up: subprocess.Popen[bytes], what: str, look: Callable[[], T | None]) -> T:
        began_s = time.monotonic()
        while True:
            value = look()
            if value is not None:
                return value
            if up.poll() is not None:
                raise StepFailedError(f"waited for {what}, but `deployer up` ended with {up.returncode}")
            waited_s = time.monotonic() - began_s
            if waited_s > _limit_s():
                raise StepFailedError(f"waited {waited_s:.0f} s for {what}")
            board.show(trading_line(self._bus, time.time_ns() // 1_000_000))
            time.sleep(LOOK_EVERY_S)

    def _status(self) -> Status | None:
        try:
            return read_status(self._bus).body
        except DocumentError:
            return None

    def _traded(self) -> Status | None:
        status = self._status()
        return status if status is not None and status.totals.fills > 0 else None

    def _active(self, other_than: str = "") -> InstanceView | None:
        return self._with_role(Role.ACTIVE, other_than=other_than)

    def _spare(self) -> InstanceView | None:
        """A healthy standby of the commit that trades."""
        active = self._active()
        if active is None or active.document is None:
            return None
        return self._with_role(Role.STANDBY, sha=active.document.sha)

    def _with_role(self, role: Role, *, other_than: str = "", sha: str = "") -> InstanceView | None:
        for view in read_instances(self._bus):
            document = view.document if view.alive and view.id != other_than else None
            if document is not None and document.role is role and document.healthy and document.sha.startswith(sha):
                return view
        return None

    def _polled(self, polls: int) -> InstanceView | None:
        """The active instance once it completed so many polls."""
        now = self._active()
        return now if now is not None and now.document and now.document.active_healthy >= polls else None

    def _history(self) -> History:
        return fold(read_steps(self._bus))

    def _ended(self, number: int) -> Deploy | None:
        """The deploy of that number, from 1, once it has its verdict."""
        deploys = self._history().deploys
        return deploys[number - 1] if len(deploys) >= number and deploys[number - 1].verdict is not None else None

    def _commit(self, line: str) -> str:
        with (self._copy / STRATEGY).open("a") as file:
            file.write(line)
        _git(self._copy, "commit", "--quiet", "--all", "--message", "demo")
        return _git(self._copy, "rev-parse", "HEAD")


Step = Callable[[Demo, ProgressTable, subprocess.Popen[bytes]], str]
STEPS: tuple[tuple[str, Step], ...] = (
    ("trade", Demo.trade),
    ("deploy a change", Demo.deploy),
    ("deploy another", Demo.deploy),
    ("deploy a broken one", Demo.deploy_broken),
    ("roll back", Demo.roll_back),
    ("kill -9 the active bot", Demo.kill),
    ("audit", Demo.audit),
)


def _git(folder: Path, *arguments: str) -> str:
    """Run git as somebody who needs no configuration. Raises StartError."""
    try:
        return git_now("-c", "user.name=demo", "-c", "user.email=demo", *arguments, limit_s=_limit_s(), folder=folder)
    except RepositoryError as error:
        raise StartError(f"git {arguments[0]} failed: {error}") from error


def _end(up: subprocess.Popen[bytes]) -> None:
    """Ask `up` to end everything; SIGKILL only if it does not."""
    if up.poll() is None:
        up.send_signal(signal.SIGINT)
        try:
            up.wait(END_LIMIT_S)
        except subprocess.TimeoutExpired:
            up.kill()
            up.wait(END_LIMIT_S)


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-15:])
