"""The prices of all assets: the lead's newest price, one-second closes and volatility; the known part of settlement averages."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from bot.market_data.basis import LEAST_S, Basis, BasisState, BasisTracker, LeadHistory
from bot.market_data.binance_messages import PriceUpdate, Source
from bot.market_data.history import Kline
from bot.market_data.plausibility import (
    CONTRADICTION_MS,
    LEAD_CONFIRM_MS,
    LONE,
    SETTLEMENT_CONFIRM_MS,
    Plausible,
    Seen,
    are_apart,
)
from bot.market_data.rtds import SettlementAverage, SettlementPrice
from bot.reasons import MaybeReason, Reason, ReasonCode
from bot.venue.decoding import Code, OddError, Origin, Skips

# One-second closes of one asset, and the volatility realised by them. Pure.
#
# Seconds are whole seconds of CLOCK_BOOTTIME, so that a step of the wall clock tears no hole.


MIN_RETURNS = 20  # fewer than this say nothing of volatility
MOVE_S, LONGEST_MOVE_S = 10, 30
"""Moves of one second understate what a window does by 1.3 to 1.5 (recorded); of 10 to 30 s they are right on average."""
OUTLIER = 6.0
"""In deviations. Of 81,870 recorded one-second moves (../shared/data/market) 170 are larger: 0 to 5 % of the volatility."""
NO_OUTLIER = 2e-4  # whatever the volatility is: a price that stood still moves by a tick at last


@dataclass(frozen=True, slots=True)
class Volatility:
    """Standard deviation of the log price after one second; after t seconds it is that times sqrt(t).

    samples: the moves behind it; with few of them it is a guess.
    """

    per_sqrt_second: float
    samples: int


class Candles:
    """The last `capacity` one-second closes; seconds without an update are not there.

    The volatility is carried along, so that asking for it at every price costs nothing: what it sums up besides the newest
    close changes once a second. Its memory is its half-life, not the capacity.
    """

    def __init__(self, capacity: int = 900, half_life_s: float = 120.0) -> None:
        self._closes: deque[tuple[int, float]] = deque(maxlen=capacity)
        self._half_life_s = half_life_s
        self._variances = self._weights = 0.0  # of all moves but the newest, weighed as of the newest close
        self._moves = 0  # how many those are
        self._from: tuple[int, float] | None = None  # where the newest move began

    def add(self, update: PriceUpdate) -> None:
        """Take an update. Trades are left out: they jump between bid and ask, which would count as volatility.

        An update of an earlier second than the last is left out too.
        """
        if update.source is Source.BOOK:
            self._put(update.boot_ms // 1000, update.price)

    def seed(self, klines: Iterable[Kline], utc_to_boot_ms: int) -> None:
        """Put history (oldest first) before what is there already; history of later seconds is left out.

        Args:
            utc_to_boot_ms: what is added to a UTC time to make it a CLOCK_BOOTTIME.
        """
        seconds = list(self._closes)
        self._closes.clear()
        self._variances = self._weights = 0.0
        self._moves, self._from = 0, None
        for kline in klines:
            second = (kline.open_ms + utc_to_boot_ms) // 1000
            if not seconds or second < seconds[0][0]:
                self._put(second, kline.close)
        for second, close in seconds:
            self._put(second, close)

    def closes(self) -> list[tuple[int, float]]:
        """(second of CLOCK_BOOTTIME, close), oldest first."""
        return list(self._closes)

    def between(self, from_boot_ms: int, to_boot_ms: int) -> list[float]:
        """The closes of the seconds that begin in [from, to), newest first. Looks at no older ones."""
        closes = []
        for second, close in reversed(self._closes):
            if second * 1000 < from_boot_ms:
                break
            if second * 1000 < to_boot_ms:
                closes.append(close)
        return closes

    def volatility(self, floor: float = 1e-6) -> Volatility:
        """Realised volatility, recent seconds weighing more; never below the floor, which is also the answer to no data.

        Each second has the move r since the newest close that is at least MOVE_S older, dt seconds before, and counts as the
        variance r^2 / dt (a random walk's estimate), weighed by 0.5 ** (age / half_life_s): sqrt(sum(w * r^2 / dt) / sum(w)).
        Once there are MIN_RETURNS, no move counts as more than OUTLIER deviations of those before it: one odd price cannot
        multiply the volatility. A move over a gap of more than LONGEST_MOVE_S does not count.
        """
        variances, weights, moves = self._with_newest()
        if not moves:
            return Volatility(floor, 0)
        return Volatility(max(floor, math.sqrt(variances / weights)), moves)

    def _with_newest(self) -> tuple[float, float, int]:
        """Both sums with the newest move, weighed as of the newest close, and how many moves that are."""
        if self._from is None or not self._closes:
            return self._variances, self._weights, self._moves
        (second, close), (since, before) = self._closes[-1], self._from
        variance = math.log(close / before) ** 2 / (second - since)
        if self._moves >= MIN_RETURNS:
            usual = OUTLIER**2 * self._variances / self._weights
            variance = min(variance, max(usual, NO_OUTLIER**2 / (second - since)))
        return self._variances + variance, self._weights + 1.0, self._moves + 1

    def _put(self, second: int, close: float) -> None:
        if self._closes and second <= self._closes[-1][0]:
            if second == self._closes[-1][0]:
                self._closes[-1] = (second, close)
            return
        if self._closes:
            fading = 0.5 ** ((second - self._closes[-1][0]) / self._half_life_s)
            variances, weights, self._moves = self._with_newest()
            self._variances, self._weights = variances * fading, weights * fading
        self._closes.append((second, close))
        self._from = self._older(second)

    def _older(self, second: int) -> tuple[int, float] | None:
        """The newest close that is at least MOVE_S older, unless that is longer ago than LONGEST_MOVE_S."""
        for since, close in reversed(self._closes):
            if second - since >= MOVE_S:
                return (since, close) if second - since <= LONGEST_MOVE_S else None
        return None


STRIKE_APART = 3e-4
"""Two strikes that differ by more are not the same: a settlement price or two that were missed make 0.1 bp."""
MOST_STRIKES = 64


# The prices of all assets: the lead's newest price, one-second closes and volatility; the known part of settlement averages.


class Prices:
    """What the feeds brought and is believed (`plausibility`). Filled by `take` and `settle`, read by the polls.

    Args:
        skips: counts and logs what was doubted.
    """

    def __init__(self, assets: Iterable[str], skips: Skips | None = None, basis_after_s: float = LEAST_S) -> None:
        """basis_after_s: seconds of settlement prices from which a basis counts as known."""
        self._skips, self._basis_after_s = skips or Skips(), basis_after_s
        self._candles: dict[str, Candles] = {}
        self._newest: dict[str, tuple[float, int]] = {}
        self._settled: dict[str, SettlementAverage] = {}
        self._past: dict[str, LeadHistory] = {}
        self._basis: dict[str, BasisTracker] = {}
        self._lead: dict[str, Plausible] = {}
        self._settlement: dict[str, Plausible] = {}
        self.follow(assets)
        self._strikes: dict[tuple[str, int, int], float] = {}
        self._told: deque[tuple[str, int]] = deque(maxlen=MOST_STRIKES)
        self._apart: set[str] = set()  # assets whose streams contradict each other
        self._lone: set[str] = set()  # assets whose newest lead price moved far
        self._alone: dict[str, tuple[PriceUpdate, float]] = {}  # such a price, and from where it moved

    def follow(self, assets: Iterable[str]) -> None:
        """Have room for these assets, too: nothing is known of one that no feed brings."""
        for asset in assets:
            if asset not in self._candles:
                self._candles[asset], self._settled[asset] = Candles(), SettlementAverage()
                self._past[asset], self._basis[asset] = LeadHistory(), BasisTracker(asset, self._basis_after_s)
                self._lead[asset] = Plausible(LEAD_CONFIRM_MS)
                self._settlement[asset] = Plausible(SETTLEMENT_CONFIRM_MS, LONE)

    def __contains__(self, asset: str) -> bool:
        """Whether this asset is followed."""
        return asset in self._candles

    def take(self, update: PriceUpdate) -> None:
        """Take one update of the feed. A trade moves no lead price; a doubted price moves nothing."""
        if update.source is not Source.BOOK:
            return
        asset, lead = update.asset, self._lead[update.asset]
        seen = Seen(update.price, update.boot_ms, update.number)
        believed = lead.believed
        one_before = believed if lead.doubt is None else lead.doubt.newest
        is_alone = believed is not None and _is_far(update.price, believed.price)
        if lead.is_near(update.price):  # nearly every one
            lead.believe(seen)
        else:
            before = lead.doubt
            found = lead.take(seen, self.volatility(asset), self._settlement[asset])
            if not found:
                if before is None and lead.believed is not None:
                    self._note(Origin.BINANCE_STREAM, asset, lead)
                return
            if before is not None:  # it was so since the first message of the jump
                self._past[asset].add(before.since_ms, found[0].price)
            is_alone = is_alone and len(found) == 1
            for one in found[:-1]:
                self._candles[asset].add(PriceUpdate(asset, one.price, Source.BOOK, None, one.at_ms))
        self._newest[asset] = (update.price, update.boot_ms)
        self._close(update, believed.price if is_alone and believed is not None else None)
        if one_before is not None and _is_far(update.price, one_before.price):
            self._lone.add(asset)
        else:
            self._lone.discard(asset)
        self._compare(asset)

    def _close(self, update: PriceUpdate, base: float | None) -> None:
        """Make a price a close. base: from where it moved far by itself; it waits for the next one, which saw half of the move.

        An odd price that ends a second would make the volatility a larger one for minutes.
        """
        waiting = self._alone.pop(update.asset, None)
        closes = [] if base is not None else [update]
        if waiting is not None and (update.price - waiting[1]) / (waiting[0].price - waiting[1]) >= 0.5:
            closes.insert(0, waiting[0])
        for one in closes:
            self._candles[one.asset].add(one)
            self._past[one.asset].add(one.boot_ms, one.price)
        if base is not None:
            self._alone[update.asset] = update, base

    def settle(self, price: SettlementPrice) -> None:
        """Take one price of the settlement source. A jump waits until it is confirmed, and then counts from its own time on."""
        asset, settlement = price.asset, self._settlement[price.asset]
        believed, before = settlement.believed, settlement.doubt
        if believed is not None and price.time_ms <= believed.number:
            return  # told again, or too late
        at_ms = price.time_ms if price.boot_ms is None else price.boot_ms
        other = None if price.boot_ms is None else self._lead[asset]
        found = settlement.take(Seen(price.price, at_ms, price.time_ms), self.volatility(asset), other, may_veto=True)
        for one in found:
            self._settled[asset].add(SettlementPrice(asset, one.price, one.number))
        if not found and before is None and believed is not None:
            self._note(Origin.RTDS, asset, settlement)
        if found and found[-1].number == price.time_ms:
            self._read_basis(price)
        self._compare(asset)

    def _read_basis(self, price: SettlementPrice) -> None:
        """Compare a settlement price with the lead of its own time, where that is known and not in doubt."""
        doubt = self._lead[price.asset].doubt
        if price.own_boot_ms is None or (doubt is not None and price.own_boot_ms >= doubt.since_ms):
            return
        lead = self._past[price.asset].at(price.own_boot_ms)
        if lead is not None:
            self._basis[price.asset].read(price.time_ms, lead, price.price)

    def strike(self, asset: str, start_ms: int, average_ms: int) -> float | None:
        """The strike of a window that begins at `start_ms`: the settlement average before it; None where it was not seen whole.

        Gamma shows it 20 to 90 s late, and of some windows never.
        """
        key = asset, start_ms, average_ms
        if key not in self._strikes:
            strike = self._settled[asset].whole(start_ms - average_ms, start_ms)
            if strike is None:
                return None
            while len(self._strikes) >= MOST_STRIKES:
                del self._strikes[next(iter(self._strikes))]
            self._strikes[key] = strike
        return self._strikes[key]

    def strike_problem(self, asset: str, start_ms: int, average_ms: int, shown: float | None) -> MaybeReason:
        """Why the strike that the venue shows is not that of the settlement prices, or ""."""
        own = self.strike(asset, start_ms, average_ms)
        if own is None or shown is None or shown <= 0 or abs(math.log(shown / own)) <= STRIKE_APART:
            return ""
        key = asset, start_ms
        if key not in self._told:
            self._told.append(key)
            self._skips.note(
                Origin.GAMMA, OddError(Code.DISAGREES, f"strike of {asset} at {start_ms}", f"about {own:g}", shown)
            )
        return Reason(
            ReasonCode.STRIKE_APART,
            f"the strike of {asset} is {shown:g} at the venue and {own:g} by the settlement prices",
        )

    def basis(self, asset: str, now_ms: int) -> Basis:
        """How far the lead stands above the settlement price, and whether that is known. now_ms: the venue's time, UTC."""
        return self._basis[asset].basis(now_ms)

    def basis_states(self) -> dict[str, BasisState]:
        """What a successor goes on from, by asset."""
        states = ((asset, basis.state()) for asset, basis in self._basis.items())
        return {asset: state for asset, state in states if state is not None}

    def inherit_basis(self, states: Mapping[str, BasisState], now_ms: int) -> None:
        """Take over what another instance knew of the basis, where it knew more. now_ms: the venue's time, UTC."""
        for asset, state in states.items():
            if asset in self._basis:
                self._basis[asset].inherit(state, now_ms)

    def doubt(self, asset: str) -> MaybeReason:
        """Why no price of an asset can be relied upon now, or ""."""
        lead, settlement = self._lead[asset], self._settlement[asset]
        if lead.doubt is not None:
            return _doubted("lead", asset, lead)
        if (
            settlement.doubt is not None
            and settlement.believed is not None
            and not (lead.believed and lead.believed.at_ms - settlement.doubt.newest.at_ms > CONTRADICTION_MS)
        ):
            return _doubted("settlement", asset, settlement)
        if asset in self._apart and lead.believed is not None and settlement.believed is not None:
            lead_price, settled = lead.believed.price, settlement.believed.price
            return Reason(
                ReasonCode.DOUBTED,
                f"the lead price {lead_price:g} and the settlement price {settled:g} of {asset} contradict each other",
            )
        return ""

    def is_lone(self, asset: str) -> bool:
        """Whether the newest lead price moved by so much from the one before that a later one is to be waited for."""
        return asset in self._lone

    def seed(self, history: Mapping[str, Iterable[Kline]], utc_to_boot_ms: int) -> None:
        """Put history before what came already. A candle that stands alone is left out, as a price of the stream would be."""
        for asset, klines in history.items():
            past, kept = Plausible(confirm_ms=1_000), list[Kline]()
            for kline in klines:
                found = past.take(Seen(kline.close, kline.open_ms, kline.open_ms))
                kept += [Kline(one.at_ms, one.price) for one in found]
            self._candles[asset].seed(kept, utc_to_boot_ms)
            if kept and self._lead[asset].believed is None:
                self._lead[asset].believed = Seen(kept[-1].close, kept[-1].open_ms + 1_000 + utc_to_boot_ms)

    def _compare(self, asset: str) -> None:
        """Note whether both streams can be right."""
        lead, settlement = self._lead[asset].believed, self._settlement[asset].believed
        if lead is None or settlement is None:
            return
        if not are_apart(self._lead[asset], self._settlement[asset], lambda: self.volatility(asset)):
            self._apart.discard(asset)
        elif asset not in self._apart:
            self._apart.add(asset)
            expected = f"a settlement price near the lead price {lead.price:g}"
            self._skips.note(Origin.RTDS, OddError(Code.DISAGREES, asset, expected, settlement.price))

    def _note(self, origin: Origin, asset: str, stream: Plausible) -> None:
        assert stream.believed is not None, "a first price is no jump"
        assert stream.doubt is not None, "it was just doubted"
        expected = f"a price near {stream.believed.price:g}, or a second one that confirms it"
        self._skips.note(origin, OddError(Code.JUMP, asset, expected, stream.doubt.newest.price))

    def newest(self, asset: str) -> float | None:
        """The newest lead price."""
        update = self._newest.get(asset)
        return None if update is None else update[0]

    def newest_boot_ms(self, asset: str) -> int | None:
        """When the newest lead price arrived, in CLOCK_BOOTTIME ms."""
        update = self._newest.get(asset)
        return None if update is None else update[1]

    def volatility(self, asset: str) -> float | None:
        """Of the log price per sqrt(second); None while too little is known."""
        found = self._candles[asset].volatility()
        return found.per_sqrt_second if found.samples >= MIN_RETURNS else None

    def average(self, asset: str, from_ms: int, to_ms: int, to_boot_ms: int = 0) -> tuple[float, float | None]:
        """(seconds that are known, mean price) of the part of the settlement average that has passed; (0, None): nothing is.

        Out of the settlement source's own prices where they cover that part, else out of the lead's closes without their basis,
        where that is known. Times: UTC ms; to_boot_ms makes CLOCK_BOOTTIME of them.
        """
        seconds = self._settled[asset].known(from_ms, to_ms)
        if seconds is not None:
            return seconds
        basis = self.basis(asset, to_ms)
        if basis.level is None or basis.problem is not None:
            return 0.0, None
        closes = self._candles[asset].between(from_ms + to_boot_ms, to_ms + to_boot_ms)
        if not closes:
            return 0.0, None
        return max(0.0, (to_ms - from_ms) / 1000), sum(closes) / len(closes) * math.exp(-basis.level)


def _is_far(price: float, before: float) -> bool:
    """Whether a lead price moved by so much that a later one is to be waited for."""
    return abs(price - before) > LONE * before


def _doubted(what: str, asset: str, stream: Plausible) -> Reason:
    assert stream.doubt is not None, "asked for a doubt"
    found = stream.doubt.newest.price
    if stream.believed is None:
        return Reason(ReasonCode.DOUBTED, f"the {what} price of {asset} is not confirmed yet: {found:g} is the first")
    move = (found / stream.believed.price - 1) * 100
    return Reason(
        ReasonCode.DOUBTED,
        f"the {what} price of {asset} jumped from {stream.believed.price:g} to {found:g} ({move:+.2f} %): not confirmed",
    )
