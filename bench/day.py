"""A day of trading on paper in minutes: the bot's real parts and ledger under a virtual clock, then the audit.

python -m bench.day [--hours 24] [--seed 1] [--tape FILE[@ASSET]] [--from TIME] [--json]

16 slots, polls every 5 s, prices in between, against paper's whole exchange in this process. Every simulated hour the lease
is passed to a new instance and all memory of the old one is thrown away: by turns it yields as for a handover, and is cut off
at a moment drawn by seed, as by a kill. Afterwards the audit holds the ledger against paper's record, and the wallet's money
is held against the ledger's to the last unit. Exit code 1 when anything does not hold. Both databases run with
synchronous = OFF: what a power failure leaves is not what is asked here.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import gc
import hashlib
import json
import random
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.inside import InsideVenue, Paper, dump, make_world, settle
from bench.virtual import VirtualClock, VirtualLoop, fix_hashes
from bot.lifecycle.active import Active
from bot.market_data.binance_messages import PriceUpdate, Source
from bot.settings import BotSettings
from bot.strategy.guard import DEFAULT_STRATEGY, GuardedStrategy
from bot.strategy.snipe import Snipe
from bot.tools.audit import summary
from bus import Bus, Log, open_bus, write_control
from bus.tasks import Guard
from ledger import Ledger
from ledger.checks import Check, VenueRecord, audit, read_record
from ledger.schema import COUNTED, SCHEMA
from paper.engine.matching import CASH
from paper.errors import UsageError
from paper.settings import load_tapes

TAPE = "../shared/data/tapes/btc-2022-01a-1m.csv@BTC"
HOUR_MS = 3_600_000
WARM_MS = 15_000
SETTLE_MS = 20 * 60_000
LEDGER_BYTES = (
    "SELECT (page_count - freelist_count) * page_size FROM pragma_page_count, pragma_freelist_count, pragma_page_size"
)


class Tally:
    """A log that counts what a person may have to look at, and keeps one of each."""

    def __init__(self) -> None:
        self.counts: collections.Counter[str] = collections.Counter()
        self.samples: dict[str, str] = {}

    def debug(self, _event: str, /, **_fields: Any) -> None:
        """Not kept."""

    info = debug

    def warning(self, event: str, /, **fields: Any) -> None:
        """Counted."""
        self.counts[event] += 1
        self.samples.setdefault(event, str({name: value for name, value in fields.items() if name != "exc_info"})[:300])

    error = warning

    def bind(self, **_fields: Any) -> Log:
        """The same."""
        return self


@dataclass(frozen=True, slots=True)
class Plan:
    """What to simulate, from `since` on.

    step_s, quote_s: between two prices, and between two quotes of a market. epoch_ms: how long an instance lives. settle_ms: how
    long windows that are held may take to resolve after the end.
    """

    hours: float
    seed: int
    tape: str
    since: datetime
    step_s: float = 0.5
    quote_s: float = 2.5
    epoch_ms: int = HOUR_MS
    settle_ms: int = SETTLE_MS


@dataclass(slots=True)
class Day:
    """What came of it. hours: simulated; money: base units of pUSD; at each take: rss, MB in memory; descriptors that are open;
    MB of ledger that are in use, MB of files beside it, and seconds of processor since the start.
    """

    checks: list[Check] = field(default_factory=list)
    facts: dict[str, int] = field(default_factory=dict)
    money: dict[str, int] = field(default_factory=dict)
    handovers: int = 0
    kills: int = 0
    rss: list[float] = field(default_factory=list)
    descriptors: list[int] = field(default_factory=list)
    ledger_mb: list[float] = field(default_factory=list)
    beside_mb: list[float] = field(default_factory=list)
    processor_s: list[float] = field(default_factory=list)
    hours: float = 0.0
    wall_s: float = 0.0
    cpu_s: float = 0.0
    log: dict[str, int] = field(default_factory=dict)
    samples: dict[str, str] = field(default_factory=dict)
    digest: str = ""

    @property
    def holds(self) -> bool:
        """Whether nothing is broken."""
        return not any(check.violations for check in self.checks)

    def measure(self, bus: Bus) -> None:
        """What is used at this moment."""
        self.rss.append(rss_mb())
        self.descriptors.append(sum(1 for _ in Path("/proc/self/fd").iterdir()))
        with Ledger.reader(bus.ledger) as ledger:  # type: ignore[union-attr]  # it is there: an epoch was taken
            self.ledger_mb.append(ledger.integer(LEDGER_BYTES) / 1e6)
        beside = (
            path for path in bus.directory.rglob("*") if path.is_file() and not path.name.startswith(bus.ledger.name)
        )
        self.beside_mb.append(sum(path.stat().st_size for path in beside) / 1e6)
        self.processor_s.append(time.process_time())


class Bot:
    """One instance: everything it knows, to be thrown away with it."""

    def __init__(self, paper: Paper, bus: Bus, clock: VirtualClock, log: Log, seed: str) -> None:
        self._paper, self._clock, self._log = paper, clock, log
        self._random = random.Random(seed)
        # A machine that takes the processor away must not decide what is traded: a decision's time is not measured here.
        self.world, self.routes = make_world(
            paper, bus, clock, log, BotSettings(poll_interval=5.0), InsideVenue(paper, log, self._random.getrandbits(32)),
            GuardedStrategy(Snipe(), DEFAULT_STRATEGY, cpu_ns=lambda: 0, wall_ns=lambda: 0), self._random,
        )  # fmt: skip
        self.failures: list[Exception] = []
        self._guard = Guard(log, on_failure=self.failures.append)
        self._beside = Guard(log, on_failure=self.failures.append)
        self._guard.start(self.world.account.run(), "account")
        self._guard.start(self.world.markets.run(), "markets")
        self.active: Active | None = None

    def price(self, lead: dict[str, float], settlement: dict[str, float]) -> None:
        """Lead and settlement prices, as the streams bring them."""
        now = self._clock.boot_ms()
        for asset, price in lead.items():
            self.world.feed._last_boot_ms[asset] = now
            self.routes.price(PriceUpdate(asset, price, Source.BOOK, None, now))
        settle(self.world.prices, settlement, self._clock)

    async def warm(self) -> None:
        """Wait until every slot's market was asked for and the venue's clock is known."""
        world = self.world
        while world.account.now_ms() is None or not all(  # noqa: ASYNC110  # nobody tells of it, and waiting is free here
            world.markets.asked(slot.window(world.now_ms())) for slot in world.slots
        ):
            await asyncio.sleep(0.25)

    async def trade(self, until_ms: int) -> None:
        """Take the lease and poll until this boot time."""
        world, clock = self.world, self._clock
        ledger = Ledger.hold(world.bus.ledger, world.identity, SCHEMA)
        ledger.execute("PRAGMA synchronous = OFF")
        epoch = ledger.take(
            instance=f"day-{clock.boot_ms()}", sha="a" * 40, color="blue", request="",
            wall_ms=clock.wall_ms(), boot_ms=clock.boot_ms(), boot_id=clock.boot_id,
        )  # fmt: skip
        self.active = active = Active(
            world, ledger, epoch, instance="day", random_bits=self._random.getrandbits,
            on_change=lambda: None, on_failure=self.failures.append,
        )  # fmt: skip
        tick = active.ticks.first()
        active.start(self._beside)
        while (due := active.ticks.anchor.due_ms(tick)) < until_ms:
            await asyncio.sleep((due - clock.boot_ms()) / 1000)
            if self.failures:
                raise self.failures[0]
            await active.poll(tick)
            if tick % 60_000 == 0:
                active.status()  # what a panel is shown is built as well
            tick = active.ticks.after(tick)

    async def hand_over(self) -> None:
        """End as for a handover: what is under way gets its time, then the epoch is released."""
        active, clock = self._active(), self._clock
        await self._beside.close()
        await active.close(1.0)
        await self.world.venue.close_orders_channel()
        active.ledger.release(
            active.epoch, request="", reason="handover", wall_ms=clock.wall_ms(), boot_ms=clock.boot_ms(),
            state=active.state(),
        )  # fmt: skip
        await self._guard.close()
        active.ledger.close()

    async def leave(self) -> None:
        """End without ever having traded."""
        await self._guard.close()

    async def die(self) -> None:
        """End as by a kill: nothing more is written, waited for, or released."""
        active = self._active()
        active.ledger.close()
        orders = list(active.desk._tasks.values())
        for task in orders:
            task.cancel()
        self.world.news.follow(None)
        await asyncio.gather(*orders, self._beside.close(), self._guard.close(), return_exceptions=True)
        active._recorder.close()

    def _active(self) -> Active:
        assert self.active is not None, "it traded"
        return self.active


async def simulate(
    plan: Plan, folder: Path, say: Any = lambda _text: None, ended: Callable[[], bool] = lambda: False
) -> tuple[Day, Bus, VenueRecord]:
    """The day, or what of it there is when `ended` says so. Raises UsageError on a tape that cannot be used."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop), "run it on a virtual loop"
    began, cpu = time.monotonic(), time.process_time()
    clock, tally, source = VirtualClock(loop, round(plan.since.timestamp() * 1000)), Tally(), random.Random(plan.seed)
    paper = Paper(
        folder / "paper", load_tapes((plan.tape,)), plan.seed, round(plan.step_s * 1000), round(plan.quote_s * 1000),
        clock.wall_ms,
    )  # fmt: skip
    bus = open_bus(folder / "bus")
    write_control(bus, 0, lambda found: found.changed(generation=1), by="day", clock=clock)
    bots: list[Bot] = []
    out = Day()

    def make(number: int) -> Bot:
        bots.append(Bot(paper, bus, clock, tally, f"{plan.seed}:{number}"))
        return bots[-1]

    async def drive() -> None:
        while True:
            tokens = list(dict.fromkeys(token for bot in bots for token in bot.world.tokens_soon()))
            await paper.tick([bot.routes for bot in bots], tokens)
            for bot in bots:
                bot.price(paper.exchange.feed.lead, paper.exchange.feed.settlement)
            await asyncio.sleep(plan.step_s - loop.time() % plan.step_s)

    driving = asyncio.create_task(drive(), name="drive")
    start = clock.boot_ms()
    end = start + round(plan.hours * HOUR_MS)
    try:
        bot = make(0)
        await bot.warm()
        number = 0
        while True:
            planned = start + (number + 1) * plan.epoch_ms
            last, killed = planned >= end, number % 2 == 1
            until = min(planned, end)
            if killed and not last:
                until -= round(source.uniform(0, plan.epoch_ms / 2))
            trading = asyncio.create_task(
                bot.trade(end + 2 * plan.settle_ms if killed or last else until), name="trade"
            )
            spare = None
            while clock.boot_ms() < until and not ended():
                left = until - clock.boot_ms()
                if not last and spare is None and left <= WARM_MS:
                    spare = make(number + 1)
                pause = left if spare is not None or last else max(1, left - WARM_MS)
                await asyncio.wait({trading, driving}, timeout=min(pause, 60_000) / 1000)
                _check(driving, trading if not trading.done() or trading.exception() else None)
            if last or clock.boot_ms() < until:
                write_control(bus, 1, lambda found: found.changed(mode="pause"), by="day", clock=clock)
                active = bot._active()
                limit = clock.boot_ms() + plan.settle_ms
                while (active._holdings.positions or active.desk.open) and clock.boot_ms() < limit:
                    await asyncio.wait({trading, driving}, timeout=1.0)
                    _check(driving, trading if not trading.done() or trading.exception() else None)
                await asyncio.sleep(10)
                trading.cancel()
                await asyncio.gather(trading, return_exceptions=True)
                await bot.hand_over()
                bots.remove(bot)
                for other in bots:  # one that was to be next
                    await other.leave()
                out.measure(bus)
                break
            if killed:
                trading.cancel()
                await asyncio.gather(trading, return_exceptions=True)
                await bot.die()
                out.kills += 1
            else:
                await trading
                await bot.hand_over()
                out.handovers += 1
            bots.remove(bot)
            assert spare is not None, "made before"
            await spare.warm()
            bot, number = spare, number + 1
            gc.collect()
            out.measure(bus)
            say(
                f"{(clock.boot_ms() - start) / HOUR_MS:5.1f} h simulated in {time.monotonic() - began:4.0f} s, "
                f"{'killed' if killed else 'handed over'}, {out.rss[-1]:.0f} MB"
            )
    finally:
        driving.cancel()
        await asyncio.gather(driving, return_exceptions=True)
        wallet = bots[0].world.venue.wallet if bots else bot.world.venue.wallet
        await paper.record.durable()
    record = read_record(str(dump(paper, folder / "record.jsonl")), wallet)
    with Ledger.reader(bus.ledger) as ledger:  # type: ignore[union-attr]  # it is there: epochs were taken
        out.checks = [*audit(ledger, record), money(ledger, paper, wallet, out)]
        out.facts, out.digest = summary(ledger), digest(ledger)
    paper.close()
    out.hours = min(plan.hours, (clock.boot_ms() - start) / HOUR_MS)
    out.wall_s, out.cpu_s = time.monotonic() - began, time.process_time() - cpu
    out.log, out.samples = dict(tally.counts), tally.samples
    return out, bus, record


