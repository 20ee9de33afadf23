"""A commit that changes nothing that runs replaces nobody.

It is compared with the confirmed commit by the paths that differ (deployer.counted), once it passed DEPLOYER_VERIFY. Such a
deploy ends as `unchanged`: no build, no start, no handover. It confirms nothing. The confirmed commit stays the one whose files
were verified, built and tried. Rollback and the next comparison go by that one. Only the branch's commits end so. What a person
asks for by name is deployed.
"""

from __future__ import annotations

from dataclasses import dataclass

from deployer.counted import DEFAULT, ROOMS, parse_patterns, what_counts
from deployer.errors import RepositoryError
from deployer.push.repository import Repository

_IS_NEVER_SLEEPS = ("bot/lifecycle/app.py", "deployer/rollout/decide.py")
MOST_NAMED = 3


@dataclass(frozen=True, slots=True)
class Same:
    """base: the full sha of the confirmed commit that it equals in all that counts. aside: the paths that differ, sorted."""

    base: str
    aside: tuple[str, ...] = ()

    def text(self, sha: str) -> str:
        """For people. sha: the commit that it is about."""
        more = len(self.aside) - MOST_NAMED
        named = f"{', '.join(self.aside[:MOST_NAMED])}{f' and {more} more' if more > 0 else ''}"
        what = f"it changes nothing that runs ({named or 'its files are the same'})"
        return f"{what}; {self.base[:7]} trades on; `./ns deploy {sha[:7]}` deploys it all the same"


class Unchanged:
    """Asks git what a commit changes. ignore: DEPLOYER_IGNORE. rooms: whether a bot runs as that of Never Sleeps does.

    found: by the commit, until the deploy is over.
    """

    def __init__(self, repository: Repository, ignore: str, *, rooms: bool = False) -> None:
        self._repository, self._patterns = repository, parse_patterns(ignore)
        self._rooms = ROOMS if rooms and ignore == DEFAULT else ()
        self.found: dict[str, Same] = {}

    async def is_so(self, sha: str, base: str) -> bool:
        """Whether a commit equals `base` in all that counts; then it is in `found`. base: empty for none."""
        self.found.pop(sha, None)
        same = await self.look(sha, base) if base else None
        if same is not None:
            self.found[sha] = same
        return same is not None

    async def look(self, sha: str, base: str) -> Same | None:
        """The same, with nothing noted. None as well where git cannot tell: then it is deployed as any other."""
        try:
            changed = await self._repository.changed_files(base, sha)
            counts = what_counts(changed, self._patterns)
            if counts and self._rooms and await self._repository.has_files(sha, _IS_NEVER_SLEEPS):
                counts = what_counts(counts, self._rooms)
        except RepositoryError:
            return None
        return None if counts else Same(base, tuple(sorted(changed)))
