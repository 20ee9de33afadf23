"""Trading live, as far as a paper exchange can stand in for the venue: the same code, and settings alone that differ."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import subprocess
import urllib.request
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import structlog
from polymarket._internal.wallet import derive_beacon_deposit_wallet_address

from bot.slots import parse_slug
from bot.venue.polymarket import Owner, PolymarketVenue, paper_hosts, signer_address
from bot.venue.polymarket.client import CONFIG, Credentials
from bot.venue.types import BASE_UNITS, Accepted, OrderRequest
from bus import Role, read_status
from ledger.values import Side
from tests.e2e.rig import Rig, until
from tests.forked import run
from tests.resting import resting

KEY = "0x" + "5e" * 32
WALLET = derive_beacon_deposit_wallet_address(signer_address(KEY), CONFIG.wallet_derivation)


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    """An exchange that pays winners only when they are redeemed, and the key of a wallet on it."""
    monkeypatch.setenv("PAPER_REDEEM", "claim")
    made = Rig(tmp_path, timeframes="10s")
    for name, text in (("wallet.key", KEY), ("relayer.key", json.dumps({"key": "k", "address": signer_address(KEY)}))):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o600)
    try:
        yield made
    finally:
        made.stop()


def live_settings(rig: Rig) -> dict[str, str]:
    """Live, with every official host replaced."""
    url, streams = rig.paper.url, rig.paper.url.replace("http", "ws", 1)
    hosts = dict.fromkeys(("BOT_CLOB_URL", "BOT_GAMMA_URL", "BOT_RELAYER_URL", "BOT_DATA_URL", "BOT_BINANCE_URL"), url)
    return hosts | {
        "BOT_VENUE": "live",
        "BOT_MARKET_WS_URL": f"{streams}/ws/market",
        "BOT_USER_WS_URL": f"{streams}/ws/user",
        "BOT_PRICES_WS_URL": f"{streams}/rtds",
        "BOT_BINANCE_WS_URL": streams,
        "BOT_KEY_FILE": str(rig.folder / "wallet.key"),
        "BOT_RELAYER_KEY_FILE": str(rig.folder / "relayer.key"),
        "BOT_WALLET": WALLET,
        "BOT_SIGNATURE_TYPE": "3",
        "BOT_REDEEM_AFTER": "1",
        "BUS_DIR": str(rig.bus.directory),
    }


def bot(rig: Rig, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the bot as a person would."""
    return run(["bot", *arguments], environment={**os.environ, **live_settings(rig)}, limit_s=90)


def requests(rig: Rig, path: str) -> list[dict[str, Any]]:
    """What the exchange received at a path."""
    found, after = [], 0
    while True:
        with urllib.request.urlopen(f"{rig.paper.url}/paper/record?after={after}&limit=1000", timeout=60) as answer:
            page = json.load(answer)
        found += [row for row in page["requests"] if row["path"] == path]
        if page["next"] is None:
            return found
        after = page["next"]


async def rest_an_order(rig: Rig) -> str:
    """The wallet's owner rests an order by hand, in a market that the bot never looks at; returns its id."""
    stored = json.loads((rig.folder / "wallet.key.credentials").read_text())
    venue = PolymarketVenue(
        hosts=paper_hosts(rig.paper.url),
        private_key=KEY,
        credentials=Credentials(stored["key"], stored["secret"], stored["passphrase"]),
        log=structlog.get_logger(),
        owner=Owner(WALLET, 3),
    )
    await venue.open()
    await venue.open_orders_channel()
    try:
        start_s = (rig.clock.wall_ms() // 900_000 + 2) * 900
        market = await venue.market(parse_slug(f"eth-updown-15m-{start_s}").slug)
        assert market is not None
        request = OrderRequest(market.up_token, Side.BUY, Decimal("0.02"), 50 * BASE_UNITS)
        signed = venue.sign(request, market, 1, rig.clock.wall_ms())
        assert isinstance(await venue.send(resting(signed.body)), Accepted)
        return signed.order_id
    finally:
        await venue.close()


@pytest.mark.timeout(400)
def test_from_a_key_file_to_a_redeemed_gain(rig: Rig) -> None:
    """Credentials stored once, an order of the owner's adopted, trades, gains redeemed once, and the audit holds."""
    refused = bot(rig, "credentials")
    assert (refused.returncode, "--create" in refused.stderr) == (2, True), refused.stderr
    assert bot(rig, "run").stderr.startswith("bot: there are no API credentials at")
    made = bot(rig, "credentials", "--create")
    assert made.returncode == 0, made.stderr
    stored = rig.folder / "wallet.key.credentials"
    assert stat.S_IMODE(stored.stat().st_mode) == 0o600
    assert "already" in bot(rig, "credentials", "--create").stdout
    order_id = asyncio.run(rest_an_order(rig))
    asked = len(requests(rig, "/auth/api-key"))

    started = rig.start_bot(**live_settings(rig))
    rig.until_role(started, Role.ACTIVE)
    until("status", rig.bus.status.exists)
    until("the owner's order is said", lambda: order_id in read_status(rig.bus).body.entries)
    shown = bot(rig, "adopt")
    assert order_id in shown.stdout, shown.stderr
    assert "nothing was changed" in shown.stdout
    assert rig.count("SELECT count(*) FROM intents") == 0
    assert bot(rig, "adopt", "--yes", "--note", "mine").returncode == 0

    until("a fill", lambda: rig.count("SELECT count(*) FROM fills"))
    until("a gain is redeemed", lambda: rig.count("SELECT count(*) FROM redemptions WHERE state = 'paid'"), 150)
    sent = "SELECT count(*) FROM redemptions WHERE state = 'sent'"
    with rig.ledger() as ledger:
        twice = ledger.execute(f"{sent.replace('count(*)', 'window')} GROUP BY window HAVING count(*) > 1")
    assert rig.count(sent) >= 1
    assert twice == []
    assert len(requests(rig, "/auth/api-key")) == asked, "a running bot makes no credentials"
    for secret in json.loads(stored.read_text())["secret"], KEY.removeprefix("0x"):
        assert secret not in started.log.read_text()
    rig.assert_audit()


def test_what_is_wrong_with_an_account_is_said(rig: Rig) -> None:
    """Credentials that the venue does not know: never healthy, nothing is traded, and the words say what to do."""
    stored = {"key": "no", "secret": "bm8=", "passphrase": "no", "address": signer_address(KEY)}
    (rig.folder / "wallet.key.credentials").write_text(json.dumps(stored))
    (rig.folder / "wallet.key.credentials").chmod(0o600)
    started = rig.start_bot(**live_settings(rig))

    def why_not() -> str:
        seen = rig.seen(started)
        return (seen.document.why_not if seen and seen.document else None) or ""

    until("it is said", lambda: "does not accept these API credentials" in why_not())
