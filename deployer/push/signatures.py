"""Whose signature a commit has, by the list of signers of DEPLOYER_SIGNERS: nothing that is pushed or configured counts.

A line of the list is one of ssh's allowed signers (ssh-keygen(1), ALLOWED SIGNERS), or `gpg FINGERPRINT`, the whole fingerprint
of a key that is in the keyring of the user who runs the deployer. The key must be good now, and at the time that the commit
gives: the commit's own time alone would be as old as the signer likes.
"""

from __future__ import annotations

import asyncio
import os
import pwd
import re
import stat
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from deployer.errors import RepositoryError, StartError
from deployer.push.export import committed_s

SIGNERS = "DEPLOYER_SIGNERS"
LIMIT_S = 30.0
MOST_BYTES = 1 << 20
MOST_LINKS = 40
NAMESPACE = "git"
_SSH, _PGP = b"-----BEGIN SSH SIGNATURE-----", b"-----BEGIN PGP SIGNATURE-----"
_FINGERPRINT = re.compile(r"gpg[ \t]+([0-9A-Fa-f ]{40,80})[ \t]*(#.*)?")
_WHOLE = re.compile(r"[0-9A-F]{40}|[0-9A-F]{64}")


@dataclass(frozen=True, slots=True)
class Signers:
    """A list of signers that was read. ssh: its lines for ssh-keygen. fingerprints: of GPG keys, in capitals."""

    ssh: str
    fingerprints: frozenset[str]


def read_signers(path: Path | None, writable: tuple[Path, ...]) -> Signers:
    """Read the list where only root or this user may change it, and no push can.

    writable: folders that a push or a bot can write to. Raises StartError: what is expected, what was found, what to do.
    """
    if path is None:
        raise StartError(
            f"DEPLOYER_VERIFY=signed needs the list of signers: {SIGNERS}=/etc/never-sleeps/signers, a file of lines "
            "`NAME ssh-ed25519 AAAA...` or `gpg FINGERPRINT`; what a repository configures is not trusted"
        )
    if not path.is_absolute():
        raise StartError(f"{SIGNERS} is {path}, a relative path, which a push could bring; give an absolute one")
    own = (0, os.geteuid())
    for place in _steps(path):
        inside = next((folder for folder in writable if place.is_relative_to(folder.resolve())), None)
        if inside is not None:
            raise StartError(f"{SIGNERS}={path} is in {inside}, which a push can write to; move it out of there")
        found = place.lstat()
        loose = found.st_mode & 0o022 and not (stat.S_ISDIR(found.st_mode) and found.st_mode & stat.S_ISVTX)
        if found.st_uid not in own or (loose and not stat.S_ISLNK(found.st_mode)):
            raise StartError(
                f"{SIGNERS}={path}: {place} can be changed by others (owner {found.st_uid}, mode "
                f"{stat.S_IMODE(found.st_mode):04o}); expected root or user {os.geteuid()} alone: chown and chmod go-w it"
            )
    try:
        if not path.is_file() or path.stat().st_size > MOST_BYTES:
            raise StartError(f"{SIGNERS}={path}: expected a file of at most {MOST_BYTES >> 20} MB; name that one")
        return parse_signers(path.read_text("utf-8", "replace"))
    except OSError as error:
        raise StartError(
            f"{SIGNERS}={path} cannot be read ({error.strerror}); let user {os.geteuid()} read it"
        ) from error


def parse_signers(content: str) -> Signers:
    """Raises StartError: a fingerprint that is none, or a list of nobody."""
    ssh: list[str] = []
    fingerprints: set[str] = set()
    for line in content.splitlines():
        if line.split()[:1] == ["gpg"]:
            match = _FINGERPRINT.fullmatch(line.strip())
            whole = match[1].replace(" ", "").upper() if match else ""
            if not _WHOLE.fullmatch(whole):
                raise StartError(f"{SIGNERS}: expected `gpg` and a whole fingerprint of 40 digits, found {line[:80]!r}")
            fingerprints.add(whole)
        elif line.strip() and not line.lstrip().startswith("#"):
            ssh.append(line)
    if not ssh and not fingerprints:
        raise StartError(f"{SIGNERS} names nobody; add a line `NAME ssh-ed25519 AAAA...` or `gpg FINGERPRINT`")
    return Signers("".join(f"{line}\n" for line in ssh), frozenset(fingerprints))


def split_signature(commit: bytes) -> tuple[bytes, bytes]:
    """What was signed, and the one signature. Raises RepositoryError: there is none, or more than one."""
    head, gap, message = commit.partition(b"\n\n")
    lines: list[bytes] = []
    signatures: list[bytes] = []
    inside = False
    for line in head.split(b"\n"):
        if inside and line.startswith(b" "):
            signatures[-1] += b"\n" + line[1:]
            continue
        inside = line.startswith((b"gpgsig ", b"gpgsig-sha256 "))
        if inside:
            signatures.append(line.partition(b" ")[2])
        else:
            lines.append(line)
    if len(signatures) != 1:
        raise RepositoryError(f"expected one signature, found {len(signatures) or 'none'}; commit with `git commit -S`")
    return b"\n".join(lines) + gap + message, signatures[0] + b"\n"


