"""What builds are given beside the commit: what is read, what is refused, and that a secret is never shown."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from deployer.errors import StartError
from deployer.runtimes.api import BuildInputs, read_build_inputs


def secret(folder: Path, name: str, text: str, mode: int = 0o600) -> Path:
    """A file of a secret."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text)
    (folder / name).chmod(mode)
    return folder


def test_arguments_and_secrets_are_read_and_a_secret_is_blackened(tmp_path: Path) -> None:
    """Lines NAME=VALUE with comments; a secret's lines and longer words vanish from a text, the longest first."""
    file = tmp_path / "args"
    file.write_text("# the index\nINDEX=https://index.test/simple?a=b\n\nEMPTY=\n")
    folder = secret(tmp_path / "secrets", "netrc", "machine index.test login ann password s3cr3t-w0rd\n")
    secret(folder, ".hidden", "not one", 0o644)
    found = read_build_inputs(file, folder)
    assert found.arguments == {"INDEX": "https://index.test/simple?a=b", "EMPTY": ""}
    assert found.secrets == {"netrc": folder / "netrc"}
    shown = found.redact("401 for ann:s3cr3t-w0rd; machine index.test login ann password s3cr3t-w0rd")
    assert "s3cr3t-w0rd" not in shown
    assert shown == "401 for ann:***; ***"
    header = base64.b64encode(b"ann:an0ther-s3cr3t-w0rd").decode()
    secret(folder, "token", "an0ther-s3cr3t-w0rd\nof two lines\n")
    shown = read_build_inputs(file, folder).redact(f"#9 1.2 of two lines\nAuthorization: Basic {header}")
    assert shown.startswith("#9 1.2 ***\nAuthorization: Basic YW5uOm***")
    assert read_build_inputs(None, None) == BuildInputs()


@pytest.mark.parametrize(
    ("line", "found"),
    [("INDEX", "expected NAME=VALUE in line 1"), ("2X=1", "expected NAME=VALUE"), ("PATH=/x", "PATH belongs to the builder"),
     ("DOCKER_HOST=tcp://x", "DOCKER_HOST belongs to the builder")],
)  # fmt: skip
def test_an_argument_that_is_none_is_refused(tmp_path: Path, line: str, found: str) -> None:
    """A line without a name, and names that would mislead the builder's own client."""
    (tmp_path / "args").write_text(line)
    with pytest.raises(StartError, match=found):
        read_build_inputs(tmp_path / "args", None)


def test_a_secret_that_others_could_read_is_refused(tmp_path: Path) -> None:
    """Mode 0644, a folder, a name with a comma, and one over BuildKit's limit; and a folder or file that is not there."""
    with pytest.raises(StartError, match="expected mode 0400 or 0600, found 0644; chmod 600 it"):
        read_build_inputs(None, secret(tmp_path / "a", "token", "x", 0o644))
    with pytest.raises(StartError, match="found 0640"):
        read_build_inputs(None, secret(tmp_path / "group", "token", "x", 0o640))
    with pytest.raises(StartError, match="expected a file of at most 500 KB"):
        read_build_inputs(None, secret(tmp_path / "b", "a,src=x", "x"))
    with pytest.raises(StartError, match="expected a file of at most 500 KB"):
        read_build_inputs(None, secret(tmp_path / "c", "big", "x" * 500_001))
    with pytest.raises(StartError, match="name a folder of one file a secret"):
        read_build_inputs(None, tmp_path / "nowhere")
    with pytest.raises(StartError, match="name a file of lines NAME=VALUE"):
        read_build_inputs(tmp_path / "nowhere", None)
