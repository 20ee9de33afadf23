"""What the messages of the user channel say: the orders to look at, and nothing from what is no event."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.venue.polymarket.streams import user_events
from bot.venue.types import UserEvent

ORDER = {"event_type": "order", "type": "PLACEMENT", "id": "0x01", "market": "0xc", "size_matched": "0"}
TRADE = {
    "event_type": "trade",
    "id": "t1",
    "status": "MATCHED",
    "market": "0xc",
    "taker_order_id": "0x02",
    "maker_orders": [{"order_id": "0x03"}, {"order_id": "0x04"}],
}


@pytest.mark.parametrize(
    ("message", "events"),
    [
        (ORDER, [UserEvent(("0x01",), "0xc")]),
        (TRADE, [UserEvent(("0x02", "0x03", "0x04"), "0xc", "t1", "MATCHED")]),
        (
            [ORDER, TRADE | {"maker_orders": None}],
            [UserEvent(("0x01",), "0xc"), UserEvent(("0x02",), "0xc", "t1", "MATCHED")],
        ),
        (
            TRADE | {"status": "TRADE_STATUS_FAILED", "maker_orders": []},
            [UserEvent(("0x02",), "0xc", "t1", "FAILED")],
        ),
        ({"event_type": "book"}, []),
        ({"event_type": "order", "id": 7}, []),
        ([], []),
    ],
)
def test_events_name_the_orders_to_look_at(message: object, events: list[UserEvent]) -> None:
    """Orders by their id, trades by the ids of both sides; other kinds give nothing."""
    assert user_events(json.dumps(message)) == events


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(list(TRADE)) | st.text(), inner),
)


@given(st.text() | json_values.map(json.dumps))
def test_nothing_that_comes_in_raises(text: str) -> None:
    """PONG, torn JSON, lists of anything: read or ignored."""
    assert all(isinstance(event, UserEvent) for event in user_events(text))
