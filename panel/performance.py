"""How well it traded: PnL by day, slot, asset, hour, reason and commit, equity and drawdown, slippage, calibration.

Sums are made by SQL over the newest windows of the time that is asked about, at most WINDOWS of them. Money is in base units
in the ledger, here decimal pUSD.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from decimal import Decimal

from pydantic import BaseModel

from ledger import Ledger, Value
from ledger.calibration import bins, scored, table, wilson, winners
from ledger.predictions import HORIZONS_S, read_predictions, read_winners
from ledger.schema import COUNTED

BASE_UNITS = 1_000_000
# What is judged at once: of so many windows; a second or two of a processor.
PREDICTIONS = 1_000 * len(HORIZONS_S)
WINDOWS = 50_000
ORDERS = 2_000
POINTS = 400


class Rows(BaseModel):
    """The newest rows, newest first."""

    problem: str | None = None


class HorizonScore(BaseModel):
    """How good probabilities of one kind were, by Brier score (a coin has 0.25), and who knew better, in words.

    name: so long before the end. worse_by: the model's score less the market's, with its interval of 95 %.
    """

    name: str
    windows: int
    model: float
    market: float
    belief: float
    worse_by: float
    low: float
    high: float
    verdict: str


class ReliabilityBin(BaseModel):
    """Probabilities between two bounds: how many, what they said on average, what happened, with its interval of 95 %."""

    who: str
    low: float
    high: float
    n: int
    said: float
    happened: float
    least: float
    most: float


class Calibration(Rows):
    """What was predicted against what happened, of the newest windows."""

    scores: tuple[HorizonScore, ...] = ()
    bins: tuple[ReliabilityBin, ...] = ()


class Spread(BaseModel):
    """Of the newest measurements, in ms: how many, the middle one, the 99th of a hundred, the largest."""

    count: int = 0
    p50: int | None = None
    p99: int | None = None
    most: int | None = None


class Group(BaseModel):
    """The windows that have one thing in common: `by` says what, `name` which."""

    by: str
    """slot, asset, hour (UTC, of the first entry's decision), reason (of the first entry and of the last exit), commit (that
    entered), or day (UTC, of the outcome)."""
    name: str
    pnl: Decimal
    """With corrections; fees are taken off."""
    fees: Decimal
    windows: int
    wins: int
    losses: int
    low: float
    high: float
    """The 95 % interval (Wilson) of the share of wins among windows with a gain or a loss."""


class Equity(BaseModel):
    """The PnL since the ledger began, after a window resolved."""

    time_ms: int
    total: Decimal


class Drawdown(BaseModel):
    """The deepest fall of the equity below a height that it had reached since the beginning of the time asked about."""

    amount: Decimal = Decimal(0)
    at_ms: int | None = None


class Slippage(BaseModel):
    """What a share was filled at, worse (positive) than the book said when it was decided: pUSD a share, fees left out."""

    orders: int = 0
    mean: Decimal = Decimal(0)
    """By share."""
    p50: Decimal | None = None
    p99: Decimal | None = None
    cost: Decimal = Decimal(0)
    """pUSD in all."""


class Performance(Rows):
    """How well it traded since `since_ms` (UTC ms; None: ever)."""

    since_ms: int | None = None
    total: Decimal = Decimal(0)
    """PnL of the whole ledger, whatever was asked about."""
    whole: bool = True
    """False: more windows resolved than are looked at, and what follows is of the newest alone."""
    all: Group | None = None
    """All windows of the time; None where none resolved."""
    groups: tuple[Group, ...] = ()
    equity: tuple[Equity, ...] = ()
    drawdown: Drawdown = Drawdown()
    slippage: Slippage = Slippage()
    """Of the newest orders of the strategy that were filled."""
    answer: Spread = Spread()
    """From an intent, whose bytes leave with it, to the venue's answer, in ms."""


def spread(values: Sequence[int]) -> Spread:
    """The middle, the 99th of a hundred and the largest of some values."""
    if not values:
        return Spread()
    rising = sorted(values)

    def at(part: float) -> int:
        return rising[min(len(rising) - 1, int(part * len(rising)))]

    return Spread(count=len(rising), p50=at(0.5), p99=at(0.99), most=rising[-1])


