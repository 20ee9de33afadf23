"""Whoever may write to the repository configures no program that the deployer or a person's command runs."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import tarfile
from contextlib import suppress
from pathlib import Path

import pytest

from cli.doctor import Checkout, branch
from deployer.commands.cli import main
from deployer.commands.init import init
from deployer.errors import DeployerError, RepositoryError, StartError
from deployer.push.repository import Repository
from tests.security.strangers import Stranger


@pytest.fixture
def stranger(tmp_path: Path) -> Stranger:
    """The repository, with programs everywhere, and a file that differs."""
    made = Stranger(tmp_path)
    assert made.ran == []
    (made.path / "file").write_text("two\n")
    return made


def everything(path: Path, mirror: Path, folder: Path) -> None:
    """Ask a repository whatever the deployer asks one."""

    async def ask() -> None:
        repository = Repository(path, mirror)
        branch = await repository.checked_out_branch()
        tip = await repository.tip(branch)
        await repository.git_directory()
        assert await repository.differs()
        for ref in (branch, tip, tip[:9], "HEAD", "HEAD~1", f"{branch}~1"):
            earlier = await repository.resolve(ref)
            await repository.subject(earlier)
            await repository.subjects(earlier, tip, 10)
            await repository.changed_files(earlier, tip)
            await repository.contains(tip, earlier)
        made = await repository.worktree_commit(folder / "index")
        for sha in (tip, made):
            tree = folder / sha
            tree.mkdir()
            await repository.archive(sha, tree)
            await repository.tar(sha, folder / f"{sha}.tar")
        await repository.tidy([tip])

    folder.mkdir()
    asyncio.run(ask())


def test_no_program_that_a_repository_configures_is_run_by_reading_it(stranger: Stranger, tmp_path: Path) -> None:
    """Filters, fsmonitor, hooks, pagers, signing programs, those of a repository within: none, whatever is asked."""
    everything(stranger.path, tmp_path / "run" / "mirror.git", tmp_path / "out")
    assert stranger.ran == []


def test_no_program_that_a_repository_configures_is_run_by_init_and_plan(
    stranger: Stranger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An operator, maybe root, prepares it and asks what would happen."""
    with pytest.raises(StartError, match=r"not committed \(file\)"):
        init(stranger.path, print)
    (stranger.path / "file").write_text("one\n")
    init(stranger.path, print)
    monkeypatch.setenv("DEPLOYER_REPOSITORY", str(stranger.path))
    monkeypatch.setenv("DEPLOYER_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("BUS_DIR", str(tmp_path / "bus"))
    with suppress(DeployerError):
        assert main(["plan"]) == 0
    assert stranger.ran == []


def test_no_program_that_a_repository_configures_is_run_by_the_doctor(tmp_path: Path) -> None:
    """Of a partial clone git would fetch what is missing, by the command that the repository names."""
    stranger = Stranger(tmp_path)
    sha = stranger.head()
    (stranger.path / ".git" / "objects" / sha[:2] / sha[2:]).unlink()
    with (stranger.path / ".git" / "config").open("a") as config:
        config.write(
            "[core]\n\trepositoryFormatVersion = 1\n[extensions]\n\tpartialClone = origin\n"
            '[remote "origin"]\n\tpromisor = true\n\tpartialCloneFilter = blob:none\n'
        )
    finding = branch(
        Checkout(tmp_path, {}, {"BUS_DIR": "bus", "DEPLOYER_REPOSITORY": str(stranger.path), "DEPLOYER_BRANCH": "main"})
    )
    assert (finding.good, stranger.ran) == (False, [])


def test_hooks_are_written_into_the_repository_alone(stranger: Stranger, tmp_path: Path) -> None:
    """Neither core.hooksPath nor a link makes an operator write a program elsewhere."""
    (stranger.path / "file").write_text("one\n")
    config = stranger.path / ".git" / "config"
    kept = config.read_text()
    config.write_text(f"{kept}\n[core]\n\thooksPath = {tmp_path / 'elsewhere'}\n")
    with pytest.raises(StartError, match="outside of the repository"):
        init(stranger.path, print)
    config.write_text(kept)
    hooks = stranger.path / ".git" / "hooks"
    hooks.rename(tmp_path / "hooks")
    (tmp_path / "elsewhere").mkdir()
    hooks.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StartError, match="outside of the repository"):
        init(stranger.path, print)
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_what_is_written_is_what_the_commit_has_byte_for_byte(stranger: Stranger, tmp_path: Path) -> None:
    """export-subst, export-ignore and filters change nothing; a submodule and a pointer are said."""
    sha = stranger.head()
    (tmp_path / "tree").mkdir()
    repository = Repository(stranger.path, tmp_path / "mirror.git")
    remarks = asyncio.run(repository.archive(sha, tmp_path / "tree"))
    assert (tmp_path / "tree" / "version").read_text() == "$Format:%H %(describe)$\n"
    assert (tmp_path / "tree" / "file").read_text() == "one\n"
    assert remarks.submodules == ["inner"]
    asyncio.run(repository.tar(sha, tmp_path / "tree.tar"))
    with tarfile.open(tmp_path / "tree.tar") as archive:
        files = {one.name: one for one in archive.getmembers()}
        version = archive.extractfile("version")
        assert version is not None
        assert version.read() == b"$Format:%H %(describe)$\n"
    assert sorted(files) == [".gitattributes", "file", "inner", "version"]
    assert {(one.uid, one.mode) for one in files.values() if one.isfile()} == {(0, 0o644)}


