"""`ns notify`: who is notified, and a test of each target."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Sequence

from panel.notify.messages import Message
from panel.notify.service import Told
from panel.notify.settings import NotifySettings
from panel.notify.targets import Answer, Target, send

LIMIT_S = 30.0


def send_tests(targets: Sequence[Target], message: Message, limit_s: float = LIMIT_S) -> tuple[Told, ...]:
    """Send it to all of them at the same time; what each answered within the limit."""
    answers: dict[str, tuple[Answer, int]] = {}
    began = time.monotonic()

    def one(target: Target) -> None:
        answer = send(target, message)
        answers[target.key] = answer, round((time.monotonic() - began) * 1000)

    threads = [threading.Thread(target=one, args=(target,), daemon=True) for target in targets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, limit_s - (time.monotonic() - began)))
    late = Answer(False, f"it did not answer in {limit_s:g} s"), round(limit_s * 1000)
    return tuple(
        Told(name=target.name, sent=answer.sent, text=answer.text, ms=ms)
        for target in targets
        for answer, ms in (answers.get(target.key, late),)
    )


def say_targets(settings: NotifySettings, targets: Sequence[Target], told: Sequence[Told], *, as_json: bool) -> str:
    """The targets with what they answered, for people or as JSON. No address is in it."""
    kinds, quiet = sorted(settings.kinds), settings.notify_quiet
    if as_json:
        answers = [one.model_dump() for one in told] or [{"name": target.name} for target in targets]
        return json.dumps({"targets": answers, "kinds": kinds, "quiet": quiet}, indent=1)
    if told:
        return "\n".join(
            f"{one.name}: {one.text} ({one.ms} ms)" if one.sent else f"{one.name}: not sent: {one.text}" for one in told
        )
    lines = [target.name for target in targets]
    lines.append(f"told of: {', '.join(kinds)}")
    lines.append(f"quiet: {quiet or 'never'}; halts, limits and standstills pass")
    return "\n".join(lines)
