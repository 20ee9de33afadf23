"""The reason of a failed command is what explains it, by real words of tools, and not its last line."""

from __future__ import annotations

import pytest

from deployer.words import MOST_CHARACTERS, MOST_LINES, explain

SAID = {
    "a traceback with a warning after it": (
        """Traceback (most recent call last):
  File "/srv/trees/a/bot/__main__.py", line 3, in <module>
    import nothing
ModuleNotFoundError: No module named 'nothing'
sys:1: ResourceWarning: unclosed file <_io.TextIOWrapper name=3>""",
        "ModuleNotFoundError: No module named 'nothing'",
    ),
    "an error of a module's own": (
        """Traceback (most recent call last):
  File "x.py", line 1, in <module>
pydantic_core._pydantic_core.ValidationError: 1 validation error for Settings
slots
  Field required [type=missing, input_value={}, input_type=dict]
    For further information visit https://errors.pydantic.dev/2/v/missing""",
        "pydantic_core._pydantic_core.ValidationError: 1 validation error for Settings",
    ),
    "a syntax error names its file": (
        """*** Error compiling 'bot/orders.py'...
  File "bot/orders.py", line 7
    def (:
        ^
SyntaxError: invalid syntax""",
        "SyntaxError: invalid syntax (bot/orders.py, line 7)",
    ),
    "uv, no way to the index": (
        """  × Failed to fetch: `https://index.test/simple/numpy/`
  ├─▶ error sending request for url
  ├─▶ client error (Connect)
  ╰─▶ dns error: failed to lookup address information
hint: check your network connection""",
        "Failed to fetch: `https://index.test/simple/numpy/`: dns error: failed to lookup address information",
    ),
    "uv, a hash that differs": (
        """error: Failed to install: numpy-2.0.whl (numpy==2.0)
  Caused by: Hash mismatch for `numpy==2.0`
""",
        "Failed to install: numpy-2.0.whl (numpy==2.0): Hash mismatch for `numpy==2.0`",
    ),
    "git": (
        """hint: Using 'master' as the name for the initial branch.
fatal: detected dubious ownership in repository at '/srv/trader'
To add an exception for this directory, call:

	git config --global --add safe.directory /srv/trader""",
        "detected dubious ownership in repository at '/srv/trader'",
    ),
    "apt in an image": (
        """Reading package lists...
E: Unable to locate package libnothing
make: *** [Makefile:3: install] Error 100""",
        "Unable to locate package libnothing",
    ),
    "a compiler": (
        """gcc -c x.c
x.c:3:10: fatal error: ta-lib.h: No such file or directory
    3 | #include <ta-lib.h>
      |          ^~~~~~~~~~
compilation terminated.""",
        "x.c:3:10: fatal error: ta-lib.h: No such file or directory",
    ),
    "a shell": ("+ cargo build\n/bin/sh: 1: cargo: not found\n", "/bin/sh: 1: cargo: not found"),
    "pytest": (
        """E       assert 1 == 2
=========================== short test summary info ============================
FAILED tests/test_a.py::test_it - assert 1 == 2
1 failed in 0.02s""",
        "tests/test_a.py::test_it - assert 1 == 2",
    ),
    "words of a person's own": (
        "checking\nthe strategy is not for this market",
        "the strategy is not for this market",
    ),
    "make alone": ("make: *** [Makefile:3: install] Error 1", "make: *** [Makefile:3: install] Error 1"),
}


@pytest.mark.parametrize("what", SAID)
def test_what_explains_it_is_the_reason(what: str) -> None:
    """Whatever stands behind it."""
    output, expected = SAID[what]
    text, shown = explain(output.splitlines())
    assert text == expected
    assert len(shown) <= MOST_LINES
    assert any(expected[:15] in line for line in shown)


def test_at_most_ten_lines_are_shown_with_the_reason_among_them() -> None:
    """Of a thousand lines, those around it."""
    lines = [f"line {number}" for number in range(1000)]
    lines[300] = "error: the reason"
    text, shown = explain(lines)
    assert text == "the reason"
    assert len(shown) == MOST_LINES
    assert "error: the reason" in shown


def test_nothing_and_too_much() -> None:
    """No output gives no reason; a line without end is cut."""
    assert explain([]) == ("", [])
    assert explain(["", "  "]) == ("", [])
    assert len(explain(["error: " + "x" * 100_000])[0]) == MOST_CHARACTERS
