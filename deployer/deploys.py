"""Deploys, folded from the steps of the history. Pure.

A deploy's steps: queued, building, built, started, healthy, handover (one for every request), taken, then confirmed and
retired; or taking-back and taken-back; it ends as confirmed, failed or cancelled. Between healthy and handover it may be held,
then approved. A commit that changes nothing that runs ends as unchanged (push.unchanged). `answered` is the answer to a request,
`compared` what came of the comparison of decisions: no phases.
`interrupted` (rollout.interruption) takes back what the candidate had come to; the deploy goes on from what was built.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from bus import Step
from bus.control import pause_words
from bus.history import UNCHANGED

KEEP = 300
# As the file has them, and as people read them.
VERDICTS = ("confirmed", "failed", "cancelled")
RESULTS = (*VERDICTS, UNCHANGED)
NO_PHASE = ("answered", "compared")
INTERRUPTED = "interrupted"
# Of no deploy (rollout.standstill).
NOBODY_TRADES, TRADES_AGAIN = "nobody-trades", "trades-again"
# What a candidate came to that is gone since.
_OF_A_CANDIDATE = frozenset({"started", "healthy", "held", "handover", "taken"})


@dataclass(frozen=True, slots=True)
class Deploy:
    """One deploy with its steps, oldest first."""

    id: str
    steps: tuple[Step, ...]

    @property
    def standing(self) -> tuple[Step, ...]:
        """Its steps without those of a candidate that ended with everything else."""
        place = max((place for place, step in enumerate(self.steps) if step.step == INTERRUPTED), default=0)
        return tuple(s for s in self.steps[:place] if s.step not in _OF_A_CANDIDATE) + self.steps[place:]

    @property
    def sha(self) -> str:
        """The commit."""
        return self.steps[0].sha

    @property
    def cause(self) -> str:
        """branch: a commit to it; deploy, rollback: a person's request."""
        return str(self.steps[0].data.get("cause", "branch"))

    @property
    def by(self) -> str:
        """Who: the pusher when a push brought it, else whom its first step names."""
        pushed = [step.by for step in self.steps if step.step == "answered" and step.data.get("push")]
        return pushed[0] if pushed else self.steps[0].by

    @property
    def what(self) -> str:
        """The commit's subject where the branch brought it, else what was asked for."""
        data = self.steps[0].data
        return str(data.get("subject") or data.get("ref") or self.cause)

    @property
    def began_ms(self) -> int:
        """UTC ms."""
        return self.steps[0].time_ms

    @property
    def phase(self) -> str:
        """The name of its newest step that is a phase."""
        return self.newest.word

    @property
    def newest(self) -> Step:
        """Its newest step that is a phase."""
        return next((step for step in reversed(self.steps) if step.step not in NO_PHASE), self.steps[0])

    @property
    def ending(self) -> Step | None:
        """The step that has its verdict; None while it is open."""
        return next((step for step in self.steps if step.step in VERDICTS), None)

    @property
    def verdict(self) -> str | None:
        """confirmed, failed, cancelled or unchanged; None while it is open."""
        return self.ending.word if self.ending is not None else None

    @property
    def why(self) -> str:
        """What its verdict says; empty while it is open."""
        return self.ending.text if self.ending is not None else ""

    @property
    def is_now(self) -> bool:
        """Whether somebody asked for it with --now: then it does not wait for a venue that is down, either."""
        return any(step.data.get("now") for step in self.steps)

    @property
    def is_hurried(self) -> bool:
        """Whether it waits for no comparison and no approval."""
        return self.cause == "rollback" or self.is_now

    @property
    def is_held(self) -> bool:
        """Whether it waits for an approval."""
        over = self.is_hurried or self.has("approved") or self.handovers or self.verdict is not None
        return self.has("held") and not over

    @property
    def handovers(self) -> tuple[str, ...]:
        """The ids of its handover requests."""
        return tuple(step.request for step in self.standing if step.step == "handover")

    def first(self, name: str) -> Step | None:
        """The first step of that name that still stands."""
        return next((step for step in self.standing if step.step == name), None)

    def has(self, name: str) -> bool:
        """Whether it came to that step, and the step still stands."""
        return self.first(name) is not None


