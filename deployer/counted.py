"""Which paths of a repository count: what a bot may read. Pure.

The patterns of DEPLOYER_IGNORE name what does not. `docs/` is all below the folder at the top, `*.md` is at the top, `**/*.md`
anywhere. `*` and `?` never match a slash. Upper and lower case differ.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

# At the top of any repository: what people read, and what tries the code.
DEFAULT = "README*, CHANGELOG*, LICENSE*, docs/, tests/, .github/, .gitignore"
# What Never Sleeps has besides: neither its bot's image nor anything that a bot imports (Dockerfile, the import contracts).
ROOMS = (
    *(".ci/", "bench/", "bin/", "deployer/", "monitoring/", "panel/", "paper/", "proof/", "volumes/"),
    *("compose*.yaml", "Makefile", "ns", "requirements-dev.lock", "requirements-docs.lock", "zensical.toml"),
)
_PARTS = re.compile(r"\*\*/|\*\*|\*|\?|[^*?]+")
_MEANS = {"**/": "(?:[^/]+/)*", "**": ".*", "*": "[^/]*", "?": "[^/]"}


def parse_patterns(text: str) -> tuple[str, ...]:
    """The patterns of a setting, separated by commas. Raises ValueError: one leaves the repository, or names all of it."""
    patterns = tuple(part.strip() for part in text.split(",") if part.strip())
    for pattern in patterns:
        if pattern.startswith(("/", "./", "!")) or ".." in pattern.split("/"):
            raise ValueError(f"expected paths within the repository such as docs/ or *.md, found {pattern!r}")
        if all(re.fullmatch(_regex(pattern), path) for path in ("a", "b/c")):
            raise ValueError(
                f"{pattern!r} names every file, so no commit would ever be deployed; name what no bot reads"
            )
    return patterns


def what_counts(changed: Iterable[str], patterns: Iterable[str]) -> tuple[str, ...]:
    """The changed paths that no pattern names."""
    named = [re.compile(_regex(pattern), re.DOTALL) for pattern in patterns]
    return tuple(path for path in changed if not any(name.fullmatch(path) for name in named))


def _regex(pattern: str) -> str:
    whole = f"{pattern}**" if pattern.endswith("/") else pattern
    return "".join(_MEANS.get(part, re.escape(part)) for part in _PARTS.findall(whole))
