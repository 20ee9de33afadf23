"""What came of a replay: trades, PnL, win rate with its confidence interval; as text and as JSON. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

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
