"""The venue's words for orders and trades: known ones in every spelling, and none taken for what it may not be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.venue.types import FINAL_STATUSES, OPEN_STATUSES, TRADE_STATUSES, Fate, fate_of, order_word
from ledger.values import trade_word

UNMATCHED = "UNMATCHED"


@pytest.mark.parametrize(
    ("status", "word", "fate"),
    [
        ("LIVE", "LIVE", Fate.OPEN),
        ("delayed", "DELAYED", Fate.OPEN),
        ("ORDER_STATUS_LIVE", "LIVE", Fate.OPEN),
        ("MATCHED", "MATCHED", Fate.FINAL),
        (UNMATCHED, UNMATCHED, Fate.FINAL),
        ("ORDER_STATUS_UNMATCHED", UNMATCHED, Fate.FINAL),
        ("CANCELED", "CANCELED", Fate.FINAL),
        ("CANCELLED", "CANCELLED", Fate.FINAL),
        ("CANCELED_MARKET_RESOLVED", "CANCELED", Fate.FINAL),
        ("INVALID_ORDER_DUPLICATED", "INVALID", Fate.FINAL),
        ("CANCELED_order couldn't be fully filled. FOK orders are fully filled or killed.", "CANCELED", Fate.FINAL),
        ("order couldn't be fully filled. FOK orders are fully filled or killed.", "CANCELED", Fate.FINAL),
        ("no orders found to match with FAK order", "CANCELED", Fate.FINAL),
        ("MATCHEDISH", "MATCHEDISH", Fate.UNKNOWN),
        ("PARKED", "PARKED", Fate.UNKNOWN),
        ("", "", Fate.UNKNOWN),
        ("the market moved", "THE MARKET MOVED", Fate.UNKNOWN),
    ],
)
def test_a_status_of_an_order_is_one_word_and_one_fate(status: str, word: str, fate: Fate) -> None:
    """Prefixes, reasons, spellings and sentences become the word that they mean; the rest is unknown."""
    assert (order_word(status), fate_of(status)) == (word, fate)


@given(st.sampled_from([*FINAL_STATUSES, *OPEN_STATUSES]), st.text(alphabet="abcxyz .'_", max_size=20))
def test_a_known_word_keeps_its_fate_whatever_follows_it(word: str, reason: str) -> None:
    """A reason behind a word, after a mark, changes nothing."""
    assert fate_of(f"{word}_{reason}") is fate_of(word) is not Fate.UNKNOWN


@given(st.sampled_from(TRADE_STATUSES), st.booleans())
def test_a_status_of_a_trade_has_no_prefix(word: str, lower: bool) -> None:
    """REST serves TRADE_STATUS_CONFIRMED where the channel says CONFIRMED."""
    said = f"TRADE_STATUS_{word}"
    assert trade_word(said.lower() if lower else said) == trade_word(word) == word


@pytest.mark.parametrize(
    ("said", "word"),
    [
        ("FAILED: execution reverted", "FAILED"),
        ("trade_status_failed_on_chain", "FAILED"),
        ("FAILEDISH", "FAILEDISH"),
        ("NOT_FAILED", "NOT_FAILED"),
    ],
)
def test_a_failure_with_a_reason_is_one(said: str, word: str) -> None:
    """A sentence that begins with the word makes no fill of a trade that was reversed. Failed before."""
    assert trade_word(said) == word
