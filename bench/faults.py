"""A real bot against every fault of the paper exchange: each kind alone, each request of an order's life, seeded mixtures.

`python -m bench.faults [--count 200] [--seed 1]` runs one exchange and one bot (0.2 s polls, windows of 10 s) through all of
it, and then holds the ledger against the exchange's own record. The exchange behaves as live, and what is rare there comes up
often. Measured is how long after the end of all faults of a mixture a poll was healthy with entries open. Exit code 1 when an
invariant is broken, an order doubled, a limit passed, an exit sent later than two polls after its reason, or trading did not
go on within one poll of the default interval. `--first N --minutes M` runs a slice: mixtures from the Nth on, for so long.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.eager import Eager
from bench.exits import late_exits, wanted_exits
from bot.tools.decision_diff import read_decision
from bus import Role, read_inputs, read_status, write_control
from paper.engine.faults import KINDS
from tests import patience
from tests.e2e.rig import Paper, Rig, until
from tests.plain import OFTEN

INTERVAL_S = 0.2
ONE_POLL_S = 5.0  # of the default interval; pauses of the bot are measured in seconds, not in polls
TIMED_LIMIT_S = 6.0  # the longest fault that ends by itself lasts 3 s, and 3 s of post-only mode follow
WINDOWS_LIMIT_S = 60.0  # six windows: the bot enters every one, and leaves every second one
RECOVER_LIMIT_S = 60.0
ASSETS = "BTC,ETH,SOL"  # a bot asks for so many windows of 10 s within its budget of requests, and for no more
LIMITS = {
    "max_order": 15,
    "max_slot": 20,
    "max_asset": 30,
    "max_total": 40,
    "daily_loss": 1_000_000,
    "orders_per_minute": 600,
    "failed_trades_per_hour": 10_000,  # they fail on purpose; ten would close entries
}
UNITS = 1_000_000
# Requests of an order's life, and of what the bot knows beside it; the empty start means every path.
_PATHS = (
    "/order",
    "/data/order",
    "/data/trades",
    "/data/orders",
    "/balance-allowance",
    "/v1/heartbeats",
    "/books",
    "/time",
    "/events",
    "/",
)
_STREAMS = ("/ws/user", "/ws/market", "/stream", "/")
_ANSWERS = ("lost_before", "lost_after", "slow", "error", "restarting", "rate_limited")
_OF_STREAMS = ("drop_streams", "freeze_streams", "duplicate_events", "reorder_events")
_OF_TRADES = ("failing_trades", "retried_trades")
_OF_WINDOWS = (*_OF_TRADES, "late_resolution")
_OF_ORDERS = ("/order", "/data/order/")
# While one of these is armed the venue takes no orders, or the bot holds back: an exit may have to wait.
_CLOSING = ("restart", "restarting", "post_only", "cancel_only", "disabled", "rate_limited", "unavailable")
_OFFSETS_S = (-4.0, -1.5, 1.5, 4.0)


# --- which faults strike: each kind alone, then mixtures drawn from a seed; pure


@dataclass(frozen=True, slots=True)
class Mixture:
    """Faults that are armed together, as `POST /paper/faults` takes them.

    name: of the kinds, and of the seed's number. surely: what they strike comes within some windows, whatever it is.
    """

    name: str
    orders: tuple[dict[str, Any], ...]
    surely: bool = False


def alone() -> list[Mixture]:
    """Every kind by itself, where it hurts most."""
    draw = random.Random(0)
    return [Mixture(kind, (_order(kind, draw, path="/order" if kind in _ANSWERS else None),)) for kind in KINDS]


def life() -> list[Mixture]:
    """Replies lost before and after, delayed beyond the time limit, and broken, at each kind of request of an order's life.

    One order is looked up only while it is in doubt, so an order that never arrived comes before that.
    """
    doubt: dict[str, Any] = {"kind": "lost_before", "path": "/order", "method": "POST", "count": 1}
    requests: tuple[tuple[str, str, int, tuple[dict[str, Any], ...]], ...] = (
        ("/order", "POST", 2, ()),
        ("/data/order/", "GET", 1, (doubt,)),
        ("/data/trades", "GET", 1, ()),
        ("/data/orders", "GET", 1, ()),
        ("/balance-allowance", "GET", 1, ()),
        ("/clob-markets", "GET", 1, ()),
    )
    drawn = []
    for path, method, count, before in requests:
        where = {"path": path, "method": method, "count": count}
        kinds: tuple[dict[str, Any], ...] = (
            {"kind": "lost_before"},
            {"kind": "lost_after"},
            {"kind": "slow", "seconds": 1.5},
            {"kind": "error"},
        )
        drawn.append(Mixture(f"replies of {method} {path}", (*before, *(kind | where for kind in kinds)), True))
    return drawn


def mixtures(seed: int, count: int, first: int = 0) -> list[Mixture]:
    """`count` mixtures of two to four kinds, from number `first` on. Equal seeds give equal mixtures."""
    drawn = []
    for number in range(first, first + count):
        draw = random.Random(f"{seed}:{number}")
        kinds = draw.sample(KINDS, draw.randint(2, 4))
        drawn.append(Mixture(f"#{number} {'+'.join(kinds)}", tuple(_order(kind, draw) for kind in kinds)))
    return drawn


def _order(kind: str, draw: random.Random, path: str | None = None) -> dict[str, Any]:
    seconds = round(draw.uniform(0.5, 3.0), 2)
    if kind == "slow":
        return {"kind": kind, "path": path or draw.choice(_PATHS), "seconds": seconds, "count": draw.randint(1, 5)}
    if kind in _ANSWERS:
        how = {"seconds": seconds} if draw.random() < 0.5 else {"count": draw.randint(1, 6)}
        return {"kind": kind, "path": path or draw.choice(_PATHS), **how}
    if kind == "drop_streams":
        return {"kind": kind, "path": draw.choice(_STREAMS)}
    if kind in _OF_STREAMS:
        return {"kind": kind, "path": draw.choice(_STREAMS), "seconds": seconds}
    if kind in _OF_TRADES:
        return {"kind": kind, "count": draw.randint(1, 3)}
    if kind == "restart":
        return {"kind": kind, "seconds": seconds, "post_only_seconds": round(draw.uniform(0.5, 3.0), 2)}
    if kind == "late_resolution":
        return {"kind": kind, "seconds": seconds, "count": 1}
    if kind == "wrong_clock":
        return {"kind": kind, "seconds": seconds, "offset": draw.choice(_OFFSETS_S)}
    return {"kind": kind, "seconds": seconds}


# --- one exchange and one bot under them


@dataclass(frozen=True, slots=True)
class Result:
    """What one mixture came to.

    unstruck: kinds that waited for a request, trade or window that did not come, with its path. recovered_s: from the end of
    its faults to a healthy poll with entries open.
    """

    name: str
    kinds: tuple[str, ...]
    unstruck: tuple[str, ...]
    recovered_s: float


class FaultRun:
    """One exchange and one bot that trades, and what strikes them."""

    def __init__(self, folder: Path, resend: str = "exits") -> None:
        self.rig = Rig(folder, interval=INTERVAL_S, timeframes="10s", paper=Paper(folder, plain=False, more=OFTEN))
        self.most_exposed = 0.0
        self._wanted: list[tuple[int, frozenset[str]]] = []
        self._closed_ms: list[tuple[int, int]] = []
        try:
            write_control(
                self.rig.bus, 1, lambda now: now.changed(risk=LIMITS, strategy={}), by="bench", clock=self.rig.clock
            )
            self.bot = self.rig.start_bot(
                BOT_REQUEST_LIMIT="1", BOT_STRATEGY="bench.eager:Eager", BOT_RESEND=resend, BOT_ASSETS=ASSETS
            )
            self.rig.until_role(self.bot, Role.ACTIVE)
            until("a first fill", lambda: self.rig.count("SELECT count(*) FROM fills"))
        except BaseException:
            self.rig.stop()
            raise

    def strike(self, mixture: Mixture) -> Result:
        """Arm a mixture, wait until it has struck, then for trading. Raises AssertionError when that does not go on."""
        begun_ms = self.rig.clock.wall_ms()
        for order in mixture.orders:
            self.rig.paper.fault(**order)
        unstruck = self._until_struck(mixture.surely)
        self.rig.paper.clear_faults()
        ended = time.monotonic()
        after_ms = self.rig.clock.wall_ms()
        until(f"{mixture.name}: trading again", lambda: self._trades(after_ms), RECOVER_LIMIT_S, 0.02)
        kinds = tuple(order["kind"] for order in mixture.orders)
        if set(kinds) & set(_CLOSING):
            self._closed_ms.append((begun_ms, self.rig.clock.wall_ms()))
        self._read_decisions(self.rig.clock.wall_ms() - begun_ms)
        return Result(mixture.name, kinds, unstruck, time.monotonic() - ended)

    def _until_struck(self, surely: bool) -> tuple[str, ...]:
        """Wait until every fault has struck or ended; returns what did not.

        An order, a trade and a window's end surely come, within some windows. Other requests come in seconds, or never: the
        bot has no reason for them.
        """
        begun = patience.now()
        while armed := _get(self.rig, "/paper/state")["faults"]:
            self._look()
            comes = surely or any(f["path"].startswith(_OF_ORDERS) or f["kind"] in _OF_WINDOWS for f in armed)
            if patience.now() - begun > (WINDOWS_LIMIT_S if comes else TIMED_LIMIT_S):
                break
            time.sleep(0.02)
        return tuple(f"{fault['kind']} {fault['path']}" for fault in armed)

    def _read_decisions(self, last_ms: int) -> None:
        """Keep which exits the strategy wanted of late: the ring on the bus forgets."""
        newest = self._wanted[-1][0] if self._wanted else 0
        polls = []
        for record in read_inputs(self.rig.bus.inputs, last_ms + 5_000):
            body = json.loads(record.body)
            if record.tick > newest and not body["between_polls"]:
                polls.append((record.tick, [read_decision(row)[0] for row in body["decisions"]]))
        self._wanted += wanted_exits(polls, Eager(), Eager.parameters())

    def _late_exits(self) -> list[str]:
        sells: dict[str, list[int]] = defaultdict(list)
        with self.rig.ledger() as ledger:
            for window, tick in ledger.execute("SELECT window, tick FROM intents WHERE side = 'SELL'"):
                sells[str(window)].append(int(str(tick)))
        return late_exits(self._wanted, sells, lambda tick: any(a <= tick <= b for a, b in self._closed_ms))

    def problems(self) -> list[str]:
        """What is wrong, now that all is quiet: orders doubled, limits passed, exits late, invariants broken."""
        until("doubt ends", lambda: read_status(self.rig.bus).body.totals.in_doubt == 0, 120)
        record = record_of(self.rig)
        found = doubled(self.rig, record["requests"])
        limits = (LIMITS["max_total"], LIMITS["max_asset"], LIMITS["max_slot"])
        for what, exposed, limit in zip(
            ("everything", "an asset", "a slot"), peak_exposure(record["trades"]), limits, strict=True
        ):
            if exposed > limit * UNITS:
                found.append(f"{exposed / UNITS:.2f} pUSD of {what} were at stake, the limit is {limit}")
        if self.most_exposed > LIMITS["max_total"]:
            found.append(f"status showed {self.most_exposed:.2f} pUSD at stake, the limit is {LIMITS['max_total']}")
        found += self._late_exits()
        audit = self.rig.audit()
        if audit.returncode != 0:
            found.append(audit.stdout + audit.stderr)
        if self.bot.process.poll() is not None:
            found.append(f"the bot ended with {self.bot.process.returncode}")
        self.facts = {
            "orders at the exchange": len(record["orders"]),
            "intents": self.rig.count("SELECT count(*) FROM intents"),
            "windows with an exit wanted": len({window for _, windows in self._wanted for window in windows}),
            "entries": self.rig.count("SELECT count(*) FROM intents WHERE side = 'BUY'"),
            "orders that were in doubt": self.rig.count(
                "SELECT count(DISTINCT order_id) FROM orders WHERE state = 'in_doubt'"
            ),
            "fills": self.rig.count("SELECT count(*) FROM fills WHERE status = 'MATCHED'"),
            "fills that failed": self.rig.count("SELECT count(*) FROM fills WHERE status = 'FAILED'"),
            "outcomes corrected": self.rig.count("SELECT count(*) FROM corrections"),
            "polls": self.rig.count("SELECT count(*) FROM polls_completed"),
            "ticks missed": self.rig.count("SELECT coalesce(sum(ticks), 0) FROM polls_missed"),
            "epochs": self.rig.count("SELECT count(*) FROM epochs"),
        }
        return found

    def stop(self) -> None:
        """End both."""
        self.rig.stop()

    def _look(self) -> None:
        usage = read_status(self.rig.bus).body.usage
        self.most_exposed = max(self.most_exposed, 0.0 if usage is None else float(usage.total))

    def _trades(self, after_ms: int) -> bool:
        """Whether a poll after that was healthy, and entries are open."""
        self._look()
        assert self.bot.process.poll() is None, self.bot.log.read_text()[-3000:]
        status, state = read_status(self.rig.bus).body, self.rig.seen(self.bot)
        healthy = state is not None and state.document is not None and state.document.healthy
        return healthy and status.is_open and (status.tick or 0) >= after_ms


def doubled(rig: Rig, requests: Iterable[Mapping[str, Any]]) -> list[str]:
    """Entries that arrived more than once, orders that arrived with other bytes or without an intent, in sentences."""
    arrived: Counter[str] = Counter()
    bodies: dict[str, set[str]] = defaultdict(set)
    for row in requests:
        if (row["method"], row["path"]) == ("POST", "/order") and row["order_id"]:
            arrived[row["order_id"]] += 1
            bodies[row["order_id"]].add(str(row["body"]))
    with rig.ledger() as ledger:
        sides = {str(key): str(side) for key, side in ledger.execute("SELECT order_id, side FROM intents")}
    problems = [f"order {key} has no intent" for key in arrived if key not in sides]
    problems += [f"entry {key} arrived {n} times" for key, n in arrived.items() if n > 1 and sides.get(key) == "BUY"]
    return problems + [
        f"order {key} arrived with other bytes" for key, bodies_of_order in bodies.items() if len(bodies_of_order) > 1
    ]


def record_of(rig: Rig) -> dict[str, list[Any]]:
    """The exchange's whole record: orders, trades, requests."""
    record: dict[str, list[Any]] = {"orders": [], "trades": [], "requests": []}
    after: int | None = 0
    while after is not None:
        page = _get(rig, f"/paper/record?after={after}&limit=1000")
        for kind, rows in record.items():
            rows += page[kind]
        after = page["next"]
    return record


