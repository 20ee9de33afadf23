"""What is asked for: requests on the bus, and the branch's newest commit. Pure; one answer a decision."""

from __future__ import annotations

from typing import Any

from bus import Request
from bus.control import pause_words
from bus.errors import Reason
from deployer.deploys import Deploy
from deployer.errors import Code
from deployer.push.receive import deploy_of
from deployer.rollout.observed import Actions, Asked, Now, Observed, Record, RemoveRequest, coded, step_of


def answer(observed: Observed, now: Now) -> Actions:
    """Answer the oldest request that can be answered now."""
    for asked in observed.requests:
        if asked.id in observed.history.answered:
            return (RemoveRequest(asked.id),)
    for asked in observed.requests:
        return _answer_one(asked, observed, now)
    return ()


def _answer_one(asked: Asked, observed: Observed, now: Now) -> Actions:
    deploy, request = observed.history.open, asked.request
    if asked.problem is not None or request is None:
        return _refuse(asked, deploy, f"{asked.problem}")
    if request.action in ("pause", "resume"):
        return _pause(asked, request, observed)
    if request.action == "approve":
        return _approve(asked, request, deploy)
    if request.action == "cancel":
        if deploy is None:
            return _say(asked, None, "nothing is being deployed")
        if not _can_cancel(deploy, observed):
            return _say(asked, deploy, "it was handed over already; ask for a rollback instead")
        return cancel(deploy, Reason(Code.ASKED, f"cancelled by {request.by}"), asked.id)
    if request.action == "rollback" and not request.ref and deploy is not None:
        return _back_out(asked, deploy, request.by, observed)
    sha = asked.sha if request.ref or request.action == "deploy" else observed.history.previous_sha
    if sha is None:
        return _refuse(asked, deploy, "there is no earlier confirmed commit to go back to")
    if deploy is not None and deploy.sha == sha:
        return _say(asked, deploy, f"{sha[:7]} is being deployed already", now=request.now, follows=True)
    if deploy is not None:
        # Past the handover it is a matter of a few polls: the request waits for the verdict.
        why = Reason(Code.SUPERSEDED, f"superseded: {request.by} asked for {sha[:7]}")
        return cancel(deploy, why) if _can_cancel(deploy, observed) else ()
    if sha == observed.confirmed_sha:
        return _say(asked, None, f"{sha[:7]} runs already")
    data = {"cause": request.action, "now": request.now, "ref": request.ref}
    return (_queue(sha, now, by=request.by, text=f"{request.by} asked for it", request=asked.id, data=data),)


def _approve(asked: Asked, request: Request, deploy: Deploy | None) -> Actions:
    """A deploy that is held may go on. ref: its id or the beginning of its sha; empty for the one that is held."""
    if deploy is None or not deploy.is_held:
        return _say(asked, deploy, "nothing waits for an approval")
    if request.ref != deploy.id and not deploy.sha.startswith(request.ref):
        return _refuse(asked, deploy, f"it is {deploy.sha[:7]} ({deploy.id}) that waits for an approval")
    return (Record(deploy.id, "approved", f"approved by {request.by}", deploy.sha, request.by, asked.id),)


def _pause(asked: Asked, request: Request, observed: Observed) -> Actions:
    """Deploys of the branch's commits stop or go on; an open one and people's requests are not touched."""
    wanted, by = request.action == "pause", request.by
    data = {"until_ms": request.until_ms, "why": request.why} if wanted and (request.until_ms or request.why) else {}
    stays = not data and observed.history.paused_until_ms is None
    if wanted == (observed.history.paused is not None) and (stays or not wanted):
        return _say(asked, None, f"automatic deploys are {observed.history.paused or 'on'} already")
    step, words = "paused" if wanted else "resumed", pause_words(request.until_ms, request.why) if wanted else ""
    return (Record("", step, f"automatic deploys {step} by {by}{words}", by=by, request=asked.id, data=data),)


def end_pause(observed: Observed, now: Now) -> Actions:
    """A pause that was to end by itself is over."""
    until_ms = observed.history.paused_until_ms
    if until_ms is None or now.wall_ms < until_ms:
        return ()
    return (Record("", "resumed", "automatic deploys go on: the pause is over", by="the clock"),)


def notice_pushes(observed: Observed) -> Actions:
    """Note at a deploy who pushed its commit."""
    for push in observed.pushes:
        deploy = deploy_of(push, observed.history) if push.id not in observed.history.answered else None
        if deploy is not None:
            text, data = f"pushed by {push.by}", {"push": True}
            return (Record(deploy.id, "answered", text, deploy.sha, push.by, push.id, data=data),)
    return ()


def _back_out(asked: Asked, deploy: Deploy, by: str, observed: Observed) -> Actions:
    """A rollback in the middle of a deploy goes back to what was confirmed before it."""
    if _can_cancel(deploy, observed):
        return cancel(deploy, Reason(Code.ASKED, f"cancelled: {by} asked for a rollback"), asked.id)
    if observed.confirmed_sha is None:
        return _refuse(asked, deploy, "there is no earlier confirmed commit to go back to")
    if deploy.has("taking-back"):
        return _say(asked, deploy, "the lease is being taken back already")
    if deploy.has("taken"):
        return (step_of(deploy, "taking-back", Reason(Code.ASKED, f"{by} asked for a rollback"), request=asked.id),)
    return ()  # it is being handed over: wait until somebody has the lease


def notice_branch(observed: Observed, now: Now) -> Actions:
    """Queue the branch's newest commit, once for every time that it becomes the newest."""
    sha, deploy = observed.target, observed.history.open
    if sha is None or sha == observed.history.last_tip or observed.history.paused is not None:
        return ()
    if deploy is not None:
        if deploy.sha == sha or not _can_cancel(deploy, observed):
            return ()
        return cancel(deploy, Reason(Code.SUPERSEDED, f"superseded: {sha[:7]} is newer"))
    if sha == observed.confirmed_sha:
        return ()
    data = {"cause": "branch", "ref": observed.branch, "subject": observed.subject}
    text = observed.subject or "a new commit"
    if observed.left:
        data["left"] = observed.left
        text += f" (not a fast-forward: {observed.left[:7]} is left behind)"
    return (_queue(sha, now, by=f"branch {observed.branch}", text=text, data=data),)


def _can_cancel(deploy: Deploy, observed: Observed) -> bool:
    """Whether it was not handed over yet. The very first one may go at any time: there is nothing to take back to."""
    return observed.confirmed_sha is None or not (deploy.has("handover") or deploy.has("taken"))


def cancel(deploy: Deploy, why: Reason, request: str = "") -> Actions:
    """Give up a deploy; its candidate is removed by `fleet`."""
    return (step_of(deploy, "cancelled", why, request=request),)


def _queue(sha: str, now: Now, *, by: str, text: str, request: str = "", data: dict[str, Any]) -> Record:
    return Record(f"{now.wall_ms}-{sha[:7]}", "queued", text, sha, by, request, data=data)


def _refuse(asked: Asked, deploy: Deploy | None, why: str) -> Actions:
    return _say(asked, deploy, Reason(Code.REFUSED, f"refused: {why}"))


def _say(asked: Asked, deploy: Deploy | None, text: str, *, now: bool = False, follows: bool = False) -> Actions:
    """Answer a request. now: it also hurries the deploy that it is about; follows: what becomes of that is what was asked for."""
    data = {name: True for name, so in (("now", now), ("follows", follows)) if so}
    return (Record(deploy.id if deploy else "", "answered", text, request=asked.id, data=coded(text, data)),)
