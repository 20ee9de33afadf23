"""`ns doctor`: looks for what keeps it from trading, and says the cure.

Each look is a function from the checkout's facts to a finding. A look that itself fails is a finding, too.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path

from pydantic_settings import BaseSettings

from bus import (
    Bus,
    BusError,
    DocumentError,
    SettingsError,
    SystemClock,
    bus_to_read,
    is_halted,
    is_locked,
    load_settings,
    read_small,
    read_status,
)
from bus.lease import check_locking
from bus.main import loopback
from cli.config import FILE, ConfigError
from cli.settings import paper_url_of, settings_of

LIMIT_S = 10.0
FREE_MB = 1024
CLOCK_MS = 2_000
STATUS_AGE_INTERVALS = 3


@dataclass(frozen=True, slots=True)
class Finding:
    """What one look came to. code: its name. good: nothing is wrong. text: what was found. cure: what to do, where not good."""

    code: str
    good: bool
    text: str
    cure: str = ""


@dataclass(frozen=True, slots=True)
class Checkout:
    """What is looked at. root: the checkout. environment: the person's. values: every setting by variable."""

    root: Path
    environment: Mapping[str, str]
    values: Mapping[str, str]

    @property
    def bus(self) -> Bus:
        """Its bus, to read."""
        return bus_to_read(self.root / self.values["BUS_DIR"])

    @property
    def recorded_runtime(self) -> str:
        """What its bots ran as last; nothing where nothing ran yet."""
        try:
            return read_small(self.bus.runtime)
        except OSError:
            return ""


Look = Callable[[Checkout], Finding]


def examine(root: Path, environment: Mapping[str, str]) -> tuple[Finding, ...]:
    """All looks, in the order in which their cures should be tried."""
    try:
        found = settings_of(root, environment)
    except ConfigError as error:
        return (Finding("config", False, str(error), f"correct {FILE}"),)
    values = {one.name: one.value for one in found} | {"BOT_PAPER_URL": paper_url_of(found)}
    checkout = Checkout(root, {**environment, **{name: value for name, value in values.items() if value}}, values)
    return tuple(_looked(look, checkout) for look in LOOKS)


def _looked(look: Look, checkout: Checkout) -> Finding:
    try:
        return look(checkout)
    except Exception as error:  # noqa: BLE001  # one broken look shall not hide the others
        return Finding(
            look.__name__, False, f"could not be looked at: {type(error).__name__}: {error}", "look at what it names"
        )


def report(found: tuple[Finding, ...], *, as_json: bool) -> str:
    """A line each, with the cure below what is wrong; or JSON."""
    if as_json:
        return json.dumps([asdict(finding) for finding in found], indent=1)
    lines = []
    for finding in found:
        lines.append(f"{'ok ' if finding.good else 'BAD'}  {finding.code:<12} {finding.text}")
        if not finding.good:
            lines.append(f"     {'':<12} do: {finding.cure}")
    bad = sum(not finding.good for finding in found)
    lines.append("nothing is wrong" if not bad else f"{bad} of {len(found)} looks found something")
    return "\n".join(lines)


# --- the looks


def settings(checkout: Checkout) -> Finding:
    """Whether every setting can be used, as the processes would read them."""
    from bot.settings import BotSettings
    from deployer.settings import DeployerSettings
    from panel.server import PanelSettings

    kinds: tuple[type[BaseSettings], ...] = (BotSettings, DeployerSettings, PanelSettings)
    before = dict(os.environ)
    try:
        os.environ.update(checkout.environment)
        for kind in kinds:
            load_settings(kind)
    except SettingsError as error:
        return Finding("settings", False, str(error), "ns config shows where it comes from")
    finally:
        os.environ.clear()
        os.environ.update(before)
    return Finding("settings", True, f"{len(checkout.values)} settings can be used")


def branch(checkout: Checkout) -> Finding:
    """Whether what is watched can be read."""
    from deployer.errors import RepositoryError
    from deployer.push.repository import Repository
    from deployer.push.watched import read_watched

    watched = read_watched(checkout.bus)
    path = Path(watched.repository) if watched else checkout.root / (checkout.values["DEPLOYER_REPOSITORY"] or ".")
    name = watched.branch if watched else checkout.values["DEPLOYER_BRANCH"]
    # As the deployer reads it: whoever may write to the repository must not have programs run by its configuration.
    repository = Repository(path, shallow=True)

    async def read() -> tuple[str, str]:
        async with asyncio.timeout(LIMIT_S):
            branch = name or await repository.checked_out_branch()
            return branch, await repository.tip(branch)

    try:
        found, sha = asyncio.run(read())
    except (RepositoryError, TimeoutError) as error:
        cure = "make a commit there, or watch another: ns run --watch with DEPLOYER_BRANCH"
        why = str(error) or f"git did not answer within {LIMIT_S:g} s"
        return Finding("branch", False, f"expected a commit at {name or 'HEAD'} of {path}: {why}", cure)
    return Finding("branch", True, f"{found} of {path} is {sha[:7]}")


