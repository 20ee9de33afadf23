"""Kills at every step, for real: `python -m proof.kills --scenario handover|order|deploy`.

strace stops a running process before the Nth system call that touches the bus or the venue and kills it there, for
N = 1, 2, 3 ... until a run gets through without dying: then there is no later step. The same with a disk that is full or
fails, where the process may live on. After each fault somebody must trade again; in the end the audit must hold against the
venue's record. Calls that have nothing to do with the scenario (status, the feeds' answers) count, too: that makes N larger.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bus import Role
from proof.forked import ForkedBot, StraceError, tampered
from proof.report import Row, add_out, save
from tests.e2e.deployer_rig import DeployerRig
from tests.e2e.rig import CONFIRMED, Bot, Paper, Rig, end, until
from tests.plain import OFTEN

MOST = 400
LIMIT_S = 120.0
GROUPS = {
    "write": "write,writev,pwrite64",
    "fsync": "fsync,fdatasync",
    "rename": "rename,renameat,renameat2,link,unlink",
    "connect": "connect",
    "send": "sendto,sendmsg",
}
KILL, FULL, FAILS = "signal=KILL", "error=ENOSPC", "error=EIO"
DISK = ("write", "fsync", "rename")


@dataclass(frozen=True, slots=True)
class Tried:
    """One fault that was injected. died: the process ended; through: the scenario got through with it alive."""

    number: int
    died: bool
    through: bool


class Stage:
    """A paper exchange, and two real bots on one bus, one of which trades. interval: seconds between polls.

    The exchange answers some orders without amounts before it fills them, and its market BUYs bring more shares than were asked.
    """

    def __init__(self, folder: Path, interval: float = 0.2) -> None:
        self.rig = Rig(folder, interval=interval, timeframes="10s", paper=Paper(folder, plain=False, more=OFTEN))
        self.killed = 0
        self.holder, self.other = self._start("blue"), self._start("green")
        self.settle()

    def _start(self, color: str) -> Bot:
        rig = self.rig
        unit = f"{color}-{len(rig.bots)}"
        log = rig.folder / f"{unit}.log"
        environment = {
            "BUS_DIR": str(rig.bus.directory),
            "BOT_PAPER_URL": rig.paper.url,
            "BOT_POLL_INTERVAL": str(rig.interval),
            "BOT_TIMEFRAMES": rig.timeframes,
            "BOT_SHA": CONFIRMED,
            "BOT_COLOR": color,
            "BOT_UNIT": unit,
        }
        bot = Bot(ForkedBot(environment, log), unit, log)  # type: ignore[arg-type]  # all of a Popen that is used
        rig.bots.append(bot)
        return bot

    def settle(self) -> None:
        """Until one of two living bots trades and the other stands by; who died is replaced. Fails after LIMIT_S."""

        def look() -> bool:
            # A person looked at the disk, which is whole: without that nobody may take, and rightly so.
            self.rig.bus.fsync_failed.unlink(missing_ok=True)
            for bot in (self.holder, self.other):
                if bot.process.poll() is not None:
                    self.killed += 1
                    fresh = self._start("green" if bot.unit.startswith("blue") else "blue")
                    self.holder, self.other = (fresh, self.other) if bot is self.holder else (self.holder, fresh)
            roles = {bot.unit: view.document for bot in (self.holder, self.other) if (view := self.rig.seen(bot))}
            by_role = {document.role: unit for unit, document in roles.items() if document and document.healthy}
            if by_role.keys() < {Role.ACTIVE, Role.STANDBY}:
                return False
            if by_role.get(Role.ACTIVE) == self.other.unit:
                self.holder, self.other = self.other, self.holder
            return by_role.get(Role.STANDBY) == self.other.unit

        until("one trades and one stands by", look, LIMIT_S, every_s=0.05)

    def dead(self, bot: Bot) -> bool:
        """Whether a bot's process ended."""
        return bot.process.poll() is not None

    def stop(self) -> None:
        """End everything, the exchange also when a bot does not end."""
        try:
            self.rig.stop()
        finally:
            end(self.rig.paper.process)

    def audit(self) -> tuple[str, ...]:
        """What the checker says is violated."""
        done = self.rig.audit()
        return () if done.returncode == 0 else (done.stdout[-1500:] + done.stderr[-500:],)


