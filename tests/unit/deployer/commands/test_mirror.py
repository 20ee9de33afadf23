"""`up --mirror`: real prices with play money, said in plain sight, and never beside real money; and what `--fast` sets."""

from __future__ import annotations

from pathlib import Path

import pytest

from bus import SystemClock, open_bus
from cli.settings import FAST
from deployer.commands.services import service_environment
from deployer.commands.up import up
from deployer.errors import StartError
from deployer.settings import DeployerSettings

SAID = "real prices, play money"


@pytest.mark.parametrize(
    ("given", "mirror", "source", "banner"),
    [
        ({}, False, ("", ""), ""),
        ({}, True, ("real", ""), SAID),
        ({"PAPER_MIRROR": "http://127.0.0.1:1"}, False, ("http://127.0.0.1:1", ""), SAID),
        ({"PAPER_RECORDING": "recordings/live"}, True, ("", "recordings/live"), SAID),
        ({"PANEL_BANNER": "mine"}, True, ("real", ""), "mine"),
    ],
)
def test_the_page_says_whose_prices_these_are_wherever_paper_is_a_mirror(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    given: dict[str, str],
    mirror: bool,
    source: tuple[str, str],
    banner: str,
) -> None:
    """Whichever way the mirror was asked for; what a person set stays as it is."""
    for name in ("PAPER_MIRROR", "PAPER_RECORDING", "PANEL_BANNER"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    environment = service_environment(tmp_path, fast=False, mirror=mirror)
    assert (environment.get("PAPER_MIRROR", ""), environment.get("PAPER_RECORDING", "")) == source
    assert environment.get("PANEL_BANNER", "") == banner


def test_a_mirror_never_runs_beside_real_money(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The page would say play money of a bot that trades the real account: it is refused before anything starts."""
    monkeypatch.setenv("BOT_VENUE", "polymarket")
    monkeypatch.setenv("DEPLOYER_DIR", str(tmp_path / "run" / "deployer"))
    monkeypatch.setenv("DEPLOYER_REPOSITORY", str(Path(__file__).parents[4]))
    bus = open_bus(tmp_path / "bus")
    with pytest.raises(StartError, match="trades real money"):
        up(DeployerSettings(), bus, SystemClock(), fast=True, mirror=True)


def test_fast_is_the_same_as_processes_in_containers_and_in_what_is_shown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Each setting of it, where nothing else sets it."""
    for name in FAST:
        monkeypatch.delenv(name, raising=False)
    plain, fast = (service_environment(tmp_path, fast=fast) for fast in (False, True))
    assert {name: value for name, value in fast.items() if plain.get(name) != value} == FAST
    compose = (Path(__file__).parents[4] / "bin" / "compose").read_text()
    assert [name for name, value in FAST.items() if f"${{{name}:={value}}}" not in compose] == []
