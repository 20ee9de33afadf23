"""Predicted against happened: scores, bins, intervals, what is recorded for them, and what is said in words."""

from __future__ import annotations

import json
import math
import random
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.lifecycle.predictions import Predictions, prediction
from bot.slots import Slot
from bot.strategy.evaluation import Evaluation
from bot.strategy.snipe import Parameters, decide
from bot.tools.calibrate import as_json, as_text, calibrate
from ledger.calibration import bins, score, wilson, winners
from ledger.predictions import Belief, Prediction, add_predictions, read_predictions, read_slips
from ledger.rows import add_fill, add_intent
from ledger.values import Side
from tests.unit.bot.making import END_MS, INTENT, MARKET, START_MS, WINDOW, ManualClock, inputs, make_ledger
from tests.unit.ledger.test_rows import trade

LENGTH_S = 300


def said(
    number: int, strike: float | None = 100.0, model: float = 0.5, market: float = 0.5, horizon_s: int = 60
) -> Prediction:
    """Of the window of that number, counted from the test's own one."""
    start_s = START_MS // 1_000 + number * LENGTH_S
    at_ms = (start_s + LENGTH_S - horizon_s) * 1_000
    return Prediction(f"btc-updown-5m-{start_s}", horizon_s, "BTC-5m", at_ms, strike, model, market, model, 4.6e-4)


@given(st.lists(st.tuples(st.floats(0, 1), st.sampled_from([0.0, 1.0])), min_size=1))
def test_a_score_is_between_perfect_and_worst(rows: list[tuple[float, float]]) -> None:
    """Brier from 0 to 1; a log loss is finite whatever was said."""
    found = score(rows)
    assert 0 <= found.brier <= 1
    assert 0 <= found.log_loss < 7


def test_scores_are_those_of_a_coin_and_of_who_knows() -> None:
    """One half always: 0.25 and log 2."""
    coin = score([(0.5, 0.0), (0.5, 1.0)])
    assert coin.brier == 0.25
    assert coin.log_loss == pytest.approx(math.log(2))
    assert score([(1.0, 1.0), (0.0, 0.0)]).brier == 0.0


@given(st.integers(0, 200), st.integers(0, 200))
def test_the_interval_of_a_frequency_holds_it(happened: int, more: int) -> None:
    """Between 0 and 1, around what was seen, never of no width."""
    low, high = wilson(happened, happened + more)
    assert 0 <= low < high <= 1
    if happened + more:
        assert low - 1e-12 <= happened / (happened + more) <= high + 1e-12


@given(st.lists(st.tuples(st.floats(0, 1), st.sampled_from([0.0, 1.0]))))
def test_each_prediction_is_in_one_bin(rows: list[tuple[float, float]]) -> None:
    """0 and 1 too."""
    assert sum(one.n for one in bins(rows)) == len(rows)


def test_the_strike_of_the_next_window_tells_how_one_ended() -> None:
    """Not below it: Up. The venue's own word goes before; Void, and a window without a next one, are left out."""
    predictions = [said(0, 100.0), said(1, 101.0), said(2, 101.0), said(3, 99.0), said(5, 98.0)]
    ended = winners(predictions, {said(2).window: "Up", said(1).window: "Void"})
    assert ended == {said(0).window: 1.0, said(2).window: 1.0}


def walk(windows: int, model: float, market: float, seed: int = 1) -> list[Prediction]:
    """Windows that end Up with 0.9 or 0.1; model and market know that with these weights."""
    source, strike, made = random.Random(seed), 100.0, []
    for number in range(windows):
        true = source.choice([0.1, 0.9])
        knows, market_says = (0.5 + weight * (true - 0.5) for weight in (model, market))
        made.append(said(number, strike, knows, market_says))
        strike += 1 if source.random() < true else -1
    return [*made, said(windows, strike)]


