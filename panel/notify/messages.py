"""Which notices leave when, and as which message: the trades of a minute together, in a quiet time only what is urgent. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ConfigDict

from panel.notify.notices import TRADES, URGENT, Kind, Notice, tally

TRADES_WAIT_MS = 60_000
"""The trades of so long are one message."""
SPACING_MS = 5_000
"""Between two messages that are not urgent: what happens meanwhile goes with the next one."""
MOST_WAITING = 500
MOST_LINES = 20
"""Of one message; more trades are counted, and of everything else the rest is."""
_QUIET = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)(?: ([A-Za-z0-9_+/-]{1,60}))?")
Level = Literal["info", "success", "warning", "failure"]
_BAD = frozenset({"failed", "taken-back", "in-a-row"})
_GOOD = frozenset({"confirmed", "over", "heard", "resumed"})


class Message(BaseModel):
    """What is sent to a target. level: how a target may color it. time_ms: of its newest notice, UTC."""

    model_config = ConfigDict(frozen=True)

    title: str
    body: str
    level: Level
    time_ms: int

    def is_same(self, other: Message) -> bool:
        """Whether it tells the same; a line about dropped ones may have come to it meanwhile."""
        return (self.title, self.time_ms) == (other.title, other.time_ms)


@dataclass(frozen=True, slots=True)
class Quiet:
    """A time of day in which only what is urgent is sent. begins, ends: minutes after midnight, of that time zone."""

    begins: int
    ends: int
    zone: ZoneInfo

    def has(self, now_ms: int) -> bool:
        """Whether it is now. now_ms: UTC."""
        at = datetime.fromtimestamp(now_ms / 1000, UTC).astimezone(self.zone)
        minute = at.hour * 60 + at.minute
        if self.begins <= self.ends:
            return self.begins <= minute < self.ends
        return minute >= self.begins or minute < self.ends  # over midnight


def parse_quiet(text: str) -> Quiet | None:
    """`22:00-07:00 Europe/Berlin`, UTC where no time zone is named; None for an empty text. Raises ValueError."""
    if not text.strip():
        return None
    found = _QUIET.fullmatch(text.strip())
    if found is None:
        raise ValueError("expected a quiet time such as 22:00-07:00 or 22:00-07:00 Europe/Berlin")
    try:
        zone = ZoneInfo(found[5] or "UTC")
    except (ZoneInfoNotFoundError, OSError, ValueError):
        raise ValueError("expected a time zone that this machine knows, such as Europe/Berlin or UTC") from None
    begins, ends = int(found[1]) * 60 + int(found[2]), int(found[3]) * 60 + int(found[4])
    if begins == ends:
        raise ValueError("expected a quiet time that begins and ends at different times")
    return Quiet(begins, ends, zone)


def parse_kinds(text: str) -> frozenset[Kind]:
    """Names of kinds, separated by commas; all of them for an empty text. Raises ValueError."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = sorted(set(names) - set(Kind))
    if unknown:
        raise ValueError(f"expected kinds out of {', '.join(Kind)}, separated by commas")
    return frozenset(map(Kind, names)) or frozenset(Kind)


def keep(waiting: Sequence[Notice], more: Sequence[Notice]) -> tuple[tuple[Notice, ...], int]:
    """All of them, MOST_WAITING at most, and how many were dropped: the oldest trades first, then what is not urgent."""
    kept = [*waiting, *more]
    surplus = max(0, len(kept) - MOST_WAITING)
    if surplus:
        ranked = sorted(range(len(kept)), key=lambda place: (_rank(kept[place].kind), place))
        dropped = set(ranked[:surplus])
        kept = [one for place, one in enumerate(kept) if place not in dropped]
    return tuple(kept), surplus


def due(
    waiting: Sequence[Notice], *, now_ms: int, last_ms: int, quiet: Quiet | None, dropped: int = 0, venue: str = ""
) -> tuple[tuple[Message, ...], tuple[Notice, ...]]:
    """The messages to send now, and what waits on.

    last_ms: when the newest message was made. dropped: how many notices were dropped since; the first message says so. venue:
    what is traded; each title begins with it, so that nobody takes paper for money.
    """
    is_quiet = quiet is not None and quiet.has(now_ms)
    spaced = not 0 <= now_ms - last_ms < SPACING_MS
    urgent = [one for one in waiting if one.kind in URGENT]
    news = [one for one in waiting if one.kind not in URGENT | TRADES] if not is_quiet and spaced else []
    trades = [one for one in waiting if one.kind in TRADES] if not is_quiet and spaced else []
    if not any(not 0 <= now_ms - one.time_ms < TRADES_WAIT_MS for one in trades):
        trades = []
    groups = [group for group in ([*urgent, *news], trades) if group]
    messages = tuple(
        as_message(group, dropped=dropped if number == 0 else 0, venue=venue) for number, group in enumerate(groups)
    )
    gone = {id(one) for group in groups for one in group}
    return messages, tuple(one for one in waiting if id(one) not in gone)


def as_message(notices: Sequence[Notice], *, dropped: int = 0, venue: str = "") -> Message:
    """One message of several notices: each a line, and where there are many, their number."""
    first = next((one for one in notices if one.kind in URGENT), notices[0])
    alone = len(notices) == 1
    title = first.title if alone else first.title if first.kind in URGENT else tally(notices)
    lines = [one.text if alone else _line(one) for one in notices[:MOST_LINES]]
    if len(notices) > MOST_LINES:
        lines.append(f"and {tally(notices[MOST_LINES:])} more; in all {tally(notices)}")
    if dropped:
        lines.append(f"{dropped} earlier notices were dropped: too many waited")
    return Message(
        title=f"{venue}: {title}" if venue else title,
        body="\n".join(lines),
        level=_level(notices),
        time_ms=max(one.time_ms for one in notices),
    )


def _line(notice: Notice) -> str:
    return notice.text if notice.kind in TRADES and notice.code != "failed" else f"{notice.title}: {notice.text}"


def _level(notices: Sequence[Notice]) -> Level:
    if any(one.kind in URGENT and one.code not in _GOOD for one in notices):
        return "failure"
    if any(one.kind is Kind.DEATHS or one.code in _BAD for one in notices):
        return "warning"
    return "success" if all(one.code in _GOOD for one in notices) else "info"


def _rank(kind: Kind) -> int:
    return 0 if kind in TRADES else 2 if kind in URGENT else 1
