"""The second worker: a settlement queue. Each job in BUS/jobs is paid exactly once, whoever dies and whatever is deployed.

What it owes the deployer is in docs/reference/contract.md. It has no ticks: a cycle is one look at the queue. Payments go to
BUS/payments.log, the bank of this example. A job is intended in the ledger before it is paid; after a death the bank's own
record tells whether it was.
"""

import os
import signal
import sys
import threading
import time
from pathlib import Path

import bus
from ledger import Identity, Ledger, append_only

if "--version" in sys.argv:  # the build's try: it can be imported
    sys.exit(0)
EVERY_S = 0.05
MOST = 10  # jobs a cycle: a queue that grows must not keep it from yielding
SCHEMA = "".join(
    f"CREATE TABLE IF NOT EXISTS {table} (job TEXT PRIMARY KEY, epoch INTEGER NOT NULL) STRICT;{append_only(table)}"
    for table in ("intended", "settled")
)
home, clock, stop = bus.open_bus(Path(os.environ["BUS_DIR"])), bus.SystemClock(), threading.Event()
lease, color, sha = bus.Lease(home.lease), os.environ["BOT_COLOR"], os.environ["BOT_SHA"]
me = bus.Instance(
    id=bus.new_id(clock, color, sha), role=bus.Role.STANDBY, color=color, sha=sha, unit=os.environ["BOT_UNIT"],
    deploy_id=os.environ["BOT_DEPLOY_ID"], pid=os.getpid(), healthy=True,
)  # fmt: skip


def settle(ledger: Ledger, epoch: int) -> None:
    """One cycle: pay what is in the queue."""
    bank = home.directory / "payments.log"
    paid = set(bank.read_text().split()) if bank.exists() else set()
    for path in sorted((home.directory / "jobs").glob("*"))[:MOST]:
        job = path.name
        if not ledger.integer("SELECT count(*) FROM intended WHERE job = ?", (job,)):
            ledger.execute("INSERT INTO intended(job, epoch) VALUES (?, ?)", (job, epoch))
        if job not in paid:
            bus.append_durably(bank, f"{job}\n".encode())
        if not ledger.integer("SELECT count(*) FROM settled WHERE job = ?", (job,)):
            ledger.execute("INSERT INTO settled(job, epoch) VALUES (?, ?)", (job, epoch))
        path.unlink()


def may_take(free_since: float) -> bool:
    """Preference is a delay before trying: the named one at once, the confirmed commit's next, the others last."""
    handover = bus.read_handover(home)
    delay = 0.0 if handover.wanted == me.id else 0.1 if handover.confirmed_sha == sha else 0.4
    return me.id not in handover.retired and time.monotonic() - free_since >= delay


def asked_to_yield(ledger: Ledger) -> str:
    """The request of a new handover to another living, healthy instance; empty for none."""
    handover = bus.read_handover(home)
    if not handover.in_force(clock) or handover.wanted in (None, me.id) or ledger.is_spent(handover.request_id):
        return ""
    named = bus.read_instance(home, handover.wanted or "")
    return handover.request_id if named.alive and named.document is not None and named.document.healthy else ""


def main() -> None:
    """One instance until SIGTERM."""
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    file, said, free_since = bus.InstanceFile(home, clock, me), me, time.monotonic()
    ledger: Ledger | None = None
    epoch = cycles = 0
    while ledger is not None or not stop.is_set():
        cycles += 1
        if ledger is not None:
            settle(ledger, epoch)
            said = said.changed(last_tick=cycles, active_healthy=said.active_healthy + 1)
            if (request := asked_to_yield(ledger)) or stop.is_set():
                ledger.release(epoch, request=request, reason="", wall_ms=clock.wall_ms(), boot_ms=clock.boot_ms())
                ledger.close()
                lease.unlock()
                ledger, said, free_since = None, me, time.monotonic() + 0.5
        elif not lease.try_lock():
            free_since = max(free_since, time.monotonic())
        elif may_take(free_since):
            ledger = Ledger.hold(home.ledger, Identity("settlement", "0", "queue"), SCHEMA)
            epoch = ledger.take(instance=me.id, sha=sha, color=color, request="", wall_ms=clock.wall_ms(),
                                boot_ms=clock.boot_ms(), boot_id=clock.boot_id)  # fmt: skip
            said = me.changed(role=bus.Role.ACTIVE, epoch=epoch)
        else:
            lease.unlock()
        if ledger is None and me.id in bus.read_handover(home).retired:
            said = me.changed(role=bus.Role.RETIRED)
        file.write(said.changed(polls=cycles))
        time.sleep(EVERY_S)
    file.close()


if __name__ == "__main__":
    main()
