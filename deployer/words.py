"""What of a failed command's output explains it: one line for people, and at most MOST_LINES around it.

The last line is it seldom: after a traceback come warnings, hints and the names of files. So the words that tools use for a
reason are looked for: of Python, uv and pip, git, compilers, make and shells. Only where none is there is it the last line.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

MOST_LINES = 10
MOST_CHARACTERS = 400
MOST_LINE = 4_000
# Of Python: a class of an error at the beginning of a line, with its module or without.
_RAISED = re.compile(r"[A-Za-z_][\w.]*(?:Error|Exception|Exit|Interrupt|Failure)(?:: .*)?$")
_FILE = re.compile(r'\s*File "(?P<file>[^"]+)", line (?P<line>\d+)')
# Of uv: `× what` with causes below, the last of which is the root (its errors are drawn as a tree).
_TREE, _CAUSE = re.compile(r"\s*×\s+(.*)"), re.compile(r"\s*[├╰]─▶\s+(.*)")
_CAUSED = re.compile(r"\s*Caused by:\s*(.*)")
_SAID = re.compile(r"\s*(?:\S*?\s?)?(?:fatal|error|ERROR|Error|E)(?:\[[^\]]*\])?: ?(?P<what>\S.*)")
_FAILED = re.compile(r"FAILED (?P<what>\S.*)")  # of pytest
_WEAK = re.compile(
    r".*(?:No such file|Permission denied|not found|No space left|Killed|timed out|refused|[Cc]annot |[Ff]ailed).*"
)
_NOTHING = re.compile(r"\s*(?:hint|note|warning|WARNING|\[notice\]|make)\b.*")


def explain(lines: Sequence[str]) -> tuple[str, list[str]]:
    """The line that explains it (empty where nothing was said), and the lines to show. lines: without colours, oldest first."""
    said = [line[:MOST_LINE].rstrip() for line in lines]
    kept = [place for place, line in enumerate(said) if line.strip()]
    if not kept:
        return "", []
    place, text = _find(said, kept)
    first = max(0, min(place - MOST_LINES // 2, len(said) - MOST_LINES))
    shown = [line for line in said[first:][:MOST_LINES] if line.strip()]
    return text[:MOST_CHARACTERS], shown


def _find(said: list[str], kept: list[int]) -> tuple[int, str]:
    for place in reversed(kept):
        if _RAISED.match(said[place]):
            return place, said[place] + _where(said, place)
    for place in kept:
        if found := _TREE.match(said[place]):
            return place, _with_causes(found[1], said[place + 1 :], _CAUSE)
    for place in kept:
        if found := _FAILED.match(said[place]):
            return place, found["what"]
    for place in kept:
        if (found := _SAID.match(said[place])) and not _NOTHING.match(said[place]):
            return place, _with_causes(found["what"], said[place + 1 :], _CAUSED)
    for place in reversed(kept):
        if _WEAK.match(said[place]) and not _NOTHING.match(said[place]):
            return place, said[place].strip()
    plain = [place for place in kept if not _NOTHING.match(said[place])]
    place = (plain or kept)[-1]
    return place, said[place].strip()


def _where(said: list[str], place: int) -> str:
    """The file of a syntax error, which alone says little."""
    if not said[place].startswith(("SyntaxError", "IndentationError", "TabError")):
        return ""
    found = next((match for line in reversed(said[:place]) if (match := _FILE.match(line))), None)
    return f" ({found['file']}, line {found['line']})" if found is not None else ""


def _with_causes(text: str, rest: list[str], cause: re.Pattern[str]) -> str:
    causes = [found[1] for line in rest[:20] if (found := cause.match(line))]
    return ": ".join([text.strip().rstrip(":"), *causes[-1:]])