@dataclass(frozen=True, slots=True)
class History:
    """The newest deploys, oldest first, and the ids of the requests and pushes that were answered.

    paused: "paused by SOMEBODY", until when and why, while the branch's commits are not deployed by themselves; else None.
    paused_until_ms: UTC ms at which the deployer notes that it is over; None: when somebody resumes. nobody: the step that says
    why nobody trades, while that is so as far as the newest deployer saw.
    """

    deploys: tuple[Deploy, ...] = ()
    answered: frozenset[str] = frozenset()
    paused: str | None = None
    paused_until_ms: int | None = None
    nobody: Step | None = None

    @property
    def open(self) -> Deploy | None:
        """The deploy that has no verdict yet; there is at most one."""
        return next((deploy for deploy in reversed(self.deploys) if deploy.verdict is None), None)

    @property
    def confirmed(self) -> Deploy | None:
        """The newest confirmed deploy."""
        return next((deploy for deploy in reversed(self.deploys) if deploy.verdict == "confirmed"), None)

    @property
    def previous_sha(self) -> str | None:
        """The commit that was confirmed before the present one."""
        present = self.confirmed
        if present is None:
            return None
        return next((d.sha for d in reversed(self.deploys) if d.verdict == "confirmed" and d.sha != present.sha), None)

    @property
    def ran(self) -> frozenset[str]:
        """The commits that supervision and rollback start without asking git."""
        confirmed, previous = self.confirmed, self.previous_sha
        return frozenset(sha for sha in (confirmed.sha if confirmed is not None else None, previous) if sha)

    @property
    def needed(self) -> frozenset[str]:
        """The commits that may be started: those, and the open deploy's."""
        deploy = self.open
        return self.ran | (frozenset({deploy.sha}) if deploy is not None else frozenset())

    @property
    def last_tip(self) -> str | None:
        """The commit of the newest deploy that was made because of the branch."""
        return next((deploy.sha for deploy in reversed(self.deploys) if deploy.cause == "branch"), None)

    def failed_before(self, deploy: Deploy) -> str | None:
        """Why an earlier deploy of the same commit failed, if none of it was confirmed since."""
        for earlier in reversed(self.deploys):
            if earlier.sha == deploy.sha and earlier.id != deploy.id and earlier.verdict in ("confirmed", "failed"):
                return earlier.why if earlier.verdict == "failed" else None
        return None

    def find(self, deploy_id: str) -> Deploy | None:
        """A deploy by its id."""
        return next((deploy for deploy in reversed(self.deploys) if deploy.id == deploy_id), None)

    def with_step(self, step: Step) -> History:
        """The history after one more step."""
        answered = self.answered
        if step.request and step.step != "handover":
            answered |= {step.request}
        deploys = self.deploys
        for place in range(len(deploys) - 1, -1, -1):
            if deploys[place].id == step.deploy:
                longer = replace(deploys[place], steps=(*deploys[place].steps, step))
                deploys = (*deploys[:place], longer, *deploys[place + 1 :])
                break
        else:
            if step.step == "queued":
                deploys = _bounded((*deploys, Deploy(step.deploy, (step,))))
        paused, until_ms = self.paused, self.paused_until_ms
        if step.step in ("paused", "resumed"):
            until_ms = step.data.get("until_ms")
            words = pause_words(until_ms, str(step.data.get("why", "")))
            paused = f"paused by {step.by}{words}" if step.step == "paused" else None
        nobody = {NOBODY_TRADES: step, TRADES_AGAIN: None}.get(step.step, self.nobody)
        return History(deploys, answered, paused, until_ms, nobody)


def fold(steps: Iterable[Step]) -> History:
    """The history that these steps tell. A step of a deploy whose beginning was cut off is left out."""
    history = History()
    for step in steps:
        history = history.with_step(step)
    return history


def _bounded(deploys: tuple[Deploy, ...]) -> tuple[Deploy, ...]:
    """Without the oldest one when there are too many; what runs and what rollback needs are never dropped."""
    if len(deploys) <= KEEP:
        return deploys
    history = History(deploys)
    present, previous = history.confirmed, history.previous_sha
    for place, deploy in enumerate(deploys):
        if deploy != present and deploy.sha != previous:
            return (*deploys[:place], *deploys[place + 1 :])
    return deploys
