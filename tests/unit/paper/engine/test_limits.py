"""Token buckets of signers, and the dead-man switch."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paper.engine.keys import TIERS, Heartbeats, Limits
from paper.engine.record import Record
from paper.errors import RefusedError

NOW = 1_795_000_000_000


@given(gaps=st.lists(st.tuples(st.sampled_from([0, 0, 0, 100, 5_000]), st.integers(5, 15)), max_size=100))
def test_nobody_gets_more_than_burst_and_rate(gaps: list[tuple[int, int]]) -> None:
    """Over any time, the orders let through are at most the burst and what flowed back; batches count whole or not."""
    limits, now = Limits("standard"), NOW
    let_through: list[tuple[int, int]] = []
    for gap_ms, count in gaps:
        now += gap_ms
        with contextlib.suppress(RefusedError):
            headers = limits.take("0xa", "order", count, now)
            let_through.append((now, count))
            assert int(headers["Poly-RateLimit-Remaining"]) >= 0
    tier = TIERS["standard"]
    for first, (since, _) in enumerate(let_through):
        total = 0
        for until, count in let_through[first:]:
            total += count
            assert total <= tier.orders_burst + tier.orders_s * (until - since) / 1000 + 1e-6


def test_refused_signer_may_come_back_when_it_was_told() -> None:
    """After Retry-After the request is let through; other signers, and cancels, have their own tokens."""
    limits = Limits("standard")
    limits.take("0xa", "order", 60, NOW)
    with pytest.raises(RefusedError) as refused:
        limits.take("0xa", "order", 60, NOW)
    assert refused.value.status == 429
    limits.take("0xb", "order", 15, NOW)
    limits.take("0xa", "cancel", 15, NOW)
    limits.take("0xa", "order", 60, NOW + int(refused.value.headers["Retry-After"]) * 1000)


def test_cancel_all_may_owe_tokens() -> None:
    """Cancel-all goes through however many orders it ends, and later cancels wait for what it owes (venue.md 4.1)."""
    limits = Limits("standard")
    assert limits.take("0xa", "cancel", 500, NOW, may_owe=True)["Poly-RateLimit-Remaining"] == "-380"
    for may_owe in (False, True):
        with pytest.raises(RefusedError):
            limits.take("0xa", "cancel", 1, NOW + 4_000, may_owe=may_owe)
    limits.take("0xa", "cancel", 1, NOW + 5_000)


@pytest.fixture
def record(tmp_path: Path) -> Iterator[Record]:
    record = Record(tmp_path)
    yield record
    record.close()


def _expected(heartbeats: Heartbeats, heartbeat_id: str, at: int = NOW) -> str:
    with pytest.raises(RefusedError, match="Invalid Heartbeat ID") as refused:
        heartbeats.beat("key", heartbeat_id, at)
    return str(refused.value.extra["heartbeat_id"])


def test_chain_names_the_next_id_to_whoever_lost_it(record: Record) -> None:
    """The first heartbeat has an empty id, each other the one of the answer before; a wrong one is told the right one."""
    heartbeats = Heartbeats(record, 10_000, NOW)
    assert _expected(heartbeats, "something") == ""
    first = heartbeats.beat("key", "", NOW)
    second = heartbeats.beat("key", first, NOW)
    assert second != first
    assert [_expected(heartbeats, wrong) for wrong in (first, "")] == [second, second]


def test_switch_strikes_once_and_is_armed_again_by_the_chain(record: Record) -> None:
    """Silence beyond the limit strikes once; a wrong id does not renew; after it the chain goes on where it was."""
    heartbeats = Heartbeats(record, 10_000, NOW)
    following = heartbeats.beat("key", "", NOW)
    assert _expected(heartbeats, "wrong", NOW + 9_000) == following
    assert [heartbeats.silent(NOW + at) for at in (10_000, 10_001, 10_002)] == [set(), {"key"}, set()]
    heartbeats.beat("key", following, NOW + 20_000)
    assert heartbeats.silent(NOW + 30_001) == {"key"}


def test_restarted_exchange_knows_the_chains(record: Record) -> None:
    """After a restart the same id is expected; a key that stays silent is struck one whole limit later."""
    following = Heartbeats(record, 10_000, NOW).beat("key", "", NOW)
    record.write_now()
    again = Heartbeats(record, 10_000, NOW + 60_000)
    assert _expected(again, "", NOW + 60_000) == following
    assert [again.silent(NOW + at) for at in (70_000, 70_001)] == [set(), {"key"}]