async def check_signature(commit: bytes, signers: Signers) -> str:
    """Who signed. commit: its own bytes, of which the sha was made. Raises RepositoryError, OSError."""
    payload, signature = split_signature(commit)
    with tempfile.TemporaryDirectory(prefix="never-sleeps-signature-") as name:
        folder = Path(name)
        (folder / "signature").write_bytes(signature)
        if signature.startswith(_SSH):
            return await _check_ssh(payload, committed_s(commit), signers, folder)
        if signature.startswith(_PGP):
            return await _check_gpg(payload, signers, folder)
    raise RepositoryError("the signature is neither of ssh nor of GPG; sign with one of these")


async def _check_ssh(payload: bytes, committed: int, signers: Signers, folder: Path) -> str:
    allowed, signature = folder / "signers", folder / "signature"
    allowed.write_text(signers.ssh)
    now, named = int(time.time()), _named(folder)
    names: list[str] = []
    for at in (now, committed):
        when = f"-Overify-time={time.strftime('%Y%m%d%H%M%S', time.localtime(at))}"
        files = ("-f", str(allowed), "-s", str(signature))
        code, out = await _run("ssh-keygen", "-Y", "find-principals", *files, when, more=named)
        principals = out.splitlines() if code == 0 else []
        for name in principals:
            code, out = await _run(
                "ssh-keygen", "-Y", "verify", "-n", NAMESPACE, "-I", name, *files, when, data=payload, more=named
            )
            if code == 0:
                names.append(name)
                break
        else:
            when_said = "now" if at == now else "when it was committed"
            raise RepositoryError(f"no key of {SIGNERS} that is valid {when_said} made its signature ({_last(out)})")
    return names[0]


async def _check_gpg(payload: bytes, signers: Signers, folder: Path) -> str:
    code, out = await _run(
        *(
            "gpg",
            "--batch",
            "--no-tty",
            "--no-auto-key-retrieve",
            "--status-fd=1",
            "--verify",
            str(folder / "signature"),
            "-",
        ),
        data=payload,
    )
    # "[GNUPG:] WORD ...": doc/DETAILS of GnuPG. GOODSIG is said of no key that is expired or revoked.
    words = [line.split()[1:] for line in out.splitlines() if line.startswith("[GNUPG:] ") and len(line.split()) > 1]
    verdicts = [word for word in words if word[0].endswith("SIG") and word[0] != "VALIDSIG" and word[0] != "NEWSIG"]
    valid = [word for word in words if word[0] == "VALIDSIG"]
    if code != 0 or len(verdicts) != 1 or verdicts[0][0] != "GOODSIG" or len(valid) != 1:
        text = " ".join(" ".join(word[:2]) for word in verdicts) or _last(out)
        raise RepositoryError(f"GPG does not hold its signature for good and valid now ({text})")
    # The key that signed, and the primary key that it belongs to.
    made_by = {valid[0][1].upper(), valid[0][-1].upper()}
    if not made_by & signers.fingerprints:
        raise RepositoryError(f"the GPG key {valid[0][-1]} is not one that {SIGNERS} names")
    return valid[0][-1]


def _named(folder: Path) -> dict[str, str]:
    """For ssh-keygen, which refuses to work for a user without a name, as a container's is: it is told one."""
    user, group = os.getuid(), os.getgid()
    with suppress(KeyError):
        pwd.getpwuid(user)
        return {}
    (folder / "passwd").write_text(f"somebody:x:{user}:{group}::/:/bin/sh\n")
    (folder / "group").write_text(f"somebody:x:{group}:\n")
    files = {"NSS_WRAPPER_PASSWD": str(folder / "passwd"), "NSS_WRAPPER_GROUP": str(folder / "group")}
    return {"LD_PRELOAD": "libnss_wrapper.so", **files}


async def _run(*command: str, data: bytes = b"", more: Mapping[str, str] | None = None) -> tuple[int, str]:
    variables = {name: os.environ[name] for name in ("PATH", "HOME", "GNUPGHOME", "TMPDIR", "TZ") if name in os.environ}
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd="/",
            env={**variables, **(more or {}), "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8"},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
    except OSError as error:
        raise RepositoryError(f"{command[0]} cannot be run ({error.strerror}); install it") from error
    try:
        async with asyncio.timeout(LIMIT_S):
            out, _ = await process.communicate(data)
    except TimeoutError as error:
        raise RepositoryError(f"{command[0]} did not answer within {LIMIT_S:g} s") from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None, "it was waited for"
    return process.returncode, out.decode("utf-8", "replace").strip()


def _steps(path: Path) -> list[Path]:
    """Every file, folder and link that a path passes through, links followed one by one. Raises StartError."""
    steps: list[Path] = []
    waiting, at, links = list(path.parts[1:]), Path(path.anchor), 0
    while waiting:
        part = waiting.pop(0)
        at = at.parent if part == ".." else at / part
        try:
            steps.append(at)
            if at.is_symlink():
                links += 1
                target = at.readlink()
                if links > MOST_LINKS:
                    raise StartError(
                        f"{SIGNERS}={path} goes through more than {MOST_LINKS} links; name the file itself"
                    )
                waiting = [*(target.parts[1:] if target.is_absolute() else target.parts), *waiting]
                at = Path(target.anchor) if target.is_absolute() else at.parent
            elif not at.exists():
                raise StartError(f"{SIGNERS}={path}: there is no {at}; make it, or name another file")
        except OSError as error:
            raise StartError(f"{SIGNERS}={path} cannot be read ({error.strerror})") from error
    return steps


def _last(out: str) -> str:
    return out.splitlines()[-1][:200] if out else "it said nothing"
