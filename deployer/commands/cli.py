"""The command line: `python -m deployer COMMAND`."""

from __future__ import annotations

import argparse
import asyncio
import getpass
import json
import os
import sys
import urllib.request
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from bus import (
    Bus,
    BusError,
    BusSettings,
    Logging,
    SettingsError,
    SystemClock,
    bus_to_read,
    is_locked,
    load_settings,
    make_request,
    open_bus,
)
from bus.control import pause_reason, pause_s
from bus.main import console
from deployer.commands import status as report
from deployer.commands.backup import backup, restore
from deployer.commands.check import Kept, check, own_folder, starter
from deployer.commands.demo import demo
from deployer.commands.init import init, new
from deployer.commands.plan import export_commit, plan, plan_text
from deployer.commands.status import deploy_logs, deploy_logs_text, watch
from deployer.commands.up import detach, down, up, what_ends
from deployer.errors import DeployerError, StartError
from deployer.push.watched import as_on_the_bus, watch_another
from deployer.settings import DeployerSettings, move_home
from deployer.start import run

# A test alert, sent to Alertmanager as Prometheus sends one: whether what wakes people up does.


LIMIT_S = 5
SEVERITIES = ("page", "look")
RESOLVES_AFTER = timedelta(minutes=2)


class AlertError(DeployerError):
    """The alert could not be handed over."""


def send_test_alert(url: str, severity: str, now: datetime, say: Callable[[str], None]) -> None:
    """Hand one alert to Alertmanager's API (v2); it resolves by itself after two minutes. Raises AlertError."""
    alert = {
        "labels": {"alertname": "TestAlert", "severity": severity},
        "annotations": {"summary": "A test alert of Never Sleeps; nothing is wrong."},
        "startsAt": _text(now),
        "endsAt": _text(now + RESOLVES_AFTER),
    }
    address = f"{url.rstrip('/')}/api/v2/alerts"
    try:
        request = urllib.request.Request(
            address, data=json.dumps([alert]).encode(), headers={"Content-Type": "application/json"}, method="POST"
        )
        with urllib.request.urlopen(request, timeout=LIMIT_S):
            pass
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise AlertError(
            f"expected Alertmanager at {url}, found {reason}; start it (docs/how-to/monitoring.md) or set DEPLOYER_ALERTMANAGER"
        ) from error
    say(
        f"TestAlert with severity {severity} was taken by {url}; who gets it says monitoring/alertmanager/alertmanager.yml"
    )


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


# The command line: `python -m deployer COMMAND`.


