"""Every command that README and docs show, and how a test runs it.

A rule is a pattern and a way. Live: it is run in a system that trades, as it is written but for the placeholders. Parsed: it
lasts minutes, and its module is asked for its options. By a test: another one runs it. Others: it is no command of ours.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from tests.forked import ROOT

PAGES = (ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md")))
_BEGINS = (
    r"(?:\./ns|ns|make|bin/[\w-]+|(?:\.venv/bin/)?python -m|nohup make|sudo|git (?:clone|push|commit|pull|show)"
    r"|docker [a-z]+|touch|cat|jq|kill|du|ss)(?= |$)"
)
_ASSIGNED = r"(?:[A-Z_]+=(?:\"[^\"]*\"|[^\s\"]+) +)*"
_SPAN = re.compile(rf"(?<!`)`({_ASSIGNED}{_BEGINS}[^`\n]*)`")
_LINE = re.compile(rf"^    (?: {{4}})?(?:[\w~]+\$ +)?({_ASSIGNED}{_BEGINS}.*)$")
# What follows a command on its line: a comment, or a column of words.
_COMMENT = re.compile(r"(?:\s+#\s.*|\s{2,}\S.*)$")


@dataclass(frozen=True, slots=True)
class Shown:
    """One command, and where it is shown first."""

    text: str
    place: str


@dataclass(frozen=True, slots=True)
class Live:
    """Run in a system that trades. codes: the exit codes that are right. runtimes: where. last: only once all others ran."""

    codes: tuple[int, ...] = (0,)
    runtimes: tuple[str, ...] = ("process", "docker")
    last: bool = False


@dataclass(frozen=True, slots=True)
class Parsed:
    """Its module's help names all of its options."""


@dataclass(frozen=True, slots=True)
class ByTest:
    """Run by another test. test: its file; has: what stands in it."""

    test: str
    has: str


@dataclass(frozen=True, slots=True)
class Others:
    """No command of ours. why: what it is."""

    why: str


Way = Live | Parsed | ByTest | Others
_WORDS = ByTest("tests/e2e/test_compose_words.py", "bin/compose")
_PUSH = ByTest("tests/e2e/test_push.py", "push")
_PAPER = ByTest("tests/unit/paper/test_cli.py", "fault")

