"""The file of addresses, and one sending to a real server: what is refused, what is said, and that no address is."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from panel.errors import StartError
from panel.notify.messages import Message
from panel.notify.targets import MOST_TARGETS, in_words, read_targets, send
from tests.unit.panel.notifying import sink

SECRET = "S3cretPathOfATarget"
MESSAGE = Message(title="Halted <b>", body="by ana & bob\nexits go on", level="failure", time_ms=1)


def written(folder: Path, text: str, mode: int = 0o600) -> Path:
    """A file of addresses."""
    file = folder / "targets"
    file.write_text(text)
    file.chmod(mode)
    return file


@pytest.mark.parametrize(
    ("text", "mode", "says"),
    [
        (f"json://h/{SECRET}", 0o640, "chmod 600"),
        (f"json://h/{SECRET}", 0o604, "others may use"),
        (f"{SECRET} is no address", 0o600, "line 1"),
        (f"json://h/{SECRET}\n\n# why\njson://h/{SECRET} more", 0o600, "line 4"),
        ("# nobody yet\n", 0o600, f"expected 1 to {MOST_TARGETS} addresses"),
        (f"json://h/{SECRET}\n" * (MOST_TARGETS + 1), 0o600, f"found {MOST_TARGETS + 1}"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_in_one_line(tmp_path: Path, text: str, mode: int, says: str) -> None:
    """It names the file and what to do, and quotes no address."""
    file = written(tmp_path, text, mode)
    with pytest.raises(StartError, match=says) as refused:
        read_targets(file)
    said = str(refused.value)
    assert str(file) in said
    assert "\n" not in said
    assert SECRET not in said


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """With the name of the setting."""
    with pytest.raises(StartError, match="PANEL_NOTIFY_FILE"):
        read_targets(tmp_path / "none")


def test_a_message_reaches_a_server_and_a_refusal_is_said_without_the_address(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Sent twice it comes twice; a status, a closed port and an unknown service each have their words."""
    with sink() as one:
        (target,) = read_targets(written(tmp_path, f"  {one.address(SECRET)}\n"))
        assert [send(target, MESSAGE).sent for _ in range(2)] == [True, True]
        assert one.words == [f"{MESSAGE.title}\n{MESSAGE.body}"] * 2
        assert one.received[0]["type"] == "failure"
        one.status = 503
        refused = send(target, MESSAGE)
    assert (refused.sent, refused.text) == (False, "it answered with status 503")
    with caplog.at_level(logging.DEBUG):
        closed = send(target, MESSAGE)
    assert (closed.sent, closed.text) == (False, "it could not be reached")
    (unknown,) = read_targets(written(tmp_path, f"nosuchservice://{SECRET}"))
    assert not send(unknown, MESSAGE).sent
    out, errors = capfd.readouterr()
    shown = out + errors + repr(target) + target.name + refused.text + closed.text
    assert SECRET not in shown


def test_why_a_sending_failed_is_said_in_words_of_our_own() -> None:
    """Apprise's own may quote an address: none of them is passed on."""
    for said in (f"Failed to send to https://{SECRET}", "", f"error {SECRET}"):
        assert in_words(said) == "it was not accepted"
    assert in_words("Failed to send X notification: Unauthorized, error=401.") == "it answered with status 401"
