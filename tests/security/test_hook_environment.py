"""What DEPLOYER_VERIFY and hooks run sees none of the deployer's settings, and so no path to a secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from deployer.push.verify import run_shell

SECRETS = (
    "BOT_KEY_FILE",
    "PANEL_TOKEN_FILE",
    "DEPLOYER_BUILD_SECRETS",
    "AWS_SECRET_ACCESS_KEY",
    "GITHUB_TOKEN",
    "BUS_DIR",
    "LD_PRELOAD_X",
)


async def test_a_check_and_a_hook_see_an_allow_listed_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Paths, user, language and what is named for hooks; whatever else the deployer was given stays with it."""
    for name in SECRETS:
        monkeypatch.setenv(name, "/planted/secret")
    monkeypatch.setenv("HOOK_CHANNEL", "#trading")
    code, output = await run_shell('env; [ -n "$PATH" ]', tmp_path, {"DEPLOY_SHA": "a" * 40}, 30)
    names = {line.partition("=")[0] for line in output.splitlines()}
    assert code == 0
    assert "planted" not in output
    assert names.isdisjoint(SECRETS)
    assert {"HOOK_CHANNEL", "DEPLOY_SHA", "PATH", "HOME"} <= names