def calibration(ledger: Ledger, slot: str | None) -> Calibration:
    """What was predicted of the newest windows, of one slot or all, against what happened."""
    predictions = read_predictions(ledger, slot, PREDICTIONS)
    judged = scored(predictions, winners(predictions, read_winners(ledger)))
    rows = table(sorted(judged, key=lambda one: -one.prediction.horizon_s), lambda one: f"{one.horizon_s} s left")
    pairs = {
        "model": [(one.model, one.ended) for one in judged],
        "market": [(one.market, one.ended) for one in judged],
    }
    return Calibration(
        scores=tuple(
            HorizonScore(
                name=one.name, windows=one.model.n, model=one.model.brier, market=one.market.brier, belief=one.belief.brier,
                worse_by=one.worse_by, low=one.low, high=one.high, verdict=one.verdict,
            )
            for one in rows
        ),
        bins=tuple(ReliabilityBin(who=who, **asdict(one)) for who, of in pairs.items() for one in bins(of)),
    )  # fmt: skip


_RANGE = "range AS MATERIALIZED (SELECT * FROM results WHERE wall_ms >= ? ORDER BY id DESC LIMIT ?)"
_FILLED = f"EXISTS (SELECT 1 FROM fills f WHERE f.order_id = i.order_id AND {COUNTED})"
_SUMS = "sum(pnl), sum(fees), count(*), sum(pnl > 0), sum(pnl < 0) FROM traded GROUP BY 2"
_GROUPS = {
    "all": "''",
    "slot": "slot",
    "asset": "substr(slot, 1, instr(slot, '-') - 1)",
    "hour": "printf('%02d', coalesce(decided_ms, wall_ms) / 3600000 % 24)",
    "reason": "coalesce(nullif(entry, ''), '?') || ' → ' || iif(sold IS NULL, 'held', coalesce(nullif(exit, ''), 'sold'))",
    "commit": "coalesce(nullif(sha, ''), '?')",
    "day": "strftime('%Y-%m-%d', wall_ms / 1000, 'unixepoch')",
}


def performance(ledger: Ledger, since_ms: int | None, *, windows: int = WINDOWS) -> Performance:
    """How well it traded since a moment in UTC ms, or ever. windows: at most so many, the newest."""
    bound = (since_ms or 0, windows)
    groups = _groups(ledger, bound)
    every = next((group for group in groups if group.by == "all"), None)
    equity, drawdown = _equity(ledger, bound)
    asked = ledger.integer("SELECT count(*) FROM outcomes WHERE wall_ms >= ?", bound[:1])
    return Performance(
        since_ms=since_ms,
        total=units(ledger.scalar("SELECT pnl FROM totals")),
        whole=asked <= windows,
        all=every,
        groups=tuple(group for group in groups if group is not every),
        equity=equity,
        drawdown=drawdown,
        slippage=_slippage(ledger, since_ms or 0),
        answer=answers(ledger, since_ms or 0, ORDERS),
    )


def _groups(ledger: Ledger, bound: tuple[int, int]) -> list[Group]:
    code = "{}.code" if ledger.has_column("intents", "code") else "''"  # a ledger of a release before has none
    traded = (
        "traded AS MATERIALIZED (SELECT r.slot, r.wall_ms, r.pnl, r.fees, e.wall_ms AS decided_ms, p.sha, "
        f"{code.format('e')} AS entry, {code.format('x')} AS exit, x.order_id AS sold FROM range r "
        f"LEFT JOIN intents e ON e.order_id = {_order('BUY', 'ASC')} LEFT JOIN epochs p ON p.epoch = e.epoch "
        f"LEFT JOIN intents x ON x.order_id = {_order('SELL', 'DESC')})"
    )
    sums = " UNION ALL ".join(f"SELECT '{by}', {name}, {_SUMS}" for by, name in _GROUPS.items())
    rows = ledger.execute(f"WITH {_RANGE}, {traded} {sums}", bound)
    return [
        Group(by=str(by), name=str(name), pnl=units(pnl), fees=units(fees), windows=as_int(count), wins=as_int(wins),
              losses=as_int(losses), low=low, high=high)
        for by, name, pnl, fees, count, wins, losses in rows
        for low, high in (wilson(as_int(wins), as_int(wins) + as_int(losses)),)
    ]  # fmt: skip


