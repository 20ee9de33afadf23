"""The scores that docs/explanation/model.md tells, from the recorded windows themselves."""

from __future__ import annotations

import bisect

import pytest

from bot.market_data.basis import BasisTracker
from ledger.calibration import score
from tests.recorded import HORIZONS_S, needs_data, old_model, prices, windows


@needs_data
def test_all_usable_windows_are_there() -> None:
    """136 of BTC in five minutes, 78 of ETH, 3 of BTC and 1 of SOL in fifteen."""
    assert (len(windows("cronos")), len(windows("rjav1"))) == (136, 82)


@needs_data
@pytest.mark.parametrize(
    ("source", "scores"),
    [("rjav1", [0.050, 0.045, 0.034, 0.017, 0.016]), ("cronos", [0.152, 0.141, 0.100, 0.056, 0.048])],
)
def test_the_markets_middle_scores_as_told(source: str, scores: list[float]) -> None:
    """Brier at 120, 90, 60, 30 and 10 s, to the last digit; of the fifteen minutes the 80 whose strike is known."""
    chosen = [w for w in windows(source) if w.strike is not None or source == "cronos"]
    assert len(chosen) == {"rjav1": 80, "cronos": 136}[source]
    found = []
    for left_s in HORIZONS_S:
        rows = [(mid, w.won) for w in chosen if (mid := w.mid(w.end_ms - left_s * 1_000)) is not None]
        found.append(round(score(rows).brier, 3))
    assert found == scores


@needs_data
@pytest.mark.parametrize(
    ("late_ms", "basis", "scores", "within"),
    [
        (1_640, 0.0, [0.046, 0.044, 0.036, 0.018, 0.018], 0.0),
        (0, 0.0, [0.046, 0.045, 0.035, 0.019, 0.020], 0.0),
        (0, -2.6e-4, [0.046, 0.055, 0.056, 0.024, 0.044], 0.0015),
        (0, 4.6e-4, [0.118, 0.122, 0.100, 0.113, 0.124], 0.0025),
    ],
    ids=["as received", "at its own time", "basis of -2.6 bp", "basis of 4.6 bp"],
)
def test_the_model_of_before_scores_as_told(late_ms: int, basis: float, scores: list[float], within: float) -> None:
    """To the last digit without a basis; with one put onto it to 2 in the last digit: how gaps were treated is not told."""
    found = []
    for left_s in HORIZONS_S:
        rows = [
            (p, w.won)
            for w in windows("rjav1")
            if (p := old_model(w, left_s, late_ms=late_ms, basis=basis)) is not None
        ]
        assert 77 <= len(rows) <= 80
        found.append(round(score(rows).brier, 3))
    assert found == [pytest.approx(told, abs=within + 1e-9) for told in scores]


@needs_data
def test_the_basis_is_as_told_and_the_tracker_knows_it() -> None:
    """BTC on 17 February 2026, once a second: p10, median and p90 in bp; the tracker's level predicts the next reading."""
    lead, settled = prices("herbalclaw", "binance", "BTC"), prices("herbalclaw", "chainlink", "BTC")
    begin, end = max(lead[0][0], settled[0][0]), min(lead[0][-1], settled[0][-1])

    def at(feed: tuple[list[int], list[float]], moment: int) -> float:
        return feed[1][bisect.bisect_right(feed[0], moment) - 1]

    grid = range(begin, end, 1_000)
    readings = sorted((at(lead, moment) / at(settled, moment) - 1) * 1e4 for moment in grid)
    n = len(readings)
    assert n == 1_963
    assert [round(readings[round(q * (n - 1))], 2) for q in (0.1, 0.5, 0.9)] == [4.26, 5.23, 6.05]
    tracker, errors, refused = BasisTracker("BTC"), [], 0
    for moment in grid:
        basis = tracker.basis(moment)
        if basis.problem is not None:
            refused += 1
        elif moment - begin > 120_000:
            errors.append((basis.level or 0.0) * 1e4 - readings[n // 2])
        tracker.read(
            moment, at(lead, moment - 1_500) if moment - 1_500 >= begin else at(lead, moment), at(settled, moment)
        )
    assert refused < 0.02 * n
    assert max(abs(error) for error in errors) < 0.61
