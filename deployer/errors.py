"""Everything that may go wrong in the deployer.

DeployerError
├── StartError              a command cannot do its work as it was called: one line, exit code 2
├── RepositoryError         the checkout, the branch or a commit cannot be read
│   └── TooLargeError       a commit has more files or bytes than were allowed
├── BuildError              a commit could not be made ready to run
└── RuntimeFailedError      the runtime could not start, stop or list units
    ├── EngineRefusedError  the Docker Engine answered with an error
    └── EngineAwayError     the Docker Engine did not answer
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum


class Code(StrEnum):
    """Why a deploy ended or is taken back, a request is refused, nobody trades: beside the words of a step, as `data.code`."""

    # Why nobody trades (rollout.standstill).
    LEDGER = "ledger"
    SILENT = "silent"
    NOTHING_DEPLOYED = "nothing-deployed"
    NOTHING_CONFIRMED = "nothing-confirmed"
    NOT_RUNNABLE = "not-runnable"
    NOT_TAKEN = "not-taken"
    NOT_HEALTHY = "not-healthy"
    BUILDING = "building"
    STARTING = "starting"
    # Why a deploy failed, was taken back, or was given up.
    BUILD = "build"
    START = "start"
    GONE = "gone"
    DIED = "died"
    GAVE_BACK = "gave-back"
    NOT_YIELDED = "not-yielded"
    HANGS = "hangs"
    STUCK = "stuck"  # of a unit that is killed: no sign of life
    ORDERS_REFUSED = "orders-refused"
    INTERRUPTED = "interrupted"
    FAILED_BEFORE = "failed-before"
    SUPERSEDED = "superseded"
    ASKED = "asked"  # a person wanted it
    REFUSED = "refused"  # of a request: nothing was done


class DeployerError(Exception):
    """Root of the deployer's errors; the text is one line for people."""


class StartError(DeployerError):
    """The command cannot run like this."""


class RepositoryError(DeployerError):
    """Git cannot answer."""


class TooLargeError(RepositoryError):
    """A commit has more files or bytes than were allowed."""


class BuildError(DeployerError):
    """A commit could not be made ready to run.

    Attributes: output, the last lines of what failed, for people. interrupted: the commit is not what ended it, but a signal from
    outside or an Engine that went away.
    """

    def __init__(self, text: str, output: str = "", *, interrupted: bool = False) -> None:
        super().__init__(text)
        self.output, self.interrupted = output, interrupted

    def with_remarks(self, remarks: Sequence[str]) -> BuildError:
        """The same, with what the commit does not bring, which may be why it failed."""
        if not remarks:
            return self
        output = "\n".join((*remarks, self.output))
        return BuildError(f"{self} ({'; '.join(remarks)})", output, interrupted=self.interrupted)


class RuntimeFailedError(DeployerError):
    """The runtime could not do what it was asked to."""


class EngineRefusedError(RuntimeFailedError):
    """The Docker Engine refused.

    Attributes: status, the HTTP status of its answer: 404 for what is not there, 409 for what its state does not allow.
    """

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.status = status


class EngineAwayError(RuntimeFailedError):
    """The Docker Engine does not answer: it restarts, was stopped, or this user may not use it. No commit's fault."""