def handover(stage: Stage, victim: str, calls: str, fault: str, number: int) -> Tried:
    """One handover with a fault in the one that yields, or in the one that takes."""
    yields, takes = stage.holder, stage.other
    hit = yields if victim == "yields" else takes
    polls = stage.rig.count("SELECT coalesce(max(tick), 0) FROM polls_completed")
    with tampered(hit.process.pid, calls, fault, number):
        stage.rig.name(takes)
        id_of_taker = _id(stage, takes)

        def over() -> str | None:
            if stage.dead(hit):
                return "died"
            if stage.rig.bus.fsync_failed.exists():
                return "marked"  # nobody takes until a person looked: `settle` is that person
            newest = stage.rig.count(
                "SELECT count(*) FROM polls_completed p JOIN epochs e ON e.epoch = p.epoch "
                f"WHERE e.instance = '{id_of_taker}' AND p.tick > {polls}"
            )
            return "through" if newest else None

        ended = _within(over, 30.0)
    stage.settle()
    return Tried(number, ended == "died", ended == "through")


def order(stage: Stage, victim: str, calls: str, fault: str, number: int) -> Tried:
    """An order's life with a fault in the one that trades: from before its decision until its end is on record."""
    hit = {"trades": stage.holder}[victim]
    before = stage.rig.count("SELECT count(*) FROM intents")
    with tampered(hit.process.pid, calls, fault, number):

        def over() -> str | None:
            if stage.dead(hit):
                return "died"
            if stage.rig.bus.fsync_failed.exists():
                return "marked"  # nobody takes until a person looked: `settle` is that person
            done = stage.rig.count(
                "SELECT count(*) FROM intents i JOIN orders o ON o.order_id = i.order_id "
                f"WHERE i.rowid > {before} AND o.state IN ('done', 'refused', 'abandoned')"
            )
            return "through" if done else None

        ended = _within(over, 60.0)
    stage.settle()
    return Tried(number, ended == "died", ended == "through")


def _id(stage: Stage, bot: Bot) -> str:
    view = stage.rig.seen(bot)
    assert view is not None, f"{bot.unit} has no instance document"
    return view.id


def _within(look: Callable[[], str | None], limit_s: float) -> str:
    """What it says, or "neither" when it says nothing for so long: `settle` has the word then."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        if (value := look()) is not None:
            return value
        time.sleep(0.02)
    return "neither"


SCENARIOS: dict[str, tuple[Callable[[Stage, str, str, str, int], Tried], tuple[str, ...]]] = {
    "handover": (handover, ("yields", "takes")),
    "order": (order, ("trades",)),
}


def rows(
    scenario: str,
    only: str | None,
    faults: tuple[str, ...],
    groups: list[str],
    numbers: Callable[[], Iterator[int]],
    every: bool,
) -> Iterator[Row]:
    """One row a victim (all when `only` is None), fault and group of calls. Raises StraceError.

    every: whether `numbers` leaves none out.
    """
    if scenario == "deploy":
        yield from deploy_rows(faults, groups, numbers, every)
        return
    for victim in (step for step in SCENARIOS[scenario][1] if only in (None, step)):
        with tempfile.TemporaryDirectory(prefix="never-sleeps-kills-") as folder:
            stage = Stage(Path(folder))
            try:
                last = dict.fromkeys(GROUPS, MOST)
                for fault in faults:
                    for calls in (group for group in groups if fault == KILL or group in DISK):
                        # A call that fails may be survived, so only the kills tell after which one there is no later.
                        chosen = (number for number in numbers() if number <= last[calls])
                        row, last[calls] = _row(stage, scenario, victim, calls, fault, chosen, every)
                        yield row
                yield Row(
                    f"kills-{scenario}",
                    f"{scenario}, {victim}: audit of all of these",
                    stage.killed,
                    "deaths",
                    stage.audit(),
                )
            finally:
                stage.stop()


def _row(
    stage: Stage, scenario: str, victim: str, calls: str, fault: str, numbers: Iterator[int], every: bool
) -> tuple[Row, int]:
    """Faults at these numbers; a kill ends with the first that gets through. (What came of it, the last number)."""
    run, _ = SCENARIOS[scenario]
    wrong: tuple[str, ...] = ()
    tried, through = list[Tried](), False
    try:
        for number in numbers:
            tried.append(run(stage, victim, GROUPS[calls], fault, number))
            through = tried[-1].through and fault == KILL
            if through:
                break
    except AssertionError as error:
        wrong = (f"{fault} before {calls}, number {len(tried) + 1}: nobody traded again: {error}",)
    died = sum(trial.died for trial in tried)
    last = max((trial.number for trial in tried), default=0)
    reach = f"all N, the last is {last - 1}" if through and every else f"N up to {last}"
    row = Row(
        part=f"kills-{scenario}",
        tried=f"{scenario}, {victim}: {fault} before {calls}",
        times=len(tried),
        unit="faults",
        violations=wrong,
        note=f"{died} died; {reach}",
    )
    return row, last


def deploy_rows(
    faults: tuple[str, ...], groups: list[str], numbers: Callable[[], Iterator[int]], every: bool
) -> Iterator[Row]:
    """A deploy with a fault at the deployer's Nth call; it, or the next one, must bring the commit to its end."""
    with tempfile.TemporaryDirectory(prefix="never-sleeps-kills-") as folder:
        rig = DeployerRig(Path(folder))
        try:
            sha = rig.commit()
            rig.start()
            rig.until_step(sha, "confirmed")
            last = dict.fromkeys(GROUPS, MOST)
            for fault in faults:
                for calls in (group for group in groups if fault == KILL or group in DISK):
                    chosen = (number for number in numbers() if number <= last[calls])
                    sha, row, last[calls] = _deploys(rig, sha, calls, fault, chosen, every)
                    yield row
                    if row.violations:
                        return
            missed = rig.missed()
            wrong = (f"{missed} ticks were missed",) if missed else ()
            rig.assert_ledger()
            yield Row("kills-deploy", "deploy: ledger after all of these", 1, "ledger", wrong, f"{missed} ticks missed")
        finally:
            rig.stop()


