"""What the soak calls bounded."""

from __future__ import annotations

from bench.day import Day
from proof.soak import bounds

FLAT = 40


def day(
    rss: list[float] | None = None,
    ledger: list[float] | None = None,
    beside: list[float] | None = None,
    processor: list[float] | None = None,
) -> Day:
    """Forty hours in which nothing grows but the ledger and what was worked, evenly."""
    return Day(
        rss=rss or [130.0] * FLAT,
        descriptors=[15] * FLAT,
        ledger_mb=ledger or [0.2 * hour for hour in range(FLAT)],
        beside_mb=beside or [116.0] * FLAT,
        processor_s=processor or [20.0 * hour for hour in range(FLAT)],
    )


def broken(of: Day) -> list[str]:
    """What the rows say did not hold."""
    return [text for row in bounds(of) for text in row.violations]


def test_what_stays_flat_is_bounded_and_what_grows_with_time_is_not() -> None:
    """Flat values hold, a leak of a hundredth an hour is named, and so is what grows faster and faster."""
    assert broken(day()) == []
    leak = [100.0 * 1.01**hour for hour in range(FLAT)]
    (said,) = broken(day(rss=leak))
    assert said.startswith("memory, paper's part included grew from 115.5")
    assert len(broken(day(beside=leak))) == 1
    for slower in (
        day(ledger=[0.01 * hour**3 for hour in range(FLAT)]),
        day(processor=[hour**2 for hour in range(FLAT)]),
    ):
        assert len(broken(slower)) == 1