def permissions(checkout: Checkout) -> Finding:
    """Whether the bus is this user's, and nobody else may write to it."""
    directory = checkout.bus.directory
    if not directory.exists():
        writable = os.access(next(parent for parent in directory.parents if parent.exists()), os.W_OK)
        text = f"there is no bus at {directory} yet"
        return Finding(
            "permissions", writable, text, "" if writable else f"give this user the folder above {directory}"
        )
    found = directory.stat()
    if found.st_mode & 0o002:
        return Finding(
            "permissions",
            False,
            f"every user may write to {directory}",
            f"look who wrote there, then chmod 750 {directory}",
        )
    if checkout.recorded_runtime != "docker" and found.st_uid != os.geteuid():
        text = f"{directory} belongs to user {found.st_uid}, expected {os.geteuid()}"
        return Finding(
            "permissions",
            False,
            text,
            f"run it as that user, or once nothing runs: chown -R {os.geteuid()} {directory}",
        )
    return Finding("permissions", True, f"the bus {directory} is kept to its owner")


def locks(checkout: Checkout) -> Finding:
    """Whether locks work where the bus is."""
    directory = checkout.bus.directory
    if not directory.exists() or not os.access(directory, os.W_OK):
        return Finding("locks", True, "not tried: there is no bus that this user writes to")
    try:
        check_locking(directory)
    except BusError as error:
        return Finding("locks", False, str(error), "set BUS_DIR to a folder on a local disk")
    return Finding("locks", True, "locks work where the bus is")


def disk(checkout: Checkout) -> Finding:
    """Whether there is room for the ledger and for builds."""
    directory = checkout.bus.directory
    place = next(folder for folder in (directory, *directory.parents) if folder.exists())
    free = shutil.disk_usage(place).free >> 20
    least = int(checkout.values["DEPLOYER_MIN_FREE"] or FREE_MB)
    if free < least:
        return Finding(
            "disk", False, f"{free} MB are free at {place}, expected {least}", "make room; docs/how-to/runbook.md"
        )
    return Finding("disk", True, f"{free} MB are free at {place}")


def engine(checkout: Checkout) -> Finding:
    """Whether what the bots run as can be used."""
    if not (checkout.root / "bin" / "runtime").exists():
        return Finding("engine", True, "not looked for: without a checkout bots run as processes")
    asked = subprocess.run(
        [str(checkout.root / "bin" / "runtime")],
        env=dict(checkout.environment),
        capture_output=True,
        text=True,
        timeout=30.0,
        check=False,
    )
    if asked.returncode != 0:
        said = asked.stderr.strip().removeprefix("never-sleeps: ")
        return Finding("engine", False, said, "start the Engine, or choose processes on a new bus: RUNTIME=process")
    return Finding("engine", True, f"bots run as {asked.stdout.strip()}")


def ports(checkout: Checkout) -> Finding:
    """Whether the ports of the panel and of paper are free, or are our own."""
    if is_locked(checkout.bus.deployer_lock) if checkout.bus.deployer_lock.exists() else False:
        return Finding("ports", True, "not tried: a deployer runs here, and its services hold them")
    for name, variable in (("the panel", "PANEL_PORT"), ("paper", "PAPER_PORT")):
        port = int(checkout.values[variable] or 0)
        with socket.socket(socket.AF_INET6 if ":" in loopback() else socket.AF_INET) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                tried.bind((loopback(), port))
            except OSError as error:
                text = f"port {port} of {name} cannot be had: {error.strerror}"
                return Finding(
                    "ports", False, text, f"end what listens there (ss -ltnp 'sport = :{port}'), or set {variable}"
                )
    return Finding("ports", True, "the ports of panel and paper are free")


def keys(checkout: Checkout) -> Finding:
    """Whether the files of secrets are there and kept to this user."""
    for variable in ("BOT_KEY_FILE", "BOT_CREDENTIALS_FILE", "BOT_RELAYER_KEY_FILE", "PANEL_NOTIFY_FILE"):
        name = checkout.values[variable]
        if not name:
            continue
        path = checkout.root / name
        if not path.is_file():
            return Finding("keys", False, f"{variable} names {path}, which is no file", "correct the path")
        if path.stat().st_mode & 0o177:
            return Finding("keys", False, f"others may read {path} ({variable})", f"chmod 600 {path}")
    if checkout.values["BOT_VENUE"] == "live" and not checkout.values["BOT_KEY_FILE"]:
        return Finding("keys", False, "BOT_VENUE is live, and BOT_KEY_FILE is not set", "docs/how-to/live.md")
    return Finding("keys", True, "no file of secrets is missing or open to others")


