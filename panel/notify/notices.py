"""What people are told: notices, made out of what happened since the last look. Pure.

`look` takes what was known (`Memory`) and what was read since (`Seen`), and returns both the notices and what is known then. Each
thing that happened makes its notice once, however the looks cut it up and however often the panel starts anew in between: fills,
outcomes and orders are counted by row, deploys and writes by place in their file, deaths by instance.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from pydantic import BaseModel, ConfigDict

from bus import Step
from bus.history import UNCHANGED
from ledger.schema import OrderCode
from panel.audit_log import Write


class Kind(StrEnum):
    """What a notice is about; the names that PANEL_NOTIFY_KINDS takes."""

    FILLS = "fills"
    OUTCOMES = "outcomes"
    REFUSALS = "refusals"
    HALTS = "halts"
    PAUSES = "pauses"
    DEPLOYS = "deploys"
    DEATHS = "deaths"
    LIMITS = "limits"
    STANDSTILLS = "standstills"


ALL = frozenset(Kind)
URGENT = frozenset({Kind.HALTS, Kind.LIMITS, Kind.STANDSTILLS})
"""They pass a quiet time: entries have ended, and a person may be needed."""
TRADES = frozenset({Kind.FILLS, Kind.OUTCOMES})
"""There are many of them: those of one minute are one message."""
OLDEST_MS = 3_600_000
"""What happened longer ago than this before it was read is told as one summary."""
REFUSALS = (3, 10, 30, 100, 300, 1_000)
"""After so many refused orders in a row there is a notice."""
SOON_AGAIN_MS = 600_000
"""A limit that is left and reached again within this time is told once."""
EXPLAINED_MS = 3_000
"""A halt of the panel is on record within this time after its file; a file that is not was made by hand."""
SILENT_MS = 30_000
"""Nobody trades, where no bot has written its status for so long or for six polls, whichever is longer."""
PASSING_MS = 60_000
"""A start or a build is told as a standstill only where it lasts so long."""
PASSING = ("building", "starting")
_GONE = ("stopped",)
_MOST_OPEN, _MOST_TEXT = 20, 300


class Notice(BaseModel):
    """One thing that people are told. title: what, in a few words. text: a line with the facts. time_ms: when it happened, UTC.

    code: for machines, within its kind. pnl: of an outcome, in pUSD.
    """

    model_config = ConfigDict(frozen=True)

    kind: Kind
    code: str
    title: str
    text: str
    time_ms: int
    pnl: Decimal | None = None


class Open(BaseModel):
    """What is known of a deploy that has no verdict yet: by whom, what, and the words with which it was taken back."""

    model_config = ConfigDict(frozen=True)

    by: str = ""
    what: str = ""
    back: str = ""


class Nobody(BaseModel):
    """The deployer's newest word on why nobody trades. told: there was a notice of it."""

    model_config = ConfigDict(frozen=True)

    text: str
    code: str
    since_ms: int
    told: bool = False


class Memory(BaseModel):
    """How far the bus was read, and what must be known to tell the next change from the last.

    ledger: which one it is (UTC ms of its first epoch), 0 for none. fills, outcomes, corrections, orders: their newest row.
    steps, writes: bytes read of their files. dead: instances whose end is known. refused: orders in a row.
    """

    model_config = ConfigDict(frozen=True)

    ledger: int = 0
    fills: int = 0
    outcomes: int = 0
    corrections: int = 0
    orders: int = 0
    steps: int = 0
    writes: int = 0
    dead: tuple[str, ...] = ()
    open: dict[str, Open] = {}
    refused: int = 0
    halted: bool = False
    halt_ms: int | None = None
    """Since when a halt file is there that no write on record explains; None where all is explained."""
    pause_until_ms: int | None = None
    """When a pause ends by itself, UTC; None where none does."""
    limits: dict[str, int] = {}
    """When each limit was told last, UTC ms."""
    reached: tuple[str, ...] = ()
    """The limits that are reached now."""
    nobody: Nobody | None = None
    silent: bool = False
    """A notice said that no bot writes its status."""
    venue: str = ""
    """What is traded, by the newest status: paper or live."""


@dataclass(frozen=True, slots=True)
class FillRow:
    """One trade of ours. size, value: shares and pUSD. failed: it was reversed on the chain."""

    row: int
    slot: str
    outcome: str
    side: str
    price: Decimal
    size: Decimal
    value: Decimal
    failed: bool
    time_ms: int


@dataclass(frozen=True, slots=True)
class OutcomeRow:
    """How a window resolved, or by how much an outcome was corrected (why). pnl: in pUSD."""

    row: int
    slot: str
    window: str
    winner: str
    pnl: Decimal
    time_ms: int
    why: str = ""


