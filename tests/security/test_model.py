"""The page of the security model says what the list of attacks says, and every line of it is tried."""

from __future__ import annotations

from pathlib import Path

from tests.security.model import ATTACKS, PAGE, PARTIES, page


def test_the_pages_tables_are_made_of_the_model() -> None:
    """Change tests/security/model.py, then `python -m tests.security.model`."""
    text = PAGE.read_text()
    assert page(text) == text


def test_every_attack_is_tried_and_every_trial_is_of_an_attack() -> None:
    """Each line names modules that are there; no module of attacks is without a line; each attacker is a party."""
    named = {name for attack in ATTACKS for name in attack.tests}
    there = {path.stem for path in Path(__file__).parent.glob("test_*.py")} - {"test_model", "test_planted_secrets"}
    assert named == there
    parties = " ".join(party.name for party in PARTIES).lower()
    assert all(attack.who == "anybody" or attack.who in parties for attack in ATTACKS)