def _get(rig: Rig, path: str) -> Any:
    with urllib.request.urlopen(rig.paper.url + path, timeout=10) as answer:
        return json.load(answer)


def peak_exposure(trades: Iterable[Mapping[str, Any]]) -> tuple[int, int, int]:
    """The most that was ever at stake by the exchange's record, in base units: in all, of one asset, of one slot.

    Held at cost with fees, from each trade to the end of its window; a trade that failed is left out.
    """
    peaks = {"total": 0, "asset": 0, "slot": 0}
    held: dict[tuple[str, str], tuple[int, int]] = {}  # shares and cost by window and token
    for row in sorted(trades, key=lambda row: (row["time_ms"], row["seq"])):
        if row["status"] == "FAILED":
            continue
        for key in [key for key in held if _end_ms(key[0]) <= row["time_ms"]]:
            del held[key]
        sign = 1 if row["side"] == "BUY" else -1
        shares, cost = held.get((row["slug"], row["token_id"]), (0, 0))
        shares, cost = shares + sign * row["size"], cost + sign * (row["price"] * row["size"] // UNITS) + row["fee"]
        held[row["slug"], row["token_id"]] = shares, cost
        by_asset: Counter[str] = Counter()
        by_slot: Counter[str] = Counter()
        for (slug, _), (shares, cost) in held.items():
            at_stake = max(0, cost) if shares > 0 else 0
            by_asset[slug.partition("-")[0]] += at_stake
            by_slot[slug] += at_stake
        peaks["total"] = max(peaks["total"], sum(by_asset.values()))
        peaks["asset"] = max(peaks["asset"], *by_asset.values())
        peaks["slot"] = max(peaks["slot"], *by_slot.values())
    return peaks["total"], peaks["asset"], peaks["slot"]


def _end_ms(slug: str) -> int:
    """The end of a window of whole seconds, such as btc-updown-10s-1792638000."""
    _, _, timeframe, start = slug.split("-")
    return (int(start) + int(timeframe.removesuffix("s"))) * 1000


def _strikes(count: int, seed: int, *, only: str | None, first: int) -> Iterator[Mixture]:
    if first == 0:
        yield from (mixture for mixture in alone() if only in (None, mixture.name))
        yield from life() if only is None else ()
    yield from mixtures(seed, count, first)


def _table(results: list[Result]) -> Table:
    table = Table("fault", "mixtures", "recovered, median s", "worst s", title="from the end of the faults to trading")
    by_kind: dict[str, list[float]] = defaultdict(list)
    for result in results:
        for kind in result.kinds:
            by_kind[kind].append(result.recovered_s)
    unstruck = sum(len(result.unstruck) for result in results)
    table.caption = f"{unstruck} faults waited for what did not come"
    by_kind["all"] = [result.recovered_s for result in results]
    for kind, times in by_kind.items():
        ordered = sorted(times)
        table.add_row(kind, str(len(ordered)), f"{ordered[len(ordered) // 2]:.2f}", f"{ordered[-1]:.2f}")
    return table


def main(arguments: list[str] | None = None) -> int:
    """Run all; 0 when everything held."""
    parser = argparse.ArgumentParser(
        prog="bench.faults", description="A bot against every fault of the paper exchange."
    )
    parser.add_argument("--count", type=int, default=200, metavar="N", help="mixtures after the single faults (200)")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of the mixtures (1)")
    parser.add_argument(
        "--first", type=int, default=0, metavar="N", help="number of the first mixture; above 0 no single faults (0)"
    )
    parser.add_argument("--minutes", type=float, default=1e9, metavar="M", help="no further fault after so long")
    parser.add_argument("--only", metavar="KIND", help="of the single faults, only this one")
    parser.add_argument("--folder", type=Path, help="where logs and ledger stay; a temporary folder else")
    chosen = parser.parse_args(arguments)
    folder = chosen.folder or Path(tempfile.mkdtemp(prefix="bench-faults-"))
    folder.mkdir(parents=True, exist_ok=True)
    console = Console()
    console.print(f"seed {chosen.seed}, {chosen.count} mixtures; logs and ledger in {folder}")
    run = FaultRun(folder)
    results: list[Result] = []
    ends = time.monotonic() + chosen.minutes * 60
    try:
        for mixture in _strikes(chosen.count, chosen.seed, only=chosen.only, first=chosen.first):
            if time.monotonic() > ends:
                break
            result = run.strike(mixture)
            results.append(result)
            if result.recovered_s > ONE_POLL_S:
                console.print(f"{result.name}: {result.recovered_s:.1f} s", markup=False)
        problems = run.problems()
    except AssertionError as error:
        console.print(str(error), markup=False)
        return 1
    finally:
        run.stop()
    slow = [result.name for result in results if result.recovered_s > ONE_POLL_S]
    if slow:
        problems.append(f"trading went on later than {ONE_POLL_S:g} s after the faults' end: {', '.join(slow)}")
    console.print(_table(results))
    console.print(f"{len(results)} ran, the last of them {results[-1].name if results else 'none'}", markup=False)
    console.print(", ".join(f"{name} {value}" for name, value in run.facts.items()))
    for problem in problems:
        console.print(problem, markup=False)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
