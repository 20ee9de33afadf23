"""What `bin/compose` asks of Docker for each of its words. The command docker is a stand-in that writes down what it is asked."""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.e2e.rig import ROOT

DOCKER = """#!/bin/sh
echo "$*" >>"$ASKED"
[ -z "$GIVEN" ] || env >"$GIVEN"
case "$1 $2" in
  "info --format") echo "$INFO" ;;
  "context inspect") echo "unix://$SOCKET" ;;
  "ps --filter") [ -z "$BOTS" ] || echo "$BOTS" ;;
  "ps --all") case "$*" in *working_dir*) echo "$OTHER"; exit ;; esac; [ -z "$BOTS" ] || echo 0123 ;;
esac
case "$*" in "compose ps"*) [ -z "$RUNS" ] || echo 4567 ;; esac
"""


class Checkout:
    """A checkout that ran in containers once."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.asked = folder / "checkout", folder / "asked"
        (self.folder / "bin").mkdir(parents=True)
        for name in ("compose", "deployer", "runtime", "with-config"):
            shutil.copy(ROOT / "bin" / name, self.folder / "bin")
        (self.folder / ".git").mkdir()
        (self.folder / "volumes" / "bus").mkdir(parents=True)
        (self.folder / "volumes" / "bus" / "runtime").write_text("docker\n")
        (self.folder / ".run").mkdir()
        self.settings.write_text("BOT_POLL_INTERVAL=5\n")
        tools = folder / "tools"
        tools.mkdir()
        (tools / "docker").write_text(DOCKER)
        (tools / "docker").chmod(0o755)
        (folder / "socket").touch()
        self.environment = {
            "PATH": f"{tools}:{os.environ['PATH']}",
            "ASKED": str(self.asked),
            "SOCKET": str(folder / "socket"),
            "BOTS": "bot-blue-1234567-abcdef",
            "RUNS": "1",
            "INFO": "Debian [name=seccomp,profile=builtin]",
            "OTHER": str(self.folder),
            "BOT_POLL_INTERVAL": "1",
        }

    @property
    def settings(self) -> Path:
        """What the services are given."""
        return self.folder / ".run" / "settings.env"

    def compose(self, *arguments: str, answer: str | None = None) -> tuple[int, str]:
        """Run `bin/compose`, on a terminal where there is an answer; its exit code and words."""
        self.asked.write_text("")
        ours, theirs = pty.openpty()
        try:
            if answer is not None:
                os.write(ours, f"{answer}\n".encode())
            done = subprocess.run(
                ["bin/compose", *arguments],
                cwd=self.folder,
                env=self.environment,
                stdin=theirs if answer is not None else subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=30,
                check=False,
            )
        finally:
            os.close(ours)
            os.close(theirs)
        return done.returncode, done.stdout + done.stderr

    def ended(self) -> bool:
        """Whether it asked Docker to end the bots."""
        return "deployer down" in self.asked.read_text()


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    """One whose bots trade."""
    return Checkout(tmp_path)


@pytest.mark.parametrize(
    "words",
    ["stop deployer", "start deployer", "restart panel", "logs deployer", "run --rm --no-deps audit explain BTC-5m"],
)
def test_a_word_of_composes_is_composes_alone(checkout: Checkout, words: str) -> None:
    """With a service's name after it Compose does it to that service; no bot is ended, no setting written, nothing begun."""
    code, said = checkout.compose(*words.split())
    assert code == 0, said
    asked = checkout.asked.read_text().splitlines()
    assert asked[-1] == f"compose {words}"
    assert not any(line.startswith(("compose up", "compose --profile")) for line in asked)
    assert not checkout.ended()
    assert checkout.settings.read_text() == "BOT_POLL_INTERVAL=5\n"


@pytest.mark.parametrize("words", ["status", "audit", "deployer status", "deployer history", "deployer plan"])
def test_a_command_that_reads_changes_nothing(checkout: Checkout, words: str) -> None:
    """Neither what runs nor the settings."""
    code, said = checkout.compose(*words.split())
    assert code == 0, said
    asked = checkout.asked.read_text()
    assert not any(word in asked for word in ("compose up", "compose stop", "compose down", "compose rm", " down"))
    assert checkout.settings.read_text() == "BOT_POLL_INTERVAL=5\n"


@pytest.mark.parametrize("words", ["stop", "deployer down"])
def test_ending_the_bots_is_said_and_asked_for(checkout: Checkout, words: str) -> None:
    """On a terminal a no ends nothing; without one it takes --yes; where no bot runs nobody is asked."""
    code, said = checkout.compose(*words.split(), answer="n")
    assert (code, checkout.ended()) == (1, False), said
    assert "ends all trading: the bots ( bot-blue-1234567-abcdef )" in said
    code, said = checkout.compose(*words.split())
    assert (code, checkout.ended()) == (2, False), said
    assert "say --yes" in said
    code, said = checkout.compose(*words.split(), answer="y")
    assert (code, checkout.ended()) == (0, True), said
    code, said = checkout.compose(*words.split(), "--yes")
    assert (code, checkout.ended()) == (0, True), said
    checkout.environment["BOTS"] = ""
    code, said = checkout.compose(*words.split())
    assert (code, checkout.ended()) == (0, True), said