def _check(*tasks: asyncio.Task[None] | None) -> None:
    """Raise what ended a task that should not have ended."""
    for task in tasks:
        if task is not None and task.done():
            task.result()
            raise RuntimeError(f"the task {task.get_name()} ended")


def money(ledger: Ledger, paper: Paper, wallet: str, out: Day) -> Check:
    """The wallet's pUSD at the venue is its start balance and what the ledger's fills and payouts moved, to the last unit."""
    flow = ledger.integer(
        "SELECT coalesce(sum(CASE side WHEN 'BUY' THEN -value ELSE value END - fee), 0) FROM fills f WHERE " + COUNTED
    )
    paid = ledger.integer("SELECT coalesce(sum(payout), 0) FROM results")
    begun = paper.exchange.settings.start_balance_units
    balance = paper.exchange.engine.balance(wallet, CASH)
    held = {key: n for key, n in paper.exchange.engine.balances[wallet].items() if key != CASH and n}
    out.money = {"start": begun, "end": balance, "pnl": ledger.integer("SELECT coalesce(sum(pnl), 0) FROM results")}
    wrong = []
    if balance != begun + flow + paid:
        wrong.append(f"the wallet has {balance} units, the ledger says {begun + flow + paid}")
    if held:
        wrong.append(f"the wallet holds {len(held)} tokens though every window is resolved")
    if out.money["pnl"] != balance - begun:
        wrong.append(f"the outcomes' PnL is {out.money['pnl']}, the wallet gained {balance - begun}")
    return Check("I5", "the wallet's money is the ledger's, to the last unit", 1, tuple(wrong))


