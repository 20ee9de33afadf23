"""A checkout that takes pushes: git replaces its files before anybody looked at them, `bin/*` and `Makefile` among them.

Whoever runs `make` there next runs what was pushed. With DEPLOYER_VERIFY=signed that is refused; else it is said.
"""

from __future__ import annotations

from pathlib import Path

from deployer.git import configuration, locate, user_value

PUSH_CHANGES_FILES = (
    "whoever may push replaces bin/* and Makefile here, which the next person who types `make` runs; "
    "where that must not be, push to a bare repository: ./ns init /srv/trader.git"
)


def why_no_checkout(path: Path) -> str:
    """Why a checkout takes no pushes where commits are verified, and what to do."""
    return (
        f"DEPLOYER_VERIFY=signed, and pushes into the checkout {path} would replace its files, bin/* and Makefile, before "
        "a signature is looked at; push to a bare repository (./ns init /srv/trader.git), and "
        f"`git -C {path} config receive.denyCurrentBranch refuse`"
    )


async def takes_pushes(path: Path) -> bool:
    """Whether git brings the files of a checkout along with a push. Raises RepositoryError."""
    place = locate(path)
    facts = await configuration(place)
    if place.work_tree is None or facts.get("core.bare") == "true":
        return False
    value = facts.get("receive.denycurrentbranch") or await user_value("receive.denyCurrentBranch")
    return value.lower() == "updateinstead"
