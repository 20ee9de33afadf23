"""`deployer backup | restore | move`, with a deployer and workers that trade all the while."""

from __future__ import annotations

from pathlib import Path

import pytest

from bus import SystemClock, open_bus
from deployer.commands.backup import backup, restore
from deployer.errors import StartError
from deployer.settings import claim_home, move_home
from tests.e2e.deployer_rig import DeployerRig
from tests.e2e.rig import until


def quiet(_line: str) -> None:
    """Say nothing."""


def test_a_backup_of_a_trading_bus_is_restored_and_trades_only_once_it_was_moved(tmp_path: Path) -> None:
    """The copy has what was durable when it was taken, and no tick is missed for it; a deployer refuses to trade on it until a
    person said that the original has ended; then it carries on with the next epoch. A bus with a ledger is never overwritten."""
    rig = DeployerRig(tmp_path, DEPLOYER_SPARES="0")
    file = tmp_path / "bus.tar.gz"
    try:
        sha = rig.commit()
        rig.start()
        rig.until_step(sha, "confirmed")
        before = rig.count("SELECT count(*) FROM polls_completed")
        (rig.bus.directory / "paper.key").write_text("the worker's own")
        backup(rig.bus, file, SystemClock(), quiet)
        with pytest.raises(StartError, match="is there already"):
            backup(rig.bus, file, SystemClock(), quiet)
        until("polls go on", lambda: rig.count("SELECT count(*) FROM polls_completed") > before + 5)
        assert rig.missed() == 0
        with pytest.raises(StartError, match="has a ledger already"):
            restore(rig.bus, file, quiet)
    finally:
        rig.stop()
    damaged = tmp_path / "damaged.tar.gz"
    damaged.write_bytes(file.read_bytes()[:-200])
    copy = open_bus(tmp_path / "copy")
    with pytest.raises(StartError, match="is no backup"):
        restore(copy, damaged, quiet)
    assert not copy.ledger.exists()
    restore(copy, file, quiet)
    assert (copy.directory / "paper.key").read_text() == "the worker's own"
    assert (copy.directory / "paper.key").stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in copy.directory.glob("ledger*")) == ["ledger.db"]
    with pytest.raises(StartError, match="is a copy: it traded elsewhere"):
        claim_home(copy)
    rig.use_bus(copy.directory)
    assert rig.command("run").returncode == 2
    move_home(copy)
    try:
        assert rig.count("SELECT count(*) FROM polls_completed") >= before
        rig.start()
        until("it trades on", rig.holder)
        assert rig.count("SELECT max(epoch) FROM epochs") == 2
    finally:
        rig.stop()
