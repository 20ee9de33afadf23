"""What is watched belongs to the bus, as its runtime does: a start watches what the last one did, whatever is checked out by now.

The file `watched` on the bus has the lines `repository PATH`, `branch NAME` and `folder DEPLOYER_DIR`. The first start writes
it. Another repository or branch needs a person's word: `./ns watch`, or `--watch` at a start. Commands that ask git ask the
repository named there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from bus import Bus, read_regular, write_atomically
from deployer.errors import StartError
from deployer.push.repository import Repository, mirror_in
from deployer.settings import DeployerSettings, read_state

NAME = "watched"
MOST_BYTES = 16 << 10
SAY_SO = "say so once: `make run WATCH=1`, or `./ns watch`"


@dataclass(frozen=True, slots=True)
class Watched:
    """repository: as people name it, which in a container is not the path where it is mounted. folder: the deployer's own."""

    repository: str
    branch: str
    folder: str = ""


def read_watched(bus: Bus) -> Watched | None:
    """None where nothing was ever watched. Raises StartError: it cannot be understood; OSError."""
    file = bus.directives / NAME
    try:
        text = read_regular(file, MOST_BYTES).decode("utf-8", "surrogateescape")
    except FileNotFoundError:
        return None
    facts = dict(line.partition(" ")[::2] for line in text.splitlines())
    if not facts.get("repository") or not facts.get("branch"):
        raise StartError(f"{file} cannot be understood; expected `repository PATH` and `branch NAME`: {SAY_SO}")
    return Watched(facts["repository"], facts["branch"], facts.get("folder", ""))


def write_watched(bus: Bus, watched: Watched) -> None:
    """From the next start on. Raises OSError."""
    text = f"repository {watched.repository}\nbranch {watched.branch}\nfolder {watched.folder}\n"
    write_atomically(bus.directives / NAME, text.encode("utf-8", "surrogateescape"), durable=True)


async def choose(settings: DeployerSettings, bus: Bus) -> Watched:
    """What this start watches. Raises StartError: settings name another one; RepositoryError: git cannot tell the first one."""
    recorded = read_watched(bus) or _before_there_was_a_record(settings)
    if recorded is None:
        return await named(settings)
    refuse_another(settings, bus, recorded)
    return replace(recorded, folder=str(settings.dir.absolute()))


def refuse_another(settings: DeployerSettings, bus: Bus, recorded: Watched | None) -> None:
    """Raises StartError where the settings name something else than is watched."""
    other = _other(settings, recorded) if recorded is not None else ""
    if recorded is not None and other:
        raise StartError(
            f"the bus {bus.directory} watches {recorded.branch} of {recorded.repository}, and {other}; {SAY_SO}"
        )


async def named(settings: DeployerSettings) -> Watched:
    """What the settings name, or else this folder and the branch that is checked out. Raises RepositoryError."""
    repository = Repository(settings.repository)
    branch = settings.branch.removeprefix("refs/heads/") or await repository.checked_out_branch()
    return Watched(_name(settings), branch, str(settings.dir.absolute()))


async def watch_another(settings: DeployerSettings, bus: Bus) -> Watched:
    """A person's word: from the next start on that is watched. Raises RepositoryError where it cannot be read, OSError."""
    watched = await named(settings)
    await Repository(settings.repository, mirror_in(settings.dir)).tip(watched.branch)
    write_watched(bus, watched)
    return watched


def repository_of(settings: DeployerSettings, bus: Bus) -> Repository:
    """The watched repository, or the one that the settings name where nothing was ever watched."""
    recorded = read_watched(bus)
    if recorded is None:
        return Repository(settings.repository, mirror_in(settings.dir))
    return repository_at(settings, recorded, mirror_in(settings.dir))


def repository_at(settings: DeployerSettings, watched: Watched, mirror: Path | None) -> Repository:
    """The repository that is watched, where it is for this process."""
    return Repository(settings.repository if settings.repository_name else Path(watched.repository), mirror)


def as_on_the_bus(settings: DeployerSettings, bus: Bus) -> DeployerSettings:
    """Settings for a command about what runs: with the deployer's folder as the bus has it, wherever the command is started."""
    try:
        recorded = read_watched(bus)
    except StartError:
        return settings
    if "dir" in settings.model_fields_set or recorded is None or not Path(recorded.folder or "/nowhere").is_dir():
        return settings
    return settings.model_copy(update={"dir": Path(recorded.folder)})


def branch_of(settings: DeployerSettings, bus: Bus) -> str:
    """The watched branch, or the one that the settings name; empty for what is checked out."""
    recorded = read_watched(bus)
    return recorded.branch if recorded is not None else settings.branch


def _other(settings: DeployerSettings, recorded: Watched) -> str:
    """Which setting names something else than is watched; empty when none does."""
    asked = "repository" in settings.model_fields_set or settings.repository_name
    if asked and _name(settings) != str(Path(recorded.repository).resolve()):
        return f"DEPLOYER_REPOSITORY names {_name(settings)}"
    if settings.branch and settings.branch.removeprefix("refs/heads/") != recorded.branch:
        return f"DEPLOYER_BRANCH names {settings.branch}"
    return ""


def _name(settings: DeployerSettings) -> str:
    return settings.repository_name or str(settings.repository.resolve())


def _before_there_was_a_record(settings: DeployerSettings) -> Watched | None:
    """What a deployer of an older release watched, by its own folder."""
    state = read_state(settings.dir)
    if state is None or not state.branch or state.repository != str(settings.repository.absolute()):
        return None
    return Watched(_name(settings), state.branch)
