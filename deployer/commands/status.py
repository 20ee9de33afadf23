"""What people read: status, history, and the steps of a deploy as they come. Text is made here and printed by `cli`."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from bus import (
    Bus,
    Clock,
    InstanceView,
    LedgerError,
    Step,
    SystemClock,
    is_locked,
    read_handover,
    read_instances,
    read_small,
    read_steps,
)
from bus.history import UNCHANGED
from deployer.commands import status as report
from deployer.commands.up import Screen, trading_line
from deployer.deploys import Deploy, History, fold
from deployer.errors import Code, RuntimeFailedError, StartError
from deployer.push.receive import details, plain, step_line
from deployer.runtimes.children import last_lines
from deployer.settings import DeployerSettings, read_state
from deployer.trading import read_quiet_ms
from ledger import Ledger

MAX_HISTORY = 20
FOLLOWED_BYTES = 256 << 10


def status(bus: Bus, folder: Path) -> dict[str, Any]:
    """Everything that `./ns status --json` prints. Raises BusError, OSError."""
    history = fold(read_steps(bus))
    # Where there is no bus yet, nobody lives on it.
    living = [view for view in read_instances(bus) if view.alive] if bus.instances.exists() else []
    state = read_state(folder)
    deploy, confirmed = history.open, history.confirmed
    trading, running = _trading(bus, living, SystemClock()), is_locked(bus.deployer_lock)
    return {
        "deployer": "running" if running else "not running",
        "problem": state.problem if state is not None else None,
        "repository": state.repository if state is not None else None,
        "branch": state.branch if state is not None else None,
        "tip": state.tip if state is not None else None,
        "runtime": read_small(bus.runtime) if bus.runtime.exists() else None,
        "confirmed": confirmed.sha if confirmed is not None else read_handover(bus).confirmed_sha or None,
        "previous": history.previous_sha,
        "paused": history.paused,
        "open": deploy_json(deploy) if deploy is not None else None,
        "newest": deploy_json(history.deploys[-1]) if history.deploys else None,
        "trading": trading,
        "nobody": None if trading is not None else _why_nobody(history, running=running),
        "instances": [_instance(view) for view in living],
    }


def status_text(report: dict[str, Any]) -> str:
    """The same for people."""
    lines = [f"deployer  {report['deployer']}" + (f": {report['problem']}" if report["problem"] else "")]
    if report["repository"]:
        newest = report["newest"]
        aside = newest and newest["sha"] == report["tip"] and newest["verdict"] == UNCHANGED
        what = ", which changes nothing that runs" if aside else ""
        lines.append(f"watches   {report['branch']} of {report['repository']}, newest {_short(report['tip'])}{what}")
    lines.append(f"confirmed {_short(report['confirmed'])}, before it {_short(report['previous'])}")
    if report["paused"]:
        lines.append(f"automatic deploys are {report['paused']}: `./ns resume --deploys`")
    trading = report["trading"]
    if trading is None:
        lines.append(f"trades    nobody: {report['nobody']}")
    else:
        lines.append(f"trades    {trading['color']} {_short(trading['sha'])} in epoch {trading['epoch']}")
    if report["open"]:
        lines.append(
            f"deploys   {_short(report['open']['sha'])}: {report['open']['phase']}, for {report['open']['by']}"
        )
        if report["open"]["phase"] == "held":
            lines.append("          it would decide otherwise: `./ns logs`, then `./ns approve` or `./ns cancel`")
    for instance in report["instances"]:
        health = "healthy" if instance["healthy"] else f"not healthy: {instance['why_not']}"
        lines.append(
            f"  {instance['unit'] or instance['id']:<32} {instance['role']:<9} {instance['polls']:>6} polls  {health}"
        )
    return "\n".join(map(plain, lines))  # a bot that nobody approved yet wrote some of it: it adds no line


def history(bus: Bus) -> list[dict[str, Any]]:
    """The newest deploys, newest first. Raises BusError."""
    return [deploy_json(deploy) for deploy in reversed(fold(read_steps(bus)).deploys[-MAX_HISTORY:])]


def nobody_line(bus: Bus) -> str | None:
    """Why nobody trades, as the deployer's newest word has it; None while somebody does. Raises BusError."""
    nobody = fold(read_steps(bus)).nobody
    return f"nobody trades: {nobody.text}" if nobody is not None else None


