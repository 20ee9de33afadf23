"""The model of lease, epochs, handover and orders, searched whole by SPIN (proof/lease.pml)."""

from __future__ import annotations

import shutil

import pytest

from proof.model import FORMS, MUTANTS, Form, check

pytestmark = pytest.mark.skipif(
    shutil.which("spin") is None or shutil.which("gcc") is None,
    reason="spin and gcc are not installed (apt-get install spin gcc libc6-dev)",
)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_in_no_state_of_the_model_an_invariant_is_broken(form: Form) -> None:
    """I1, I3 and I4 hold in every reachable state, and somebody trades again without a deployer, with all faults of the form."""
    found = check(form)
    assert found.error is None
    assert found.states > 10_000, "the model was cut short: it hardly did anything"


@pytest.mark.parametrize("form", MUTANTS, ids=lambda form: form.name)
def test_the_model_without_one_rule_is_refuted(form: Form) -> None:
    """Each rule that the design names is needed: with it removed SPIN finds the sequence of events that breaks an invariant."""
    assert check(form).error is not None
