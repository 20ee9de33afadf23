"""Whom to tell: a file of apprise's addresses, one a line, and one sending to one of them.

An address is a secret (it has tokens and passwords in it). Nothing of one leaves this module but its scheme: what apprise says of
a failure goes nowhere either, because it may quote one. Only this module imports apprise, and late: that takes two seconds.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import stat
import threading
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Self

from bus import open_regular
from panel.errors import StartError
from panel.notify.messages import Message

if TYPE_CHECKING:
    from apprise import NotifyBase

MOST_TARGETS = 10
MOST_BYTES = 64 << 10
_SCHEME = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]{0,30})://\S+")
_CODE = re.compile(r"error[ =:]*(\d{3})\b")
_LOADING = threading.Lock()


@dataclass(frozen=True, slots=True)
class Target:
    """One line of the file. number: which line. scheme: of what service. key: tells it from others, and says nothing of it."""

    number: int
    scheme: str
    key: str
    address: str = field(repr=False)

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.scheme} in line {self.number}"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one sending. text: what the target answered, in words."""

    sent: bool
    text: str


def read_targets(path: Path) -> tuple[Target, ...]:
    """The targets that a file names. Empty lines, and those that begin with #, are left out.

    Raises StartError: others may read it, it cannot be read, a line is no address, it has none or more than MOST_TARGETS.
    """
    try:
        with os.fdopen(open_regular(path, os.O_RDONLY), "rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            text = file.read(MOST_BYTES).decode("utf-8")
    except UnicodeDecodeError:
        raise StartError(f"the file {path} (PANEL_NOTIFY_FILE) is no text; expected an address a line") from None
    except OSError as error:
        raise StartError(
            f"the file {path} cannot be read ({error.strerror}); correct PANEL_NOTIFY_FILE, or give the file to this user"
        ) from None
    if mode & 0o077:
        raise StartError(
            f"others may use the file {path} (PANEL_NOTIFY_FILE, mode {mode:04o}), and addresses are secrets: chmod 600 {path}"
        )
    targets = []
    for number, line in enumerate(text.splitlines(), 1):
        address = line.strip()
        if not address or address.startswith("#"):
            continue
        found = _SCHEME.fullmatch(address)
        if found is None:
            raise StartError(
                f"line {number} of {path} (PANEL_NOTIFY_FILE): expected an address such as ntfys://ntfy.sh/TOPIC"
            )
        targets.append(Target(number, found[1].lower(), hashlib.sha256(address.encode()).hexdigest()[:8], address))
    if not 0 < len(targets) <= MOST_TARGETS:
        raise StartError(f"expected 1 to {MOST_TARGETS} addresses in {path} (PANEL_NOTIFY_FILE), found {len(targets)}")
    return tuple(targets)


def send(target: Target, message: Message) -> Answer:
    """Send one message and wait for the answer: for seconds, in a thread of the caller's. Raises nothing."""
    try:
        service = _service(target.address)
    except Exception as error:  # noqa: BLE001  apprise's modules are many
        return Answer(False, f"apprise cannot be loaded ({type(error).__name__})")
    if service is None:
        return Answer(False, "apprise knows no such address: see the line's spelling, and apprise's list of services")
    from apprise import NotifyFormat, NotifyType

    kinds = {
        "info": NotifyType.INFO,
        "success": NotifyType.SUCCESS,
        "warning": NotifyType.WARNING,
        "failure": NotifyType.FAILURE,
    }
    try:
        with _Heard() as heard:
            sent = service.notify(
                body=message.body,
                title=message.title,
                notify_type=kinds[message.level],
                body_format=NotifyFormat.TEXT,
            )
    except Exception as error:  # noqa: BLE001  what one service's module raises ends no other's sending
        return Answer(False, f"it failed ({type(error).__name__})")
    return Answer(True, "sent") if sent else Answer(False, in_words(heard.text))


def in_words(said: str) -> str:
    """Why a sending failed, by what apprise said of it, and without a word of that."""
    found = _CODE.findall(said)
    if found:
        return f"it answered with status {found[-1]}"
    if "connection error" in said.lower():
        return "it could not be reached"
    return "it was not accepted"


class _Heard(logging.Handler):
    """What apprise says in this thread while it lasts. Others send at the same time."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._thread = threading.get_ident()
        self.text = ""

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self._thread and len(self.text) < MOST_BYTES:
            self.text += record.getMessage() + "\n"

    def __enter__(self) -> Self:
        logging.getLogger("apprise").addHandler(self)
        return self

    def __exit__(self, *exc: object) -> None:
        logging.getLogger("apprise").removeHandler(self)


@cache
def _service(address: str) -> NotifyBase | None:
    """Apprise's own object for an address; None where it knows none. Loads apprise at the first call."""
    with _LOADING:
        # Its warnings quote addresses, and so may those of the library beneath: neither is for stderr.
        for name in ("apprise", "urllib3"):
            logger = logging.getLogger(name)
            logger.propagate = False
            logger.addHandler(logging.NullHandler())
        from apprise import Apprise, AppriseAsset

        asset = AppriseAsset(app_id="Never-Sleeps", app_desc="Never Sleeps", app_url="")
        return Apprise.instantiate(address, asset=asset)
