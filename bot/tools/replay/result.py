"""What came of a replay: trades, PnL, win rate with its confidence interval; as text and as JSON. Pure."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from html import escape

from bot.venue.types import BASE_UNITS
from ledger.values import Outcome

Z_95 = 1.959963984540054


@dataclass(frozen=True, slots=True)
class Trade:
    """One window that was traded, resolved. Shares and money in base units, times UTC ms."""

    window: str
    slot: str
    outcome: Outcome
    winner: Outcome
    opened_ms: int
    resolved_ms: int
    shares: int
    cost: int
    sold: int
    proceeds: int
    payout: int
    fees: int

    @property
    def pnl(self) -> int:
        """Base units of pUSD."""
        return self.payout + self.proceeds - self.cost - self.fees


@dataclass(frozen=True, slots=True)
class Result:
    """One replay. Times UTC ms of the tape, money in base units."""

    tapes: tuple[str, ...]
    strategy: str
    seed: int
    from_ms: int
    to_ms: int
    start_balance: int
    end_balance: int
    polls: int
    evaluations: int
    orders: int
    refusals: Mapping[str, int]
    trades: Sequence[Trade]

    @property
    def pnl(self) -> int:
        """Of all trades, in base units."""
        return sum(trade.pnl for trade in self.trades)

    @property
    def wins(self) -> int:
        """Trades that gained."""
        return sum(trade.pnl > 0 for trade in self.trades)


def wilson(wins: int, trades: int, z: float = Z_95) -> tuple[float, float]:
    """The Wilson score interval of a win rate (E. B. Wilson, 1927); (0, 1) where there were no trades."""
    if not trades:
        return 0.0, 1.0
    rate, square = wins / trades, z * z
    middle = rate + square / (2 * trades)
    spread = z * math.sqrt(rate * (1 - rate) / trades + square / (4 * trades * trades))
    whole = 1 + square / trades
    return max(0.0, (middle - spread) / whole), min(1.0, (middle + spread) / whole)


def deepest_fall(trades: Sequence[Trade]) -> int:
    """The largest fall of the PnL from a height it had reached, in base units."""
    height = pnl = fall = 0
    for trade in trades:
        pnl += trade.pnl
        height = max(height, pnl)
        fall = max(fall, height - pnl)
    return fall


def as_json(result: Result) -> str:
    """All of it, one document with a newline at its end; money and shares in base units."""
    low, high = wilson(result.wins, len(result.trades))
    body = {
        **{name: value for name, value in asdict(result).items() if name != "trades"},
        "pnl": result.pnl,
        "wins": result.wins,
        "win_rate": result.wins / len(result.trades) if result.trades else None,
        "win_rate_95": [low, high],
        "deepest_fall": deepest_fall(result.trades),
        "trades": [asdict(trade) | {"pnl": trade.pnl} for trade in result.trades],
    }
    return json.dumps(body, indent=1, sort_keys=True) + "\n"


def as_text(result: Result, last: int = 20) -> str:
    """For people: the last trades, then the sums."""
    lines = [
        "invented books: the prices are the tape's, and what was bid and offered is made up",
        f"replay of {', '.join(result.tapes)}, {moment(result.from_ms)} to {moment(result.to_ms)}, seed {result.seed}",
        f"strategy {result.strategy}",
        "",
    ]
    if result.trades:
        lines.append(
            f"{'opened':<20} {'window':<28} {'side':<5} {'shares':>9} {'price':>7} {'sold':>9} {'won':<5} {'pnl':>9}"
        )
        if len(result.trades) > last:
            lines.append(f"... {len(result.trades) - last} trades before these; --json has all")
        lines += [_row(trade) for trade in result.trades[-last:]]
        lines.append("")
    low, high = wilson(result.wins, len(result.trades))
    rate = f"{result.wins / len(result.trades):.1%}" if result.trades else "none"
    fees, cost = sum(trade.fees for trade in result.trades), sum(trade.cost for trade in result.trades)
    lines += [
        f"{'trades':<14}{len(result.trades)} of {result.orders} orders",
        f"{'win rate':<14}{rate}, 95 % interval {low:.1%} to {high:.1%} (Wilson)",
        f"{'PnL':<14}{pusd(result.pnl)} pUSD on {pusd(cost)} staked, after fees of {pusd(fees)}",
        f"{'deepest fall':<14}{pusd(deepest_fall(result.trades))} pUSD",
        f"{'balance':<14}{pusd(result.start_balance)} to {pusd(result.end_balance)} pUSD, as the paper engine has it",
        f"{'looked at':<14}{result.polls} polls, {result.evaluations} evaluations",
    ]
    for reason, count in sorted(result.refusals.items(), key=lambda item: (-item[1], item[0]))[:8]:
        lines.append(f"{'refused':<14}{count} x {reason}")
    return "\n".join(lines) + "\n"


def moment(time_ms: int) -> str:
    """UTC, to the second."""
    return datetime.fromtimestamp(time_ms / 1000, tz=UTC).strftime("%Y-%m-%d %H:%M:%S")


def pusd(units: int) -> str:
    """Base units as pUSD, to the cent."""
    return f"{units / BASE_UNITS:,.2f}"


def _row(trade: Trade) -> str:
    price = trade.cost / trade.shares if trade.shares else 0.0
    return (
        f"{moment(trade.opened_ms):<20} {trade.window:<28} {trade.outcome:<5} {trade.shares / BASE_UNITS:>9.2f} "
        f"{price:>7.3f} {trade.sold / BASE_UNITS:>9.2f} {trade.winner:<5} {pusd(trade.pnl):>9}"
    )


# A replay as a picture: the PnL over time, and each trade's under it. SVG by hand, so that no library is needed. Pure.


Axis = Callable[[float], float]

WIDTH, HEIGHT = 960, 480
LEFT, RIGHT, TOP = 70, 20, 56
CURVE, GAP, BARS = 250, 30, 90
GAIN, LOSS, INK, FAINT, LINE = "#1a7f5a", "#c0392b", "#222222", "#888888", "#e4e4e4"


def draw(result: Result) -> str:
    """The picture as an SVG document."""
    steps = [(result.from_ms, 0.0)]
    for trade in result.trades:
        steps.append((trade.resolved_ms, steps[-1][1] + trade.pnl / BASE_UNITS))
    steps.append((max(result.to_ms, steps[-1][0]), steps[-1][1]))
    low, high = wilson(result.wins, len(result.trades))
    rate = f"{result.wins / len(result.trades):.1%}" if result.trades else "none"
    title = f"PnL {pusd(result.pnl)} pUSD, {len(result.trades)} trades, win rate {rate} (95 %: {low:.1%} to {high:.1%})"
    below = f"{result.strategy} on {', '.join(result.tapes)}, {moment(result.from_ms)} to {moment(result.to_ms)} UTC"
    span = max(1, steps[-1][0] - result.from_ms)

    def x(time_ms: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (time_ms - result.from_ms) / span

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        _text(LEFT, 22, title, size=16),
        _text(LEFT, 42, below, fill=FAINT),
        *_curve(steps, x),
        *_bars(result, x),
        *_times(result.from_ms, steps[-1][0], x),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def round_steps(low: float, high: float, wanted: int = 5) -> list[float]:
    """Round numbers that cover [low, high], about `wanted` of them, 1, 2 or 5 times a power of ten apart."""
    span = max(high - low, 1e-9)
    power = 10.0 ** math.floor(math.log10(span / wanted))
    step = next((factor * power for factor in (1, 2, 5) if span / (factor * power) <= wanted), 10 * power)
    return [n * step for n in range(math.floor(low / step), math.ceil(high / step) + 1)]


def _curve(steps: list[tuple[int, float]], x: Axis) -> list[str]:
    marks = round_steps(min(pnl for _, pnl in steps), max(max(pnl for _, pnl in steps), 1.0))
    y = _scale(marks[0], marks[-1], TOP, CURVE)
    points = [f"{x(steps[0][0]):.1f},{y(steps[0][1]):.1f}"]
    for (_, before), (at_ms, pnl) in itertools.pairwise(steps):
        points += [f"{x(at_ms):.1f},{y(before):.1f}", f"{x(at_ms):.1f},{y(pnl):.1f}"]
    colour = GAIN if steps[-1][1] >= 0 else LOSS
    return [
        *_grid(marks, y),
        f'<polyline points="{" ".join(points)}" fill="none" stroke="{colour}" stroke-width="1.6"/>',
        _text(LEFT - 58, TOP - 8, "pUSD", fill=FAINT),
    ]


def _bars(result: Result, x: Axis) -> list[str]:
    top = TOP + CURVE + GAP
    pnls = [trade.pnl / BASE_UNITS for trade in result.trades] or [0.0]
    marks = round_steps(min(*pnls, 0.0), max(*pnls, 0.0), 3)
    y = _scale(marks[0], marks[-1], top, BARS)
    lines = _grid(marks, y)
    for trade in result.trades:
        pnl = trade.pnl / BASE_UNITS
        upper, height = min(y(0.0), y(pnl)), abs(y(pnl) - y(0.0))
        colour = GAIN if pnl > 0 else LOSS
        lines.append(
            f'<rect x="{x(trade.resolved_ms) - 1:.1f}" y="{upper:.1f}" width="2" height="{max(height, 0.5):.1f}" '
            f'fill="{colour}"/>'
        )
    return lines


def _times(from_ms: int, to_ms: int, x: Axis) -> list[str]:
    bottom = TOP + CURVE + GAP + BARS + 20
    lines = []
    for n in range(7):
        at_ms = from_ms + (to_ms - from_ms) * n // 6
        anchor = "start" if n == 0 else "end" if n == 6 else "middle"
        lines.append(_text(x(at_ms), bottom, moment(at_ms)[5:16], fill=FAINT, anchor=anchor))
    return lines


def _scale(low: float, high: float, top: float, height: float) -> Axis:
    span = max(high - low, 1e-9)

    def y(value: float) -> float:
        return top + height * (high - value) / span

    return y


def _grid(marks: list[float], y: Axis) -> list[str]:
    lines = []
    for mark in marks:
        colour = FAINT if abs(mark) < 1e-9 else LINE
        lines.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(mark):.1f}" y2="{y(mark):.1f}" stroke="{colour}"/>'
        )
        lines.append(_text(LEFT - 8, y(mark) + 4, f"{mark:g}", fill=FAINT, anchor="end"))
    return lines


def _text(x: float, y: float, text: str, *, fill: str = INK, size: int = 12, anchor: str = "start") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" fill="{fill}" font-size="{size}" text-anchor="{anchor}">{escape(text)}</text>'
    )