@dataclass(frozen=True, slots=True)
class OrderRow:
    """What became known of an order."""

    row: int
    slot: str
    state: str
    text: str
    time_ms: int
    code: str = ""


@dataclass(frozen=True, slots=True)
class Dead:
    """An instance whose process ended. role: what it said of itself last, empty where it said nothing."""

    id: str
    color: str
    sha: str
    role: str


@dataclass(frozen=True, slots=True)
class Seen:
    """What was read since. The newest rows and places are those read up to; None where it could not be read now.

    dead: all dead instances that there are. limits: the limits that are reached, in words. silent_ms: how old the newest status
    is; limit_ms: how old it may be. left_out: what was too much to read, by the kind of notice that it would have made.
    """

    now_ms: int
    ledger: int | None = None
    fills: tuple[FillRow, ...] = ()
    outcomes: tuple[OutcomeRow, ...] = ()
    corrections: tuple[OutcomeRow, ...] = ()
    orders: tuple[OrderRow, ...] = ()
    newest: Mapping[str, int] | None = None
    """The newest row of each table."""
    steps: tuple[Step, ...] = ()
    steps_to: int = 0
    writes: tuple[Write, ...] = ()
    writes_to: int = 0
    dead: tuple[Dead, ...] | None = None
    halted: bool = False
    limits: Mapping[str, str] | None = None
    silent_ms: int | None = None
    limit_ms: int = SILENT_MS
    deployer: bool = True
    """Whether a deployer lives."""
    venue: str = ""
    left_out: frozenset[Kind] = frozenset()


def look(known: Memory, seen: Seen, kinds: frozenset[Kind] = ALL) -> tuple[Memory, tuple[Notice, ...]]:
    """The notices of these kinds, oldest first, and what is known now. What is old by now becomes one summary."""
    notices: list[Notice] = []
    known = _ledger(known, seen, notices)
    known = _deploys(known, seen, notices)
    known = _writes(known, seen, notices)
    known = _halt_file(known, seen, notices)
    known = _deaths(known, seen, notices)
    known = _limits(known, seen, notices)
    known = _standstill(known, seen, notices)
    known = known.model_copy(update={"venue": seen.venue or known.venue})
    return known, _with_summary([one for one in notices if one.kind in kinds], seen, kinds)


def begin(seen: Seen) -> Memory:
    """What is known at the very first look: all of it, so that nothing of the past is told."""
    known, _ = look(Memory(halted=seen.halted), seen)
    return known.model_copy(update={"halt_ms": None})


def _ledger(known: Memory, seen: Seen, notices: list[Notice]) -> Memory:
    if seen.newest is None:
        return known
    for fill in seen.fills:
        did = "bought" if fill.side == "BUY" else "sold"
        what = f"{fill.slot}: {did} {_number(fill.size)} {fill.outcome} at {fill.price} ({_number(fill.value)} pUSD)"
        if fill.failed:
            notices.append(
                _notice(Kind.FILLS, "failed", "A trade failed", f"{what}: it failed on the chain", fill.time_ms)
            )
        else:
            notices.append(_notice(Kind.FILLS, "filled", "Fill", what, fill.time_ms))
    for one in seen.outcomes:
        text = f"{one.slot}: {one.winner}, {_signed(one.pnl)} pUSD"
        notices.append(_notice(Kind.OUTCOMES, "resolved", "Outcome", text, one.time_ms, one.pnl))
    for one in seen.corrections:
        text = f"{one.slot}: the outcome of {one.window} is corrected by {_signed(one.pnl)} pUSD: {one.why}"
        notices.append(_notice(Kind.OUTCOMES, "corrected", "Outcome corrected", text, one.time_ms, one.pnl))
    refused = known.refused
    for order in seen.orders:
        if order.state == "accepted":
            refused = 0
        elif order.state == "refused" and order.code != OrderCode.NO_MATCH:
            refused += 1
            if refused in REFUSALS:
                text = f"the newest in {order.slot}: {order.text}"
                title = f"{refused} orders in a row were refused"
                notices.append(_notice(Kind.REFUSALS, "in-a-row", title, text, order.time_ms))
    return known.model_copy(update={**seen.newest, "ledger": seen.ledger or 0, "refused": refused})


