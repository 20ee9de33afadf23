"""Real handovers and real deaths, timed: `python -m proof.handovers [--handovers 200] [--kills 250]`.

Two real bots at 1 s polls against a real exchange, with orders under way. First the lease is passed to and fro; then whoever
trades is killed with SIGKILL at a random moment while the other one stands by. Nothing may be lost or doubled, and no tick be
missed; the times are told as distributions, since a busy machine makes them longer.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench.stage import percentiles
from bus import Role
from proof.kills import Stage
from proof.report import Row, add_out, save
from tests.e2e.fire.outcome import duplicates
from tests.e2e.rig import until

PART = "handovers"
INTERVAL_S = 1.0
POLLS, NEWEST = "SELECT count(*) FROM polls_completed", "SELECT max(epoch) FROM epochs"
FIRST_POLLS = (
    "SELECT p.lag_ms FROM polls_completed p JOIN epochs e ON e.epoch = p.epoch "
    "WHERE p.tick = (SELECT min(tick) FROM polls_completed q WHERE q.epoch = p.epoch) AND p.epoch BETWEEN ? AND ?"
)
GAPS = (
    "SELECT e.boot_ms - r.boot_ms FROM releases r JOIN epochs e ON e.epoch = r.epoch + 1 WHERE r.epoch BETWEEN ? AND ?"
)


def rows(handovers: int, kills: int, seed: int) -> Iterator[Row]:
    """A row for the handovers, one for the deaths, one for what the audit says of all."""
    with tempfile.TemporaryDirectory(prefix="never-sleeps-handovers-") as folder:
        stage = Stage(Path(folder), INTERVAL_S)
        try:
            yield _handovers(stage, handovers)
            yield _kills(stage, kills, random.Random(seed))
            wrong = stage.audit() + tuple(duplicates(stage.rig))
            orders = stage.rig.count("SELECT count(*) FROM intents")
            yield Row(PART, "audit against the exchange's record, duplicates", orders, "orders", wrong)
        finally:
            stage.stop()


def _handovers(stage: Stage, number: int) -> Row:
    missed, first = _missed(stage), _epoch(stage)
    for _ in range(number):
        stage.rig.name(stage.other)
        stage.rig.until_role(stage.other, Role.ACTIVE)
        stage.holder, stage.other = stage.other, stage.holder
        _until_more(stage, POLLS, stage.rig.count(POLLS))
    last = _epoch(stage)
    note = f"release to take {percentiles(_values(stage, GAPS, first, last - 1))}; "
    note += f"lag of the first poll after it {percentiles(_values(stage, FIRST_POLLS, first + 1, last))}"
    return Row(PART, "real handovers between two bots", last - first, "handovers", _wrong(stage, missed), note)


def _kills(stage: Stage, number: int, rng: random.Random) -> Row:
    missed, gaps, first = _missed(stage), list[float](), _epoch(stage)
    for _ in range(number):
        time.sleep(rng.uniform(0.0, INTERVAL_S))  # the death's own moment, drawn by seed: no event stands for it
        before, killed_ms = _epoch(stage), stage.rig.clock.boot_ms()
        stage.holder.process.send_signal(signal.SIGKILL)
        _until_more(stage, NEWEST, before)
        gaps.append(stage.rig.count("SELECT boot_ms FROM epochs ORDER BY epoch DESC LIMIT 1") - killed_ms)
        stage.settle()
    note = f"SIGKILL to the next trader's take {percentiles(gaps)}; "
    note += f"lag of the first poll after it {percentiles(_values(stage, FIRST_POLLS, first + 1, _epoch(stage)))}"
    return Row(
        PART, "SIGKILL of the one that trades, the other stands by", len(gaps), "SIGKILLs", _wrong(stage, missed), note
    )


def _epoch(stage: Stage) -> int:
    return stage.rig.count(NEWEST)


def _until_more(stage: Stage, sql: str, before: int) -> None:
    until("it went on", lambda: stage.rig.count(sql) > before)


def _missed(stage: Stage) -> int:
    return stage.rig.count("SELECT coalesce(sum(ticks), 0) FROM polls_missed")


def _wrong(stage: Stage, before: int) -> tuple[str, ...]:
    missed = _missed(stage) - before
    return (f"{missed} ticks were missed",) if missed else ()


def _values(stage: Stage, sql: str, first: int, last: int) -> list[float]:
    with stage.rig.ledger() as ledger:
        return [float(str(value)) for (value,) in ledger.execute(sql, (first, last))]


def main() -> int:
    """Run it; 1 when something was lost, doubled or missed."""
    parser = argparse.ArgumentParser(prog="python -m proof.handovers", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--handovers", type=int, default=200, help="(%(default)s)")
    parser.add_argument("--kills", type=int, default=250, help="(%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the moments of the kills (%(default)s)")
    add_out(parser)
    chosen = parser.parse_args()
    return save(PART, rows(chosen.handovers, chosen.kills, chosen.seed), chosen.out)


if __name__ == "__main__":
    sys.exit(main())
