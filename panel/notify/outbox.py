"""What waits to be sent, and to whom; kept in a file of the panel's own, so that a new start neither repeats nor loses it.

Each target has a queue of its own: one that is dead keeps no other back.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from bus import open_regular, write_atomically
from panel.notify.messages import Message
from panel.notify.notices import OLDEST_MS, Memory, Notice

MOST_MESSAGES = 50
MOST_BYTES = 8 << 20
BACK_OFF_S = (5.0, 15.0, 60.0, 300.0)


class Queue(BaseModel):
    """The messages of one target, oldest first. dropped: how many were given up since the last that was sent."""

    model_config = ConfigDict(frozen=True)

    messages: tuple[Message, ...] = ()
    dropped: int = 0

    def with_more(self, messages: Collection[Message]) -> Queue:
        """With some more; MOST_MESSAGES at most, the oldest are dropped."""
        kept = (*self.messages, *messages)
        surplus = max(0, len(kept) - MOST_MESSAGES)
        return Queue(messages=kept[surplus:], dropped=self.dropped + surplus)

    def without_old(self, now_ms: int) -> Queue:
        """Without what nobody could be told for an hour."""
        kept = tuple(one for one in self.messages if now_ms - one.time_ms <= OLDEST_MS)
        return Queue(messages=kept, dropped=self.dropped + len(self.messages) - len(kept))

    @property
    def first(self) -> Message | None:
        """What to send next, with a line about what was dropped before it; None for nothing."""
        if not self.messages:
            return None
        first = self.messages[0]
        if not self.dropped:
            return first
        line = f"{self.dropped} earlier messages were dropped: they could not be sent here"
        return first.model_copy(update={"body": f"{first.body}\n{line}"})

    def sent(self, message: Message) -> Queue:
        """Once its first message was sent. It may have been dropped meanwhile."""
        if not self.messages or not self.messages[0].is_same(message):
            return self
        return Queue(messages=self.messages[1:])


class Outbox(BaseModel):
    """All of it. memory: how far the bus was read, None at the very first start. last_ms: when the newest message was made.

    waiting: notices of which no message was made yet. dropped: how many of those were dropped. queues: by a target's key.
    """

    model_config = ConfigDict(frozen=True)

    memory: Memory | None = None
    waiting: tuple[Notice, ...] = ()
    dropped: int = 0
    last_ms: int = 0
    queues: dict[str, Queue] = {}

    def of_targets(self, keys: Collection[str]) -> Outbox:
        """With a queue for each of these and for no other: whom the file names no more is told nothing more."""
        return self.model_copy(update={"queues": {key: self.queues.get(key, Queue()) for key in keys}})

    def with_queue(self, key: str, queue: Queue) -> Outbox:
        """With another queue of one target."""
        return self.model_copy(update={"queues": {**self.queues, key: queue}})

    def with_messages(self, messages: Collection[Message]) -> Outbox:
        """With these for every target."""
        queues: Mapping[str, Queue] = {key: queue.with_more(messages) for key, queue in self.queues.items()}
        return self.model_copy(update={"queues": queues})


def outbox_file(token_file: Path) -> Path:
    """Where it is kept: beside the tokens."""
    return token_file.with_name(f"{token_file.name}-notify.json")


def load_outbox(file: Path) -> Outbox:
    """What is kept; an empty one where there is none, or where it cannot be read: then it begins anew, from now on."""
    try:
        with os.fdopen(open_regular(file, os.O_RDONLY), "rb") as opened:
            return Outbox.model_validate_json(opened.read(MOST_BYTES))
    except (OSError, ValidationError):
        return Outbox()


def save_outbox(file: Path, outbox: Outbox) -> None:
    """Keep it, for its owner alone. Raises OSError."""
    write_atomically(file, json.dumps(outbox.model_dump(mode="json")).encode(), durable=False, mode=0o600)
