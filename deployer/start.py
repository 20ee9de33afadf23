"""Puts one deployer together and runs it until it is told to stop."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from bus import (
    Bus,
    Clock,
    FileLock,
    Log,
    Logging,
    Step,
    append_step,
    make_private,
    make_request,
    open_regular,
    read_small,
    read_steps,
    write_atomically,
)
from bus.layout import make_directives, share_with_bots
from bus.tasks import serve_metrics
from deployer.deploys import fold
from deployer.disk import Disks
from deployer.errors import RepositoryError, StartError
from deployer.keys import FOLDER, KeyRing, key_files
from deployer.metrics import Metrics, TargetsFile
from deployer.parts import Machine, Pushes, Shown
from deployer.push.branch import BranchWatch, WorktreeWatch
from deployer.push.checkout import PUSH_CHANGES_FILES, takes_pushes
from deployer.push.hooks import Hooks
from deployer.push.log import PushLog, push_folder
from deployer.push.repository import MIRROR, Repository
from deployer.push.signatures import read_signers
from deployer.push.unchanged import Unchanged
from deployer.push.verify import Verify
from deployer.push.watched import choose, read_watched, repository_at, write_watched
from deployer.rollout.interruption import interruption
from deployer.rollout.observed import Policy
from deployer.runtimes.api import Runtime, read_build_inputs
from deployer.runtimes.build_limits import BuildLimits
from deployer.runtimes.builder import Builder
from deployer.runtimes.children import why_not_as
from deployer.runtimes.process import ProcessRuntime
from deployer.service import Deployer
from deployer.settings import OWN_COMMAND, DeployerSettings, claim_home, read_state

# Bots that died wait for it. A large repository takes longer at the first time: that goes on beside, when the start is over.
FIRST_LOOK_LIMIT_S, FIRST_FETCH_LIMIT_S = 3.0, 45.0


async def run(settings: DeployerSettings, bus: Bus, clock: Clock, logging: Logging, *, worktree: bool = False) -> int:
    """One deployer from start to SIGTERM; the exit code. worktree: deploy what is saved, not what is committed.

    Raises StartError, RepositoryError, BusError.
    """
    if worktree and settings.runtime != "process":
        raise StartError(
            "--worktree is for development and runs processes; leave it out, or set DEPLOYER_RUNTIME=process"
        )
    if worktree:  # its start tries a file that was saved just as well, and a second sooner
        settings = settings.model_copy(update={"check": "-c pass"})
    read_build_inputs(settings.build_args, settings.build_secrets)  # said now rather than by the first build
    watched = await choose(settings, bus)
    repository = repository_at(settings, watched, settings.dir / MIRROR)
    pushes_change_files = await _takes_pushes(repository.path)
    signers = partial(read_signers, settings.signers, (repository.path, bus.directory, settings.dir.absolute()))
    verify = Verify(
        repository, settings.verify, limit_s=settings.build_limit, limits=limits_of(settings), signers=signers
    )
    await verify.begin()
    if verify.problem is not None:
        if not fold(read_steps(bus)).deploys:
            raise StartError(verify.problem)
        # Whoever can change the repository's configuration must not be able to end the supervision of what trades.
        logging.log.error("nothing_can_be_verified", reason=verify.problem, builds="are refused", bots="go on")
    branch_name = watched.branch
    deployer: Deployer
    if worktree:
        branch: BranchWatch = WorktreeWatch(
            repository,
            branch_name,
            logging.log,
            lambda: deployer.wake(),
            index=settings.dir.absolute() / "worktree.index",
        )
    else:
        branch = BranchWatch(repository, branch_name, logging.log, on_change=lambda: deployer.wake())
    await _begin(branch, bus, logging.log)
    lock = FileLock(bus.deployer_lock)
    if not lock.try_lock():
        raise already_runs(settings, bus)
    try:
        make_directives(bus)
        runtime = make_runtime(
            settings, repository, bus, clock, lambda line: logging.log.error("runtime_warning", reason=line)
        )
        claim_runtime(bus, runtime)
        claim_home(bus)
        if read_watched(bus) != watched:
            write_watched(bus, watched)
        await _carry_on(bus, runtime, clock)
        metrics = Metrics(policy_of(settings))
        try:
            server, address = await serve_metrics(
                metrics.text, settings.metrics_host, settings.metrics_port, settings.metrics_hosts
            )
        except OSError as error:
            raise StartError(
                f"DEPLOYER_METRICS_PORT {settings.metrics_port} on {settings.metrics_host} cannot be used "
                f"({error.strerror}); choose another one, or 0 for any that is free"
            ) from error
        deployer = Deployer(
            bus,
            clock,
            policy_of(settings),
            settings.dir,
            pushes=Pushes(
                repository,
                branch,
                PushLog(push_folder(repository.path), clock, logging.log, branch_name),
                verify,
                unchanged_of(settings, repository),
            ),
            machine=Machine(
                runtime,
                Disks({"bus": bus.directory, "builds": runtime.builds_at}, settings.min_free << 20, metrics.note_disks),
                KeyRing(
                    settings.dir.absolute() / FOLDER,
                    key_files(os.environ) if keys_folder(settings) is not None else {},
                    runtime.is_unit,
                    logging.log,
                ),
                Hooks(settings.hooks, logging.log),
            ),
            shown=Shown(logging.log, metrics, TargetsFile(settings.targets or settings.dir / "targets")),
        )
        _try_again(bus, clock, branch.tip, branch_name)
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, deployer.stop)
        logging.log.info(
            "watching",
            branch=branch_name,
            sha=branch.tip,
            problem=branch.problem,
            runtime=runtime.name,
            pid=os.getpid(),
            metrics=address,
        )
        if pushes_change_files:
            logging.log.warning("push_changes_files", repository=str(repository.path), what=PUSH_CHANGES_FILES)
        try:
            await deployer.run()
        finally:
            await server.cleanup()
        logging.log.info("stopped", bots="go on")
        return 0
    finally:
        lock.unlock()


def already_runs(settings: DeployerSettings, bus: Bus) -> StartError:
    """The error for a second deployer. Ending the first one alone ends no bot; `down` would."""
    state = read_state(settings.dir)
    how = "in containers `bin/compose stop deployer`"
    if settings.runtime == "process":
        how = f"`kill {state.pid}`" if state is not None else "SIGTERM to it"
    return StartError(
        f"a deployer runs on the bus {bus.directory} already, and there is one a bus; "
        f"{how} ends it alone, and the bots trade on"
    )


async def _begin(branch: BranchWatch, bus: Bus, log: Log) -> None:
    """The first look at the branch. Where bots were deployed it may fail: supervision needs no git, and looks follow.

    Raises RepositoryError where nothing was ever deployed: a person is there to read it.
    """
    deployed = bool(fold(read_steps(bus)).deploys)
    limit_s = FIRST_LOOK_LIMIT_S if deployed else FIRST_FETCH_LIMIT_S
    try:
        async with asyncio.timeout(limit_s):
            await branch.start()
    except RepositoryError as error:
        if not deployed:
            raise
        branch.problem = str(error)
    except TimeoutError:
        branch.problem = f"git has not answered for {limit_s:g} s; it is asked again"
    if branch.problem is not None:
        log.error("branch_not_readable", reason=branch.problem, bots="go on")


async def _takes_pushes(path: Path) -> bool:
    try:
        return await takes_pushes(path)
    except (
        RepositoryError
    ):  # nothing can be read or pushed there now; said by the first look, and looked at again by each build
        return False


def make_runtime(
    settings: DeployerSettings, repository: Repository, bus: Bus, clock: Clock, warn: Callable[[str], None]
) -> Runtime:
    """The runtime that the settings name. warn: takes a line about what a person should see to.

    Raises StartError, RuntimeFailedError: docker cannot be used here.
    """
    folder = settings.dir.absolute()
    inputs = partial(read_build_inputs, settings.build_args, settings.build_secrets)
    if settings.runtime == "docker":
        # Here: the SDK takes half of a command's time to start, and processes do without it.
        from deployer.runtimes.docker.engine import Engine
        from deployer.runtimes.docker.runtime import make_docker_runtime

        return make_docker_runtime(
            engine=Engine(settings.engine),
            repository=repository,
            bus=bus,
            clock=clock,
            folder=folder,
            keep=settings.keep,
            build_limit_s=settings.build_limit,
            build_inputs=inputs,
            build_limits=limits_of(settings),
            environment=dict(os.environ),
            keys=keys_folder(settings),
            warn=warn,
        )
    builder = Builder(
        repository,
        folder,
        python=settings.python,
        command=settings.command,
        check=settings.check,
        limit_s=settings.build_limit,
        inputs=inputs,
        limits=limits_of(settings),
    )
    user = settings.bot_user
    if user:
        share(settings, bus, folder)
    elif os.geteuid() == 0:
        warn("bots run as root, which reads every key and token: set DEPLOYER_BOT_USER to a uid of their own")
    return ProcessRuntime(
        builder,
        folder,
        bus,
        clock,
        keep=settings.keep,
        environment=dict(os.environ),
        keys=keys_folder(settings),
        user=user,
    )


def share(settings: DeployerSettings, bus: Bus, folder: Path) -> None:
    """Let bots run as a user of their own: it reaches what was built and its part of the bus. Raises StartError, OSError."""
    user = settings.bot_user
    reached = [folder / name for name in ("trees", "envs")]
    for part in (*reached, folder / FOLDER):
        make_private(part)
    for part in (*[above for above in (folder, *folder.parents) if ".run" in above.parts], *reached, folder / FOLDER):
        os.chown(part, 0, user)
        part.chmod(0o750 if part in reached else 0o710)
    python = [str(settings.python or sys.executable), "-c", "pass"]
    if why := why_not_as(user, python, reached):
        raise StartError(
            f"DEPLOYER_BOT_USER={user}: {why}; move all of it to where that user may go, or leave the setting out"
        )
    share_with_bots(bus, user)


def keys_folder(settings: DeployerSettings) -> Path | None:
    """Where the units' sockets are; None where there are no keys to hand over, or their files are passed on."""
    is_handed = settings.keys == "lease" and key_files(os.environ)
    return settings.dir.absolute() / FOLDER if is_handed else None


