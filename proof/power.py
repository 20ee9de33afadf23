"""Power cuts: `python -m proof.power --count 200 --seed 1`, as root.

Every file of the bus and the paper record lie on a loop-mounted ext4. While six processes write, the file system is cut by its
shutdown ioctl without a flush of its journal: what was not written by then is gone, as after a power cut. Then it is mounted
again, and everything that a writer had acknowledged before the cut must be there. What is acknowledged while the cut goes on
does not count, since with the power everybody would have gone: an fdatasync that the cut overtakes may return 0 all the same
(3 of 66 cuts; seen in the ledger and in paper's record alike). Not shown by this: a disk that lies about its own cache.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bus import SystemClock, open_bus, write_control
from proof.report import Row, add_out, save
from proof.writers import WRITERS, Writer, missing

SHUTDOWN = 0x8004587D  # EXT4_IOC_SHUTDOWN = _IOR('X', 125, __u32), fs/ext4/ext4.h
NO_LOG_FLUSH = 2  # EXT4_GOING_FLAGS_NOLOGFLUSH: as if the power went
IMAGE_BYTES = 192 << 20
LONGEST_S = 0.25
RENEW_EVERY = 25  # a fresh file system, so that a first start is cut, too, and the files stay small


class PowerError(Exception):
    """This machine cannot do it; the text says why."""


class Disk:
    """An ext4 in a file, mounted on a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self._image, self.root = folder / "image", folder / "disk"
        self.root.mkdir()
        with self._image.open("wb") as file:
            file.truncate(IMAGE_BYTES)
        _run("mkfs.ext4", "-q", "-F", str(self._image))
        self.mount()

    def mount(self) -> None:
        """Mount it; after a cut this replays the journal."""
        _run("mount", "-o", "loop", str(self._image), str(self.root))

    def cut(self) -> None:
        """No write reaches the disk from now on."""
        descriptor = os.open(self.root, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        except OSError as error:
            raise PowerError(f"this kernel does not cut an ext4 ({error.strerror})") from error
        finally:
            os.close(descriptor)

    def unmount(self) -> None:
        """Every process that used it must have ended."""
        _run("umount", str(self.root))


@contextmanager
def disk() -> Iterator[Disk]:
    """A disk that is gone afterwards. Raises PowerError: not root, no loop devices, no mkfs.ext4."""
    if os.geteuid() != 0 or shutil.which("mkfs.ext4") is None:
        raise PowerError("a loop-mounted ext4 needs root and mkfs.ext4 (apt-get install e2fsprogs)")
    with tempfile.TemporaryDirectory(prefix="never-sleeps-power-") as folder:
        made = Disk(Path(folder))
        try:
            yield made
        finally:
            if os.path.ismount(made.root):
                made.unmount()


def rounds(count: int, seed: int, *, unsafe: bool = False) -> Iterator[tuple[int, list[str]]]:
    """Cut `count` times; after each (acknowledged writes since the last cut, what of them is missing). Raises PowerError."""
    moments, left = random.Random(seed), count
    while left > 0:
        with disk() as found:
            for _ in range(min(left, RENEW_EVERY)):
                left -= 1
                yield _round(found, moments.uniform(0, LONGEST_S), unsafe=unsafe)


def _round(found: Disk, wait_s: float, *, unsafe: bool) -> tuple[int, list[str]]:
    bus = open_bus(found.root / "bus")
    bus.fsync_failed.unlink(missing_ok=True)  # as the person does who looked
    if not bus.control.exists():
        write_control(bus, 0, lambda control: control, by="proof", clock=SystemClock())
    writers = [Writer(name, bus.directory, unsafe=unsafe) for name in WRITERS]
    for writer in writers:
        writer.wait_for_first()
    time.sleep(wait_s)  # the moment of the cut
    acknowledged = {writer.name: writer.told_so_far() for writer in writers}
    found.cut()
    later = {writer.name: bool(writer.told()) for writer in writers}
    found.unmount()
    found.mount()
    lost = []
    for name, events in acknowledged.items():
        try:
            lost += [f"{name}: {text}" for text in missing(bus.directory, name, events, later[name])]
        except Exception as error:  # noqa: BLE001 - whatever keeps a file from being read is a loss, and is reported
            lost.append(f"{name}: cannot be read after the cut: {type(error).__name__}: {error}")
    return sum(map(len, acknowledged.values())), lost


def rows(count: int, seed: int, unsafe: bool = False) -> Iterator[Row]:
    """One row of all cuts."""
    writes, lost = 0, list[str]()
    for number, (acknowledged, missed) in enumerate(rounds(count, seed, unsafe=unsafe), 1):
        writes += acknowledged
        lost += [f"cut {number} of seed {seed}: {text}" for text in missed]
    yield Row("power", "power cut while six writers write", count, "cuts", tuple(lost), f"{writes} writes, seed {seed}")


def main() -> int:
    """Cut, look, report; 1 when something acknowledged was lost, 2 where it cannot be tried."""
    parser = argparse.ArgumentParser(prog="python -m proof.power", description=__doc__)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--unsafe", action="store_true", help="writers whose fsync does nothing: losses must be found")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    add_out(parser)
    chosen = parser.parse_args()
    if not chosen.inside and shutil.which("unshare") is not None and os.geteuid() == 0:
        # Mounts of its own: a container that starts meanwhile would keep a copy, and with it the file system that was cut.
        os.execvp("unshare", ["unshare", "--mount", sys.executable, "-m", "proof.power", *sys.argv[1:], "--inside"])
    try:
        part = "unsafe-power" if chosen.unsafe else "power"
        return save(part, rows(chosen.count, chosen.seed, chosen.unsafe), chosen.out)
    except PowerError as error:
        print(f"proof: {error}", file=sys.stderr)  # noqa: T201
        return 2


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    if done.returncode != 0:
        raise PowerError(f"{command[0]} failed: {done.stderr.strip()}")


if __name__ == "__main__":
    sys.exit(main())