# The first pattern that the whole command matches counts; `./` before ns and bin is left out.
RULES: tuple[tuple[str, Way], ...] = (
    # what a running system is asked
    (r"ns (status|history|history --json|config|doctor|token|version|trades|plan|open)", Live()),
    (r"ns audit( --venue paper)?( --max-missed 0)?|make (status|audit)", Live()),
    (r"ns explain (0x3fa9|BTC-5m|1795558050000|ORDER|SLOT|TICK)", Live()),
    (
        r"ns logs DEPLOY|ns export fills > fills\.csv|ns completion bash.*|cat volumes/bus/status\.json|make service",
        Live(),
    ),
    (r"ns compare( REF| try-it)?", Live(codes=(0, 1, 2))),  # what is on record may be too young, or differ
    (
        r"ns approve( \[?DEPLOY\]?)?|ns approve 1795558050000-3da8f15|ns cancel",
        Live(codes=(0, 1)),
    ),  # nothing is held or open
    (
        r"ns adopt|ns set risk\.max_order=25|ns pause( --for 30m --why .CPI at 14:30.)?|ns flatten|ns (pause|resume) --deploys",
        Live(),
    ),
    (r"ns settle (ORDER|WINDOW) --as [\w\\|]+ --note WHY", Live(codes=(1, 2))),  # the venue has resolved it
    (r"ns backup ~/bus\.tar\.gz", Live()),
    (r"BUS_DIR=/srv/bus ns (restore ~/bus\.tar\.gz|move)", Live(runtimes=("process",))),
    (r"ns init( /srv/trader\.git)?|ns new (~|/tmp)/trader", Live()),
    (r"ns notify( --test)?", ByTest("tests/unit/panel/test_notify_process.py", '"notify", "--test"')),
    (r"ns test-alert( --severity page)?", Live(codes=(2,))),  # no Alertmanager runs here, and one line says so
    (r"bin/compose (stop|start) deployer", Live(runtimes=("docker",))),
    (
        r"bin/compose exec panel cat /bus/status\.json|bin/compose logs NAME|docker exec BOT ns .*",
        Live(runtimes=("docker",)),
    ),
    (r"docker logs UNIT|docker system df", Live(runtimes=("docker",))),
    (r"ns deploy (SHA|REF)", Live()),
    (r"ns deploy (main|1234567)", ByTest("tests/e2e/test_push.py", "changes_nothing")),
    (r"ns rollback", Live(codes=(0, 1))),  # nothing was confirmed before the first commit
    (r"ns halt|touch volumes/bus/halt|touch halt|ns resume( --yes)?", Live(codes=(0, 2), last=True)),
    (r"ns stop( --yes)?|make stop( YES=1)?", Live(codes=(0, 2), last=True)),
    # what starts all of it, or lasts
    (
        r"(RUNTIME=process )?make run( FAST=1| DETACH=1| WATCH=1)*|ns run",
        ByTest("tests/e2e/test_documented_commands.py", "make run"),
    ),
    (r"make run TAPE=\S+", ByTest("tests/e2e/test_docker_compose.py", "TAPE")),
    (r"COMPOSE_PROJECT_NAME=other PANEL_PORT=8702 make run", ByTest("tests/e2e/clone.py", "COMPOSE_PROJECT_NAME")),
    (r"DEPLOYER_REPOSITORY=\S+ make run DETACH=1( FAST=1)?|git (push|clone) .*", _PUSH),
    (
        r"DEPLOYER_BUILD_ARGS=\S+ DEPLOYER_BUILD_SECRETS=\S+ make run DETACH=1",
        ByTest("tests/e2e/test_docker_runtime.py", "test_build_arguments_and_secrets_reach_the_build"),
    ),
    (r"(\.venv/bin/)?python -m deployer run --worktree", ByTest("tests/e2e/test_deployer_swaps.py", "worktree")),
    (r"make run LIVE=1", ByTest("tests/unit/deployer/commands/test_mirror.py", "mirror")),
    (
        r"python -m paper --(mirror|recording) .*|python -m paper --mirror|ns paper --recording",
        ByTest("tests/wire/test_wire_mirror.py", "mirror"),
    ),
    (r"python -m recording .*", Parsed()),
    (r"python -m cli\.settings( >\S+)?", ByTest("tests/unit/docs/test_docs.py", "reference()")),
    (r"ns calibrate", Live(codes=(0, 1, 2))),  # too few windows are on record
    (r"make demo", ByTest("tests/e2e/test_demo.py", "demo")),
    (r"make docs", ByTest("tests/e2e/test_docs_site.py", "site")),
    (r"make release", ByTest("tests/unit/test_release.py", ".ci/release")),
    (r"make|nohup make run &", ByTest("tests/e2e/test_deployer_up.py", "SIGHUP")),
    (r"sudo systemctl enable --now .*", ByTest("tests/unit/test_service_unit.py", "systemctl enable --now")),
    (r"bin/compose( \.\.\.| run| stop| down)?|bin/runtime|bin/deployer COMMAND", _WORDS),
    (r"bin/compose --profile monitoring .*", ByTest("tests/e2e/test_monitoring_docker.py", "prometheus")),
    (r"ns paper( --port 0 .*| fault .*| show| check( .*)?)?", _PAPER),
    (r"ns (deploy|settle|set|new|push|WORD( --help)?)", Others("a word's name, without what it is about")),
    (r"make (bench|proof|fire)( ARGS=.*| PART=power BUDGET=10m)?", Parsed()),
    (
        r"(\.venv/bin/)?python -m (bench|proof)\.\w+.*|ns (replay|record)\b.*|ns paper (--tape|--faults|record) .*",
        Parsed(),
    ),
    # of others
    (
        r"make (test( ARGS=\S+)?|lint)|(\w+=\d+ )?(\.venv/bin/)?python -m pytest \S+.*",
        Others("a part of the tests, or what runs them"),
    ),
    (
        r"python -m (bot|panel).*|touch volumes/live/halt|ns credentials",
        ByTest("tests/e2e/test_bot_live.py", "credentials"),
    ),
    (
        r"jq .*|kill -9|du -sh .*|docker (compose|builder|kill|pause|stats|info|logs).*|git (show|commit|pull|upload-pack).*",
        Others("a tool's own"),
    ),
)


def shown() -> list[Shown]:
    """Every command of README and docs, once. The table of words is held to the tree of words elsewhere."""
    found: dict[str, str] = {}
    for page in PAGES:
        for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
            if line.startswith("| `ns ") or "─►" in line:
                continue
            commands = [match[1] for match in _SPAN.finditer(line)]
            if (match := _LINE.match(line)) is not None:
                commands.append(_COMMENT.sub("", match[1]))
            for command in commands:
                plain = re.sub(r"(^|\s)\./(ns\b|bin/)", r"\1\2", command.strip())
                found.setdefault(plain, f"{page.relative_to(ROOT)}:{number}")
    return [Shown(text, place) for text, place in found.items()]


def way_of(command: str) -> Way | None:
    """How it is run; None where no rule knows it."""
    return next((way for pattern, way in RULES if re.fullmatch(pattern, command)), None)


def filled(command: str, values: Mapping[str, str]) -> str:
    """The command with the placeholders' values, and with the examples of the docs replaced by what there is."""
    for name, value in values.items():
        command = re.sub(rf"(?<![\w./-]){re.escape(name)}(?![\w-])", lambda _match, value=value: value, command)  # type: ignore[misc]
    # In the checkout's folder; after `docker exec BOT` it is the container's own.
    return command if command.startswith("docker ") else re.sub(r"(^|\s)(ns|bin/\w+)(?=\s|$)", r"\1./\2", command)
