"""`bot calibrate`: what was predicted against what happened, beside what the market said, and what trading cost and earned."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bot.slots import parse_slug
from bot.venue.types import BASE_UNITS
from bus import BusError, bus_to_read
from ledger import Ledger
from ledger.calibration import Bin, Row, basis_by_hour, bins, scored, sentences, table, wilson, winners
from ledger.predictions import HORIZONS_S, Prediction, Slip, read_predictions, read_results, read_slips, read_winners
from ledger.values import Side


@dataclass(frozen=True, slots=True)
class Earned:
    """What the traded windows of one name brought. pUSD."""

    name: str
    windows: int
    before_fees: float
    fees: float

    @property
    def after_fees(self) -> float:
        """The PnL."""
        return self.before_fees - self.fees


@dataclass(frozen=True, slots=True)
class Calibration:
    """All of it."""

    windows: int
    """Windows with a prediction whose end is known."""
    unknown: int
    """Windows with a prediction whose end is not known."""
    horizons: list[Row]
    parts: dict[str, list[Row]]
    """By asset, timeframe and hour of the day (UTC)."""
    model_bins: list[Bin]
    market_bins: list[Bin]
    basis: list[tuple[int, str, int, float, float, float]]
    slips: list[Slip]
    earned: dict[str, list[Earned]]
    """By asset, timeframe, hour of the day (UTC) and reason."""


def calibrate(
    predictions: Sequence[Prediction],
    known: dict[str, str],
    slips: Sequence[Slip] = (),
    results: Sequence[tuple[str, str, str, int, int]] = (),
) -> Calibration:
    """Judge these predictions. known: how windows resolved, as far as that is known otherwise. Pure."""
    ended = winners(predictions, known)
    judged = scored(predictions, ended)
    by_horizon = sorted(judged, key=lambda one: -one.prediction.horizon_s)
    names: dict[str, Callable[[str], str]] = {
        "asset": lambda slug: parse_slug(slug).asset,
        "timeframe": lambda slug: parse_slug(slug).timeframe,
        "hour": lambda slug: f"{datetime.fromtimestamp(parse_slug(slug).start_ms / 1000, UTC):%H}",
    }
    parts = {
        kind: sorted(table(judged, lambda p, name=name: name(p.window)), key=lambda r: r.name)  # type: ignore[misc]
        for kind, name in names.items()
    }
    earned = {kind: _earned(results, lambda r, name=name: name(r[0])) for kind, name in names.items()}  # type: ignore[misc]
    earned["reason"] = _earned(results, lambda r: r[2] or "unknown")
    said = {p.window for p in predictions}
    return Calibration(
        windows=len({one.prediction.window for one in judged}),
        unknown=len(said - set(ended)),
        horizons=table(by_horizon, lambda p: f"{p.horizon_s} s left"),
        parts=parts,
        model_bins=bins([(one.model, one.ended) for one in judged]),
        market_bins=bins([(one.market, one.ended) for one in judged]),
        basis=basis_by_hour(predictions),
        slips=list(slips),
        earned=earned,
    )


def _earned(
    results: Sequence[tuple[str, str, str, int, int]], name: Callable[[tuple[str, str, str, int, int]], str]
) -> list[Earned]:
    groups: dict[str, list[tuple[int, int]]] = {}
    for result in results:
        groups.setdefault(name(result), []).append((result[3], result[4]))
    return [
        Earned(
            key, len(rows), sum(pnl + fee for pnl, fee in rows) / BASE_UNITS, sum(fee for _, fee in rows) / BASE_UNITS
        )
        for key, rows in sorted(groups.items())
    ]


def as_text(c: Calibration) -> str:
    """For people."""
    lines = [f"{c.windows} windows were predicted and ended; of {c.unknown} more the end is not known."]
    if not c.windows:
        return lines[0] + " There is nothing to judge yet: let the bot run for some windows.\n"
    lines += ["", *sentences(c.horizons), "", _scores("left", c.horizons)]
    for kind, rows in c.parts.items():
        lines += ["", _scores(kind, rows)]
    for who, made in (("model", c.model_bins), ("market", c.market_bins)):
        lines += ["", f"what the {who} said, what happened [95 %], how often"]
        lines += [
            f"  {b.low:.2f}..{b.high:.2f}  {b.said:.3f} -> {b.happened:.3f} [{b.least:.3f}, {b.most:.3f}]  {b.n}"
            for b in made
        ]
    if c.basis:
        lines += ["", "basis by hour, bp: least, mean, most"]
        for at, asset, n, least, mean, most in c.basis[-48:]:
            hour = f"{datetime.fromtimestamp(at / 1000, UTC):%Y-%m-%d %H}"
            lines.append(f"  {hour} {asset}  {least:+.1f} {mean:+.1f} {most:+.1f}  {n}")
    lines += ["", _slippage(c.slips)]
    for kind, earned in c.earned.items():
        if earned:
            lines += ["", f"PnL by {kind}, pUSD: windows, before fees, fees, after"]
            lines += [
                f"  {e.name:<12} {e.windows:>5} {e.before_fees:>+10.2f} {e.fees:>8.2f} {e.after_fees:>+10.2f}"
                for e in earned
            ]
    return "\n".join(lines) + "\n"


def _scores(kind: str, rows: Sequence[Row]) -> str:
    head = f"{kind:<12} {'n':>6}  {'Brier model':>11} {'market':>7} {'belief':>7}  {'log loss':>8} {'market':>7} {'belief':>7}"
    return "\n".join(
        [
            head,
            *(
                f"{r.name:<12} {r.model.n:>6}  {r.model.brier:>11.3f} {r.market.brier:>7.3f} {r.belief.brier:>7.3f}  "
                f"{r.model.log_loss:>8.3f} {r.market.log_loss:>7.3f} {r.belief.log_loss:>7.3f}"
                for r in rows
            ),
        ]
    )


def _slippage(slips: Sequence[Slip]) -> str:
    if not slips:
        return "slippage: no order with a decision on record was filled"
    parts = []
    for side in Side:
        of_side = [slip for slip in slips if slip.side is side]
        if of_side:
            shares = sum(slip.shares for slip in of_side)
            sign = 1 if side is Side.BUY else -1
            mean = sum(sign * (slip.filled - slip.decided) * slip.shares for slip in of_side) / shares
            worse = sum(sign * (slip.filled - slip.decided) > 1e-9 for slip in of_side)
            low, high = wilson(worse, len(of_side))
            much = f"{worse / len(of_side):.0%} worse [{low:.0%}, {high:.0%}]"
            parts.append(f"{side} {mean:+.4f} pUSD a share in {len(of_side)} orders, {much}")
    return "slippage, decision against fill: " + "; ".join(parts)


def as_json(c: Calibration) -> str:
    """For a program. What is not a number is null."""
    body = {"schema": "1.0", **asdict(c), "sentences": sentences(c.horizons)}
    return json.dumps(_finite(body)) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value


def run_calibrate(bus_directory: Path, *, as_json_text: bool) -> str:
    """Read the ledger of a bus and judge it. Raises BusError: there is none, or it cannot be read."""
    ledger = Ledger.reader(bus_to_read(bus_directory).ledger)
    if ledger is None:
        raise BusError(f"there is no ledger in {bus_directory}; start the bot first, or set BUS_DIR")
    with ledger:
        found = calibrate(read_predictions(ledger), read_winners(ledger), read_slips(ledger), read_results(ledger))
    return as_json(found) if as_json_text else as_text(found)


__all__ = ["HORIZONS_S", "Calibration", "as_json", "as_text", "calibrate", "run_calibrate"]
