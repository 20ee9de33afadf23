"""What README and docs name is there: pages, headings, files, folders, the names of the API reference."""

from __future__ import annotations

import importlib
import re
import tomllib
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from bot.strategy import Decision, Inputs
from cli.settings import reference

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs"
PAGES = (ROOT / "README.md", ROOT / "deployer" / "template" / "README.md", *sorted(DOCS.rglob("*.md")))
ROOMS = (
    *("bench", "bin", "bot", "bus", "cli", "deployer", "docs", "ledger"),
    *("monitoring", "panel", "paper", "proof", "recording", "tests"),
)
# What a reader makes, or what a process writes: no file of the repository.
MADE = {"bot/strategy/cheap.py"}
CODE = {"", ".py", ".js", ".html", ".sql", ".yml", ".yaml", ".json", ".toml", ".md"}
_LINK = re.compile(r"(?<!\\)\[[^\]]*\]\(([^)\s]+)\)")
_PATH = re.compile(rf"(?<![\w./:-])(?:{'|'.join(ROOMS)})/[\w./*{{}}-]*[\w*/}}]")
_CODE = re.compile(r"`([^`\n]+)`")
_PAGE = re.compile(r"\b(docs/[\w/.-]+\.md)(#[\w-]+)?")
_LIST = re.compile(r"(?:[-*]|\d+\.) ")


def _ids(pages: tuple[Path, ...] = PAGES) -> list[str]:
    return [str(page.relative_to(ROOT)) for page in pages]