def _order(side: str, order: str) -> str:
    """SQL: a window's first or last order of one side that was filled."""
    return (
        f"(SELECT i.order_id FROM intents i WHERE i.window = r.window AND i.side = '{side}' AND {_FILLED} "
        f"ORDER BY i.seq {order} LIMIT 1)"
    )


def _equity(ledger: Ledger, bound: tuple[int, int]) -> tuple[tuple[Equity, ...], Drawdown]:
    """At most POINTS points, oldest first, that end at the whole ledger's PnL."""
    numbered = (
        "SELECT id, wall_ms, sum(pnl) OVER (ORDER BY id) AS total, row_number() OVER (ORDER BY id) AS n FROM range"
    )
    sums = f"WITH {_RANGE}, sums AS ({numbered})"
    every, brought = ledger.execute(f"WITH {_RANGE} SELECT count(*), coalesce(sum(pnl), 0) FROM range", bound)[0]
    before = ledger.integer("SELECT coalesce(sum(pnl), 0) FROM totals") - as_int(brought)
    step = max(1, -(-as_int(every) // POINTS))
    rows = ledger.execute(
        f"{sums} SELECT wall_ms, total FROM sums WHERE (? - n) % ? = 0 ORDER BY n", (*bound, every, step)
    )
    deepest = ledger.execute(
        f"{sums} SELECT max(0, max(total) OVER (ORDER BY id)) - total AS fall, wall_ms FROM sums ORDER BY fall DESC LIMIT 1",
        bound,
    )
    fall = (
        Drawdown(amount=units(deepest[0][0]), at_ms=as_int(deepest[0][1])) if deepest and deepest[0][0] else Drawdown()
    )
    return tuple(Equity(time_ms=as_int(at), total=units(before + as_int(total))) for at, total in rows), fall


def _slippage(ledger: Ledger, since_ms: int) -> Slippage:
    rows = ledger.execute(
        "SELECT i.side, sum(f.value), sum(f.size), b.price FROM "
        "(SELECT * FROM intents WHERE wall_ms >= ? ORDER BY rowid DESC LIMIT ?) i "
        "JOIN beliefs b ON b.window = i.window AND b.side = i.side AND b.tick = i.tick AND b.price IS NOT NULL "
        f"JOIN fills f ON f.order_id = i.order_id WHERE {COUNTED} GROUP BY i.order_id",
        (since_ms, ORDERS),
    )
    worse, cost, shares = [], 0, 0
    for side, value, size, price in rows:
        decided = int(Decimal(str(price)) * BASE_UNITS)  # base units a share
        more = as_int(value) - decided * as_int(size) // BASE_UNITS
        cost += more if side == "BUY" else -more
        shares += as_int(size)
        worse.append((1 if side == "BUY" else -1) * (as_int(value) * BASE_UNITS // as_int(size) - decided))
    if not shares:
        return Slippage()
    found = spread(worse)
    return Slippage(
        orders=len(worse),
        mean=units(cost * BASE_UNITS // shares),
        p50=units(found.p50),
        p99=units(found.p99),
        cost=units(cost),
    )


def answers(ledger: Ledger, since_ms: int, most: int) -> Spread:
    """How long the newest orders waited for the venue's answer, in ms."""
    rows = ledger.execute(
        "SELECT (SELECT min(o.boot_ms) FROM orders o WHERE o.order_id = i.order_id AND o.state <> 'abandoned') - i.boot_ms "
        "AS ms FROM intents i WHERE i.wall_ms >= ? ORDER BY i.rowid DESC LIMIT ?",
        (since_ms, most),
    )
    return spread([as_int(ms) for (ms,) in rows if isinstance(ms, int) and ms >= 0])


def units(value: Value) -> Decimal:
    """Base units as decimal pUSD or shares."""
    return (Decimal(as_int(value)) / BASE_UNITS).quantize(Decimal("0.0001"))


def as_int(value: Value) -> int:
    """A number of the ledger; 0 where there is none."""
    return value if isinstance(value, int) else 0
