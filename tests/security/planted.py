"""Looking for secrets that were planted: in files, in environments of processes, and in what is served."""

from __future__ import annotations

import base64
import os
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import quote

MOST_BYTES = 64 << 20


def spellings(secret: str) -> set[bytes]:
    """As text in either case, reversed, in base 64 and for URLs; for hex digits as bytes and as theirs, too."""
    found = {
        secret,
        secret.upper(),
        secret[::-1],
        quote(secret, safe=""),
        base64.b64encode(secret.encode()).decode().rstrip("="),
    }
    if len(secret) != 64:
        return {spelling.encode() for spelling in found}
    raw = bytes.fromhex(secret)
    return {
        raw,
        base64.b64encode(raw).rstrip(b"="),
        repr(raw)[2:-1].encode(),
        *(spelling.encode() for spelling in found),
    }


def files_with(secrets: Mapping[str, str], folders: Iterable[Path], but: Iterable[Path]) -> set[str]:
    """Which secret is in which file below the folders, but for those files that are meant to hold it; archives are opened."""
    found, spared = set(), {path.resolve() for path in but}
    for path in (path for folder in folders for path in folder.rglob("*")):
        if path.is_symlink() or not path.is_file() or path.resolve() in spared or path.stat().st_size > MOST_BYTES:
            continue
        for name, content in contents(path):
            found |= {f"{what} in {name}" for what, secret in secrets.items() if holds(content, secret)}
    return found


def contents(path: Path) -> list[tuple[str, bytes]]:
    """A file's bytes, and those of what an archive holds."""
    made = [(str(path), path.read_bytes())]
    if path.name.endswith(".tar.gz"):
        with tarfile.open(path) as archive:
            members = [(member, archive.extractfile(member)) for member in archive.getmembers()]
            made += [(f"{path}:{member.name}", file.read()) for member, file in members if file is not None]
    return made


def holds(content: bytes, secret: str) -> bool:
    """Whether it is in there, in any spelling, also with breaks of lines in its midst."""
    whole = content.translate(None, b"\r\n")
    return any(spelling in content or spelling in whole for spelling in spellings(secret))


def environments_with(secrets: Mapping[str, str]) -> set[str]:
    """Which secret is in the environment or the arguments of which process of this machine, but for this one."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        if int(process.name) in (os.getpid(), os.getppid()):
            continue
        for part in ("environ", "cmdline"):
            try:
                content = (process / part).read_bytes()
            except OSError:
                continue
            found |= {f"{what} in {process}/{part}" for what, secret in secrets.items() if holds(content, secret)}
    return found
