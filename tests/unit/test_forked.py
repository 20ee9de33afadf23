"""Bots in tests start from a process that has loaded them: a wrong name there is no error, only slow tests."""

from __future__ import annotations

import importlib.util

from tests import forked


def test_everything_that_is_loaded_ahead_exists() -> None:
    """Each module of the preload list is found; the fork server itself passes over what it cannot import."""
    missing = [name for name in forked.LOADED if importlib.util.find_spec(name) is None]
    assert not missing
