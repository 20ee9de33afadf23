"""Broken versions of the real bot: what a commit puts at the end of one of its files, and what the history must say of it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Break:
    """One way of being broken.

    One that dies at its first poll may be gone before the deployer saw it trade: the verdict is then that it died when it was to.

    file: what the commit changes. text: what it appends there. why: words of the verdict, one of which must be in it.
    missed: ticks that it may cost at most; None: it never comes to hold the lease, so none. Until the take-back it is the
    trader: a second after a death, the deployer's limit of 6 s and the kill after it stopped to poll.
    """

    file: str
    text: str
    why: tuple[str, ...]
    missed: int | None = None


# The method is replaced after the class, so that no line of the bot itself is named here.
_ACTIVE = """

async def _broken(self, tick):
    {body}


Active.poll = _broken
"""

BREAKS = {
    "syntax-error": Break("bot/strategy/api.py", "\ndef (:\n", ("SyntaxError", "does not compile", "the build failed")),
    "build-fails": Break("bot/context.py", "\nraise RuntimeError('broken on purpose')\n", ("the build failed",)),
    "import-hangs": Break(
        "bot/context.py", "\nimport time\ntime.sleep(3600)\n", ("DEPLOYER_BUILD_LIMIT", "did not end within")
    ),
    "start-hangs": Break(
        "bot/lifecycle/app.py",
        "\n\nasync def run(*_):\n    import time\n    time.sleep(3600)\n",
        ("it wrote no instance document",),
    ),
    "never-healthy": Break(
        "bot/context.py", "\nWorld.why_unhealthy = lambda *_: 'sick on purpose'\n", ("sick on purpose",)
    ),
    "unhealthy-active": Break(
        "bot/lifecycle/active.py",
        "\n_poll = Active.poll\n"
        + _ACTIVE.format(body="return replace(await _poll(self, tick), why_not='sick on purpose')"),
        ("unhealthy polls in a row: sick on purpose",),
        missed=0,
    ),
    "raises-active": Break(
        "bot/lifecycle/active.py",
        _ACTIVE.format(body="raise RuntimeError('broken on purpose')"),
        ("died", "gave the lease back"),
        missed=1,
    ),
    "dies-active": Break(
        "bot/lifecycle/active.py",
        _ACTIVE.format(body="import os\n    os._exit(3)"),
        ("(exit code 3)",),
        missed=1,
    ),
    "hangs-active": Break(
        "bot/lifecycle/active.py",
        _ACTIVE.format(body="import time\n    time.sleep(3600)"),
        ("died", "no poll was completed"),
        missed=9,
    ),
    "waits-active": Break(
        "bot/lifecycle/active.py",
        _ACTIVE.format(body="import asyncio\n    await asyncio.sleep(3600)"),
        ("no poll was completed",),
        missed=9,
    ),
    "eats-memory": Break(
        "bot/lifecycle/active.py",
        _ACTIVE.format(body="hoard = []\n    while True:\n        hoard.append(b'x' * (64 << 20))"),
        ("died", "no poll was completed"),
        missed=9,
    ),
}


__all__ = ["BREAKS", "Break"]
