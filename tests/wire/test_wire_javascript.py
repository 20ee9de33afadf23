"""The main flows of Polymarket's JavaScript clients, with nothing but their addresses changed; where node is there.

clob-client-v2: credentials, a resting order, the book, a market order, its trade, a cancel. real-time-data-client: settlement
prices. @polymarket/client wants node 24 and has no public host setting, so it is not here.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.forked import ROOT

FOLDER = Path(__file__).with_name("javascript")
INSTALL_S, FLOW_S = 240, 60
pytestmark = pytest.mark.timeout(INSTALL_S + 2 * FLOW_S)


@pytest.fixture(scope="module")
def clients() -> Path:
    """A folder with the clients, installed once; skips where there is no node, or nowhere to install from."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("optional: node and npm are not on this machine")
    folder = ROOT / ".cache" / "javascript"
    folder.mkdir(parents=True, exist_ok=True)
    for file in FOLDER.iterdir():
        shutil.copy(file, folder)
    command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--no-package-lock", "--prefer-offline"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=INSTALL_S, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip(f"optional: npm did not install the clients within {INSTALL_S} s")
    if done.returncode != 0:
        pytest.skip(f"optional: npm could not install the clients: {done.stderr.strip()[-300:]}")
    return folder


def test_javascript_clients_trade_and_follow_prices(clients: Path, quiet: Any) -> None:
    """What the clients understood is what happened: the fill, its amounts, its maker; the cancel; a settlement price."""
    up, down = quiet.market("sol")["tokens"]
    done = subprocess.run(
        ["node", "flow.mjs", quiet.url, up, down], cwd=clients, capture_output=True, text=True, timeout=FLOW_S,
        check=False, env={name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    rested, bought, (trade,) = told["rested"], told["bought"], told["trades"]
    assert (told["tickSize"], rested["status"], rested["success"]) == ("0.01", "live", True)
    assert [order["id"] for order in told["open"]] == [rested["orderID"]]
    assert told["book"]["asks"] == [{"price": "0.5", "size": "20"}]
    assert (bought["status"], bought["makingAmount"], bought["takingAmount"]) == ("matched", "5", "10")
    assert bought["tradeIDs"] == [trade["id"]]
    assert [maker["order_id"] for maker in trade["maker_orders"]] == [rested["orderID"]]
    assert told["cancelled"]["canceled"] == [rested["orderID"]]
    assert float(told["price"]["payload"]["value"]) > 0
