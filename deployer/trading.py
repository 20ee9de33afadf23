"""How fresh the ledger is: the one rule for "somebody trades", of the deployer and of `./ns status`."""

from __future__ import annotations

from bus import Clock
from ledger import Epoch, Ledger


def read_quiet_ms(ledger: Ledger, newest: Epoch | None, clock: Clock) -> int | None:
    """How long ago the newest epoch took the lease or completed a poll, whichever is later; None where the ledger shows no polls.

    By the clock that does not jump. Of another boot of the machine nobody lives, so it is as old as the machine is up.
    """
    anchor = ledger.anchor()
    tick = ledger.scalar("SELECT max(tick) FROM polls_completed")
    if newest is None or anchor is None or not isinstance(tick, int):
        return None
    now_ms = clock.boot_ms()
    signs = [0]
    if newest.boot_id == clock.boot_id:
        signs.append(newest.boot_ms)
    if anchor.boot_id == clock.boot_id:
        signs.append(min(now_ms, anchor.due_ms(tick)))
    return now_ms - max(signs)
