"""How long nobody traded between two epochs, as the ledger tells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ledger import Ledger

Kind = Literal["handover", "stop", "death"]
KINDS: tuple[Kind, ...] = ("handover", "stop", "death")
MOST = 100


@dataclass(frozen=True, slots=True)
class Gap:
    """Between the end of one epoch and the beginning of `epoch`.

    kind: handover, the former holder yielded; stop, it was stopped; death, it died (the gap counts from its last claim of a
    tick, so up to one interval too much). began_ms: UTC ms of the new epoch.
    """

    epoch: int
    kind: Kind
    seconds: float
    began_ms: int


def read_gaps(ledger: Ledger, after: int) -> list[Gap]:
    """The gaps before the epochs later than `after`, oldest first, at most the newest MOST; none across a reboot.

    Raises LedgerError.
    """
    rows = ledger.execute(
        "SELECT e.epoch, e.wall_ms, e.boot_ms, r.boot_ms, r.reason, (SELECT c.boot_ms FROM polls_claimed c "
        "WHERE c.epoch = e.epoch - 1 ORDER BY c.tick DESC LIMIT 1) "
        "FROM epochs e JOIN epochs f ON f.epoch = e.epoch - 1 AND f.boot_id = e.boot_id "
        "LEFT JOIN releases r ON r.epoch = e.epoch - 1 WHERE e.epoch > ? ORDER BY e.epoch DESC LIMIT ?",
        (after, MOST),
    )
    gaps = []
    for epoch, wall_ms, boot_ms, released_ms, reason, claimed_ms in reversed(rows):
        from_ms = released_ms if released_ms is not None else claimed_ms
        if from_ms is None:
            continue  # the former epoch never polled
        kind: Kind = "death" if released_ms is None else "handover" if reason == "handover" else "stop"
        seconds = max(0, int(str(boot_ms)) - int(str(from_ms))) / 1000
        gaps.append(Gap(int(str(epoch)), kind, seconds, int(str(wall_ms))))
    return gaps
