"""A deploy in whose middle everything was ended: `./ns stop`, a power cut, a reboot. Interrupted is not failed. Pure.

It is looked for once, as a deployer starts: nothing of the bus runs then, and the open deploy had a candidate. The deploy goes
on from what was built, and what its candidate had come to counts no more (`Deploy.standing`). A candidate that dies by itself
while a deployer looks on is not interrupted, but failed. What ends machines would be tried for ever, so there is a limit.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from bus.errors import Reason
from deployer.deploys import INTERRUPTED, Deploy, History
from deployer.errors import Code
from deployer.runtimes.api import Unit

MOST = 3


@dataclass(frozen=True, slots=True)
class Interruption:
    """step: `interrupted`, or `failed` when it was so too often. gone: the ended units of its candidate, to be removed first."""

    deploy: Deploy
    step: str
    text: str
    gone: tuple[str, ...]


def interruption(history: History, units: Iterable[Unit]) -> Interruption | None:
    """Whether everything was ended in the middle of the open deploy. units: all of the bus, as the deployer starts."""
    deploy, units = history.open, tuple(units)
    # What was being taken back had failed already, and goes on to its verdict.
    if deploy is None or deploy.has("taking-back") or any(unit.running and not unit.stopping for unit in units):
        return None
    gone = tuple(unit.name for unit in units if unit.deploy_id == deploy.id and not unit.running)
    if not deploy.has("started") and not gone:
        return None  # it had no candidate yet: building goes on by itself
    return interrupted(deploy, gone)


def interrupted(deploy: Deploy, gone: tuple[str, ...]) -> Interruption:
    """The same of a deploy whose candidate was told to end, by a `down` that was cut off itself."""
    before = sum(step.step == INTERRUPTED for step in deploy.steps)
    if before >= MOST:
        text = f"everything was ended in the middle of it {before + 1} times; `./ns deploy {deploy.sha[:7]}` tries it again"
        return Interruption(deploy, "failed", Reason(Code.INTERRUPTED, text), gone)
    return Interruption(deploy, INTERRUPTED, f"everything was ended when it was {deploy.phase}; it goes on", gone)