def digest(ledger: Ledger) -> str:
    """A name for what was traded: order ids, fills and outcomes, but for the ids that the venue gives its trades."""
    rows = [
        ledger.execute("SELECT order_id, tick FROM intents ORDER BY order_id"),
        ledger.execute(
            "SELECT order_id, price, size, value, fee, at_ms FROM fills ORDER BY order_id, at_ms, price, size"
        ),
        ledger.execute("SELECT window, winner, payout, pnl FROM outcomes ORDER BY window"),
    ]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]


def rss_mb() -> float:
    """What this process holds in memory now, in MB; paper's part included."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def run(
    plan: Plan, folder: Path, say: Any = lambda _text: None, ended: Callable[[], bool] = lambda: False
) -> tuple[Day, Bus, VenueRecord]:
    """Simulate on a loop of its own."""
    loop = VirtualLoop()
    try:
        return loop.run_until_complete(simulate(plan, folder, say, ended))
    finally:
        loop.close()


def as_text(out: Day) -> str:
    """For people."""
    lines = [
        f"{'BROKEN' if check.violations else 'holds':<8}{check.invariant}  {check.promise} ({check.looked_at} looked at)"
        + "".join(f"\n        {text}" for text in check.violations[:3])
        for check in out.checks
    ]
    lines.append(", ".join(f"{name.replace('_', ' ')} {value}" for name, value in out.facts.items()))
    lines.append(f"{out.handovers} yielded, {out.kills} killed; pUSD units {out.money}; digest {out.digest}")
    lines.append("RSS at each take, MB: " + " ".join(f"{size:.0f}" for size in out.rss))
    for name, values in (
        ("descriptors", out.descriptors),
        ("ledger, MB", out.ledger_mb),
        ("beside it, MB", out.beside_mb),
    ):
        lines.append(
            f"{name}: {values[0]:.0f} at the first take, {max(values):.0f} at most, {values[-1]:.0f} at the end"
        )
    lines.append(f"wall {out.wall_s:.0f} s, processor {out.cpu_s:.0f} s")
    lines.append(f"log {out.log}")
    lines += [f"  {name}: {text}" for name, text in out.samples.items()]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Simulate, print, and say by the exit code whether all held; 2 where the arguments cannot be used."""
    parser = argparse.ArgumentParser(prog="python -m bench.day", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--hours", type=float, default=24.0, help="simulated (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="(%(default)s)")
    parser.add_argument("--tape", default=TAPE, metavar="FILE[@ASSET]", help="(%(default)s)")
    parser.add_argument("--from", dest="since", default="2022-01-05T00:00", help="where to begin, UTC (%(default)s)")
    parser.add_argument("--epoch", type=float, default=60.0, help="simulated minutes an instance lives (%(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    chosen = parser.parse_args()
    fix_hashes("bench.day")
    try:
        since = datetime.fromisoformat(chosen.since)
        since = since if since.tzinfo else since.replace(tzinfo=UTC)
        if not 0 < chosen.hours <= 24 * 31 or not 1 <= chosen.epoch <= 24 * 60:
            raise ValueError("expected --hours above 0 and at most 744, --epoch 1 to 1440 minutes")
        load_tapes((chosen.tape,))
    except (ValueError, UsageError) as error:
        parser.error(str(error))
    plan = Plan(chosen.hours, chosen.seed, chosen.tape, since, epoch_ms=round(chosen.epoch * 60_000))
    with tempfile.TemporaryDirectory() as name:
        out, _, _ = run(plan, Path(name), lambda text: print(text, file=sys.stderr, flush=True))  # noqa: T201
    sys.stdout.write(json.dumps(asdict(out) | {"holds": out.holds}) + "\n" if chosen.json else as_text(out))
    return 0 if out.holds else 1


if __name__ == "__main__":
    sys.exit(main())