def without_code(page: Path) -> list[str]:
    """The page's lines; those of code blocks, fenced or indented, are empty."""
    lines, fenced = [], False
    for line in page.read_text().splitlines():
        fence = line.lstrip().startswith("```")
        lines.append("" if fenced or fence or line.startswith("    ") else line)
        fenced ^= fence
    return lines


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and the site make them."""
    heads = (re.match(r"#+ (.*)", line) for line in without_code(page))
    words = (re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", head[1]).lower() for head in heads if head)
    return {re.sub(r"[^\w\- ]", "", head).strip().replace(" ", "-") for head in words}


@pytest.mark.parametrize("page", PAGES, ids=_ids())
def test_every_relative_link_leads_to_a_page_and_a_heading_that_are_there(page: Path) -> None:
    """A page that moves takes the links to it along."""
    wrong = []
    for link in _LINK.findall("\n".join(without_code(page))):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.is_file():
            wrong.append(f"{link}: expected a file, found none at {target}")
        elif anchor and anchor not in anchors(target):
            wrong.append(f"{link}: expected one of {sorted(anchors(target))}")
    assert not wrong, "\n".join(wrong)


def named_paths(page: Path) -> Iterator[str]:
    """The paths of this repository that a page names in code: `bot/cli.py`, `tests/e2e/test_push*.py`."""
    for line in page.read_text().splitlines():
        for code in [line] if line.startswith("    ") else _CODE.findall(line):
            yield from _PATH.findall(code)


@pytest.mark.parametrize("page", PAGES, ids=_ids())
def test_every_path_that_a_page_names_is_there(page: Path) -> None:
    """A file that moves takes along what the docs say of it."""
    missing = sorted({path for path in named_paths(page) if path not in MADE and not any(_places(path))})
    assert not missing, f"{page.relative_to(ROOT)} names what is not there: {missing}"


def commands(page: Path) -> Iterator[str]:
    """What a page shows as code, line by line."""
    for line in page.read_text().splitlines():
        yield from [line.strip()] if line.startswith("    ") else _CODE.findall(line)


def test_every_command_that_a_page_names_is_there() -> None:
    """`make TARGET` is a target, `python -m MODULE` a program, `bin/deployer COMMAND` a command."""
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    deployer = set(re.findall(r'add_parser\(\s*"([a-z-]+)"', (ROOT / "deployer/commands/cli.py").read_text()))
    wrong = []
    for page in PAGES:
        for code in commands(page):
            wrong += [
                f"{page.name}: make {word}" for word in re.findall(r"\bmake ([a-z]+)\b", code) if word not in targets
            ]
            wrong += [
                f"{page.name}: deployer {word}"
                for word in re.findall(r"(?:bin/deployer|-m deployer) ([a-z-]+)", code)
                if word not in deployer
            ]
            wrong += [
                f"{page.name}: python -m {name}"
                for name in re.findall(r"-m ((?:bench|bot|deployer|panel|paper|proof|recording)(?:\.\w+)*)", code)
                if not _runs(ROOT / name.replace(".", "/"))
            ]
    assert len(targets) > 10
    assert len(deployer) > 10
    assert not wrong, "\n".join(wrong)


def _runs(module: Path) -> bool:
    return module.with_suffix(".py").is_file() or (module / "__main__.py").is_file()


def test_every_page_that_code_names_is_there() -> None:
    """A message or a comment that sends people to a page names one, and a heading that it has."""
    patterns = (*(f"{room}/**/*" for room in ROOMS if room != "docs"), "Makefile", "Dockerfile", "*.yaml", "*.toml")
    files = {path for pattern in patterns for path in ROOT.glob(pattern) if path.suffix in CODE and path.is_file()}
    wrong = [
        f"{path.relative_to(ROOT)}: {page}{anchor}"
        for path in sorted(files - {Path(__file__)})
        for page, anchor in _PAGE.findall(path.read_text())
        if not (ROOT / page).is_file() or (anchor and anchor[1:] not in anchors(ROOT / page))
    ]
    assert len(files) > 200
    assert not wrong, "\n".join(wrong)


def _places(path: str) -> Iterator[Path]:
    return ROOT.glob(path.rstrip("/"))


@pytest.mark.parametrize("page", PAGES, ids=_ids())
def test_a_list_begins_after_an_empty_line(page: Path) -> None:
    """GitHub takes one without; the site would make one paragraph of it."""
    lines = without_code(page)
    wrong = [
        f"{page.relative_to(ROOT)}:{number + 1}: {line}"
        for number, line in enumerate(lines)
        if number and _LIST.match(line) and not _may_precede_a_list(lines, number - 1)
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("page", PAGES, ids=_ids())
def test_a_table_ends_with_an_empty_line(page: Path) -> None:
    """A line of text right behind it would be its last row."""
    lines = without_code(page)
    wrong = [
        f"{page.relative_to(ROOT)}:{number + 1}: {line}"
        for number, line in enumerate(lines)
        if number and line and not line.startswith("|") and lines[number - 1].startswith("|")
    ]
    assert not wrong, "\n".join(wrong)


def _may_precede_a_list(lines: list[str], number: int) -> bool:
    if not lines[number] or lines[number].startswith("#"):
        return True
    while number and lines[number].startswith(" "):
        number -= 1
    return bool(_LIST.match(lines[number]))


def test_the_map_of_rooms_has_every_room() -> None:
    """A folder of code that is new has its line in the map, so that a stranger finds it."""
    text = (DOCS / "explanation" / "where.md").read_text()
    packages = {
        path.parent.relative_to(ROOT).as_posix()
        for package in ("bench", "bot", "bus", "deployer", "ledger", "panel", "paper", "proof")
        for path in (ROOT / package).rglob("__init__.py")
    }
    missing = sorted(room for room in packages if f"| `{room}/` |" not in text)
    assert not missing, f"docs/explanation/where.md lacks {missing}"


def test_the_five_questions_are_answered_by_a_path_each() -> None:
    """Order, lost answer, take-back, table of slots, new feed: five rows, each with one path."""
    part = (DOCS / "explanation" / "where.md").read_text().split("## ")[1]
    rows = [line.split("|")[1:3] for line in part.splitlines() if line.startswith("| Where ")]
    assert len(rows) == 5
    assert all(any(_places(path.strip().strip("`"))) for _, path in rows), rows


@pytest.mark.parametrize("package", ["bot.strategy", "bus", "ledger"])
def test_the_api_reference_has_every_name_that_a_package_exports(package: str) -> None:
    """Those who write strategies and workers find each name that they may import, and no other."""
    page = (DOCS / "reference" / "api" / f"{package.rpartition('.')[2]}.md").read_text()
    named = re.findall(rf"^::: {re.escape(package)}\.(\w+)$", page, re.MULTILINE)
    exported = importlib.import_module(package).__all__
    lacks, surplus = set(exported) - set(named), set(named) - set(exported)
    assert not lacks, f"docs/reference/api lacks {[f'::: {package}.{name}' for name in sorted(lacks)]}"
    assert not surplus, f"docs/reference/api has what {package} does not export: {sorted(surplus)}"
    assert len(named) == len(set(named)), "a name stands there twice"


@pytest.mark.parametrize("record", [Inputs, Decision])
def test_the_api_reference_has_a_line_for_each_field_of_what_a_strategy_is_given_and_answers(record: type) -> None:
    """Unit and range of each field stand in its table, and no field that is gone."""
    page = (DOCS / "reference" / "api" / "strategy.md").read_text()
    part = page.split(f"::: bot.strategy.{record.__name__}\n")[1].split("\n::: ")[0]
    cells = [line.split("|")[1] for line in part.splitlines() if line.startswith("| `")]
    assert sorted(re.findall(r"`(\w+)`", "".join(cells))) == sorted(field.name for field in fields(record))


def test_the_site_leads_to_every_page() -> None:
    """A page that is in no menu is found by nobody."""

    def pages(entry: Any) -> Iterator[str]:
        if isinstance(entry, str):
            yield entry
        else:
            for part in entry if isinstance(entry, list) else entry.values():
                yield from pages(part)

    site = tomllib.loads((ROOT / "zensical.toml").read_text())["project"]
    assert sorted(pages(site["nav"])) == sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))


def test_the_page_of_settings_is_that_of_the_code() -> None:
    """Each has its line; after a change `python -m cli.settings >docs/reference/settings.md` writes the page anew."""
    page = reference()
    assert page == (DOCS / "reference" / "settings.md").read_text()
    assert not re.findall(r"^\| `[A-Z_]+` .*\|  \|$", page, re.MULTILINE), "a setting without a description"