def _deploys(known: Memory, seen: Seen, notices: list[Notice]) -> Memory:
    deploys, nobody = dict(known.open), known.nobody
    for step in seen.steps:
        if step.step == "nobody-trades":
            nobody = Nobody(text=step.text, code=str(step.data.get("code", "")), since_ms=step.time_ms)
            if nobody.code not in PASSING:
                notices.append(_nobody(nobody))
                nobody = nobody.model_copy(update={"told": True})
        elif step.step == "trades-again":
            if nobody is not None and nobody.told:
                notices.append(_notice(Kind.STANDSTILLS, "over", "Trading again", step.text, step.time_ms))
            nobody = None
        elif step.step in ("paused", "resumed"):
            notices.append(_notice(Kind.DEPLOYS, step.step, f"Deploys {step.step}", step.text, step.time_ms))
        elif step.deploy:
            _deploy(deploys, step, notices)
    kept = dict(list(deploys.items())[-_MOST_OPEN:])
    return known.model_copy(update={"open": kept, "nobody": nobody, "steps": seen.steps_to})


def _deploy(deploys: dict[str, Open], step: Step, notices: list[Notice]) -> None:
    """Take one step of a deploy to what is known; its verdict, and that it waits for a person, are told."""
    one = deploys.get(step.deploy, Open())
    if step.step == "queued":
        what = str(step.data.get("subject") or step.data.get("ref") or step.data.get("cause") or "")
        one = Open(by=step.by, what=what)
    elif step.step == "answered" and step.data.get("push"):
        one = one.model_copy(update={"by": step.by})
    elif step.step == "taken-back":
        one = one.model_copy(update={"back": step.text})
    who = f"{step.sha[:7]}{f' {one.what!r}' if one.what else ''}{f' by {one.by}' if one.by else ''}"
    if step.step in ("confirmed", "failed", "cancelled"):
        code = "taken-back" if step.step == "failed" and one.back else step.word
        title = {"taken-back": "Deploy taken back", UNCHANGED: "Deploy changes nothing"}.get(
            code, f"Deploy {step.word}"
        )
        text = f"{who}: {step.text}{f'; {one.back}' if one.back else ''}"
        notices.append(_notice(Kind.DEPLOYS, code, title, text, step.time_ms))
        deploys.pop(step.deploy, None)
        return
    if step.step == "held":
        notices.append(
            _notice(Kind.DEPLOYS, "held", "A deploy waits for approval", f"{who}: {step.text}", step.time_ms)
        )
    if one != Open():
        deploys[step.deploy] = one


def _writes(known: Memory, seen: Seen, notices: list[Notice]) -> Memory:
    explained, until_ms = False, known.pause_until_ms
    for write in seen.writes:
        who = f"by {write.by.removeprefix('panel/')} from {write.origin}"
        if write.action == "halt":
            explained = True
            notices.append(_notice(Kind.HALTS, "halted", "Halted", f"{who}; exits go on", write.time_ms))
        elif write.action.startswith("pause"):
            words = write.action.removeprefix("pause").lstrip(": ")  # until when, and why
            text = f"{words}; {who}; exits go on" if words else f"{who}; exits go on"
            notices.append(_notice(Kind.PAUSES, "paused", "Paused", text, write.time_ms))
        elif write.action == "resume":
            kind = Kind.HALTS if write.before.get("mode") == "halt" else Kind.PAUSES
            notices.append(_notice(kind, "resumed", "Resumed", who, write.time_ms))
        if "mode" in write.after or "pause_until_ms" in write.after:
            ends = write.after.get("pause_until_ms")
            until_ms = ends if isinstance(ends, int) else None
    if until_ms is not None and seen.now_ms >= until_ms:
        notices.append(_notice(Kind.PAUSES, "over", "The pause is over", "entries again, by the clock", until_ms))
        until_ms = None
    known = known.model_copy(update={"writes": seen.writes_to, "pause_until_ms": until_ms})
    return known.model_copy(update={"halted": True, "halt_ms": None}) if explained and seen.halted else known


def _halt_file(known: Memory, seen: Seen, notices: list[Notice]) -> Memory:
    """A halt file that was made by hand. One that the panel made stands in the record, a moment later."""
    if not seen.halted:
        return known.model_copy(update={"halted": False, "halt_ms": None})
    if not known.halted:
        return known.model_copy(update={"halted": True, "halt_ms": seen.now_ms})
    if known.halt_ms is None or 0 <= seen.now_ms - known.halt_ms < EXPLAINED_MS:
        return known
    text = "a halt file is there that no write on record has made; exits go on"
    notices.append(_notice(Kind.HALTS, "file", "Halted", text, known.halt_ms))
    return known.model_copy(update={"halt_ms": None})


def _deaths(known: Memory, seen: Seen, notices: list[Notice]) -> Memory:
    if seen.dead is None:
        return known
    for dead in seen.dead:
        if dead.id in known.dead or dead.role in _GONE:
            continue
        doing = {"active": "while it traded", "": "before it said anything"}.get(dead.role, f"while {dead.role}")
        text = f"{dead.color} {dead.sha[:7]} died {doing}"
        notices.append(_notice(Kind.DEATHS, dead.role or "unsaid", "A bot died", text, seen.now_ms))
    return known.model_copy(update={"dead": tuple(dead.id for dead in seen.dead)})


