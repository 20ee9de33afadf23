"""A replay as a picture: the PnL over time, and each trade's under it. SVG by hand, so that no library is needed. Pure."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from html import escape

from bot.tools.replay.result import Result, moment, pusd, wilson
from bot.venue.types import BASE_UNITS

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
    found = _grid(marks, y)
    for trade in result.trades:
        pnl = trade.pnl / BASE_UNITS
        upper, height = min(y(0.0), y(pnl)), abs(y(pnl) - y(0.0))
        colour = GAIN if pnl > 0 else LOSS
        found.append(
            f'<rect x="{x(trade.resolved_ms) - 1:.1f}" y="{upper:.1f}" width="2" height="{max(height, 0.5):.1f}" '
            f'fill="{colour}"/>'
        )
    return found


def _times(from_ms: int, to_ms: int, x: Axis) -> list[str]:
    bottom = TOP + CURVE + GAP + BARS + 20
    found = []
    for n in range(7):
        at_ms = from_ms + (to_ms - from_ms) * n // 6
        anchor = "start" if n == 0 else "end" if n == 6 else "middle"
        found.append(_text(x(at_ms), bottom, moment(at_ms)[5:16], fill=FAINT, anchor=anchor))
    return found


def _scale(low: float, high: float, top: float, height: float) -> Axis:
    span = max(high - low, 1e-9)

    def y(value: float) -> float:
        return top + height * (high - value) / span

    return y


def _grid(marks: list[float], y: Axis) -> list[str]:
    found = []
    for mark in marks:
        colour = FAINT if abs(mark) < 1e-9 else LINE
        found.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(mark):.1f}" y2="{y(mark):.1f}" stroke="{colour}"/>'
        )
        found.append(_text(LEFT - 8, y(mark) + 4, f"{mark:g}", fill=FAINT, anchor="end"))
    return found


def _text(x: float, y: float, text: str, *, fill: str = INK, size: int = 12, anchor: str = "start") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" fill="{fill}" font-size="{size}" text-anchor="{anchor}">{escape(text)}</text>'
    )