def _deploys(
    rig: DeployerRig, sha: str, calls: str, fault: str, numbers: Iterator[int], every: bool
) -> tuple[str, Row, int]:
    """Faults at these calls; kills end with the first that gets through. (The newest commit, what came of it, the last N)."""
    tried, died, number, through = 0, 0, 0, False
    wrong: tuple[str, ...] = ()
    try:
        for number in numbers:
            rig.assert_steady(sha, limit_s=LIMIT_S)
            assert rig.process is not None
            with tampered(rig.process.pid, GROUPS[calls], fault, number, threads=False):
                sha = newest = rig.commit()
                ended = _within(lambda newest=newest: _deploy_over(rig, newest), LIMIT_S)  # type: ignore[misc]
            tried += 1
            # After its verdict a deploy retires the former commit: the Nth call may be one of these.
            if ended == "died" or rig.process.poll() is not None:
                ended = "died"
                died += 1
                rig.start()
            if through := ended == "through" and fault == KILL:
                break
            if fault == KILL:
                rig.until_step(sha, "confirmed", LIMIT_S)
            elif rig.until_verdict(sha, LIMIT_S).verdict != "confirmed":
                # What a disk that fails costs is the deploy, never more: asked for again, it is confirmed.
                asked = rig.command("deploy", sha, limit_s=LIMIT_S)
                assert asked.returncode == 0, f"asked for again: {asked.stdout[-500:]}{asked.stderr[-500:]}"
    except AssertionError as error:
        wrong = (f"{fault} before {calls}, number {number}: {error}",)
    reach = f"all N, the last is {number - 1}" if through and every else f"N up to {number}"
    row = Row("kills-deploy", f"deploy: {fault} before {calls}", tried, "faults", wrong, f"{died} died; {reach}")
    return sha, row, number


def _deploy_over(rig: DeployerRig, sha: str) -> str | None:
    assert rig.process is not None
    if rig.process.poll() is not None:
        return "died"
    deploy = rig.deploy_of(sha)
    return "through" if deploy is not None and deploy.verdict is not None else None


def main() -> int:
    """Try all of one scenario; 1 when something did not hold, 2 where it cannot be tried."""
    parser = argparse.ArgumentParser(prog="python -m proof.kills", description=__doc__)
    parser.add_argument("--scenario", choices=[*SCENARIOS, "deploy"], required=True)
    parser.add_argument("--every", type=int, default=1, metavar="K", help="only each Kth call")
    parser.add_argument("--most", type=int, default=MOST, metavar="N", help="no call after the Nth")
    parser.add_argument("--kills-only", action="store_true", help="no full and no failing disk")
    parser.add_argument("--victim", choices=["yields", "takes"], help="only this side of a handover")
    parser.add_argument("--calls", choices=GROUPS, nargs="+", default=[*GROUPS], help="only these calls")
    add_out(parser)
    chosen = parser.parse_args()
    faults = (KILL,) if chosen.kills_only else (KILL, FULL, FAILS)

    def numbers() -> Iterator[int]:
        return iter(range(1, chosen.most + 1, chosen.every))

    try:
        results = rows(chosen.scenario, chosen.victim, faults, chosen.calls, numbers, chosen.every == 1)
        return save(f"kills-{chosen.scenario}", results, chosen.out)
    except StraceError as error:
        print(f"proof: {error}", file=sys.stderr)  # noqa: T201
        return 2


if __name__ == "__main__":
    sys.exit(main())
