"""Which commits change nothing that runs."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from pydantic import ValidationError

from deployer.counted import DEFAULT, ROOMS, parse_patterns, what_counts
from deployer.push.repository import Repository
from deployer.push.unchanged import Same, Unchanged
from deployer.settings import DeployerSettings
from tests.forked import ROOT
from tests.unit.deployer.test_repository import Source

BOTS = {"bot/lifecycle/app.py": "1", "deployer/rollout/decide.py": "1"}


@pytest.mark.parametrize(
    ("pattern", "named", "counts"),
    [
        ("docs/", ["docs/a", "docs/b/c.py", "docs/\n"], ["docs", "bot/docs/a", "docs.py", "Docs/a"]),
        ("*.md", ["README.md"], ["bot/prompt.md", "README.md2", "READMExmd"]),
        ("**/*.md", ["README.md", "a/b/c.md"], ["a/md"]),
        ("README*", ["README", "README.rst"], ["README/a", "bot/README"]),
        ("a/**/t?st.py", ["a/test.py", "a/b/c/tast.py"], ["a/b/t/st.py", "test.py"]),
    ],
)
def test_a_pattern_names_what_its_words_say_and_nothing_else(pattern: str, named: list[str], counts: list[str]) -> None:
    """A folder is all below it at the top of the repository, a star is within one name, two stars are any folders."""
    assert what_counts([*named, *counts], parse_patterns(pattern)) == tuple(counts)


@pytest.mark.parametrize("ignored", ["**", "docs/, **/*", "/docs", "../docs/", "a/../../b", "!docs/"])
def test_a_setting_that_names_everything_or_leaves_the_repository_is_refused(ignored: str) -> None:
    """Nothing would ever be deployed, and nobody would know why."""
    with pytest.raises(ValidationError, match=r"names every file|within the repository"):
        DeployerSettings(ignore=ignored)


def test_what_the_bots_image_holds_always_counts() -> None:
    """No file that the Dockerfile copies for a bot is named by the defaults, and no room besides is without a reason to count."""
    stages = re.split(r"^FROM ", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    copied = {
        part
        for stage in stages
        if re.match(r"\S+ AS (dependencies|base|application|bot)\n", stage)
        for line in re.findall(r"^COPY (?!--)(.+) \S+$", stage, re.MULTILINE)
        for part in line.split()
    }
    assert {"bot", "bus", "ledger", "recording", "cli", "requirements.lock"} <= copied
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    counts = what_counts(tracked.strip("\0").split("\0"), (*parse_patterns(DEFAULT), *ROOMS))
    tops = {path.partition("/")[0] for path in counts}
    assert tops == copied | {"Dockerfile", "pyproject.toml", ".dockerignore"}


async def same(source: Source, base: str, sha: str, ignore: str = DEFAULT, *, rooms: bool = False) -> Same | None:
    """What is said of a commit."""
    return await Unchanged(Repository(source.path, source.mirror), ignore, rooms=rooms).look(sha, base)


async def test_a_commit_equals_another_when_nothing_that_counts_differs(tmp_path: Path) -> None:
    """Documents, an empty commit and a revert change nothing; content, a mode, a removed file, an odd name do."""
    source = Source(tmp_path)
    base = source.commit(**{"bot/a.py": "1", "bot/b.py": "2", "README.md": "1"})
    documents = source.commit(**{"README.md": "2", "docs/a.txt": "x"})
    assert await same(source, base, documents) == Same(base, ("README.md", "docs/a.txt"))
    assert await same(source, base, documents, "") is None
    empty = source.commit()
    assert await same(source, documents, empty, "") == Same(documents)
    changed = source.commit(**{"bot/a.py": "3"})
    assert await same(source, base, changed) is None
    source.git("revert", "--no-edit", changed)
    assert await same(source, base, source.git("rev-parse", "HEAD")) is not None
    (source.path / "bot" / "a.py").chmod(0o755)
    assert await same(source, empty, source.commit()) is None
    source.git("reset", "--quiet", "--hard", empty)
    source.git("rm", "--quiet", "bot/b.py")
    assert await same(source, empty, source.commit()) is None
    assert await same(source, empty, source.commit(**{'bot/docs/\n"ä': "x"})) is None
    assert await same(source, "f" * 40, empty) is None, "what git cannot tell is deployed"


async def test_the_rooms_that_no_bot_imports_count_elsewhere(tmp_path: Path) -> None:
    """In a checkout of Never Sleeps a commit to the panel replaces nobody; another repository's may be the strategy."""
    source = Source(tmp_path)
    base = source.commit(**BOTS, **{"panel/a.py": "1"})
    panel = source.commit(**{"panel/a.py": "2", "README.md": "2"})
    assert await same(source, base, panel, rooms=True) == Same(base, ("README.md", "panel/a.py"))
    assert await same(source, base, panel, rooms=False) is None, "another worker than the own bot"
    assert await same(source, base, panel, "docs/", rooms=True) is None, "what is set is all"
    source.git("rm", "--quiet", "-r", "deployer")
    other = source.commit()
    assert await same(source, other, source.commit(**{"panel/a.py": "3"}), rooms=True) is None


def test_what_people_read_names_three_paths_and_the_way_to_deploy_it_all_the_same() -> None:
    """Short, whatever changed."""
    text = Same("a" * 40, tuple(f"docs/{n}" for n in range(9))).text("b" * 40)
    assert text == (
        "it changes nothing that runs (docs/0, docs/1, docs/2 and 6 more); aaaaaaa trades on; "
        "`./ns deploy bbbbbbb` deploys it all the same"
    )
