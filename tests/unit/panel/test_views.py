"""Parts of the panel that need no server: settings, token, what differs, deploys by their steps, the age of a status."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus import Clock, Control, Mode, SettingsError, SlotControl, Step, load_settings, open_bus, write_status
from panel import PanelSettings, Scope, StartError, Views, load_tokens
from panel.audit_log import difference
from panel.views import group_deploys
from tests.unit.panel.running import make_status


class HandClock(Clock):
    """A clock that is set by hand."""

    boot_id = "boot"

    def __init__(self) -> None:
        self.wall, self.boot = 1_800_000_000_000, 5_000

    def boot_ms(self) -> int:
        return self.boot

    def wall_ms(self) -> int:
        return self.wall


def test_the_token_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    """The first start makes it with mode 0600, later starts read the same."""
    path = tmp_path / "run" / "token"
    (token,), made = load_tokens(path, Scope.CONTROL)
    assert made
    assert len(token.value) >= 32
    assert token.value not in repr(token)
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_tokens(path, Scope.CONTROL) == ((token,), False)
    assert [file.name for file in path.parent.iterdir()] == ["token"]


def test_a_file_may_hold_a_token_for_each_person(tmp_path: Path) -> None:
    """Names stand before the tokens and go into the record; a token without one is called by its hash's beginning."""
    path = tmp_path / "token"
    path.write_text(f"# who may write\nana {'a' * 40}\n\n{'b' * 40}\n")
    path.chmod(0o600)
    tokens, _ = load_tokens(path, Scope.READ)
    assert [(one.name, one.value[0], one.scope) for one in tokens] == [
        ("ana", "a", "read"),
        (tokens[1].name, "b", "read"),
    ]
    assert len(tokens[1].name) == 6


@pytest.mark.parametrize(
    ("content", "mode", "says"),
    [
        ("a" * 43, 0o644, "chmod 600"),
        ("short", 0o600, "32 to 200"),
        (f"{'a' * 43}\nshort", 0o600, "32 to 200"),
        ("", 0o600, "32"),
    ],
)
def test_a_token_that_others_can_read_or_guess_is_refused(tmp_path: Path, content: str, mode: int, says: str) -> None:
    """Such a file is never used, and the message says what to do."""
    path = tmp_path / "token"
    path.write_text(content)
    path.chmod(mode)
    with pytest.raises(StartError, match=says):
        load_tokens(path, Scope.CONTROL)


def test_other_addresses_than_loopback_need_tls_or_a_declared_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """PANEL_HOST=0.0.0.0 is refused until a proxy is declared, or both a certificate and its key are there."""
    monkeypatch.setenv("PANEL_HOST", "0.0.0.0")
    with pytest.raises(SettingsError, match=r"PANEL_HOST: .*PANEL_BEHIND_PROXY=true"):
        load_settings(PanelSettings)
    monkeypatch.setenv("PANEL_BEHIND_PROXY", "true")
    assert load_settings(PanelSettings).host == "0.0.0.0"
    monkeypatch.delenv("PANEL_BEHIND_PROXY")
    monkeypatch.setenv("PANEL_TLS_CERT", __file__)
    with pytest.raises(SettingsError, match=r"PANEL_TLS_KEY"):
        load_settings(PanelSettings)
    monkeypatch.setenv("PANEL_TLS_KEY", __file__)
    assert load_settings(PanelSettings).host == "0.0.0.0"


def test_a_record_holds_what_changed_and_nothing_else() -> None:
    """One slot switched off shows as that slot, before and after."""
    before = Control(generation=4, by="a", slots={"BTC-5m": SlotControl(), "ETH-5m": SlotControl()})
    off = {**before.slots, "ETH-5m": SlotControl(enabled=False)}
    old, new = difference(before, before.changed(generation=5, by="b", slots=off))
    assert old == {"slots": {"ETH-5m": {"enabled": True, "max_order": None}}}
    assert new == {"slots": {"ETH-5m": {"enabled": False, "max_order": None}}}
    assert difference(before, before.changed(mode=Mode.PAUSE)) == ({"mode": "run"}, {"mode": "pause"})


def test_an_answer_is_no_deploy_and_no_deploys_newest_step() -> None:
    """A refused request makes no row of its own, and neither one about a deploy nor the comparison of its decisions hides how far
    it has come."""
    said = [("d1", "confirmed"), ("", "answered"), ("d1", "answered"), ("d1", "compared")]
    (one,) = group_deploys([Step(deploy=deploy, step=step, time_ms=n) for n, (deploy, step) in enumerate(said)])
    assert (one.deploy, one.step, len(one.steps)) == ("d1", "confirmed", 3)


@given(order=st.lists(st.sampled_from("abc"), max_size=30))
def test_no_step_of_a_deploy_is_lost_when_deploys_interleave(order: list[str]) -> None:
    """Every step stands once, under its deploy, in order; the deploy that began last comes first."""
    steps = [Step(deploy=deploy, step=f"s{index}", time_ms=index) for index, deploy in enumerate(order)]
    deploys = group_deploys(steps)
    assert [one.deploy for one in deploys] == list(reversed(dict.fromkeys(order)))
    assert {one.deploy: list(one.steps) for one in deploys} == {
        name: [step for step in steps if step.deploy == name] for name in order
    }


def test_a_wall_clock_that_is_set_back_does_not_make_an_old_status_young(tmp_path: Path) -> None:
    """The age of a status that stands still grows with the panel's own clock."""
    bus, clock = open_bus(tmp_path), HandClock()
    views = Views(bus, clock)
    write_status(bus, make_status(now_ms=clock.wall), 1, clock.wall)
    assert views.status().age_ms == 0
    clock.wall -= 3_600_000
    clock.boot += 4_000
    assert views.status().age_ms == 4_000
    write_status(bus, make_status(now_ms=clock.wall), 2, clock.wall)
    assert views.status().age_ms == 0
