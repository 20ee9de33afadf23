"""What may go wrong in the panel itself; errors of the bus are in `bus.errors`.

PanelError
├── StartError                  the panel cannot start: port, token file
├── ConfirmationNeededError     resume while halted, without a confirmation
├── UnknownSlotError            no such slot
├── NoWindowError               no bot says which window a slot is in
├── TooManyActionsError         more manual actions stand in control than are allowed
├── TooManyRequestsError        more requests wait for the deployer than are allowed
├── NoSuchWriteError            no write of that generation is on record
├── NotifyOffError              nobody is notified: there are no targets
└── TooManyPagesError           more pages ask for events than the panel serves
"""

from __future__ import annotations

from collections.abc import Iterable

from bus.logs import star_suspects


class PanelError(Exception):
    """Root of all errors of the panel."""


class StartError(PanelError):
    """The panel cannot start; the text is one line for people, and what looks like a token in it is starred."""

    def __init__(self, text: str) -> None:
        super().__init__(star_suspects(text))


class ConfirmationNeededError(PanelError):
    """Trading is halted: only a confirmed resume ends that."""

    def __str__(self) -> str:
        return (
            'trading is halted: expected {"confirm": true} beside the generation; look why it was halted, then confirm'
        )


class UnknownSlotError(PanelError):
    """Attributes: slot, what was asked for; known, the slots that there are."""

    def __init__(self, slot: str, known: Iterable[str]) -> None:
        super().__init__(slot)
        self.slot = slot
        self.known = tuple(sorted(known))

    def __str__(self) -> str:
        known = ", ".join(self.known) or "none yet, because no bot has written its status"
        return f"there is no slot {self.slot!a:.60}; known slots: {known}"


class NoWindowError(PanelError):
    """Attribute: slot, or None for all of them."""

    def __init__(self, slot: str | None) -> None:
        super().__init__(slot)
        self.slot = slot

    def __str__(self) -> str:
        return (
            f"no bot has said which window {self.slot or 'each slot'} is in, and an entry or exit is meant for one window; "
            "wait for the next status"
        )


class TooManyActionsError(PanelError):
    """Attribute: limit, how many manual actions may stand in control at once."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.limit = limit

    def __str__(self) -> str:
        return f"{self.limit} manual actions of windows that go on stand in control already; wait until some have ended"


class TooManyRequestsError(PanelError):
    """Attribute: limit, how many requests may wait for the deployer at once."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.limit = limit

    def __str__(self) -> str:
        return f"{self.limit} requests wait for the deployer already; see that it runs (`./ns status`)"


class NoSuchWriteError(PanelError):
    """Attribute: generation, or the id of a request."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what

    def __str__(self) -> str:
        return f"{self.what} is not among the newest writes on record; see /api/writes"


class NotifyOffError(PanelError):
    """There is no target to send to."""

    def __str__(self) -> str:
        return (
            "nobody is notified: expected PANEL_NOTIFY_FILE to name a file of addresses, one a line "
            "(docs/how-to/notifications.md), and the panel to be started anew"
        )


class TooManyPagesError(PanelError):
    """Attribute: limit, how many event streams are served at once."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.limit = limit

    def __str__(self) -> str:
        return f"{self.limit} pages are open already; close some and try again"