def test_an_object_that_was_changed_on_the_disk_is_not_built(stranger: Stranger, tmp_path: Path) -> None:
    """What has another hash than its name is refused, in the mirror as well."""
    mirror = tmp_path / "mirror.git"
    repository = Repository(stranger.path, mirror)
    sha = asyncio.run(repository.tip("main"))
    plain = {**os.environ, "GIT_DIR": str(mirror)}
    subprocess.run(["git", "unpack-objects", "-q"], check=False, env=plain, input=b"")
    blob = subprocess.run(
        ["git", "rev-parse", f"{sha}:file"], env=plain, capture_output=True, text=True, check=True
    ).stdout.strip()
    other = subprocess.run(
        ["git", "hash-object", "-w", "--stdin"], env=plain, input="evil\n", capture_output=True, text=True, check=True
    ).stdout.strip()
    packs = list((mirror / "objects" / "pack").glob("*.pack"))
    for pack in packs:
        kept = tmp_path / pack.name
        pack.replace(kept)
        pack.with_suffix(".idx").unlink()
        subprocess.run(["git", "unpack-objects", "-q"], check=True, env=plain, input=kept.read_bytes())
    place = mirror / "objects" / blob[:2] / blob[2:]
    place.chmod(0o644)
    place.write_bytes((mirror / "objects" / other[:2] / other[2:]).read_bytes())
    (tmp_path / "tree").mkdir()
    with pytest.raises(RepositoryError):
        asyncio.run(repository.archive(sha, tmp_path / "tree"))


def test_no_name_is_taken_for_an_option(stranger: Stranger, tmp_path: Path) -> None:
    """Refs and branches that begin with a dash, or that are a refspec."""
    repository = Repository(stranger.path, tmp_path / "mirror.git")
    for name in (
        "--upload-pack=touch x",
        "-h",
        "--output=/x",
        "main:refs/heads/evil",
        "+main",
        "*",
        "a..b",
        "",
        "main^{tree}",
    ):
        with pytest.raises(RepositoryError):
            asyncio.run(repository.tip(name))
    for name in ("--output=/x", "-h", ""):
        with pytest.raises(RepositoryError, match="expected a branch, tag or sha"):
            asyncio.run(repository.resolve(name))


def test_git_is_run_in_one_module_of_the_product_alone() -> None:
    """Everything else goes through deployer.git, but for `ns push` in the repository of whoever says it."""
    top = Path(__file__).parents[2]
    runs = re.compile(r"""["']git["'],""")
    found = [
        str(path.relative_to(top))
        for package in ("recording", "bus", "ledger", "bot", "panel", "paper", "deployer", "cli")
        for path in (top / package).rglob("*.py")
        if runs.search(path.read_text())
    ]
    assert sorted(found) == ["cli/pushing.py", "deployer/git.py"]


def test_a_users_git_configuration_changes_nothing_of_what_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Colours, formats, aliases, signatures, encodings and the environment of git itself."""
    made = Stranger(tmp_path)
    home = tmp_path / "home"
    home.mkdir()
    (home / ".gitconfig").write_text(
        "[color]\n\tui = always\n[log]\n\tshowSignature = true\n\tdecorate = full\n[format]\n\tpretty = raw\n"
        "[diff]\n\tnoprefix = true\n\trelative = true\n[core]\n\tabbrev = 12\n\tquotePath = true\n"
        "[i18n]\n\tlogOutputEncoding = UTF-16\n[alias]\n\tlog = !false\n"
        "[safe]\n\tdirectory =\n[transfer]\n\thideRefs = refs/heads\n"
        "[uploadpack]\n\thideRefs = refs/heads\n[protocol]\n\tallow = never\n"
    )
    for name, value in (
        ("HOME", str(home)), ("XDG_CONFIG_HOME", str(home)), ("GIT_DIR", "/nowhere"), ("GIT_WORK_TREE", "/nowhere"),
        ("GIT_INDEX_FILE", "/nowhere"), ("GIT_CONFIG_COUNT", "1"), ("GIT_CONFIG_KEY_0", "core.fsmonitor"),
        ("GIT_CONFIG_VALUE_0", str(made.marks / "core.fsmonitor.sh")), ("GIT_TRACE", "1"), ("LC_ALL", "de_DE"),
    ):  # fmt: skip
        monkeypatch.setenv(name, value)
    repository = Repository(made.path, tmp_path / "mirror.git")
    tip = asyncio.run(repository.tip("main"))
    assert asyncio.run(repository.subject(tip)) == "two"
    first = asyncio.run(repository.resolve("main~1"))
    assert asyncio.run(repository.subjects(first, tip, 5)) == [f"{tip[:7]} two"]
    assert asyncio.run(repository.changed_files(first, tip)) == ["inner"]
    assert not asyncio.run(repository.differs())
    assert made.ran == []


def test_a_repository_of_another_owner_is_read_without_trusting_every_folder(tmp_path: Path) -> None:
    """As in containers, where the deployer is another user than the one who owns the repository."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to give a repository to somebody else")
    made = Stranger(tmp_path)
    for top, folders, files in os.walk(made.path):
        for name in (*folders, *files, "."):
            os.chown(Path(top) / name, 12345, 12345, follow_symlinks=False)
    everything_of = Repository(made.path, tmp_path / "mirror.git")
    assert asyncio.run(everything_of.tip("main")) == made.head()
    assert "*" not in (tmp_path / "mirror.git" / "fetch.config").read_text()