def history_text(entries: Iterable[dict[str, Any]], nobody: str | None = None) -> str:
    """The same for people. nobody: why nobody trades now."""
    lines = [nobody] if nobody is not None else []
    for deploy in entries:
        at = datetime.fromtimestamp(deploy["began_ms"] / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
        verdict = deploy["verdict"] or "open"
        lines.append(
            f"{at}  {_short(deploy['sha'])}  {verdict:<9}  {deploy['what']}  by {deploy['by']}  {deploy['id']}"
        )
        lines += [f"    {step['line']}" for step in deploy["steps"]]
    return "\n".join(map(plain, lines)) or "no deploys yet"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a request. good: it was done. deploy: the one that it was about, if any."""

    good: bool
    text: str
    deploy: Deploy | None = None

    def json(self) -> dict[str, Any]:
        """As `--json` prints it."""
        return {"good": self.good, "answer": self.text, "deploy": deploy_json(self.deploy) if self.deploy else None}


def follow(bus: Bus, request: str, say: Callable[[str], None], every_s: float = 0.1) -> Outcome:
    """Print what becomes of a request until there is a verdict.

    Ends, too, with good=False, when the deployer is gone.
    """
    printed = 0
    while True:
        running = is_locked(bus.deployer_lock)
        steps = read_steps(bus, FOLLOWED_BYTES)
        answer = next((step for step in steps if step.request == request and step.step != "queued"), None)
        deploy = _asked_for(fold(steps), request, answer)
        for step in deploy.steps[printed:] if deploy is not None else ():
            say(step_line(step))
            printed += 1
        if deploy is not None and deploy.verdict is not None:
            return Outcome(deploy.verdict in ("confirmed", UNCHANGED), deploy.why, deploy)
        if deploy is None and answer is not None:
            say(answer.text)
            return Outcome(answer.data.get("code") != Code.REFUSED, answer.text)
        if not running:
            text = "the deployer does not run any more; it carries on when it is started again"
            say(text)
            return Outcome(False, text, deploy)
        time.sleep(every_s)


def _asked_for(history: History, request: str, answer: Step | None) -> Deploy | None:
    made = next((d for d in history.deploys if d.steps[0].request == request), None)
    if made is None and answer is not None and (answer.step != "answered" or answer.data.get("follows")):
        return history.find(answer.deploy)
    return made


def _trading(bus: Bus, living: list[InstanceView], clock: Clock) -> dict[str, Any] | None:
    """Who trades: holds the lease by the ledger, lives, and its newest row there is at most two intervals old."""
    try:
        ledger = Ledger.reader(bus.ledger)
        if ledger is None:
            return None
        with ledger:
            newest, anchor = ledger.newest_epoch(), ledger.anchor()
            quiet_ms = read_quiet_ms(ledger, newest, clock)
    except LedgerError:
        return None
    if newest is None or newest.released or newest.instance not in {view.id for view in living}:
        return None
    if quiet_ms is not None and anchor is not None and quiet_ms > 2 * anchor.interval_ms + anchor.interval_ms // 2:
        return None
    return {"epoch": newest.epoch, "instance": newest.instance, "sha": newest.sha, "color": newest.color}


def _why_nobody(history: History, *, running: bool) -> str:
    if not running:
        return "no deployer runs that could start a bot; begin with `make run`"
    return history.nobody.text if history.nobody is not None else "the deployer has not said why yet"


def _instance(view: InstanceView) -> dict[str, Any]:
    document = view.document
    return {
        "id": view.id,
        "unit": document.unit if document else "",
        "sha": document.sha if document else "",
        "color": document.color if document else "",
        "role": str(document.role) if document else "unknown",
        "polls": document.polls if document else 0,
        "healthy": document.healthy if document else False,
        "why_not": document.why_not if document else "no readable document",
        "why_not_code": document.why_not_code if document else "",
    }


def deploy_json(deploy: Deploy) -> dict[str, Any]:
    """One deploy as `--json` prints it: who, when, what, its steps with times, its result."""
    return {
        "id": deploy.id,
        "sha": deploy.sha,
        "by": deploy.by,
        "what": deploy.what,
        "cause": deploy.cause,
        "began_ms": deploy.began_ms,
        "phase": deploy.phase,
        "verdict": deploy.verdict,
        "why": deploy.why,
        "steps": [_step(step) for step in deploy.steps],
    }


def _step(step: Step) -> dict[str, Any]:
    return {
        "step": step.word,
        "ms": step.ms,
        "text": step.text,
        "by": step.by,
        "time_ms": step.time_ms,
        "data": step.data,
        "line": step_line(step),
    }


def _short(sha: str | None) -> str:
    return sha[:7] if sha else "none"


# `./ns logs DEPLOY`: everything that is kept of one deploy: its steps, what failed, and what its bots wrote.


MIN_SHA = 4


def deploy_logs(settings: DeployerSettings, bus: Bus, name: str, lines: int) -> dict[str, Any]:
    """Everything that `logs --json` prints. name: a deploy's id, or a sha of at least 4 digits; its newest deploy then.

    Raises StartError: there is no such deploy.
    """
    deploys = fold(read_steps(bus)).deploys
    matches = [d for d in deploys if d.id == name or (len(name) >= MIN_SHA and d.sha.startswith(name))]
    if not matches:
        raise StartError(f"no deploy is called {name!r}; expected an id or a sha of `./ns history`")
    deploy = matches[-1]
    return {**deploy_json(deploy), "units": {unit: _words(settings, unit, lines) for unit in _units(deploy)}}


def deploy_logs_text(report: dict[str, Any]) -> str:
    """The same for people."""
    text = [plain(f"{report['id']}  {report['what']}  by {report['by']}: {report['verdict'] or report['phase']}")]
    for step in report["steps"]:
        text.append(step["line"])
        text += [plain(f"    | {line}") for line in details(step["data"])]
    for unit, words in report["units"].items():
        text.append(f"--- {unit}")
        text += words or ["(its log is not kept any more)"]
    return "\n".join(text)


def _units(deploy: Deploy) -> list[str]:
    """The candidate's unit; spares and replacements are not part of a deploy."""
    return [str(step.data["unit"]) for step in deploy.steps if step.step == "started" and step.data.get("unit")]


def _words(settings: DeployerSettings, unit: str, lines: int) -> list[str]:
    log = _log(settings.dir, unit)
    if log.exists():
        return last_lines(log, lines).splitlines() or ["(it has said nothing)"]
    if settings.runtime != "docker":
        return []
    from deployer.runtimes.docker.engine import Engine  # as in `start`: it is slow to import

    engine = Engine(settings.engine)
    try:
        raw = engine.call_now("the log could not be read", lambda client: client.logs(unit, tail=lines))
    except RuntimeFailedError:
        return []
    return bytes(raw).decode("utf-8", "replace").splitlines()


def _log(folder: Path, unit: str) -> Path:
    return folder / "logs" / f"{unit}.log"


# `./ns status --watch`: the status again every second, until interrupted.


EVERY_S = 1.0


def watch(bus: Bus, folder: Path, clock: Clock, *, as_json: bool, console: Console) -> None:
    """Look every second and show it. Raises BusError, OSError."""
    if as_json:
        while True:
            console.file.write(f"{json.dumps(report.status(bus, folder))}\n")
            console.file.flush()
            time.sleep(EVERY_S)
    if not console.is_terminal:
        screen = Screen(is_terminal=False)
        while True:
            screen.show(trading_line(bus, clock.wall_ms()))
            time.sleep(EVERY_S)
    with Live(console=console, auto_refresh=False) as live:
        while True:
            live.update(Text(watch_text(report.status(bus, folder))), refresh=True)
            time.sleep(EVERY_S)


def watch_text(found: dict[str, Any]) -> str:
    """The status, and below it what the newest deploy came to."""
    lines = [report.status_text(found)]
    if deploy := found["open"] or found["newest"]:
        lines += [f"{deploy['id']}  {deploy['what']}: {deploy['verdict'] or deploy['phase']}"]
        lines += [f"  {step['line']}" for step in deploy["steps"]]
    return "\n".join(lines)
