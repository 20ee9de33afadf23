"""The command line imports what a command needs, when it needs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_commands_that_read_need_no_strategy_that_can_be_imported() -> None:
    """Audit and explain work in a checkout whose strategy is broken: the command line imports none by itself."""
    program = (
        "import sys, bot.cli; sys.exit(any(name.startswith(('bot.strategy', 'bot.orders')) for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False, timeout=60).returncode == 0