def clock(checkout: Checkout) -> Finding:
    """Whether this machine's clock agrees with the venue's."""
    url, venue = checkout.values["BOT_PAPER_URL"], checkout.values["BOT_VENUE"]
    if venue == "live":
        url = checkout.values["BOT_CLOB_URL"] or "https://clob.polymarket.com"
    before = time.time()
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({} if venue == "paper" else None)).open(
            f"{url.rstrip('/')}/time", timeout=LIMIT_S
        ) as answer:
            text, date = answer.read(64).decode("ascii", "replace").strip(), answer.headers.get("Date")
    except (OSError, ValueError) as error:
        running = checkout.bus.deployer_lock.exists() and is_locked(checkout.bus.deployer_lock)
        if venue == "paper" and (not running or checkout.recorded_runtime == "docker"):
            return Finding(
                "clock", True, "not compared: paper is not reached from here, and it takes this machine's clock"
            )
        return Finding(
            "clock",
            False,
            f"the venue at {url} does not answer: {getattr(error, 'reason', error)}",
            "see the network, and its status page",
        )
    theirs = float(text) if text.replace(".", "", 1).isdigit() else parsedate_to_datetime(date).timestamp()
    apart = (theirs - (before + time.time()) / 2) * 1000
    if abs(apart) > CLOCK_MS:
        return Finding(
            "clock",
            False,
            f"this clock is {-apart:.0f} ms ahead of the venue's",
            "let NTP keep it: timedatectl set-ntp true",
        )
    return Finding("clock", True, f"this clock is within {CLOCK_MS} ms of the venue's")


def fsync(checkout: Checkout) -> Finding:
    """Whether the disk ever failed to keep what it was given."""
    mark = checkout.bus.fsync_failed
    if mark.exists():
        return Finding(
            "fsync",
            False,
            "the disk failed to keep what the ledger wrote; nobody takes",
            f"docs/how-to/runbook.md, then remove {mark}",
        )
    return Finding("fsync", True, "the disk has kept what it was given")


def deployer(checkout: Checkout) -> Finding:
    """Whether a deployer lives on the bus."""
    if not checkout.bus.deployer_lock.exists() or not is_locked(checkout.bus.deployer_lock):
        return Finding("deployer", False, "no deployer runs on this bus: nobody replaces a bot that dies", "ns run")
    return Finding("deployer", True, "a deployer runs")


def trader(checkout: Checkout) -> Finding:
    """Whether somebody trades, and said so lately."""
    try:
        read = read_status(checkout.bus)
    except DocumentError as error:
        return Finding(
            "trader", False, f"no bot has said anything: {error}", "ns run; ns status says why nobody trades"
        )
    age = SystemClock().wall_ms() - read.stamp.time_ms
    limit = STATUS_AGE_INTERVALS * read.body.interval_ms
    if age > limit:
        return Finding(
            "trader",
            False,
            f"the last words of a trader are {age / 1000:.0f} s old",
            "ns status says why nobody trades",
        )
    return Finding("trader", True, f"a trader spoke {age} ms ago")


def feeds(checkout: Checkout) -> Finding:
    """Whether the trader hears all its streams, and may enter, by its own word."""
    try:
        status = read_status(checkout.bus).body
    except DocumentError:
        return Finding("feeds", True, "not known: no bot has said anything")
    silent = [feed.name for feed in status.feeds if not feed.connected]
    if silent:
        return Finding(
            "feeds", False, f"not connected: {', '.join(silent)}", "see the network and the venue's status page"
        )
    if not status.is_open:
        return Finding("feeds", False, f"entries are closed: {status.entries}", "ns status, docs/how-to/runbook.md")
    return Finding("feeds", True, f"{len(status.feeds)} streams are connected, and entries are open")


def halted(checkout: Checkout) -> Finding:
    """Whether a person stopped entries."""
    if checkout.bus.directory.exists() and is_halted(checkout.bus):
        return Finding(
            "halt", False, f"the halt file {checkout.bus.halt} stops all entries", "look why, then ns resume --yes"
        )
    return Finding("halt", True, "nobody halted it")


LOOKS: tuple[Look, ...] = (
    settings, engine, permissions, locks, disk, branch, ports, keys, fsync, clock, deployer, trader, feeds, halted,
)  # fmt: skip
