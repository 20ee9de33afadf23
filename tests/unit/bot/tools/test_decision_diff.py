"""What was decided, asked again of another version: nothing differs that did not change, and what changed does."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.cli import main
from bot.lifecycle.inputs_recorder import record
from bot.slots import Slot
from bot.strategy.api import Decision, Inputs, number
from bot.strategy.evaluation import Evaluation
from bot.strategy.guard import GuardedStrategy, load_strategy
from bot.strategy.snipe import Parameters, Snipe
from bot.tools.decision_diff import compare, read_decision
from bot.venue.types import Level
from bus import InputRecord, InputsRing, open_bus
from ledger.values import Outcome
from tests.unit.bot.making import END_MS, SHARE, WINDOW, inputs

SNIPE = "bot.strategy.snipe:Snipe"
SLOT = Slot("BTC", "5m")
NAMES = st.sampled_from(["schema", "decisions", "parameters", "given", "strategy", "inputs", "action", "price", "size"])
CENTS = st.integers(1, 99).map(lambda cents: Decimal(cents) / 100)
BOOKS = st.lists(st.builds(Level, CENTS, st.integers(1, 900 * SHARE)), max_size=3).map(tuple)
ANY = st.builds(
    inputs,
    now_ms=st.integers(END_MS - 200_000, END_MS + 1_000),
    strike=st.none() | st.just(60_000.0),
    lead_price=st.none() | st.floats(59_000, 61_000),
    asks_up=BOOKS,
    bids_up=BOOKS,
    asks_down=BOOKS,
    bids_down=BOOKS,
    held=st.none() | st.sampled_from(Outcome),
    held_shares=st.integers(0, 50 * SHARE),
    streak_window=st.sampled_from(["", WINDOW]),
    streak_outcome=st.sampled_from(["", "Up", "Down"]),
    streak=st.integers(0, 3),
    blocked=st.sampled_from(["", "control says pause"]),
)


def snipe() -> GuardedStrategy:
    return load_strategy(SNIPE)


def decided(found: Inputs, by: GuardedStrategy | None = None) -> Evaluation:
    """What an evaluation of these inputs came to."""
    decision = (by or snipe()).decide(found, Parameters())
    return Evaluation(SLOT, SLOT.window(found.now_ms), None, found, decision, evaluated=True, wanted=decision.action)


def on_record(*evaluations: Evaluation, given_: tuple[str, ...] = ()) -> InputRecord:
    return InputRecord(END_MS, 1, record(evaluations, Parameters(), given_, SNIPE, between=False))


ENTERS = inputs(streak_window=WINDOW, streak_outcome="Up", streak=2)


@given(st.lists(ANY, min_size=1, max_size=3))
@settings(max_examples=60, deadline=None)
def test_what_is_recorded_is_read_back_and_decided_the_same(found: list[Inputs]) -> None:
    """Inputs come back equal, with their exact types, and an unchanged strategy never differs."""
    written = on_record(*(decided(one) for one in found))
    rows = json.loads(written.body)["decisions"]
    assert [repr(read_decision(row)[0]) for row in rows] == [repr(one) for one in found]
    result = compare([written], snipe())
    assert (result.polls, result.decisions, result.differ, result.unreadable) == (1, len(found), 0, 0)
    assert not result.notes


def test_an_order_that_limits_refused_does_not_differ() -> None:
    """What the strategy wanted is compared, not what risk, limits or a closed market made of it."""
    e = decided(ENTERS)
    assert e.wanted == "enter"
    refused = replace(e, decision=replace(e.decision, action="none", reason="the daily loss limit"), acted=True)
    assert compare([on_record(refused)], snipe()).differ == 0


@dataclass(frozen=True)
class Dearer:
    """Snipe's parameters with another default."""

    min_edge: float = number(0.9)