def test_composes_down_is_refused_while_bots_trade(checkout: Checkout) -> None:
    """It would leave them without their exchange and their deployer, and say that all went well."""
    for words in ("down", "--profile monitoring down"):
        code, said = checkout.compose(*words.split())
        assert code == 2
        assert "./ns stop" in said
        assert " down" not in checkout.asked.read_text()


def test_the_deployer_runs_no_processes_beside_containers(checkout: Checkout) -> None:
    """`bin/deployer up` and `demo` are of the other runtime, and the end of `up` would end the bots."""
    for word in ("up", "demo"):
        code, said = checkout.compose("deployer", word)
        assert code == 2
        assert "make run" in said


@pytest.mark.parametrize(
    "words", ["stop --yes", "status", "deployer down --yes", "deployer history", "restart panel", "run"]
)
def test_another_checkout_of_the_same_name_is_left_alone(checkout: Checkout, words: str) -> None:
    """Compose finds services by the project's name alone: nothing is asked of it until the names differ."""
    other = checkout.folder.parent / "other"
    checkout.environment["OTHER"] = str(other)
    assert checkout.compose("status")[0] == 0, "one that was removed counts for nothing"
    other.mkdir()
    code, said = checkout.compose(*words.split())
    assert code == 2
    assert f"the checkout {other} runs" in said
    assert "COMPOSE_PROJECT_NAME" in said
    assert "compose" not in checkout.asked.read_text().replace("com.docker.compose", "")


@pytest.mark.parametrize(
    "word", ["deployer history", "deployer init", "panel halt", "audit explain BTC-5m", "deployer new trader"]
)
def test_what_ns_asks_of_a_service_works_beside_a_key_file(checkout: Checkout, word: str) -> None:
    """The key is named once, by its place on the host, whatever carries the word out."""
    key = checkout.folder.parent / "wallet.key"
    key.touch(0o600)
    checkout.environment["BOT_KEY_FILE"] = str(key)
    code, said = checkout.compose("inside", *word.split())
    assert code == 0, said


def test_the_addresses_of_notifications_are_mounted_into_the_panel_alone(checkout: Checkout) -> None:
    """Wherever the file is: one file, read-only, under one name; a file that is not there is said in one line."""
    given, file = checkout.folder.parent / "given", checkout.folder.parent / "addresses"
    file.touch(mode=0o600)
    checkout.environment |= {"GIVEN": str(given), "PANEL_NOTIFY_FILE": "../addresses"}
    assert checkout.compose("config")[0] == 0
    variables = dict(line.split("=", 1) for line in given.read_text().splitlines() if "=" in line)
    assert variables["PANEL_NOTIFY_FILE"] == "/keys/notify"
    assert variables["NEVER_SLEEPS_NOTIFY"] == str(file)
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    mounts = {
        name: [one for one in service.get("volumes", ()) if "NOTIFY" in one] for name, service in services.items()
    }
    assert {name: found for name, found in mounts.items() if found} == {
        "panel": ["${NEVER_SLEEPS_NOTIFY:-./.run/none}:/keys/notify:ro"]
    }
    file.unlink()
    code, said = checkout.compose("config")
    assert (code, said) == (2, "never-sleeps: there is no file ../addresses; PANEL_NOTIFY_FILE must name one\n")


@pytest.mark.parametrize(("group", "inside"), [("100104", "105"), ("1001", "0")])
def test_the_socket_of_a_rootless_engine_is_given_by_the_group_that_its_containers_see(
    checkout: Checkout, group: str, inside: str
) -> None:
    """It gives its socket to the group docker as it counts groups, or to this user's own, which is 0 there."""
    given, tools = checkout.folder.parent / "given", checkout.folder.parent / "tools"
    for name, words, answer in (
        ("stat", f"*%g*{checkout.environment['SOCKET']}", group),
        ("sed", "*/etc/subgid", "100000"),
    ):
        (tools / name).write_text(
            f'#!/bin/sh\ncase "$*" in {words}) echo {answer} ;; *) exec {shutil.which(name)} "$@" ;; esac\n'
        )
        (tools / name).chmod(0o755)
    checkout.environment |= {"GIVEN": str(given), "INFO": "Debian [name=seccomp,profile=builtin name=rootless]"}
    assert checkout.compose("config")[0] == 0
    variables = dict(line.split("=", 1) for line in given.read_text().splitlines() if "=" in line)
    assert variables["NEVER_SLEEPS_SOCKET"] == checkout.environment["SOCKET"]
    assert variables["NEVER_SLEEPS_SOCKET_GID"] == inside


def test_every_image_of_the_services_is_built_on_the_one_that_is_named() -> None:
    """By tag, or by digest where a registry answers: no stage and no service names one of its own."""
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    built = [service["build"] for service in services.values() if "build" in service]
    assert {build["args"]["PYTHON_IMAGE"] for build in built} == {"${PYTHON_IMAGE:-python:3.13-slim}"}
    stages = [line.split()[1:] for line in (ROOT / "Dockerfile").read_text().splitlines() if line.startswith("FROM ")]
    assert {base for base, _, _ in stages} - {name for _, _, name in stages} == {"${PYTHON_IMAGE}"}
