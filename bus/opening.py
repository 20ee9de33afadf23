"""Opening what stands in a folder that others may reach: never through a link, and only what belongs to the folder's owner.

Whoever may write to the bus could put a link there to a file that he cannot read, a fifo that nobody ever writes to, or a
file of his own. The bus itself may be reached by a link of the operator's; its own folders and files may not.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

FOLDERS = frozenset({"instances", "requests", "asks"})
FILE_MODE = 0o640
BUS_MODE = 0o750
SMALL = 64 << 10
_WHAT = {
    stat.S_IFLNK: "a link",
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a fifo",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def open_regular(path: Path, flags: int, mode: int = FILE_MODE) -> int:
    """A descriptor of a regular file that belongs to this user or to the folder's owner and that not everybody may write to.

    Never waits. Raises OSError: EPERM with what was found, or the kernel's own.
    """
    folder = _open_folder(path.parent)
    try:
        descriptor = _open(path, folder, flags, mode)
        try:
            owner = os.fstat(folder)
            check_file(os.fstat(descriptor), owner.st_uid, path)
            if flags & os.O_CREAT and os.geteuid() == 0 and os.fstat(descriptor).st_uid != owner.st_uid:
                os.fchown(
                    descriptor, owner.st_uid, owner.st_gid
                )  # what root leaves on another's bus is the other's to read
        except BaseException:
            os.close(descriptor)
            raise
    finally:
        os.close(folder)
    return descriptor


def read_regular(path: Path, most: int) -> bytes:
    """At most so many bytes of its beginning. Raises OSError as `open_regular` does."""
    with os.fdopen(open_regular(path, os.O_RDONLY), "rb") as file:
        return file.read(most)


def read_small(path: Path) -> str:
    """A mark of a line or two, stripped. Raises OSError as `open_regular` does."""
    return read_regular(path, SMALL).decode("utf-8", "replace").strip()


def check_file(found: os.stat_result, owner: int, path: Path) -> None:
    """Raises PermissionError: it is no regular file, belongs to another user, or may be written to by everybody."""
    if not stat.S_ISREG(found.st_mode):
        raise _refused(
            path, f"expected a regular file, found {_WHAT.get(stat.S_IFMT(found.st_mode), 'none')}; remove it"
        )
    if found.st_uid not in (0, os.geteuid(), owner):  # root could do all of this anyway
        raise _refused(path, f"expected a file of user {owner}, found one of user {found.st_uid}; look who made it")
    if found.st_mode & stat.S_IWOTH:
        raise _refused(
            path,
            f"expected a file that not everybody may write to, found mode {stat.S_IMODE(found.st_mode):04o}; chmod o-w it",
        )


def check_path(path: Path) -> None:
    """As `open_regular` checks, for what another library opens; harmless where there is none. Raises OSError."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    check_file(found, path.parent.stat().st_uid, path)


def make_private(folder: Path) -> None:
    """Make a folder, and those above it that are missing, for this user alone; `.run` and what is in it, too. Raises OSError."""
    above = [*reversed(folder.parents), folder]
    for one in above:
        if not one.exists():
            one.mkdir(mode=0o700, exist_ok=True)
    names = [one.name for one in above]
    if ".run" not in names:
        return
    for one in above[names.index(".run") :]:
        keep_private(one)


def keep_private(folder: Path) -> None:
    """Take the folder from everybody else where it is this user's. Raises OSError."""
    found = folder.lstat()
    if stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and found.st_mode & 0o077:
        folder.chmod(0o700)


def open_private(path: Path, flags: int) -> int:
    """A descriptor of a file for this user alone, such as a log; an older one is taken from everybody else. Raises OSError."""
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise _refused(
                path, f"expected a regular file, found {_WHAT.get(stat.S_IFMT(found.st_mode), 'none')}; remove it"
            )
        if found.st_mode & 0o077:
            os.fchmod(descriptor, 0o600)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _open(path: Path, folder: int, flags: int, mode: int) -> int:
    try:
        return os.open(path.name, flags | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, mode, dir_fd=folder)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise _refused(path, "expected a regular file, found a link; remove it") from error
        if error.errno in (errno.ENXIO, errno.EISDIR):  # a fifo without a reader, a socket; a folder
            raise _refused(path, "expected a regular file, found something else; remove it") from error
        error.filename = str(path)
        raise


def _open_folder(folder: Path) -> int:
    follow = 0 if folder.name not in FOLDERS else os.O_NOFOLLOW
    try:
        return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | follow)
    except NotADirectoryError as error:  # what Linux says of a link that may not be followed
        raise _refused(folder, "expected a folder, found something else or a link; remove it") from error


def _refused(path: Path, text: str) -> PermissionError:
    return PermissionError(errno.EPERM, text, str(path))
