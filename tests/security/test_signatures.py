"""`DEPLOYER_VERIFY=signed`: nothing is built that nobody of the list signed."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from deployer.errors import BuildError, StartError
from deployer.push.repository import Repository
from deployer.push.signatures import parse_signers, read_signers
from deployer.push.verify import Verify
from tests.e2e.deployer_rig import GIT

REFUSED = "not signed by anyone that is trusted here"


class Signed:
    """A repository, and an operator's list of signers outside of it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.path, self.signers = folder, folder / "repository", folder / "etc" / "signers"
        self.path.mkdir()
        self.signers.parent.mkdir()
        self.git("init", "--quiet", "--initial-branch=main")
        self.git("config", "gpg.format", "ssh")
        for name in ("ann", "eve"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
        self.allow("ann")

    def allow(self, name: str, options: str = "") -> None:
        """The list is this one line."""
        self.signers.write_text(self.line(name, options))

    def line(self, name: str, options: str = "") -> str:
        """A line of the list."""
        return f"{name}@localhost {options} {(self.folder / f'{name}.pub').read_text()}"

    def git(self, *arguments: str, data: bytes | None = None, environment: dict[str, str] | None = None) -> str:
        """Run git in it."""
        done = subprocess.run(
            [*GIT, *arguments],
            cwd=self.path,
            check=True,
            capture_output=True,
            input=data,
            env={**os.environ, **(environment or {})},
        )
        return done.stdout.decode().strip()

    def commit(self, text: str, key: str = "", *options: str, **environment: str) -> str:
        """Commit a file, signed by that key if any; the sha."""
        (self.path / "file").write_text(text)
        self.git("add", "-A")
        sign = ("-c", f"user.signingkey={key}") if key else ()
        self.git(*sign, *options, "commit", "--quiet", "-m", text, *(("-S",) if key else ()), environment=environment)
        return self.git("rev-parse", "HEAD")

    def ssh(self, name: str) -> str:
        """The path of a key."""
        return str(self.folder / name)

    def verify(self, sha: str, signers: Path | None = None) -> None:
        """As the deployer does. Raises BuildError."""
        read = partial(read_signers, signers or self.signers, (self.path,))
        repository = Repository(self.path, self.folder / "mirror.git")
        asyncio.run(Verify(repository, "signed", limit_s=30, signers=read).check(sha))

    def built(self, sha: str) -> str:
        """What a build would have as the file's content."""
        tree = self.folder / "tree"
        shutil.rmtree(tree, ignore_errors=True)
        tree.mkdir()
        asyncio.run(Repository(self.path, self.folder / "mirror.git").archive(sha, tree))
        return (tree / "file").read_text()


@pytest.fixture
def signed(tmp_path: Path) -> Signed:
    """Ann may sign, Eve may push."""
    return Signed(tmp_path)


def test_only_what_a_listed_key_signed_passes(signed: Signed) -> None:
    """Unsigned and signed by another key are refused; whatever the repository itself configures."""
    signed.git("config", "gpg.ssh.allowedSignersFile", str(signed.folder / "eves"))
    (signed.folder / "eves").write_text(signed.line("eve"))
    for sha in (signed.commit("none"), signed.commit("eve", signed.ssh("eve"))):
        with pytest.raises(BuildError, match=REFUSED):
            signed.verify(sha)
    signed.verify(signed.commit("ann", signed.ssh("ann")))


@pytest.mark.parametrize(("kind", "bits"), [("rsa", "3072"), ("ecdsa", "256"), ("ed25519", "256")])
def test_each_kind_of_ssh_key_signs_where_it_is_listed_and_nowhere_else(signed: Signed, kind: str, bits: str) -> None:
    """The same name with another key signs nothing."""
    make = ["ssh-keygen", "-q", "-t", kind, "-b", bits, "-N", "", "-f", signed.ssh(kind)]
    subprocess.run(make, check=True)
    sha = signed.commit(kind, signed.ssh(kind))
    signed.signers.write_text(signed.line("ann").replace("ann@localhost", f"{kind}@localhost"))
    with pytest.raises(BuildError, match=REFUSED):
        signed.verify(sha)
    signed.allow(kind)
    signed.verify(sha)


@pytest.mark.parametrize(
    ("names", "valid", "passes"),
    [("ann@localhost", "+1d", True), ("eve@localhost", "+1d", False), ("ann@localhost", "20200101:20210101", False)],
)
def test_of_a_listed_authority_only_its_certificates_for_listed_names_count(
    signed: Signed, names: str, valid: str, passes: bool
) -> None:
    """One for somebody else, and one that expired, sign nothing."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", signed.ssh("ca")], check=True)
    certify = ["ssh-keygen", "-q", "-s", signed.ssh("ca"), "-I", "x", "-n", names, "-V", valid, signed.ssh("eve.pub")]
    subprocess.run(certify, check=True)
    signed.signers.write_text(f"ann@localhost cert-authority {(signed.folder / 'ca.pub').read_text()}")
    sha = signed.commit("eve", signed.ssh("eve-cert.pub"))
    if passes:
        signed.verify(sha)
        return
    with pytest.raises(BuildError, match=REFUSED):
        signed.verify(sha)


def test_a_signed_tag_signs_no_commit(signed: Signed) -> None:
    """Neither where the branch is pushed to the tag, nor where an unsigned merge carries it within."""
    first = signed.commit("first", signed.ssh("ann"))
    evil = signed.commit("evil")
    signed.git("-c", f"user.signingkey={signed.ssh('ann')}", "tag", "-s", "-m", "tagged", "v1", evil)
    tag = signed.git("rev-parse", "refs/tags/v1")
    for name in (evil, tag):
        with pytest.raises(BuildError, match=REFUSED):
            signed.verify(name)
    signed.git("checkout", "--quiet", "--detach", first)
    signed.git("merge", "--quiet", "--no-ff", "-m", "merged", "v1")
    merge = signed.git("rev-parse", "HEAD")
    assert "mergetag" in signed.git("cat-file", "commit", merge)
    signed.git("update-ref", "refs/heads/main", merge)
    with pytest.raises(BuildError, match=REFUSED):
        signed.verify(merge)


def test_a_signed_merge_is_what_its_tree_says_whatever_its_parents_are(signed: Signed) -> None:
    """Grafts, a shallow boundary and replaced parents give it others: the same files are built, and no parent becomes signed."""
    signed.commit("one")
    unsigned = signed.commit("unsigned")
    signed.git("checkout", "--quiet", "-b", "side", "HEAD~1")
    signed.commit("good", signed.ssh("ann"))
    sign = ("-c", f"user.signingkey={signed.ssh('ann')}")
    signed.git(*sign, "merge", "--quiet", "--no-ff", "-S", "-s", "ours", "-m", "merge", unsigned)
    merge = signed.git("rev-parse", "HEAD")
    signed.git("update-ref", "refs/heads/main", merge)
    signed.git("replace", "--graft", merge, unsigned)
    (signed.path / ".git" / "info").mkdir(exist_ok=True)
    (signed.path / ".git" / "info" / "grafts").write_text(f"{merge} {unsigned}\n{unsigned} {merge}\n")
    for _ in range(2):
        signed.verify(merge)
        assert signed.built(merge) == "good"
        with pytest.raises(BuildError, match=REFUSED):
            signed.verify(unsigned)
        (signed.path / ".git" / "shallow").write_text(f"{merge}\n{unsigned}\n")


@pytest.mark.parametrize("kind", ["blob", "tree", "commit"])
def test_replace_refs_change_nothing_of_what_is_built(signed: Signed, kind: str) -> None:
    """What a signed commit's sha stands for is built, whatever refs/replace says, pushed or made there."""
    good = signed.commit("good", signed.ssh("ann"))
    evil = signed.commit("evil")
    suffix = {"blob": ":file", "tree": "^{tree}", "commit": ""}[kind]
    signed.git("replace", "-f", signed.git("rev-parse", f"{good}{suffix}"), signed.git("rev-parse", f"{evil}{suffix}"))
    signed.verify(good)
    assert signed.built(good) == "good"
    signed.git("replace", "-d", signed.git("rev-parse", f"{good}{suffix}"))
    signed.git("replace", "-f", signed.git("rev-parse", f"{evil}{suffix}"), signed.git("rev-parse", f"{good}{suffix}"))
    with pytest.raises(BuildError, match=REFUSED):
        signed.verify(evil)


def test_an_expired_key_signs_nothing_however_old_the_commit_says_it_is(signed: Signed) -> None:
    """Valid at the commit's time is not enough, and valid now is not either."""
    old = {"GIT_COMMITTER_DATE": "2020-01-01T00:00:00Z", "GIT_AUTHOR_DATE": "2020-01-01T00:00:00Z"}
    backdated = signed.commit("backdated", signed.ssh("ann"), **old)
    signed.allow("ann", 'valid-before="20210101"')
    with pytest.raises(BuildError, match="valid now"):
        signed.verify(backdated)
    signed.allow("ann", 'valid-after="20210101"')
    with pytest.raises(BuildError, match="valid when it was committed"):
        signed.verify(backdated)
    signed.verify(signed.commit("today", signed.ssh("ann")))


def test_a_signature_counts_for_git_alone_and_a_namespace_of_the_list_is_kept(signed: Signed) -> None:
    """A key that is listed for files signs no commit."""
    sha = signed.commit("ann", signed.ssh("ann"))
    signed.allow("ann", 'namespaces="file"')
    with pytest.raises(BuildError, match=REFUSED):
        signed.verify(sha)


def test_another_commit_with_a_signature_that_was_copied_is_refused(signed: Signed) -> None:
    """One that has two signatures as well."""
    good = signed.git("cat-file", "commit", signed.commit("good", signed.ssh("ann")))
    signed.commit("evil")
    tree = signed.git("rev-parse", "HEAD^{tree}")
    moved = "\n".join([f"tree {tree}", *good.split("\n")[1:]]) + "\n"
    head, _, message = good.partition("\n\n")
    signature = head[head.index("gpgsig ") :]
    twice = f"{head}\n{signature}\n\n{message}\n"
    for text in (moved, twice):
        sha = signed.git("hash-object", "-t", "commit", "-w", "--stdin", data=text.encode())
        signed.git("update-ref", "refs/heads/main", sha)
        with pytest.raises(BuildError, match=REFUSED):
            signed.verify(sha)


def test_a_list_of_signers_that_a_push_can_bring_is_refused(signed: Signed, tmp_path: Path) -> None:
    """Relative, in the repository, by a link through it, of another owner, writable by others: each says what to do."""
    sha = signed.commit("ann", signed.ssh("ann"))
    inside = signed.path / "signers"
    inside.write_text(signed.line("ann"))
    by_link = tmp_path / "link"
    by_link.symlink_to(inside)
    through = signed.path / "through"
    through.symlink_to(signed.signers.parent)
    for path in (Path("signers"), inside, by_link, through / "signers", signed.path / ".git" / ".." / "signers"):
        with pytest.raises(BuildError, match=r"a push could bring|a push can write to"):
            signed.verify(sha, path)
    loose = tmp_path / "loose"
    loose.write_text(signed.line("ann"))
    loose.chmod(0o666)
    with pytest.raises(BuildError, match="chown and chmod go-w it"):
        signed.verify(sha, loose)
    (tmp_path / "open").mkdir()
    shutil.copy(signed.signers, tmp_path / "open" / "signers")
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(BuildError, match="chown and chmod go-w it"):
        signed.verify(sha, tmp_path / "open" / "signers")
    if os.geteuid() == 0:
        os.chown(loose, 12345, 12345)
        loose.chmod(0o644)
        with pytest.raises(BuildError, match="can be changed by others"):
            signed.verify(sha, loose)
    with pytest.raises(BuildError, match=r"there is no .*make it, or name another file"):
        signed.verify(sha, tmp_path / "nowhere")
    for content in ("", "# nobody\n", "gpg 0123ABCD\n"):
        with pytest.raises(StartError):
            parse_signers(content)


def test_what_was_built_before_signatures_were_asked_for_is_no_shortcut(signed: Signed) -> None:
    """An unsigned commit whose build is at hand is verified like any other; what runs, and what ran before it, needs no git."""
    unsigned, good = signed.commit("none"), signed.commit("ann", signed.ssh("ann"))
    read = partial(read_signers, signed.signers, (signed.path,))
    verify = Verify(Repository(signed.path, signed.folder / "mirror.git"), "signed", limit_s=30, signers=read)
    built = frozenset({unsigned, good})
    assert verify.trusted(built, frozenset()) == frozenset()
    asyncio.run(verify.check(good))
    assert verify.trusted(built, frozenset()) == {good}
    assert verify.trusted(built, frozenset({unsigned})) == built
    verify.forget(good)
    assert verify.trusted(built, frozenset()) == frozenset()
    assert Verify(Repository(signed.path), "make test", limit_s=30).trusted(built, frozenset()) == built


@pytest.fixture
def keyring(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """GPG's keyring of the operator with three keys; their fingerprints by name."""
    home = Path(tempfile.mkdtemp(prefix="never-sleeps-gpg-", dir="/tmp"))  # the agent's socket needs a short path
    monkeypatch.setenv("GNUPGHOME", str(home))
    made: dict[str, str] = {}
    gpg = ["gpg", "--batch", "--passphrase", "", "--pinentry-mode", "loopback", "--quiet"]
    for name, expires, now in (
        ("ann", "never", ""),
        ("eve", "never", ""),
        ("old", "20200201T000000", "20200101T000000"),
    ):
        early = ("--faked-system-time", now) if now else ()
        subprocess.run([*gpg, *early, "--quick-gen-key", f"{name}@localhost", "ed25519", "sign", expires], check=True)
        listed = subprocess.run(
            [*gpg, "--list-keys", "--with-colons", f"{name}@localhost"], check=True, capture_output=True, text=True
        ).stdout
        made[name] = next(line.split(":")[9] for line in listed.splitlines() if line.startswith("fpr:"))
    yield made
    subprocess.run(["gpgconf", "--kill", "all"], check=False)
    shutil.rmtree(home, ignore_errors=True)  # the agent removes its sockets as it ends


def test_of_the_keyring_only_the_keys_count_that_the_list_names(signed: Signed, keyring: dict[str, str]) -> None:
    """Any other key of it, and an expired one with a backdated commit, sign nothing."""
    signed.git("config", "gpg.format", "openpgp")
    ann, eve = signed.commit("ann", keyring["ann"]), signed.commit("eve", keyring["eve"])
    faked = signed.folder / "gpg-of-2020"
    faked.write_text('#!/bin/sh\nexec gpg --faked-system-time 20200115T000000 "$@"\n')
    faked.chmod(0o755)
    date = {"GIT_COMMITTER_DATE": "2020-01-15T00:00:00Z"}
    old = signed.commit("old", keyring["old"], "-c", f"gpg.program={faked}", **date)
    with pytest.raises(BuildError, match=REFUSED):
        signed.verify(ann)  # the list names an ssh key alone
    signed.signers.write_text(f"gpg {keyring['ann']}\ngpg {keyring['old']}\n")
    signed.verify(ann)
    with pytest.raises(BuildError, match="is not one that DEPLOYER_SIGNERS names"):
        signed.verify(eve)
    with pytest.raises(BuildError, match="EXPKEYSIG"):
        signed.verify(old)
    revoke = Path(os.environ["GNUPGHOME"]) / "openpgp-revocs.d" / f"{keyring['ann']}.rev"
    certificate = revoke.read_text().replace(":-----BEGIN", "-----BEGIN")
    subprocess.run(["gpg", "--batch", "--quiet", "--import"], input=certificate.encode(), check=True)
    with pytest.raises(BuildError, match="REVKEYSIG"):
        signed.verify(ann)


@pytest.mark.parametrize("how", [("--sign",), ("--sign", "--compress-algo", "none"), ("--clearsign",)])
def test_a_message_that_a_listed_key_signed_signs_no_commit(
    signed: Signed, keyring: dict[str, str], how: tuple[str, ...]
) -> None:
    """One that holds its own text, put where a commit has a signature of its own: GPG would find that text well signed."""
    signed.signers.write_text(f"gpg {keyring['ann']}\n")
    message = subprocess.run(
        ["gpg", "--batch", "--quiet", "--armor", "--local-user", keyring["ann"], *how],
        input=b"dear Eve\n", capture_output=True, check=True,
    ).stdout.decode()  # fmt: skip
    for kind in ("MESSAGE", "SIGNED MESSAGE"):
        message = message.replace(f"BEGIN PGP {kind}", "BEGIN PGP SIGNATURE", 1)
    message = message.replace("END PGP MESSAGE", "END PGP SIGNATURE")
    plain = signed.git("cat-file", "commit", signed.commit("evil"))
    head, _, text = plain.partition("\n\n")
    made = f"{head}\ngpgsig " + "\n ".join(message.rstrip("\n").split("\n")) + f"\n\n{text}\n"
    sha = signed.git("hash-object", "-t", "commit", "-w", "--stdin", data=made.encode())
    signed.git("update-ref", "refs/heads/main", sha)
    with pytest.raises(BuildError, match=REFUSED):
        signed.verify(sha)
