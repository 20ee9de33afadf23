"""`./ns plan`: what would happen if a commit were deployed now, and why. It asks git and the bus, and changes nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from bus import Bus, InstanceView, LedgerError, is_locked, read_instances, read_steps
from deployer.deploys import History, fold
from deployer.errors import RepositoryError, StartError
from deployer.push.repository import Repository
from deployer.push.unchanged import Unchanged
from deployer.push.watched import branch_of, repository_of
from deployer.settings import DeployerSettings, State, read_state
from deployer.start import unchanged_of
from ledger import Ledger

MAX_COMMITS = 10
LOCK_FILES = ("requirements.lock", "Dockerfile")


def plan(settings: DeployerSettings, bus: Bus, ref: str) -> dict[str, Any]:
    """Everything that `plan --json` prints. ref: empty for the branch's newest commit. Raises RepositoryError, BusError."""
    state = read_state(settings.dir)
    history = fold(read_steps(bus))
    asked = ref or branch_of(settings, bus) or "HEAD"
    repository = repository_of(settings, bus)
    sha, commits, changed, same = asyncio.run(
        _ask_git(repository, asked, history, None if ref else unchanged_of(settings, repository))
    )
    steps = _steps(sha, changed, history, state, _holder(bus), settings, by_branch=not ref)
    return {
        "sha": sha,
        "confirmed": history.confirmed.sha if history.confirmed else None,
        "commits": commits,
        "changed_files": len(changed),
        "steps": [f"nothing: {same}"] if same else steps,
        "deployer": "running" if is_locked(bus.deployer_lock) else "not running",
    }


def export_commit(settings: DeployerSettings, bus: Bus, ref: str, folder: Path) -> str:
    """Write a commit's files into a new folder; its sha. Raises RepositoryError, StartError, OSError."""
    if folder.exists():
        raise StartError(f"{folder} is there already; name a folder that does not exist yet")

    async def write() -> str:
        repository = repository_of(settings, bus)
        sha = await repository.resolve(ref)
        folder.mkdir(parents=True)
        await repository.archive(sha, folder)
        return sha

    return asyncio.run(write())


def plan_text(planned: dict[str, Any]) -> str:
    """The same for people."""
    confirmed = planned["confirmed"][:7] if planned["confirmed"] else "nothing"
    lines = [f"{confirmed} runs; {planned['sha'][:7]} would follow: {planned['changed_files']} files changed"]
    lines += [f"  + {line}" for line in planned["commits"]]
    lines += [f"{number}. {line}" for number, line in enumerate(planned["steps"], 1)]
    if planned["deployer"] == "not running":
        lines.append("no deployer runs on this bus: it happens once one is started")
    return "\n".join(lines)


async def _ask_git(
    repository: Repository, ref: str, history: History, unchanged: Unchanged | None
) -> tuple[str, list[str], list[str], str]:
    """The commit, what it brings beyond the confirmed one (newest first), the files that differ; why it would replace nobody."""
    sha = await repository.resolve(ref)
    confirmed = history.confirmed.sha if history.confirmed is not None else None
    if confirmed is None:
        return sha, [await repository.subject(sha)], [], ""
    same = await unchanged.look(sha, confirmed) if unchanged is not None and sha != confirmed else None
    why = same.text(sha) if same is not None else ""
    try:
        commits = await repository.subjects(confirmed, sha, MAX_COMMITS)
        return sha, commits, await repository.changed_files(confirmed, sha), why
    except RepositoryError:  # the confirmed one is in no branch any more, or comes from another repository
        return sha, [await repository.subject(sha)], [], ""


def _steps(
    sha: str,
    changed: list[str],
    history: History,
    state: State | None,
    holder: InstanceView | None,
    settings: DeployerSettings,
    *,
    by_branch: bool,
) -> list[str]:
    """What would happen, in order, each with its reason."""
    confirmed, deploy = history.confirmed, history.open
    if confirmed is not None and confirmed.sha == sha:
        return ["nothing: it runs already"]
    failed = next((d for d in reversed(history.deploys) if d.sha == sha and d.verdict in ("failed", "confirmed")), None)
    if by_branch and failed is not None and failed.verdict == "failed":
        return [f"nothing: it failed before ({failed.why}); `./ns deploy {sha[:7]}` tries it again"]
    steps = []
    if by_branch and history.paused is not None:
        steps.append(f"nothing until `./ns resume --deploys`: automatic deploys are {history.paused}")
    if deploy is not None and deploy.sha == sha:
        steps.append(f"it is being deployed: {deploy.phase}")
    elif deploy is not None and (deploy.has("handover") or deploy.has("taken")):
        steps.append(f"wait for the verdict on {deploy.sha[:7]}, which was handed over already")
    elif deploy is not None:
        steps.append(f"give up {deploy.sha[:7]} ({deploy.phase}): the newest commit wins")
    if state is not None and sha in state.built:
        steps.append("no build: it is ready from before")
    else:
        locks = [name for name in LOCK_FILES if name in changed]
        why = f"{', '.join(locks)} changed: dependencies, too" if locks else "the dependencies are at hand"
        steps.append(f"build it ({why}), at most {settings.build_limit:g} s")
    steps.append(
        f"start it beside the trader; it polls in shadow until healthy, at most {settings.healthy_timeout:g} s"
    )
    if confirmed is not None and settings.on_difference != "report":
        where = " where its decisions differ from those on record, or cannot be compared"
        steps.append(f"wait for `./ns approve`{where if settings.on_difference == 'hold' else ''}")
    steps.append(_handover(holder))
    polls = settings.confirm_polls
    steps.append(
        f"confirm it after {polls} healthy polls, else the former commit takes back" if polls else "confirm it at once"
    )
    spares = f"{settings.spares} spare{'s' if settings.spares != 1 else ''}"
    former = confirmed.sha[:7] if confirmed is not None else "nothing"
    steps.append(f"start {spares}, then retire {former}")
    return steps


def _handover(holder: InstanceView | None) -> str:
    if holder is None or holder.document is None:
        return "it takes the lease: nobody trades now"
    return f"{holder.document.color} yields after its next poll"


def _holder(bus: Bus) -> InstanceView | None:
    try:
        ledger = Ledger.reader(bus.ledger)
        if ledger is None:
            return None
        with ledger:
            newest = ledger.newest_epoch()
    except LedgerError:
        return None
    if newest is None or newest.released:
        return None
    return next((view for view in read_instances(bus) if view.alive and view.id == newest.instance), None)
