"""What a part of the fire did to the trade: ticks missed, orders doubled, the longest gap without a trader, the audit."""

from __future__ import annotations

import json
import urllib.request
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ledger import Ledger
from tests.e2e.fire.rig import FireRig
from tests.e2e.rig import Rig, until

MISSED = "SELECT coalesce(sum(ticks), 0) FROM polls_missed"
# What was in the network when its sender was stopped is answered by the exchange after its hold of 250 ms.
IN_THE_NETWORK_MS = 1_000


@dataclass(slots=True)
class Tried:
    """What a part tells of itself. notes: what happened, in sentences for people."""

    times: int = 0
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Outcome:
    """One line of the table. gap_ms: the longest time between two holders. broken: what did not hold, in sentences."""

    part: str
    tried: int
    missed: int
    duplicates: int
    gap_ms: int
    notes: tuple[str, ...]
    broken: tuple[str, ...]


def measure(rig: FireRig, part: str, work: Callable[[Tried], None], *, allowed: int | None = 0) -> Outcome:
    """Do one part on a settled rig; then count and audit. allowed: ticks that it may miss at most; None for any number.

    A part that fails with an AssertionError is told in `broken`; nothing is raised.
    """
    missed, doubled, epoch = rig.count(MISSED), set(duplicates(rig)), rig.epoch()
    tried, broken = Tried(), []
    try:
        work(tried)
        rig.until_polls(2)  # what was missed is recorded by the next poll
    except AssertionError as error:
        broken.append(str(error) or "an assertion without words")
    missed = rig.count(MISSED) - missed
    if allowed is not None and missed > allowed:
        broken.append(f"{missed} ticks were missed, at most {allowed} are allowed: {_reasons(rig)}")
    twice = [text for text in duplicates(rig) if text not in doubled]
    broken += twice
    audit = rig.audit()
    if audit.returncode != 0:
        broken.append(f"the audit: {_violations(audit.stdout) or audit.stderr}")
    notes = tuple(tried.notes)
    return Outcome(part, tried.times, missed, len(twice), max(gaps(rig, epoch), default=0), notes, tuple(broken))


def gaps(rig: FireRig, epoch: int) -> list[int]:
    """The times without a holder before each epoch after `epoch`, in ms.

    From the release of the one before; else from the moment at which it was struck; else from its last claim.
    """
    with until("a ledger", lambda: Ledger.reader(rig.bus.ledger)) as ledger:
        rows = ledger.execute(
            "SELECT n.boot_ms, r.boot_ms, "
            "coalesce((SELECT max(c.boot_ms) FROM polls_claimed c WHERE c.epoch = e.epoch), e.boot_ms) "
            "FROM epochs n JOIN epochs e ON e.epoch = n.epoch - 1 LEFT JOIN releases r ON r.epoch = e.epoch "
            "WHERE n.epoch > ? ORDER BY n.epoch",
            (epoch,),
        )
    found = []
    for begun, released, claimed in rows:
        began_ms, last_ms = int(str(begun)), int(str(claimed))
        struck = [moment for moment in rig.ends if last_ms <= moment <= began_ms]
        ended_ms = int(str(released)) if released is not None else max(struck, default=last_ms)
        found.append(began_ms - ended_ms)
    return found


def duplicates(rig: FireRig | Rig) -> list[str]:
    """Entries whose bytes arrived twice, bytes that differ for one order, and windows that were bought twice."""
    arrived: Counter[str] = Counter()
    bodies: dict[str, set[str]] = {}
    for row in record(rig, "requests"):
        if (row["method"], row["path"]) == ("POST", "/order") and row["order_id"]:
            arrived[row["order_id"]] += 1
            bodies.setdefault(row["order_id"], set()).add(str(row["body"]))
    with until("a ledger", lambda: Ledger.reader(rig.bus.ledger)) as ledger:
        sides = {str(key): str(side) for key, side in ledger.execute("SELECT order_id, side FROM intents")}
        bought = ledger.execute(
            "SELECT i.window, count(DISTINCT i.order_id) FROM intents i JOIN fills f ON f.order_id = i.order_id "
            "WHERE i.side = 'BUY' GROUP BY i.window HAVING count(DISTINCT i.order_id) > 1 ORDER BY min(i.wall_ms)"
        )
    found = [f"entry {key} was sent {n} times" for key, n in arrived.items() if n > 1 and sides.get(key) == "BUY"]
    found += [f"order {key} was sent with bytes that differ" for key, seen in bodies.items() if len(seen) > 1]
    return found + [f"window {window} was bought {times} times" for window, times in bought]


def sent_after(rig: FireRig, instance: str, wall_ms: int) -> list[str]:
    """Orders of an instance's epochs that the exchange received after a moment."""
    with until("a ledger", lambda: Ledger.reader(rig.bus.ledger)) as ledger:
        rows = ledger.execute(
            "SELECT order_id FROM intents WHERE epoch IN (SELECT epoch FROM epochs WHERE instance = ?)", (instance,)
        )
    own = {str(key) for (key,) in rows}
    late = [row for row in record(rig, "orders") if row["received_ms"] > wall_ms + IN_THE_NETWORK_MS]
    return [str(row["order_id"]) for row in late if row["order_id"] in own]


def record(rig: FireRig | Rig, kind: str) -> list[dict[str, Any]]:
    """All rows of one kind of the exchange's record."""
    found: list[dict[str, Any]] = []
    after: int | None = 0
    while after is not None:
        with urllib.request.urlopen(f"{rig.paper.url}/paper/record?after={after}&limit=1000", timeout=60) as answer:
            page = json.load(answer)
        found += page[kind]
        after = page["next"]
    return found


def _reasons(rig: FireRig) -> str:
    with until("a ledger", lambda: Ledger.reader(rig.bus.ledger)) as ledger:
        rows = ledger.execute("SELECT ticks, reason FROM polls_missed ORDER BY first_tick DESC LIMIT 5")
    return "; ".join(f"{ticks}: {reason}" for ticks, reason in rows)


def _violations(audit: str) -> str:
    try:
        checks = json.loads(audit)["checks"]
    except ValueError:
        return audit
    return "; ".join(f"{c['invariant']} {text}" for c in checks for text in c["violations"])


__all__ = ["Outcome", "Tried", "duplicates", "gaps", "measure", "record", "sent_after"]
