"""DEPLOYER_BUILD_ARGS and DEPLOYER_BUILD_SECRETS: what a build is given beside the commit.

Arguments are a file of lines NAME=VALUE. They are no secrets: an image's history shows them. Secrets are a folder, one file each,
whose name is the secret's id. They reach a build as files alone and nothing of them is ever in an image, a process list, a log
or the history; should a build print one, `redact` blackens it. Both are read anew for every build.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from deployer.errors import StartError

MAX_ARGUMENTS = 100
MAX_BYTES = 500_000  # BuildKit's own limit for a secret
# Commands of a build find the folder of secrets under this name, where the runtime is process.
FOLDER = "BUILD_SECRETS"
MIN_WORD = 6
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")
_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
# The builder's own client would be misled by these.
_RESERVED = re.compile(r"PATH|HOME|LD_.*|DOCKER_.*|BUILDX_.*|GIT_.*|" + FOLDER)


@dataclass(frozen=True, slots=True)
class BuildInputs:
    """What was read. secrets: the file of each id; words: what must never be shown."""

    arguments: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, Path] = field(default_factory=dict)
    words: tuple[str, ...] = ()

    def redact(self, text: str) -> str:
        """The text without a secret's lines and words of MIN_WORD characters or more; also such as are none elsewhere."""
        for word in self.words:
            text = text.replace(word, "***")
        return text


def read_build_inputs(arguments: Path | None, secrets: Path | None) -> BuildInputs:
    """Raises StartError: what was expected of the file, the folder or one of its files, and was found instead."""
    files = _secrets(secrets) if secrets is not None else {}
    words: set[str] = set()
    for path in files.values():
        text = path.read_text("utf-8", "replace")
        words |= {word for part in text.splitlines() for word in (part.strip(), *part.split()) if len(word) >= MIN_WORD}
    # The longest first: a line before the words in it.
    ordered = tuple(sorted(words, key=len, reverse=True))
    return BuildInputs(_arguments(arguments) if arguments is not None else {}, files, ordered)


def _arguments(path: Path) -> dict[str, str]:
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise StartError(
            f"DEPLOYER_BUILD_ARGS={path} cannot be read ({error}); name a file of lines NAME=VALUE"
        ) from error
    found: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, equals, value = line.partition("=")
        if not equals or not _NAME.fullmatch(name):
            raise StartError(f"DEPLOYER_BUILD_ARGS={path}: expected NAME=VALUE in line {number}; correct it")
        if _RESERVED.fullmatch(name):
            raise StartError(f"DEPLOYER_BUILD_ARGS={path}: {name} belongs to the builder itself; choose another name")
        found[name] = value
    if len(found) > MAX_ARGUMENTS:
        raise StartError(f"DEPLOYER_BUILD_ARGS={path}: expected at most {MAX_ARGUMENTS} arguments, found {len(found)}")
    return found


def _secrets(folder: Path) -> dict[str, Path]:
    try:
        paths = sorted(path for path in folder.absolute().iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise StartError(
            f"DEPLOYER_BUILD_SECRETS={folder} cannot be read ({error.strerror}); name a folder of one file a secret"
        ) from error
    for path in paths:
        found = path.stat()
        named = f"the secret {path.name} in DEPLOYER_BUILD_SECRETS"
        if not _ID.fullmatch(path.name) or not stat.S_ISREG(found.st_mode) or found.st_size > MAX_BYTES:
            raise StartError(
                f"{named}: expected a file of at most {MAX_BYTES // 1000} KB whose name is letters, digits, _ . -; remove it"
            )
        if found.st_mode & 0o077:
            raise StartError(
                f"{named}: expected mode 0400 or 0600, found {stat.S_IMODE(found.st_mode):04o}; chmod 600 it"
            )
        if not os.access(path, os.R_OK):
            raise StartError(
                f"{named}: user {os.geteuid()} cannot read it; chown it to that user, which the deployer runs as"
            )
    return {path.name: path for path in paths}
