"""`up` and `down` with the real paper exchange, the real panel and tiny workers: starting, ending, carrying on."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bus import is_locked
from deployer.runtimes.children import Children
from tests.e2e.deployer_rig import DeployerRig
from tests.e2e.rig import end, start, until
from tests.forked import ROOT, Forked


class UpRig(DeployerRig):
    """A rig whose deployer is run by `up`."""

    def __init__(self, folder: Path) -> None:
        super().__init__(
            folder,
            PAPER_PORT="0",
            PANEL_PORT="0",
            PAPER_DATA=str(folder / "paper"),
            PANEL_TOKEN_FILE=str(folder / "token"),
        )
        self.up_log = folder / "up.log"
        self.ups: list[Forked] = []
        self.commit()

    def up(self) -> Forked:
        """Start `up` and wait until a bot trades."""
        self.ups.append(start("deployer up", self.environment, self.up_log))
        until("a bot trades", lambda: self.holder() and is_locked(self.bus.deployer_lock))
        return self.ups[-1]

    def services(self) -> dict[str, bool]:
        """Which services run."""
        return {entry.name: entry.running for entry in Children(self.folder / "run" / "services").entries()}

    def assert_nothing_runs(self) -> None:
        """No bot, no service, no `up`."""
        assert self.units() == []
        assert not any(self.services().values())
        assert not is_locked(self.bus.deployer_lock)

    def stop(self) -> None:
        """End everything."""
        for process in self.ups:
            end(process)
        services = Children(self.folder / "run" / "services")
        for name in self.services():
            services.signal(name, signal.SIGKILL)
        super().stop()


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[UpRig]:
    """A repository with one good commit, nothing started."""
    made = UpRig(tmp_path)
    yield made
    made.stop()


def test_up_runs_everything_and_ctrl_c_ends_it_bots_first(rig: UpRig) -> None:
    """One command brings paper, panel, deployer and bots; SIGINT ends the bots, then the services, and exits 0."""
    process = rig.up()
    assert rig.services() == {"deployer": True, "panel": True, "paper": True}
    process.send_signal(signal.SIGINT)
    assert process.wait(40) == 0
    rig.assert_nothing_runs()
    said = rig.up_log.read_text()
    assert "http://127.0.0.1:" in said
    assert said.index("ended bot-") < said.index("ended panel") < said.index("ended paper")
    assert rig.count("SELECT count(*) FROM releases WHERE reason = 'stopped'") > 0


def test_down_ends_the_up_of_another_terminal_and_can_be_repeated(rig: UpRig) -> None:
    """`down` ends what `up` started elsewhere; again, it has nothing to do and says so; `up` carries on afterwards."""
    process = rig.up()
    rig.until_step(rig.git("rev-parse", "HEAD"), "confirmed")
    for _ in range(2):
        done = rig.command("down", "--yes")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "nothing runs any more" in done.stdout
        rig.assert_nothing_runs()
    assert process.wait(10) == 0
    epoch = rig.count("SELECT max(epoch) FROM epochs")
    rig.up()
    assert rig.count("SELECT max(epoch) FROM epochs") > epoch
    assert len(rig.history().deploys) == 1


def test_a_first_deploy_that_was_ended_before_its_confirmation_is_tried_again(rig: UpRig) -> None:
    """Nothing was confirmed yet when everything was ended: the next `up` does not take the commit for a broken one."""
    rig.environment["DEPLOYER_CONFIRM_POLLS"] = "1000"
    rig.up()
    assert rig.command("down", "--yes").returncode == 0
    del rig.environment["DEPLOYER_CONFIRM_POLLS"]
    rig.up()
    rig.until_step(rig.git("rev-parse", "HEAD"), "confirmed")
    assert [deploy.verdict for deploy in rig.history().deploys] == ["confirmed"]


def test_up_goes_on_without_a_terminal(rig: UpRig) -> None:
    """`up --detach` returns when all is ready, and is in a session of its own, so that no closed terminal reaches it."""
    done = rig.command("up", "--detach", limit_s=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "watches main at" in done.stdout
    assert "it goes on without a terminal; ./ns status, ./ns stop" in done.stdout
    assert "Ctrl-C" not in done.stdout
    until("a bot trades", rig.holder)
    pid = int((rig.folder / "run" / "up.pid").read_text())
    assert os.getsid(pid) == pid
    again = rig.command("up", "--detach")
    assert (again.returncode, "runs in" in again.stderr) == (2, True)
    assert rig.command("down", "--yes").returncode == 0
    rig.assert_nothing_runs()


def test_under_nohup_a_closed_terminal_ends_nothing(rig: UpRig) -> None:
    """An ignored SIGHUP stays ignored; SIGTERM ends everything as ever."""
    ignored = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # what is started from here inherits it, as under nohup
    try:
        with rig.up_log.open("ab") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "deployer", "up"], env={**os.environ, **rig.environment}, cwd=ROOT,
                stdin=subprocess.DEVNULL, stdout=out, stderr=out,
            )  # fmt: skip
    finally:
        signal.signal(signal.SIGHUP, ignored)
    until("a bot trades", lambda: rig.holder() and is_locked(rig.bus.deployer_lock))
    units = rig.units()
    process.send_signal(signal.SIGHUP)
    Children(rig.folder / "run" / "services").signal("panel", signal.SIGKILL)
    until("it still sees to its services", lambda: "panel ended and is started again" in rig.up_log.read_text())
    assert process.poll() is None
    assert set(units) <= set(rig.units())
    process.send_signal(signal.SIGTERM)
    assert process.wait(40) == 0
    rig.assert_nothing_runs()


def test_an_up_that_cannot_start_leaves_what_trades_alone(rig: UpRig) -> None:
    """After one that was killed, the next finds paper's port taken: it says so, and the bots that ran before trade on."""
    process = rig.up()
    rig.assert_steady(rig.git("rev-parse", "HEAD"))
    units = rig.units()
    process.kill()
    process.wait(10)
    Children(rig.folder / "run" / "services").signal("paper", signal.SIGKILL)
    until("paper ended", lambda: not rig.services()["paper"])
    with socket.create_server(("127.0.0.1", 0)) as taken:
        rig.environment["PAPER_PORT"] = str(taken.getsockname()[1])
        done = rig.command("up")
    assert done.returncode == 2
    assert "the bots that ran before trade on, and nothing was ended" in done.stderr
    assert rig.units() == units


