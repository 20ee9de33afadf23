"""The disks that a build could fill: what counts as low, what is said, and a disk that cannot be asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from deployer.disk import GB, Disks, Space, why_low


@pytest.mark.parametrize(("bus", "builds"), [(5 * GB, 5 * GB), (GB, GB), (None, 5 * GB), (None, None)])
def test_enough_or_unknown_room_is_no_problem(bus: int | None, builds: int | None) -> None:
    """At the threshold there is room; a disk that cannot be asked refuses nothing."""
    assert why_low((Space("bus", Path("/bus"), bus), Space("builds", Path("/"), builds)), GB) is None


def test_each_disk_that_is_low_is_named_with_what_it_has() -> None:
    """Expected, found, what to do; a disk with room is not mentioned."""
    text = why_low((Space("bus", Path("/bus"), 0), Space("builds", Path("/x"), GB // 4)), GB)
    assert text is not None
    assert "expected at least 1.00 GB free" in text
    assert "found 0.00 on the disk of the bus (/bus) and 0.25 on the disk of the builds (/x)" in text
    assert "docker system df" in text
    one = why_low((Space("bus", Path("/bus"), GB), Space("builds", Path("/x"), 0)), GB)
    assert one is not None
    assert "the bus (" not in one


async def test_a_look_sees_this_machine_and_tells_it(tmp_path: Path) -> None:
    """The disk of a folder is asked; one that is not there is unknown; what is wanted decides what is a problem."""
    told: list[tuple[tuple[Space, ...], int]] = []
    disks = Disks(
        {"bus": tmp_path, "builds": tmp_path / "gone"}, 1 << 60, lambda seen, wanted: told.append((seen, wanted))
    )
    await disks.look()
    assert disks.problem is not None
    ((seen, wanted),) = told
    assert (wanted, seen[1].free) == (1 << 60, None)
    assert seen[0].free