def claim_runtime(bus: Bus, runtime: Runtime) -> None:
    """Write once which runtime the bus belongs to: two of them would be two traders on one account.

    Raises StartError when it is another one, BusError.
    """
    try:
        os.close(open_regular(bus.runtime, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
        write_atomically(bus.runtime, f"{runtime.name}\n".encode(), durable=False)
    except FileExistsError:
        recorded = read_small(bus.runtime)
        if recorded not in ("", runtime.name):
            raise StartError(
                f"the bus {bus.directory} belongs to the runtime {recorded!r}, this is {runtime.name!r}; "
                f"use that one, or end everything and remove {bus.runtime}"
            ) from None
        if not recorded:  # the first start was cut off between making and writing it
            write_atomically(bus.runtime, f"{runtime.name}\n".encode(), durable=False)
    except OSError as error:
        raise StartError(f"{bus.runtime} cannot be written ({error.strerror})") from error


def limits_of(settings: DeployerSettings) -> BuildLimits:
    """What one build may use."""
    return BuildLimits(memory=settings.build_memory << 20, size=settings.build_size << 20)


def policy_of(settings: DeployerSettings) -> Policy:
    """What the rollout needs of the settings."""
    return Policy(
        confirm_polls=settings.confirm_polls,
        spares=settings.spares,
        healthy_timeout_ms=round(settings.healthy_timeout * 1000),
        stuck_after_ms=round(settings.stuck_after * 1000),
        hold=settings.on_difference != "report",
        always=settings.on_difference == "always",
    )


def unchanged_of(settings: DeployerSettings, repository: Repository) -> Unchanged:
    """What tells which commits change nothing that runs. Another worker than the own bot may read any room."""
    return Unchanged(repository, settings.ignore, rooms=settings.command == OWN_COMMAND)


async def _carry_on(bus: Bus, runtime: Runtime, clock: Clock) -> None:
    """Note where everything was ended in the middle of a deploy. Raises RuntimeFailedError, BusError.

    Its ended candidate is removed first: should this be cut off as well, the next start sees the same.
    """
    interrupted = interruption(fold(read_steps(bus)), await runtime.units())
    if interrupted is None:
        return
    for name in interrupted.gone:
        await runtime.remove(name)
    deploy = interrupted.deploy
    append_step(
        bus,
        Step(deploy=deploy.id, step=interrupted.step, time_ms=clock.wall_ms(), sha=deploy.sha, text=interrupted.text),
    )


def _try_again(bus: Bus, clock: Clock, tip: str | None, branch: str) -> None:
    """Where nothing was ever confirmed, starting the deployer asks for the newest commit again though it failed."""
    history = fold(read_steps(bus))
    if tip is None or history.confirmed is not None or history.open is not None or history.last_tip != tip:
        return
    make_request(bus, "deploy", ref=branch, by="deployer start", clock=clock)


__all__ = ["RepositoryError", "already_runs", "claim_runtime", "make_runtime", "policy_of", "run"]