EXIT_OK, EXIT_FAILED, EXIT_BAD_INPUT = 0, 1, 2
WATCH = "from now on watch what DEPLOYER_REPOSITORY and DEPLOYER_BRANCH name"
# What only reads makes nothing, no bus either.
READING = ("status", "history", "plan", "export", "logs", "test-alert")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    chosen = _parser().parse_args(arguments)
    try:
        if chosen.command == "demo":
            return demo(load_settings(DeployerSettings).repository, console())
        settings = load_settings(DeployerSettings)
        if chosen.command == "init":
            init(_from_caller(chosen.path) if chosen.path else settings.repository, print, verify=settings.verify)
            return EXIT_OK
        if chosen.command == "new":
            new(_from_caller(chosen.path), print)
            return EXIT_OK
        if chosen.command == "check":
            return _check(chosen)
        directory = load_settings(BusSettings).dir
        bus = bus_to_read(directory) if chosen.command in READING else open_bus(directory)
        if chosen.command not in ("run", "up", "watch"):
            settings = as_on_the_bus(settings, bus)
        return _command(chosen, settings, bus)
    except (SettingsError, BusError, DeployerError) as error:
        print(f"deployer: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except BrokenPipeError:
        raise  # nobody reads any more: `bus.main` ends in silence
    except OSError as error:
        print(f"deployer: {error}; correct it and start again", file=sys.stderr)
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m deployer",
        description="Replaces the bot by what is committed, while it trades. Settings come from the environment "
        "(DEPLOYER_*, BUS_DIR); see docs/reference/deployer.md.",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    begin = commands.add_parser(
        "run", help="watch the branch and deploy its commits until SIGTERM; the bots go on without it"
    )
    begin.add_argument(
        "--worktree", action="store_true", help="for development: deploy what is saved, committed or not"
    )
    begin.add_argument("--watch", action="store_true", help=WATCH)
    begin = commands.add_parser("up", help="run everything: paper, panel, deployer, bots, until Ctrl-C")
    begin.add_argument("--watch", action="store_true", help=WATCH)
    begin.add_argument("--fast", action="store_true", help="polls every second, windows of 30 s and 90 s")
    begin.add_argument("--mirror", action="store_true", help="real prices, play money: paper mirrors the real exchange")
    begin.add_argument("--detach", action="store_true", help="go on without a terminal; return once all of it is ready")
    begin.add_argument("--detached", action="store_true", help=argparse.SUPPRESS)
    watched = commands.add_parser("watch", help=f"{WATCH}, at the next start")
    watched.add_argument("branch", metavar="BRANCH", nargs="?", default="", help="instead of DEPLOYER_BRANCH")
    commands.add_parser("demo", help="all of it in about a minute, on a copy of this repository; ends with the audit")
    ending = commands.add_parser("down", help="end everything: the bots that trade first, then services; asks")
    ending.add_argument("--yes", action="store_true", help="end the bots without asking; needed without a terminal")
    deploy = commands.add_parser("deploy", help="deploy a commit, also one that failed before")
    deploy.add_argument("ref", metavar="REF", help="a branch, tag or sha of the watched repository")
    deploy.add_argument("--now", action="store_true", help="wait neither for an approval nor for a venue that is down")
    back = commands.add_parser("rollback", help="deploy the commit that was confirmed before the present one")
    back.add_argument("ref", metavar="REF", nargs="?", default="", help="that commit instead")
    commands.add_parser("cancel", help="give up the deploy that is under way, if it was not handed over yet")
    go_on = commands.add_parser(
        "approve", help="let a deploy go on that is held because it would decide otherwise (DEPLOYER_ON_DIFFERENCE)"
    )
    go_on.add_argument("ref", metavar="DEPLOY", nargs="?", default="", help="its id or sha; else the one that is held")
    wait = commands.add_parser("pause", help="deploy no commit of the branch by itself; what is asked for is done")
    wait.add_argument("--for", dest="lasts", default="", metavar="TIME", help="such as 30m; else until `resume`")
    wait.add_argument("--why", default="", metavar="TEXT", help="the reason, for who asks why nothing is deployed")
    commands.add_parser("resume", help="deploy the branch's commits again, its newest one at once")
    for command in (deploy, back, go_on):
        command.add_argument("--no-wait", action="store_true", help="only ask; do not show the steps")
    alert = commands.add_parser("test-alert", help="send a test alert to Alertmanager")
    alert.add_argument("--severity", choices=SEVERITIES, default="page")
    begin = commands.add_parser("init", help="make a repository ready to be pushed to: a hook shows each deploy")
    begin.add_argument(
        "path", metavar="PATH", nargs="?", type=Path, help="a checkout, a bare repository, or a new folder"
    )
    begin = commands.add_parser("new", help="make a repository of one's own: a strategy, its settings, a Dockerfile")
    begin.add_argument("path", metavar="PATH", type=Path, help="a folder that does not exist yet")
    foresee = commands.add_parser(
        "plan", help="what would happen if the newest commit, or another, were deployed, and why"
    )
    foresee.add_argument("ref", metavar="REF", nargs="?", default="", help="that commit instead")
    files = commands.add_parser("export", help="write the files of a commit into a new folder, and print its sha")
    files.add_argument("ref", metavar="REF", help="a branch, tag or sha of the watched repository")
    files.add_argument("folder", metavar="FOLDER", type=Path, help="a folder that does not exist yet")
    words = commands.add_parser("logs", help="everything that is kept of one deploy, its bot's output as well")
    words.add_argument("deploy", metavar="DEPLOY", help="an id or a sha that `history` shows")
    words.add_argument("--lines", type=int, default=200, help="of its bot's output, at most (200)")
    keep = commands.add_parser("backup", help="what the bus cannot lose, in one file, while it trades")
    keep.add_argument("file", metavar="FILE", type=Path, help="a file that does not exist yet, such as bus.tar.gz")
    keep = commands.add_parser("restore", help="fill an empty bus (BUS_DIR) from a backup")
    keep.add_argument("file", metavar="FILE", type=Path, help="what `backup` made")
    commands.add_parser("move", help="say that the bus's original has ended for good: the copy may trade")
    trial = commands.add_parser(
        "check", help="whether a worker keeps the contract, in about 15 s (docs/reference/contract.md)"
    )
    trial.add_argument(
        "worker", metavar="IMAGE|COMMAND", nargs="+", help="an image, or a command such as 'python -m settle'"
    )
    trial.add_argument("--network", default="none", help="for an image: the network that it needs (none)")
    trial.add_argument("--folder", type=Path, help="where its bus is made (the folder for temporary files)")
    trial.add_argument("--json", action="store_true", help="print JSON")
    status = commands.add_parser("status", help="what runs and who trades")
    status.add_argument("--watch", action="store_true", help="again every second, and the open deploy's steps")
    commands.add_parser("history", help="the newest deploys and their steps")
    for name, command in commands.choices.items():
        if name in ("status", "history", "plan", "logs", "deploy", "rollback", "approve", "cancel", "pause", "resume"):
            command.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _command(chosen: argparse.Namespace, settings: DeployerSettings, bus: Bus) -> int:
    match chosen.command:
        case "run":
            logging = Logging(process="deployer")
            try:
                if chosen.watch:
                    _watch_another(settings, bus, settings.branch)
                return asyncio.run(run(settings, bus, SystemClock(), logging, worktree=chosen.worktree))
            finally:
                logging.close()
        case "up" if chosen.detach:
            if chosen.watch:
                _watch_another(settings, bus, settings.branch)
            return detach(settings, fast=chosen.fast, mirror=chosen.mirror, say=print)
        case "up":
            if chosen.watch:
                _watch_another(settings, bus, settings.branch)
            return up(settings, bus, SystemClock(), fast=chosen.fast, mirror=chosen.mirror, detached=chosen.detached)
        case "down":
            if not _may_end(bus, agreed=chosen.yes):
                print("nothing was ended")
                return EXIT_FAILED
            code = down(settings, bus, SystemClock(), print)
            print("nothing runs any more" if code == EXIT_OK else "not everything ended")
            return code
        case "watch":
            _watch_another(settings, bus, chosen.branch or settings.branch)
            return EXIT_OK
        case "status" if chosen.watch:
            watch(bus, settings.dir, SystemClock(), as_json=chosen.json, console=console())
            return EXIT_OK
        case "backup":
            backup(bus, _from_caller(chosen.file), SystemClock(), print)
            return EXIT_OK
        case "restore":
            restore(bus, _from_caller(chosen.file), print)
            return EXIT_OK
        case "move":
            move_home(bus)
            print(f"{bus.directory} is where it trades from now on; never start the original again")
            return EXIT_OK
        case "plan":
            planned = plan(settings, bus, chosen.ref)
            print(json.dumps(planned, indent=1) if chosen.json else plan_text(planned))
            return EXIT_OK
        case "export":
            print(export_commit(settings, bus, chosen.ref, _from_caller(chosen.folder)))
            return EXIT_OK
        case "logs":
            planned = deploy_logs(settings, bus, chosen.deploy, max(0, chosen.lines))
            print(json.dumps(planned, indent=1) if chosen.json else deploy_logs_text(planned))
            return EXIT_OK
        case "status":
            planned = report.status(bus, settings.dir)
            print(json.dumps(planned, indent=1) if chosen.json else report.status_text(planned))
            return EXIT_OK
        case "test-alert":
            send_test_alert(settings.alertmanager, chosen.severity, datetime.now(UTC), print)
            return EXIT_OK
        case "history":
            deploys = report.history(bus)
            print(
                json.dumps(deploys, indent=1) if chosen.json else report.history_text(deploys, report.nobody_line(bus))
            )
            return EXIT_OK
        case _:
            return _ask(chosen, bus)


def _watch_another(settings: DeployerSettings, bus: Bus, branch: str) -> None:
    """A person's word for what is watched. Raises RepositoryError: it cannot be read."""
    watched = asyncio.run(watch_another(settings.model_copy(update={"branch": branch}), bus))
    when = ", when the deployer starts again" if is_locked(bus.deployer_lock) else ""
    print(f"{watched.branch} of {watched.repository} is watched from now on{when}", flush=True)


def _may_end(bus: Bus, *, agreed: bool) -> bool:
    """Say what of the trader ends, and ask. Raises StartError where nobody can be asked and nobody agreed."""
    ends = what_ends(bus)
    if ends is None:
        return True
    print(ends)
    if agreed:
        return True
    if not sys.stdin.isatty():
        raise StartError("nothing was ended: there is no terminal to ask on; say `--yes` where that is meant")
    try:
        return input("End all of it? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False


def _check(chosen: argparse.Namespace) -> int:
    """Whether a worker keeps the contract."""
    start, what = starter(chosen.worker, chosen.network)

    def say(promises: Kept) -> None:
        if not chosen.json:
            print(
                f"{'BROKEN' if promises.why else 'kept':<7}{promises.seconds:6.2f} s  {promises.promise}"
                f"{': ' if promises.why else ''}{promises.why}"
            )

    with own_folder(chosen.folder) as folder:
        promises = check(start, folder, say)
    good = not any(promise.why for promise in promises)
    if chosen.json:
        print(
            json.dumps({"worker": what, "kept": good, "promises": [promise.json() for promise in promises]}, indent=1)
        )
    else:
        print(f"{what} {'keeps' if good else 'does not keep'} the contract (docs/reference/contract.md)")
    return EXIT_OK if good else EXIT_FAILED


def _from_caller(path: Path) -> Path:
    """A path as the person who typed it meant it: `bin/deployer` works in its own folder."""
    return Path(os.environ.get("CALLED_FROM", "")) / path


def _ask(chosen: argparse.Namespace, bus: Bus) -> int:
    """Put a request on the bus and follow what becomes of it."""
    if not is_locked(bus.deployer_lock):
        raise StartError("no deployer runs on this bus that could do it; start one with `make run`")
    try:
        lasts, why = pause_s(getattr(chosen, "lasts", "")), pause_reason(getattr(chosen, "why", ""))
    except ValueError as error:
        raise StartError(str(error)) from None
    request = make_request(
        bus,
        chosen.command,
        ref=getattr(chosen, "ref", ""),
        now=getattr(chosen, "now", False),
        by=f"{getpass.getuser()} on the command line",
        clock=SystemClock(),
        for_s=lasts,
        why=why,
    )
    if getattr(chosen, "no_wait", False):
        print(json.dumps({"request": request.id}) if chosen.json else f"asked: {request.id}")
        return EXIT_OK
    outcome = report.follow(bus, request.id, (lambda _line: None) if chosen.json else print)
    if chosen.json:
        print(json.dumps(outcome.json(), indent=1))
    return EXIT_OK if outcome.good else EXIT_FAILED
