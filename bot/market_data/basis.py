"""The basis: how far the lead price stands above the price that windows settle by, and how well that is known. Pure.

Binance quotes in USDT, Chainlink in USD. Recorded levels were +5.2, -2.6 and +2.3 bp (17 February, 21 to 27 April and 29 April
2026, docs/explanation/model.md), where BTC's median move in a minute is 2.4 bp. So a lead price says nothing of a window before
its basis is taken off. A level holds for days. Around it single readings stray by 0.7 to 1 bp.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median

from bot.reasons import Reason, ReasonCode

HALF_LIFE_S = 900.0
"""Recorded: of 5 to 60 minutes each predicts the next reading to 0.61 to 0.64 bp rms, and 15 minutes best."""
JUMP = 3e-4
"""A reading that is farther from the level is no noise: a stream stands still or is wrong, or the level is another one."""
SHIFT = 1e-4
"""By so much the last SHIFT_S seconds must differ from the level to replace it; in five minutes it changes by 0.75 bp (sd)."""
SHIFT_S = 120.0
LEAST_S = 20.0
"""So many seconds of readings make a level: recorded, their mean is 0.35 bp off that of the next minute."""
STALE_MS = 60_000
MOST_LATE_MS = 10_000
"""An older settlement price is not compared. Recorded lateness: 1.1, 1.4, 1.8 s at p10, p50, p90."""
LEAD_GRID_MS = 100
LEVEL_SD = 0.6e-4
"""What a level that is known for long is off by (rms, recorded)."""
READING_SD = 2e-4
"""Of one second's reading; neighbours stray together, so this is larger than what one reading shows."""
MOST_LEVEL = 0.01
"""No level beyond it is believed, whoever hands it over: 16 bp are the most that was recorded."""
MOST_AHEAD_MS = 5_000


@dataclass(frozen=True, slots=True)
class Basis:
    """What is known of one asset's basis at one time.

    Attributes:
        level: log(lead / settlement); None where nothing is known of it.
        sd: standard deviation of the level's error, of a log price.
        age_ms: since the newest reading's own time; None before the first.
        problem: why it cannot be used, or None.
    """

    level: float | None
    sd: float
    age_ms: int | None
    problem: Reason | None


@dataclass(frozen=True, slots=True)
class BasisState:
    """What an instance hands over of one asset's basis.

    Attributes:
        level: log(lead / settlement).
        seconds: how many seconds of readings stand behind it, the older ones faded.
        own_ms: own time of the newest reading, UTC ms by the venue.
    """

    level: float
    seconds: float
    own_ms: int