def test_a_second_up_is_refused(rig: UpRig) -> None:
    """While one runs, another says so in one line and exits 2; the first does not notice."""
    process = rig.up()
    second = rig.command("up")
    assert (second.returncode, second.stderr.count("\n")) == (2, 1)
    assert "already" in second.stderr
    alone = rig.command("run")
    assert (alone.returncode, alone.stderr.count("\n")) == (2, 1)
    assert process.poll() is None


def test_an_up_that_was_killed_leaves_the_bots_trading_and_the_next_carries_on(rig: UpRig) -> None:
    """SIGKILL of `up` stops no bot; the next `up` keeps paper and panel, and nothing is started twice."""
    process = rig.up()
    rig.assert_steady(rig.git("rev-parse", "HEAD"))
    units = rig.units()
    process.kill()
    process.wait(10)
    assert rig.units() == units
    again = rig.up()
    until("the deployer is ready", lambda: rig.up_log.read_text().count("Ctrl-C ends everything") == 2)
    assert rig.units() == units
    again.send_signal(signal.SIGTERM)
    assert again.wait(40) == 0
    rig.assert_nothing_runs()


def test_a_service_that_dies_is_started_again(rig: UpRig) -> None:
    """SIGKILL of the panel, of paper and of the deployer: each comes back by itself, and `up` says so."""
    rig.up()
    services = Children(rig.folder / "run" / "services")
    until("the deployer is ready", lambda: "Ctrl-C ends everything" in rig.up_log.read_text())
    for name in ("panel", "paper", "deployer"):
        assert services.signal(name, signal.SIGKILL)
        until(f"{name} is back", lambda name=name: f"{name} ended and is started again" in rig.up_log.read_text())  # type: ignore[misc]  # a default captures it
        until(f"{name} runs", lambda name=name: services.is_running(name))  # type: ignore[misc]  # a default captures it


def test_a_busy_port_is_said_by_the_service_and_everything_ended(rig: UpRig) -> None:
    """When paper's port is taken, paper's own line is shown, the exit code is 2, and nothing is left running."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        rig.environment["PAPER_PORT"] = str(port)
        done = rig.command("up")
    assert done.returncode == 2
    assert str(port) in done.stderr
    assert "Traceback" not in done.stderr
    rig.assert_nothing_runs()


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("DEPLOYER_REPOSITORY", "/nonexistent", "there is no folder /nonexistent"),
        ("DEPLOYER_REPOSITORY", os.sep, "is not a git repository"),
        ("DEPLOYER_BRANCH", "nope", "the branch 'nope'"),
        ("DEPLOYER_CONFIRM_POLLS", "many", "DEPLOYER_CONFIRM_POLLS"),
        ("BUS_DIR", "/proc/nowhere", "the bus directory"),
    ],
)
def test_bad_input_is_one_clear_line(rig: UpRig, name: str, value: str, said: str) -> None:
    """A wrong setting stops the start with one line that names it, and exit code 2."""
    rig.environment[name] = value
    done = rig.command("run")
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_bus_of_another_runtime_is_refused(rig: UpRig) -> None:
    """A bus that belongs to the docker runtime is never served by processes: that would be two traders."""
    rig.bus.runtime.write_text("docker\n")
    done = rig.command("run")
    assert done.returncode == 2
    assert "belongs to the runtime 'docker'" in done.stderr