@pytest.mark.parametrize(
    ("model", "market", "words"),
    [
        (0.0, 1.0, "the market knew better than the model"),
        (1.0, 0.0, "the model knew better than the market"),
        (1.0, 1.0, "no difference can be shown"),
    ],
)
def test_it_says_in_words_who_knew_better(model: float, market: float, words: str) -> None:
    """With an interval; of few windows it says that they say nothing."""
    assert words in as_text(calibrate(walk(300, model, market), {}))
    assert "10 windows say nothing" in as_text(calibrate(walk(10, model, market), {}))


def test_a_report_of_nothing_and_one_as_json_can_be_read() -> None:
    """No division by nothing, and no number that JSON does not know."""
    assert "nothing to judge" in as_text(calibrate([], {}))
    body = json.loads(as_json(calibrate(walk(5, 1.0, 1.0), {})))
    assert body["windows"] == 5
    json.loads(as_json(calibrate([], {})))


def test_pnl_is_told_by_part_before_and_after_fees() -> None:
    """Of the traded windows: by asset, timeframe, hour and the code of its reason."""
    results = [
        (said(0).window, "BTC-5m", "edge", 2_000_000, 100_000),
        (said(1).window, "BTC-5m", "manual", -1_000_000, 0),
    ]
    found = calibrate(walk(3, 1.0, 1.0), {}, (), results)
    by_reason = {one.name: (one.before_fees, one.fees, one.after_fees) for one in found.earned["reason"]}
    assert by_reason == {"edge": (2.1, 0.1, 2.0), "manual": (-1.0, 0.0, -1.0)}
    assert "PnL by asset" in as_text(found)


# --- what trading records


def evaluation(left_s: float) -> Evaluation:
    """One of the slot, so long before its window's end."""
    given_inputs = inputs(now_ms=END_MS - round(left_s * 1_000))
    slot = Slot("BTC", "5m")
    decision = decide(given_inputs, Parameters())
    return Evaluation(slot, slot.window(START_MS), MARKET, given_inputs, decision, evaluated=True)


@pytest.mark.parametrize(
    ("left_s", "horizon_s"), [(121, None), (120, 120), (91, 120), (90, 90), (58, 60), (26, 30), (9.9, 10), (0, None)]
)
def test_a_prediction_is_recorded_at_its_horizons(left_s: float, horizon_s: int | None) -> None:
    """The first poll that is not earlier counts; before the first horizon, and after the end, there is none."""
    found = prediction(evaluation(left_s))
    assert (None if found is None else found.horizon_s) == horizon_s


def test_predictions_and_beliefs_go_through_the_ledger(tmp_path: Path) -> None:
    """Once for each horizon, whoever asks again; an order's belief meets its fills."""
    with make_ledger(tmp_path, ManualClock()) as ledger:
        kept = Predictions(ledger, 1)
        for left_s in (120, 115, 60, 58, 10):
            kept.polled([evaluation(left_s)])
        kept.ordered(evaluation(60), Side.BUY, INTENT.tick)
        kept.write()
        kept.write()
        rows = read_predictions(ledger)
        assert [(row.window, row.horizon_s) for row in rows] == [(WINDOW, 120), (WINDOW, 60), (WINDOW, 10)]
        assert rows[0].market == pytest.approx(0.59)
        assert rows[0].model is not None
        add_predictions(ledger, 1, [replace(rows[0], model=0.0)])
        assert read_predictions(ledger)[0].model == rows[0].model, "the first one stays"
        add_intent(ledger, INTENT, START_MS, 0)
        add_fill(ledger, 1, INTENT, trade(price=INTENT.price), START_MS)
        (slip,) = read_slips(ledger)
        assert slip.decided == pytest.approx(0.60)
        assert slip.filled == pytest.approx(0.5)
        add_predictions(ledger, 1, [], [Belief(WINDOW, Side.SELL, 1, 1, None, None, None, None)])
        assert len(read_slips(ledger)) == 1
