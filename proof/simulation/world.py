"""One run: a world by seed, its faults, a quiet part in which all must come right, and the audit."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.day import Day, money
from bench.inside import dump
from ledger import Ledger
from ledger.checks import Check, VenueRecord, audit, read_record
from ledger.schema import OPEN
from proof.simulation.faults import Faults, Relay
from proof.simulation.host import STEP_S, Host
from proof.simulation.loop import SimulatedLoop
from proof.simulation.rollout import Shop

CALM_S = 2.5
SETTLE_S = 40.0
LATE_S = 2.0  # what comes late, such as an order that was placed before the pause was seen
EVERY_ROLLOUT = 6
UNKNOWN = "unknown"
NAMED = 3
LOOK_EVERY_S = 4.0


@dataclass(slots=True)
class Outcome:
    """What came of one run.

    shape: relay or rollout; unknown for a run that did not come to its end. gaps_ms, free_ms: as Watch has them. faults: how
    often each was made. digest: of all that happened.
    """

    seed: int
    shape: str
    violations: list[str] = field(default_factory=list)
    handovers: int = 0
    takeovers: int = 0
    deaths: int = 0
    orders: int = 0
    fills: int = 0
    deploys: dict[str, int] = field(default_factory=dict)
    gaps_ms: list[int] = field(default_factory=list)
    free_ms: list[int] = field(default_factory=list)
    faults: dict[str, int] = field(default_factory=dict)
    simulated_s: float = 0.0
    digest: str = ""


def run(
    seed: int, folder: Path, trace: Callable[[str], None] = lambda _text: None, remove: Callable[[], None] | None = None
) -> Outcome:
    """The run of a seed. Once a process: it puts its own effects in the place of the product's (see `effects`).

    remove: takes a rule out of the code (see `mutants`); then the run ends with the first violation.
    """
    rng = random.Random(f"{seed}:world")
    digest = hashlib.sha256()

    def tell(text: str) -> None:
        digest.update(text.replace(str(folder), "").encode())
        trace(text)

    loop = SimulatedLoop(rng.choice((0.0, 0.003, 0.02)), lambda at_s, who, what: tell(f"{at_s:10.4f} {who:>9}  {what}"))
    asyncio.set_event_loop(loop)

    def say(text: str) -> None:
        tell(f"{loop.time():10.4f}            {text}")

    out = loop.run_until_complete(_simulate(seed, folder, loop, rng, say, remove))
    out.digest = digest.hexdigest()[:16]
    return out


async def _simulate(
    seed: int,
    folder: Path,
    loop: SimulatedLoop,
    rng: random.Random,
    trace: Callable[[str], None],
    remove: Callable[[], None] | None,
) -> Outcome:
    host = Host(folder, seed, loop, trace)
    if remove is not None:
        remove()
    rollout = seed % EVERY_ROLLOUT == 0
    out = Outcome(seed, "rollout" if rollout else "relay")
    began = loop.time()
    exchange = loop.create_task(host.run_exchange(), name="exchange")
    # What is hunted shall be found soon; where nothing is, more handovers come about between the faults.
    often = 0.4 if remove is None else 1.0
    living = loop.create_task(_live(host, seed, rng, out, exchange, often), name="run")
    if remove is not None:
        looking = loop.create_task(_look_often(host, folder), name="ledger")
        violation = loop.create_task(host.watch.found.wait(), name="found")
        await asyncio.wait({living, violation}, return_when=asyncio.FIRST_COMPLETED)
        looking.cancel()
        if violation.done():
            out.violations += host.watch.violations
            return out
    await living
    exchange.cancel()
    await asyncio.gather(exchange, return_exceptions=True)
    await host.paper.record.durable()
    watch = host.watch
    out.handovers, out.takeovers, out.orders, out.deaths = watch.handovers, watch.takeovers, watch.orders, host.deaths
    out.gaps_ms, out.free_ms, out.simulated_s = watch.gaps_ms, watch.free_ms, loop.time() - began
    out.violations += watch.violations + _after(host, folder, out) + loop.failures
    return out


async def _look_often(host: Host, folder: Path) -> None:
    """What can be told before all is over."""
    while True:
        await asyncio.sleep(LOOK_EVERY_S)
        ledger = Ledger.reader(host.bus.ledger)
        if ledger is None:
            continue
        await host.paper.record.durable()
        with ledger:
            record = _record(host, folder, ledger)
            for check in (*audit(ledger, record), _ended_rightly(ledger, record)):
                for text in check.violations[:1]:
                    host.watch.broken(f"{check.invariant}: {text}")


async def _live(
    host: Host, seed: int, rng: random.Random, out: Outcome, exchange: asyncio.Task[None], often: float
) -> None:
    if out.shape == "rollout":
        await _rollout(host, seed, rng, out)
    else:
        await _relay(host, seed, rng, out, often)
    await _settle(host, exchange)


async def _relay(host: Host, seed: int, rng: random.Random, out: Outcome, often: float) -> None:
    """The lease is passed around among bots while faults come; then only what must happen by itself is waited for."""
    relay = Relay(host, seed, count=rng.choice((2, 2, 3)), haste=rng.choice((0.5, 0.9, 0.97)))
    faults = Faults(host, seed, most_pause_s=rng.choice((0.5, 4.0)), often=often)
    looking = host.loop.create_task(host.watch.look_forever(lambda: not host.disk.full), name="look")
    relay.fill_up()
    await asyncio.sleep(2.0)
    relaying = host.loop.create_task(relay.run(), name="relay")
    await faults.run(host.loop.time() + rng.uniform(60.0, 100.0))
    relaying.cancel()
    await asyncio.gather(relaying, return_exceptions=True)
    relay.fill_up()
    await _calm(host)
    looking.cancel()
    await asyncio.gather(looking, return_exceptions=True)
    out.faults = dict(faults.times)


async def _rollout(host: Host, seed: int, rng: random.Random, out: Outcome) -> None:
    """Commits come while faults do; then two more come at once, and the newest must be all that runs."""
    shop = Shop(host, seed)
    more = {"death of the deployer": shop.kill_deployer, "pause of the deployer": shop.pause_deployer}
    faults = Faults(host, seed, most_pause_s=rng.choice((0.5, 6.0)), often=1.0, more=more)
    looking = host.loop.create_task(host.watch.look_forever(lambda: not host.disk.full), name="look")
    shop.push("good")
    shop.start_deployer()
    await asyncio.sleep(3.0)
    until_s = host.loop.time() + rng.uniform(25.0, 50.0)
    working = host.loop.create_task(shop.work(until_s, rng.choice((1.0, 3.0, 5.0))), name="work")
    await faults.run(until_s)
    await working
    _end_faults(host)
    shop.revive_deployer()
    await shop.come_right()
    looking.cancel()
    await asyncio.gather(looking, return_exceptions=True)
    await _calm(host)
    shop.look_at_history()
    shop.end()
    out.faults, out.deploys = dict(faults.times), shop.times


def _end_faults(host: Host) -> None:
    """Nothing goes wrong from now on. Who is paused wakes up by itself."""
    host.loop.busy = 0.0
    host.bus.fsync_failed.unlink(missing_ok=True)
    for bot in host.living:
        bot.frozen_until = 0.0
        bot.process.spare()


async def _calm(host: Host) -> None:
    """Nothing goes wrong any more: soon somebody trades, and goes on at every tick."""
    _end_faults(host)
    awake_s = max([bot.process.slept_until for bot in host.living], default=0.0)
    await asyncio.sleep(max(0.0, awake_s - host.loop.time()) + CALM_S)
    begun = _completed(host)
    await asyncio.sleep(CALM_S)
    polls = _completed(host) - begun
    wanted = round(CALM_S / host.living[0].world.settings.poll_interval) if host.living else 1
    if polls < wanted - 1:
        host.watch.broken(f"I2: {polls} of {wanted} polls were completed though nothing went wrong any more")


def _completed(host: Host) -> int:
    """Healthy completed polls."""
    ledger = Ledger.reader(host.bus.ledger)
    if ledger is None:
        return 0
    with ledger:
        return ledger.integer("SELECT count(*) FROM polls_completed WHERE healthy = 1")


async def _settle(host: Host, exchange: asyncio.Task[None]) -> None:
    """No more entries; wait until everything that is held is resolved and nothing is in doubt."""
    host.set_control(lambda found: found.changed(mode="pause"))
    if any(bot.trades for bot in host.living):
        for bot in host.living:
            if not bot.trades:
                host.kill(bot, "only the one that trades is needed now")
    limit_s, quiet_since_s = host.loop.time() + SETTLE_S, host.loop.time()
    while host.loop.time() < limit_s:
        if exchange.done():
            exchange.result()
        active = next((bot.runner._seen.active for bot in host.living if bot.trades), None)
        if active is None or active._holdings.positions or active.desk.open:
            quiet_since_s = host.loop.time()
        elif host.loop.time() - quiet_since_s > LATE_S:
            return
        await asyncio.sleep(STEP_S)
    host.watch.broken("I5: positions or doubts are left long after their windows closed")


def _after(host: Host, folder: Path, out: Outcome) -> list[str]:
    """What is found when all is over."""
    ledger = Ledger.reader(host.bus.ledger)
    if ledger is None:
        return ["nobody ever took the lease"]
    with ledger:
        record = _record(host, folder, ledger)
        checks = [*audit(ledger, record), money(ledger, host.paper, _wallet(host), Day())]
        checks += [_spent_once(ledger), _nothing_open(ledger), _ended_rightly(ledger, record)]
        out.fills = ledger.integer("SELECT count(*) FROM fills")
    return [f"{check.invariant}: {text}" for check in checks for text in check.violations[:NAMED]]


def _ended_rightly(ledger: Ledger, record: VenueRecord) -> Check:
    traded = {str(row["order_id"]) for row in record.trades}
    rows = ledger.execute("SELECT order_id, state FROM orders WHERE state IN ('abandoned', 'refused')")
    wrong = tuple(f"order {order_id} is {state}, and was filled" for order_id, state in rows if order_id in traded)
    return Check("I5", "what was refused or never sent has no fills", len(rows), wrong)


def _nothing_open(ledger: Ledger) -> Check:
    rows = ledger.execute(f"SELECT order_id FROM intents i WHERE {OPEN}")
    wrong = tuple(f"order {order_id} is open or in doubt though its window closed long ago" for (order_id,) in rows)
    return Check("I5", "no doubt outlives its window", 1, wrong)


def _wallet(host: Host) -> str:
    return host.bots[0].world.venue.wallet


def _record(host: Host, folder: Path, ledger: Ledger) -> VenueRecord:
    """The venue's record. Its clock is not ours, which is set to and fro: its times as ours would have shown them."""
    record = read_record(str(dump(host.paper, folder / "record.jsonl")), _wallet(host))
    for order_id, wall_ms, boot_ms in ledger.execute("SELECT order_id, wall_ms, boot_ms FROM intents"):
        if (row := record.orders.get(str(order_id))) is not None:
            row["received_ms"] += int(str(wall_ms)) - int(str(boot_ms)) - host.to_venue_ms
    return record


def _spent_once(ledger: Ledger) -> Check:
    rows = ledger.execute("SELECT request, count(*) FROM releases WHERE request <> '' GROUP BY 1 HAVING count(*) > 1")
    wrong = tuple(f"request {request} was obeyed {count} times" for request, count in rows)
    return Check("I1", "a request is spent by one yield", 1, wrong)


def as_json(out: Outcome) -> str:
    """For the process that asked."""
    return json.dumps({name: getattr(out, name) for name in Outcome.__slots__})


def from_json(text: str) -> Outcome:
    """Back again."""
    values: dict[str, Any] = json.loads(text)
    return Outcome(**values)