class LeadHistory:
    """The lead price of the last MOST_LATE_MS, on a grid of LEAD_GRID_MS of CLOCK_BOOTTIME."""

    def __init__(self) -> None:
        self._prices: deque[tuple[int, float]] = deque(maxlen=MOST_LATE_MS // LEAD_GRID_MS + 20)

    def add(self, boot_ms: int, price: float) -> None:
        """Take a price. Of those in one step of the grid the last stays."""
        step = boot_ms // LEAD_GRID_MS
        prices = self._prices
        if prices and step <= prices[-1][0]:
            if step == prices[-1][0]:
                prices[-1] = (step, price)
            return
        prices.append((step, price))

    def at(self, boot_ms: int) -> float | None:
        """The price that stood then; None where that is not known, or was older than MOST_LATE_MS."""
        step, longest = boot_ms // LEAD_GRID_MS, MOST_LATE_MS // LEAD_GRID_MS
        for at, price in reversed(self._prices):
            if at <= step:
                return price if step - at <= longest else None
        return None


class BasisTracker:
    """The running basis of one asset: an average of its readings that fades by half in HALF_LIFE_S.

    A reading beyond JUMP does not move the average, and nothing is known while it is the newest. A level that the last SHIFT_S
    seconds show throughout replaces the average. least_s: seconds of readings from which it is known.
    """

    def __init__(self, asset: str, least_s: float = LEAST_S) -> None:
        self._asset, self._least_s = asset, least_s
        self._sum = self._seconds = 0.0
        self._own_ms: int | None = None
        self._newest: float | None = None
        self._recent: deque[tuple[int, float]] = deque(maxlen=round(SHIFT_S))

    def read(self, own_ms: int, lead: float, settlement: float) -> None:
        """Take both prices of one own time (UTC ms). A reading that is not later than the last is left out."""
        if self._own_ms is not None and own_ms <= self._own_ms:
            return
        gap_s = 1.0 if self._own_ms is None else (own_ms - self._own_ms) / 1_000
        reading = math.log(lead / settlement)
        self._fade(gap_s)
        self._own_ms, self._newest = own_ms, reading
        if gap_s > STALE_MS / 1_000:
            self._recent.clear()
        self._recent.append((own_ms, reading))
        if self._seconds < self._least_s or abs(reading - self._sum / self._seconds) <= JUMP:
            weight = min(gap_s, 1.0)  # a gap in the stream is no reading
            self._sum, self._seconds = self._sum + weight * reading, self._seconds + weight
        self._follow_shift(own_ms)

    def state(self) -> BasisState | None:
        """What a successor goes on from; None before the first reading."""
        if self._own_ms is None or self._seconds <= 0:
            return None
        return BasisState(self._sum / self._seconds, self._seconds, self._own_ms)

    def inherit(self, state: BasisState, now_ms: int) -> None:
        """Take over what another instance knew, where it knew more. now_ms: the venue's time, UTC."""
        if abs(state.level) > MOST_LEVEL or state.seconds <= 0 or state.own_ms > now_ms + MOST_AHEAD_MS:
            return
        upto = state.own_ms if self._own_ms is None else max(self._own_ms, state.own_ms)
        seconds = state.seconds * _faded((upto - state.own_ms) / 1_000)
        own = 0.0 if self._own_ms is None else self._seconds * _faded((upto - self._own_ms) / 1_000)
        if seconds > own:
            self._sum, self._seconds, self._own_ms = state.level * seconds, seconds, upto

    def basis(self, now_ms: int) -> Basis:
        """What is known now. now_ms: the venue's time, UTC."""
        if self._own_ms is None or self._seconds <= 0:
            return self._problem(
                ReasonCode.BASIS_UNKNOWN, "is not known yet: no settlement price stood beside the lead's"
            )
        age_ms = max(0, now_ms - self._own_ms)
        level, seconds = self._sum / self._seconds, self._seconds * _faded(age_ms / 1_000)
        sd = math.hypot(LEVEL_SD, READING_SD / math.sqrt(max(1.0, seconds)))
        if age_ms > STALE_MS:
            text = f"is {age_ms / 1_000:.0f} s old: no settlement price came since"
            return self._problem(ReasonCode.BASIS_STALE, text, level, sd, age_ms)
        if self._seconds < self._least_s:
            text = f"is not known yet: {self._seconds:.0f} of {self._least_s:.0f} s of settlement prices"
            return self._problem(ReasonCode.BASIS_UNKNOWN, text, level, sd, age_ms)
        if self._newest is None:
            text = f"was handed over as {level * 1e4:+.1f} bp and is not confirmed by a settlement price yet"
            return self._problem(ReasonCode.BASIS_UNKNOWN, text, level, sd, age_ms)
        if abs(self._newest - level) > JUMP:
            text = f"jumped from {level * 1e4:+.1f} to {self._newest * 1e4:+.1f} bp"
            return self._problem(ReasonCode.BASIS_JUMPED, text, level, sd, age_ms)
        return Basis(level, sd, age_ms, None)

    def _problem(
        self, code: ReasonCode, text: str, level: float | None = None, sd: float = 0.0, age_ms: int | None = None
    ) -> Basis:
        return Basis(level, sd, age_ms, Reason(code, f"the basis of {self._asset} {text}"))

    def _fade(self, gap_s: float) -> None:
        factor = _faded(gap_s)
        self._sum, self._seconds = self._sum * factor, self._seconds * factor

    def _follow_shift(self, own_ms: int) -> None:
        """Begin anew at a level that held for all of the last SHIFT_S seconds."""
        recent = self._recent
        if len(recent) < 0.75 * SHIFT_S or own_ms - recent[0][0] < 0.95 * SHIFT_S * 1_000:
            return
        now = median(reading for _, reading in recent)
        early = median(reading for _, reading in list(recent)[: len(recent) // 2])
        level = self._sum / self._seconds if self._seconds > 0 else now
        # Its first half shows it, too: what came a minute ago is not believed yet.
        if abs(now - level) > SHIFT and abs(early - level) > SHIFT and abs(early - now) <= SHIFT:
            self._sum, self._seconds = now * SHIFT_S, SHIFT_S


def _faded(seconds: float) -> float:
    return float(0.5 ** (seconds / HALF_LIFE_S))


def write_basis(states: Mapping[str, BasisState]) -> dict[str, list[float]]:
    """The form that `read_basis` reads, for JSON: by asset the level, seconds and own time."""
    return {asset: [state.level, round(state.seconds, 1), state.own_ms] for asset, state in states.items()}


def read_basis(body: object) -> dict[str, BasisState]:
    """What was handed over, by asset. What cannot be read is left out: it is learned anew."""
    states: dict[str, BasisState] = {}
    if not isinstance(body, dict):
        return states
    for asset, values in body.items():
        match values:
            case [int() | float() as level, int() | float() as seconds, int() as own_ms]:
                if math.isfinite(level) and math.isfinite(seconds):
                    states[str(asset)] = BasisState(float(level), float(seconds), own_ms)
    return states
