"""A real bot against a paper exchange that misbehaves: nothing is doubled, nothing is lost, and trading goes on after."""

from __future__ import annotations

import json
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bus import Role, read_status
from tests.e2e.rig import Rig, until

FILLS = "SELECT count(*) FROM fills"
POLLS = "SELECT count(*) FROM polls_completed"


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    """A bus, a paper exchange, one bot that trades."""
    made = Rig(tmp_path, timeframes="10s")
    try:
        bot = made.start_bot(BOT_REQUEST_LIMIT="1")
        made.until_role(bot, Role.ACTIVE)
        until("a first fill", lambda: made.count(FILLS))
        yield made
    finally:
        made.stop()


def get(rig: Rig, path: str) -> Any:
    """An answer of the exchange's own control."""
    with urllib.request.urlopen(rig.paper.url + path, timeout=5) as answer:
        return json.load(answer)


def why_not(rig: Rig) -> str:
    """Why the bot's last poll was not healthy."""
    seen = rig.seen(rig.bots[0])
    return (seen.document.why_not if seen and seen.document else None) or ""


def until_trading(rig: Rig) -> None:
    """Wait for the end of all faults, then for a poll that is healthy and a fill that is new."""
    until("every fault struck", lambda: not get(rig, "/paper/state")["faults"])
    fills = rig.count(FILLS)
    until("fills go on", lambda: rig.count(FILLS) > fills)
    until("entries are open", lambda: read_status(rig.bus).body.entries == "open" and not why_not(rig))


def assert_nothing_doubled(rig: Rig) -> None:
    """No entry was sent twice, no bytes differ for one order, and the audit holds against the exchange's record."""
    arrived: Counter[str] = Counter()
    bodies: dict[str, set[str]] = {}
    after: int | None = 0
    while after is not None:
        page = get(rig, f"/paper/record?after={after}&limit=1000")
        for row in page["requests"]:
            if (row["method"], row["path"]) == ("POST", "/order") and row["order_id"]:
                arrived[row["order_id"]] += 1
                bodies.setdefault(row["order_id"], set()).add(str(row["body"]))
        after = page["next"]
    with rig.ledger() as ledger:
        sides = {str(key): str(side) for key, side in ledger.execute("SELECT order_id, side FROM intents")}
    assert set(arrived) <= set(sides)
    assert [key for key, times in arrived.items() if times > 1 and sides[key] == "BUY"] == []
    assert [key for key, seen in bodies.items() if len(seen) > 1] == []
    rig.assert_audit()


def test_orders_whose_answers_fail_are_never_doubled(rig: Rig) -> None:
    """Answers lost before and after, slow beyond the limit, 500 and 425: one order an intent, and fills go on."""
    order = {"path": "/order", "method": "POST"}
    for kind in ("lost_after", "lost_before"):
        rig.paper.fault(kind=kind, count=2, **order)
    rig.paper.fault(kind="slow", seconds=2, count=1, **order)
    until_trading(rig)
    doubtful = rig.count("SELECT count(DISTINCT order_id) FROM orders WHERE state = 'in_doubt'")
    assert doubtful >= 4, "the faults struck orders"
    rig.paper.fault(kind="error", count=2, **order)
    rig.paper.fault(kind="restarting", count=3, **order)
    until_trading(rig)
    assert rig.count("SELECT count(*) FROM orders WHERE state = 'refused'") >= 1
    until("doubt ends", lambda: read_status(rig.bus).body.totals.in_doubt == 0)
    assert_nothing_doubled(rig)


def test_an_exchange_that_restarts_and_streams_that_freeze_cost_no_poll(rig: Rig) -> None:
    """Everything answers 425 for 4 s, streams break, then freeze for 8 s: polls go on, unhealthy, and fills come again."""
    polls = rig.count(POLLS)
    rig.paper.fault(kind="restarting", seconds=4, path="/")
    until("polls are unhealthy", lambda: "the books could not be read" in why_not(rig))
    rig.paper.fault(kind="drop_streams", path="/stream")
    until_trading(rig)
    rig.paper.fault(kind="freeze_streams", seconds=8, path="/stream")
    until("stale prices are said", lambda: "s old" in why_not(rig))
    until_trading(rig)
    assert rig.count(POLLS) > polls + 20
    assert_nothing_doubled(rig)
