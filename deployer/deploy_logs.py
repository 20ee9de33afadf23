"""`deployer logs DEPLOY`: everything that is kept of one deploy: its steps, what failed, and what its bots wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bus import Bus, read_steps
from deployer.commands.status import deploy_json
from deployer.errors import RuntimeFailedError, StartError
from deployer.push.receive import details
from deployer.rollout.deploys import Deploy, fold
from deployer.runtimes.children import last_lines
from deployer.settings import DeployerSettings

MIN_SHA = 4


def deploy_logs(settings: DeployerSettings, bus: Bus, name: str, lines: int) -> dict[str, Any]:
    """Everything that `logs --json` prints. name: a deploy's id, or a sha of at least 4 digits; its newest deploy then.

    Raises StartError: there is no such deploy.
    """
    deploys = fold(read_steps(bus)).deploys
    found = [d for d in deploys if d.id == name or (len(name) >= MIN_SHA and d.sha.startswith(name))]
    if not found:
        raise StartError(f"no deploy is called {name!r}; expected an id or a sha of `deployer history`")
    deploy = found[-1]
    return {**deploy_json(deploy), "units": {unit: _words(settings, unit, lines) for unit in _units(deploy)}}


def deploy_logs_text(found: dict[str, Any]) -> str:
    """The same for people."""
    text = [f"{found['id']}  {found['what']}  by {found['by']}: {found['verdict'] or found['phase']}"]
    for step in found["steps"]:
        text.append(step["line"])
        text += [f"    | {line}" for line in details(step["data"])]
    for unit, words in found["units"].items():
        text.append(f"--- {unit}")
        text += words or ["(its log is not kept any more)"]
    return "\n".join(text)


def _units(deploy: Deploy) -> list[str]:
    """The candidate's unit; spares and replacements are not part of a deploy."""
    return [str(step.data["unit"]) for step in deploy.steps if step.step == "started" and step.data.get("unit")]


def _words(settings: DeployerSettings, unit: str, lines: int) -> list[str]:
    kept = _log(settings.dir, unit)
    if kept.exists() or settings.runtime != "docker":
        return last_lines(kept, lines).splitlines()
    from deployer.runtimes.docker.engine import Engine  # as in `start`: it is slow to import

    engine = Engine(settings.engine)
    try:
        raw = engine.call_now("the log could not be read", lambda client: client.logs(unit, tail=lines))
    except RuntimeFailedError:
        return []
    return bytes(raw).decode("utf-8", "replace").splitlines()


def _log(folder: Path, unit: str) -> Path:
    return folder / "logs" / f"{unit}.log"