def _limits(known: Memory, seen: Seen, notices: list[Notice]) -> Memory:
    if seen.limits is None:
        return known
    told = dict(known.limits)
    for code, text in seen.limits.items():
        if code in known.reached or 0 <= seen.now_ms - told.get(code, -SOON_AGAIN_MS) < SOON_AGAIN_MS:
            continue
        notices.append(
            _notice(Kind.LIMITS, code, "Loss limit reached", f"{text}; no entries, exits go on", seen.now_ms)
        )
        told[code] = seen.now_ms
    return known.model_copy(update={"limits": told, "reached": tuple(seen.limits)})


def _standstill(known: Memory, seen: Seen, notices: list[Notice]) -> Memory:
    nobody = known.nobody
    if nobody is not None and not nobody.told and seen.now_ms - nobody.since_ms >= PASSING_MS:
        notices.append(_nobody(nobody))
        known = known.model_copy(update={"nobody": nobody.model_copy(update={"told": True})})
    if seen.silent_ms is None:
        return known
    if seen.silent_ms < seen.limit_ms:
        if known.silent:
            notices.append(
                _notice(Kind.STANDSTILLS, "heard", "A bot is heard again", "its status is fresh", seen.now_ms)
            )
        return known.model_copy(update={"silent": False})
    if known.silent or known.nobody is not None:
        return known
    text = f"no bot has written its status for {seen.silent_ms // 1000} s"
    text += "" if seen.deployer else ", and no deployer runs that would start another"
    notices.append(_notice(Kind.STANDSTILLS, "silent", "Nobody trades", text, seen.now_ms))
    return known.model_copy(update={"silent": True})


def _nobody(nobody: Nobody) -> Notice:
    return _notice(Kind.STANDSTILLS, nobody.code or "nobody", "Nobody trades", nobody.text, nobody.since_ms)


def _with_summary(notices: Sequence[Notice], seen: Seen, kinds: frozenset[Kind]) -> tuple[Notice, ...]:
    """What is old by now as one notice, of the most urgent kind that is in it; then the others by time."""
    fresh = sorted((one for one in notices if seen.now_ms - one.time_ms <= OLDEST_MS), key=lambda one: one.time_ms)
    old = [one for one in notices if seen.now_ms - one.time_ms > OLDEST_MS]
    left_out = [kind for kind in Kind if kind in seen.left_out & kinds]
    if not old and not left_out:
        return tuple(fresh)
    found = [*(one.kind for one in old), *left_out]
    kind = next((kind for kind in found if kind in URGENT), None) or next(
        (kind for kind in found if kind not in TRADES), found[0]
    )
    words = [tally(old)] if old else []
    words += [f"not all of these could be read: {', '.join(left_out)}"] if left_out else []
    title = "More than could be read"
    if old:
        title = f"While nobody looked, {(seen.now_ms - min(one.time_ms for one in old)) / 3_600_000:.1f} h"
    return (_notice(kind, "meanwhile", title, "; ".join(words), seen.now_ms), *fresh)


def tally(notices: Iterable[Notice]) -> str:
    """How many of each kind, in words: `3 fills, 2 outcomes (+4.10 pUSD)`."""
    notices = tuple(notices)
    counts = Counter(one.kind for one in notices)
    pnl = sum((one.pnl for one in notices if one.pnl is not None), Decimal(0))
    return ", ".join(_counted(kind, counts[kind], pnl) for kind in Kind if counts[kind])


def _counted(kind: Kind, count: int, pnl: Decimal) -> str:
    word = kind.value if count != 1 else kind.value.removesuffix("s")
    return f"{count} {word}" + (f" ({_signed(pnl)} pUSD)" if kind is Kind.OUTCOMES else "")


def _notice(kind: Kind, code: str, title: str, text: str, time_ms: int, pnl: Decimal | None = None) -> Notice:
    return Notice(kind=kind, code=code, title=plain(title), text=plain(text), time_ms=time_ms, pnl=pnl)


def plain(text: str) -> str:
    """One line of bounded length, without what a terminal or a chat would obey: words of commits and venues are strangers'."""
    line = "".join(letter if letter.isprintable() else " " for letter in text)
    return line if len(line) <= _MOST_TEXT else f"{line[: _MOST_TEXT - 1]}…"


def _number(value: Decimal) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _signed(value: Decimal) -> str:
    return f"{value:+.2f}"
