"""What people say to the running bot from the command line: adopt what the account has, settle what the venue never resolved."""

from __future__ import annotations

import getpass
from decimal import Decimal

from bot.operator.requests import ask_and_wait
from bus import Bus, BusError, Clock


def whoami() -> str:
    """The name that is recorded beside what a person did."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user need not have a name
        return "nobody named"


def _agrees(question: str) -> bool:
    try:
        return input(question).strip().lower() in ("y", "yes")
    except EOFError:  # nobody is there
        return False


def adopt(bus: Bus, clock: Clock, *, who: str, note: str, yes: bool) -> str:
    """Show what the account has and the ledger does not know, and adopt it where the person agrees; returns what was done.

    Raises BusError: no instance answered, or what was shown changed meanwhile.
    """
    _, shown = ask_and_wait(bus, clock, action="strangers", who=who)
    name, _, lines = shown.partition("\n")
    if not name:
        return "the ledger knows all that the account shows; there is nothing to adopt"
    print("This ledger does not know:")
    print(lines)
    print("Adopted, it is recorded as the owner's own: the bot never touches it, and goes on trading beside it.")
    if not yes and not _agrees("Adopt all of it? [y/N] "):
        return "nothing was changed"
    done, answer = ask_and_wait(bus, clock, action="adopt", who=who, note=note, seen=name)
    if not done:
        raise BusError(answer)
    return answer


def settle(bus: Bus, clock: Clock, *, order_id: str, verdict: str, shares: Decimal | None, who: str, note: str) -> str:
    """End an order that the venue never resolved, by a person's word; returns what was done. Raises BusError."""
    done, answer = ask_and_wait(
        bus, clock, action="settle", who=who, note=note, order_id=order_id, verdict=verdict, shares=shares
    )
    if not done:
        raise BusError(answer)
    return answer
