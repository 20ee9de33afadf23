"""A push: what the hook left in the git directory, and what its pusher is told. Pure.

A push belongs to the deploy that its commit was queued for; the history remembers that by a step `answered` with the push's id.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bus import Step
from bus.history import UNCHANGED
from deployer.deploys import VERDICTS, Deploy, History
from deployer.runtimes.api import COMPARE_LIMIT_S

MAX_TEXT = 300
_CONTENT = re.compile(r"([0-9a-f]{40,64}) ([0-9a-f]{40,64}) (refs/\S{1,250})(?: (.{0,200}))?")


@dataclass(frozen=True, slots=True)
class Push:
    """old, new: full shas. ref: refs/heads/BRANCH. by: whom the hook took the pusher for.

    settled: the branch was read again since the push was seen, so that what is newest is not what was newest before it.
    """

    id: str
    old: str
    new: str
    ref: str
    by: str
    settled: bool = False


@dataclass(frozen=True, slots=True)
class Told:
    """What a pusher is told so far, oldest first. ended: the last line is the verdict."""

    lines: tuple[str, ...]
    ended: bool = False


@dataclass(frozen=True, slots=True)
class Situation:
    """What a push is judged by. tip: the branch's newest commit. waits_for: what holds the open deploy up; empty for nothing."""

    history: History
    branch: str
    tip: str | None
    confirmed_sha: str | None
    waits_for: str = ""


def parse_push(push_id: str, content: str) -> Push | None:
    """What a file of the hook says; None when that is no push."""
    match = _CONTENT.fullmatch(content.rstrip("\n"))
    return Push(push_id, match[1], match[2], match[3], plain(match[4] or "somebody")) if match else None


def deploy_of(push: Push, history: History) -> Deploy | None:
    """The deploy that a push belongs to; None while there is none yet."""
    for deploy in reversed(history.deploys):
        if any(step.step == "answered" and step.request == push.id for step in deploy.steps):
            return deploy
    newest = next((deploy for deploy in reversed(history.deploys) if deploy.cause == "branch"), None)
    return newest if newest is not None and newest.sha == push.new else None


def tell(push: Push, at: Situation) -> Told:
    """Everything to tell the pusher until now."""
    if push.ref != f"refs/heads/{at.branch}":
        name = push.ref.removeprefix("refs/heads/")
        return Told((f"{name} is not deployed: the deployer watches {at.branch}",), ended=True)
    deploy = deploy_of(push, at.history)
    if deploy is None:
        return _not_queued(push, at)
    lines: list[str] = []
    for step in deploy.steps:
        if step.step in VERDICTS:
            # Its text is in the verdict, below the last lines of what failed.
            brief = step_line(step if step.step == "confirmed" else step.model_copy(update={"text": ""}))
            return Told((*lines, brief, *_details(step), _verdict(deploy, step, at)), ended=True)
        lines += [step_line(step), *_details(step)]
    if at.history.open == deploy and at.waits_for:
        lines.append(f"           waiting: {at.waits_for}")
    return Told(tuple(lines))


def _not_queued(push: Push, at: Situation) -> Told:
    short, deploy = push.new[:7], at.history.open
    if push.settled and at.tip is not None and at.tip != push.new:
        return Told((f"SUPERSEDED: {at.tip[:7]} is newer than {short}, which was never begun",), ended=True)
    if push.settled and at.tip == push.new == at.confirmed_sha:
        return Told((f"{short} runs already: nothing to deploy",), ended=True)
    if at.history.paused is not None:
        if not push.settled:
            return Told(())
        text = f"NOT DEPLOYED: automatic deploys are {at.history.paused}; `./ns resume --deploys` deploys {short}"
        return Told((text,), ended=True)
    if deploy is not None and deploy.sha != push.new and (deploy.has("handover") or deploy.has("taken")):
        return Told((f"waiting for the verdict on {deploy.sha[:7]}, which is being handed over",))
    return Told(())


def _verdict(deploy: Deploy, step: Step, at: Situation) -> str:
    seconds = f" in {step.ms / 1000:.1f} s" if step.ms is not None else ""
    match step.word:
        case "confirmed":
            return f"CONFIRMED{seconds}: {deploy.sha[:7]} trades; {step.data.get('missed', 0)} polls missed"
        case "failed":
            trades = f"; {at.confirmed_sha[:7]} trades on" if at.confirmed_sha else "; nothing trades yet"
            return f"FAILED{seconds}: {plain(step.text)}{trades}"
        case word if word == UNCHANGED:
            return f"UNCHANGED{seconds}: {plain(step.text)}"
        case _:
            return f"CANCELLED{seconds}: {plain(step.text)}"


def step_line(step: Step) -> str:
    """One step for people: seconds since the deploy began, its name, what happened."""
    name = "pushed" if step.data.get("push") else step.word
    ms = 0 if step.step == "queued" else step.ms
    seconds = f"{ms / 1000:7.2f} s" if ms is not None else " " * 9
    text = plain(f"by {step.by}" if name == "pushed" else step.text)
    return f"{seconds}  {name:<11} {text}".rstrip()


def _details(step: Step) -> list[str]:
    """What belongs to a step, below it."""
    return [f"           | {plain(line)}" for line in details(step.data)]


def details(data: Mapping[str, Any]) -> list[str]:
    """The lines that belong to a step: decisions that differ, the last lines of what failed, a bot's last words."""
    differences = [difference.get("text", "") for difference in data.get("differences", ())]
    return [str(line) for line in (*differences, *data.get("output", ()), *data.get("last_words", ()))]


def plain(text: str) -> str:
    """One line without control characters: it goes to somebody's terminal."""
    return "".join(c if c.isprintable() else " " for c in text)[:MAX_TEXT]


def waits_for(deploy: Deploy | None, *, compares: bool) -> str:
    """What holds the open deploy up where people would wonder. compares: it waits for a comparison where that runs."""
    if deploy is None or deploy.is_hurried:
        return ""
    if deploy.is_held:
        return f"`./ns approve {deploy.id}` lets it go on, `./ns cancel` gives it up"
    if deploy.phase == "healthy" and compares and not deploy.has("compared"):
        return f"its decisions are being compared, at most {COMPARE_LIMIT_S:g} s"
    return ""
