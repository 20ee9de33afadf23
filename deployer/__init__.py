"""The deployer: watches a branch and replaces the bot by what is committed there, while it trades (design section 8)."""

from deployer.errors import DeployerError, RepositoryError, RuntimeFailedError, StartError
from deployer.runtimes.api import BuildError, Runtime, Start, Unit

__all__ = [
    "BuildError",
    "DeployerError",
    "RepositoryError",
    "Runtime",
    "RuntimeFailedError",
    "Start",
    "StartError",
    "Unit",
]