class Changed(Snipe):
    """Snipe as a commit might change it."""

    def decide(self, inputs: Inputs, parameters: Parameters) -> Decision:
        decision = super().decide(inputs, parameters)
        return replace(decision, reason="in other words", size=decision.size // 2 // 10_000 * 10_000)


class NewDefault:
    """A commit that changed one default."""

    parameters = Dearer

    def decide(self, inputs: Inputs, parameters: Dearer) -> Decision:
        return Snipe().decide(inputs, Parameters(min_edge=parameters.min_edge))


class Broken(Snipe):
    """A commit that raises."""

    def decide(self, inputs: Inputs, parameters: Parameters) -> Decision:
        raise ValueError("no")


def test_a_changed_strategy_differs_and_says_how() -> None:
    """The list says slot, tick, what was decided and why, and what would be now and why."""
    result = compare([on_record(decided(ENTERS), decided(inputs(strike=None)))], GuardedStrategy(Changed(), SNIPE))
    assert str(result) == "1 poll replayed, 1 decision differs"
    (one,) = result.differences
    assert (one.slot, one.tick, one.was.action, one.now.reason) == ("BTC-5m", END_MS, "enter", "in other words")
    assert one.was.size != one.now.size
    assert json.loads(json.dumps(result.json()))["differences"][0]["text"] == result.lines()[0]


def test_a_changed_default_counts_unless_control_gave_the_value() -> None:
    """As after a deploy: what control names keeps its value, the rest follows the new defaults."""
    changed = GuardedStrategy(NewDefault(), SNIPE)
    assert compare([on_record(decided(ENTERS))], changed).differ == 1
    assert compare([on_record(decided(ENTERS), given_=("min_edge",))], changed).differ == 0


def test_a_strategy_that_raises_or_another_one_is_reported() -> None:
    """An evaluation that would fail is a difference even where nothing was ordered; another strategy's name is told."""
    result = compare([on_record(decided(inputs(strike=None)))], GuardedStrategy(Broken(), "mine.py:Broken"))
    assert (result.differ, result.differences[0].now.action) == (1, "fails")
    assert "decided by bot.strategy.snipe:Snipe, compared with mine.py:Broken" in result.notes


def test_what_an_older_release_recorded_is_compared_as_far_as_it_goes() -> None:
    """Without outcome, price and size the action alone is compared, with the parameters that were recorded."""
    body = json.loads(on_record(decided(ENTERS)).body)
    body["schema"] = "1.1"
    del body["given"]
    for row in body["decisions"]:
        for name in ("wanted", "outcome", "price", "size"):
            del row[name]
    old = InputRecord(END_MS, 1, json.dumps(body))
    assert compare([old], GuardedStrategy(Changed(), SNIPE)).differ == 0
    assert compare([old], GuardedStrategy(Broken(), SNIPE)).differ == 1


@pytest.mark.parametrize(
    "change",
    [
        {"unheard_of": 1},
        {"tick": "a cent"},
        {"tick": 0.01},
        {"held": "Sideways"},
        {"asks_up": [{"price": "0.5"}]},
        {"strike": 10**400},
        {"min_size": "5"},
        {"slot": None},
    ],
)
def test_inputs_that_this_version_cannot_read_are_counted(change: dict[str, Any]) -> None:
    """An unknown or unusable field costs that decision alone and is said."""
    body = json.loads(on_record(decided(ENTERS), decided(ENTERS)).body)
    body["decisions"][0]["inputs"].update(change)
    result = compare([InputRecord(END_MS, 1, json.dumps(body))], snipe())
    assert (result.decisions, result.differ, result.unreadable) == (1, 0, 1)
    assert str(result).endswith("1 could not be read")
    assert len(result.notes) == 1


@given(st.recursive(st.none() | st.integers() | st.text(max_size=5), lambda x: st.lists(x) | st.dictionaries(NAMES, x)))
@settings(max_examples=60, deadline=None)
def test_rubbish_on_record_never_raises(body: Any) -> None:
    """Whatever JSON is there, and what is none, is counted at most."""
    whole = {"schema": "1.9", **body} if isinstance(body, dict) else body
    assert compare([InputRecord(1, 1, json.dumps(whole)), InputRecord(1, 1, "{")], snipe()).unreadable >= 1


def test_only_what_one_commit_decided_is_asked_again_where_it_is_named() -> None:
    """What another commit decided otherwise, or recorded unreadably, is nothing that the named one's successor changes."""
    by = [record([decided(ENTERS)], Parameters(), (), SNIPE, between=False, sha=sha) for sha in ("a", "b")]
    records = [InputRecord(END_MS + n, 1, body) for n, body in enumerate([*by, '{"schema": "9.0"}'])]
    changed = GuardedStrategy(Changed(), SNIPE)
    assert [compare(records, changed, sha).differ for sha in ("", "a", "c")] == [2, 1, 0]
    assert [compare(records, changed, sha).unreadable for sha in ("", "a")] == [1, 0]


def test_another_commit_is_asked_in_its_own_words(tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    """`./ns compare REF` runs that commit's code, or says in one line why it cannot; what does not know it is never started."""
    monkeypatch.setenv("BUS_DIR", str(tmp_path / "bus"))
    bus = open_bus(tmp_path / "bus")
    ring = InputsRing(bus.inputs)
    ring.add(END_MS, 1, on_record(decided(ENTERS)).body)
    ring.close()
    repository = tmp_path / "repository"
    (repository / "bot").mkdir(parents=True)
    monkeypatch.chdir(repository)
    git = ["git", "-c", "user.name=test", "-c", "user.email=test@localhost", "-c", "commit.gpgsign=false"]
    files = [
        ("bot/__main__.py", "open('worked', 'w')"),
        ("run.py", "import sys; print('noise'); print('{\"text\": \"T\", \"differ\": 2, \"notes\": {\"N\": 3}, '"
                   "'\"differences\": [{\"text\": \"D\"}]}'); sys.exit(1)"),
    ]  # fmt: skip
    subprocess.run([*git, "init", "--quiet"], check=True)
    for name, text in files:
        subprocess.run([*git, "rm", "-r", "-q", "--cached", "--ignore-unmatch", "."], check=True)
        Path(name).write_text(text)
        subprocess.run([*git, "add", name], check=True)
        subprocess.run([*git, "commit", "--quiet", "--message", name], check=True)
    assert main(["compare", "HEAD"]) == 1
    assert capsys.readouterr().out == "T\nD\nand 1 more\n3 times: N\n"
    for ref, said in (
        ("HEAD~1", "does not know `compare`"),
        ("nope", "'nope' names no commit"),
        ("--x", "unrecognized"),
    ):
        if ref == "--x":
            with pytest.raises(SystemExit):
                main(["compare", ref])
        else:
            assert main(["compare", ref]) == 2
        assert said in capsys.readouterr().err
    assert not (repository / "worked").exists()


def test_the_command_compares_with_the_bus(tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    """`./ns compare` exits 0 where nothing differs, 1 where something does, 2 where it cannot, without a traceback."""
    monkeypatch.setenv("BUS_DIR", str(tmp_path))
    bus = open_bus(tmp_path)
    assert main(["compare"]) == 2
    assert "there is no inputs.db" in capsys.readouterr().err
    ring = InputsRing(bus.inputs)
    ring.add(1, 1, on_record(decided(replace(ENTERS, lead_price=1.0), by=GuardedStrategy(Changed(), SNIPE))).body)
    ring.add(END_MS, 1, on_record(decided(ENTERS)).body)
    assert main(["compare"]) == 0
    assert capsys.readouterr().out == "1 poll replayed, 0 decisions differ\n"
    ring.add(END_MS + 5_000, 1, on_record(decided(ENTERS, by=GuardedStrategy(Changed(), SNIPE))).body)
    ring.close()
    assert main(["compare", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["text"] == "2 polls replayed, 1 decision differs"
    bus.inputs.write_bytes(b"rubbish" * 1000)
    assert main(["compare"]) == 2
    assert "cannot be read" in capsys.readouterr().err
