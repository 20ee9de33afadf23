"""A commit that was made by hand: names, modes and sizes that no checkout has. It costs one refused build, and little memory."""

from __future__ import annotations

import asyncio
import hashlib
import io
import subprocess
import sys
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from deployer.errors import BuildError, RepositoryError, TooLargeError
from deployer.push.export import MOST_ENTRIES, MOST_NAME
from deployer.push.repository import Repository
from deployer.push.verify import Verify
from deployer.runtimes.build_limits import BuildLimits
from tests.e2e.deployer_rig import GIT

MOST = BuildLimits(size=1 << 20, files=1000)


class Handmade:
    """A repository whose objects are written one by one."""

    def __init__(self, folder: Path) -> None:
        self.path, self.folder = folder / "made", folder
        subprocess.run([*GIT, "init", "--quiet", "--initial-branch=main", str(self.path)], check=True)

    def write(self, kind: str, data: bytes) -> str:
        """An object as it is; its id."""
        return self.stream(kind, len(data), [data])

    def stream(self, kind: str, size: int, pieces: list[bytes]) -> str:
        """One that is never whole in this process's memory."""
        head = f"{kind} {size}\0".encode()
        hashed, packed, out = hashlib.sha1(head, usedforsecurity=False), zlib.compressobj(), io.BytesIO()
        out.write(packed.compress(head))
        for piece in pieces:
            hashed.update(piece)
            out.write(packed.compress(piece))
        out.write(packed.flush())
        name = hashed.hexdigest()
        place = self.path / ".git" / "objects" / name[:2] / name[2:]
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(out.getvalue())
        return name

    def tree(self, *entries: tuple[bytes, bytes, str]) -> str:
        """Of lines of mode, name and object."""
        return self.write(
            "tree", b"".join(mode + b" " + name + b"\0" + bytes.fromhex(sha) for mode, name, sha in entries)
        )

    def commit(self, tree: str) -> str:
        """The branch is this one."""
        text = f"tree {tree}\nauthor a <a> 1 +0000\ncommitter a <a> 1 +0000\n\nmade\n"
        sha = self.write("commit", text.encode())
        (self.path / ".git" / "refs" / "heads" / "main").write_text(f"{sha}\n")
        return sha

    def take(self, sha: str, how: str) -> None:
        """As a build does. Raises RepositoryError."""
        repository, into = Repository(self.path), self.folder / "top" / "tree"
        into.mkdir(parents=True, exist_ok=True)
        if how == "tar":
            asyncio.run(repository.tar(sha, self.folder / "tree.tar", most_bytes=MOST.size, most_files=MOST.files))
        else:
            asyncio.run(repository.archive(sha, into, most_bytes=MOST.size, most_files=MOST.files))


@pytest.fixture
def made(tmp_path: Path) -> Handmade:
    """An empty one."""
    return Handmade(tmp_path)


@pytest.mark.parametrize("name", [b".git", b".GIT", b"..", b"a/b", b"", b"n" * (MOST_NAME + 1), b"n" * 3_000_000])
def test_a_tree_with_a_name_that_no_checkout_may_have_is_refused(made: Handmade, name: bytes) -> None:
    """It would lead out of its folder, or fit on no disk; the error is a line all the same."""
    commit = made.commit(made.tree((b"100644", name, made.write("blob", b"x"))))
    with pytest.raises(RepositoryError) as refused:
        made.take(commit, "folder")
    assert len(str(refused.value)) < 1000
    assert list((made.folder / "top").rglob("*")) == [made.folder / "top" / "tree"]


@pytest.mark.parametrize("mode", [b"104755", b"100777", b"120777", b"60644", b"10644", b"20666", b"140755"])
def test_a_tree_with_a_mode_that_git_writes_for_no_file_is_refused(made: Handmade, mode: bytes) -> None:
    """Nothing becomes a file of another's rights, a device, a fifo or a socket."""
    commit = made.commit(made.tree((mode, b"file", made.write("blob", b"x"))))
    with pytest.raises(RepositoryError):
        made.take(commit, "folder")
    assert list((made.folder / "top" / "tree").iterdir()) == []


def many_files(made: Handmade) -> str:
    blob = made.write("blob", b"x")
    return made.tree(*((b"100644", b"%06d" % number, blob) for number in range(MOST.files + 1)))


def a_tree_of_trees(made: Handmade) -> str:
    """A hundred objects, and ten to the power of ten files."""
    tree = made.tree((b"100644", b"file", made.write("blob", b"x")))
    for _ in range(10):
        tree = made.tree(*((b"40000", b"%d" % number, tree) for number in range(10)))
    return tree


def a_wide_folder(made: Handmade) -> str:
    blob = bytes.fromhex(made.write("blob", b"x"))
    return made.write("tree", b"".join(b"100644 %07d\0" % number + blob for number in range(2 * MOST_ENTRIES)))


def zeros(made: Handmade) -> str:
    """A file that is a thousandth of its size in a push."""
    return made.tree((b"100644", b"zeros", made.stream("blob", 128 << 20, [bytes(1 << 20)] * 128)))


@pytest.mark.parametrize(
    ("bomb", "how"),
    [
        (many_files, "folder"),
        (many_files, "tar"),
        (many_files, "verify"),
        (a_tree_of_trees, "tar"),
        (a_wide_folder, "tar"),
    ],
)
def test_a_commit_of_too_much_is_refused_before_it_is_written(
    made: Handmade, bomb: Callable[[Handmade], str], how: str
) -> None:
    """In containers, as processes, and where a command verifies it."""
    commit = made.commit(bomb(made))
    if how == "verify":
        with pytest.raises(BuildError, match="or 1000 files"):
            asyncio.run(Verify(Repository(made.path), "true", limit_s=60, limits=MOST).check(commit))
        return
    with pytest.raises(TooLargeError):
        made.take(commit, how)
    tar = made.folder / "tree.tar"
    assert not tar.exists() or tar.stat().st_size < 4 * MOST.size


def test_a_file_that_grows_in_gits_hands_is_never_whole_in_memory(made: Handmade) -> None:
    """The limit of git's data is a fraction of it; before, git held all of it while it fetched."""
    commit = made.commit(zeros(made))
    code = (
        "import asyncio, sys; from pathlib import Path; from deployer.push.repository import Repository\n"
        "asyncio.run(Repository(Path(sys.argv[1])).commit_bytes(sys.argv[2]))\n"
        "import resource; print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss >> 10)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(made.path), commit], capture_output=True, text=True, timeout=120, check=True
    )
    assert int(done.stdout) < 110, "megabytes of the largest git"


def test_links_of_a_commit_are_links_and_nothing_is_written_through_them(made: Handmade) -> None:
    """One to a folder outside, and a file below a name that is a link: the second is no tree that can be written."""
    blob, outside = made.write("blob", b"x"), made.folder / "outside"
    outside.mkdir()
    link = made.write("blob", str(outside).encode())
    commit = made.commit(made.tree((b"120000", b"Dockerfile", link), (b"100644", b"file", blob)))
    made.take(commit, "tar")
    with tarfile.open(made.folder / "tree.tar") as archive:
        assert archive.getmember("Dockerfile").issym()
    twice = made.tree((b"120000", b"a", link), (b"40000", b"a", made.tree((b"100644", b"evil", blob))))
    with pytest.raises(RepositoryError):
        made.take(made.commit(twice), "folder")
    assert list(outside.iterdir()) == []
