"""What can go wrong, and who is told.

PaperError
├── UsageError      the command was called wrongly: one line on stderr, exit code 2
└── RefusedError    a request was refused: an HTTP status and the venue's JSON error shape
"""

from __future__ import annotations

__all__ = ["PaperError", "RefusedError", "UsageError"]


class PaperError(Exception):
    """Base of all errors of this package."""


class UsageError(PaperError):
    """A setting, file or folder is unusable. The text says what was found and what to do."""


class RefusedError(PaperError):
    """The exchange refuses a request, as the venue does: ``{"error": text}`` plus extra fields.

    Attributes:
        status: the HTTP status.
        text: what the venue says.
        headers: of the answer.
        extra: further fields of the JSON body (``code``, ``orderID``, ``retry_after_seconds``).
        bare: the body has these fields alone, as Binance's has.
    """

    def __init__(
        self, status: int, text: str, *, headers: dict[str, str] | None = None, bare: bool = False, **extra: object
    ) -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        self.headers = headers or {}
        self.bare = bare
        self.extra = extra

    @property
    def body(self) -> dict[str, object]:
        """The JSON body of the answer."""
        return self.extra if self.bare else {"error": self.text, **self.extra}
