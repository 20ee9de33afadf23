"""Other kinds of accounts and wallets: proxies, Safes, redemption from a deposit wallet."""

from __future__ import annotations

import dataclasses
from typing import Any

import polymarket
import pytest
from eth_account import Account
from polymarket._internal.environment import create_environment, get_environment_config
from polymarket.auth import RelayerApiKey

from paper.wallets import deposit_wallets, proxy_wallet, safe_wallet


@pytest.mark.parametrize(("wallet_of", "kind"), [(proxy_wallet, 1), (safe_wallet, 2)], ids=["type 1", "type 2"])
async def test_proxy_and_safe_orders_are_taken(quiet: Any, connect: Any, wallet_of: Any, kind: int) -> None:
    """Orders of a proxy and of a Safe, signed by their owner, rest, trade against each other and have balances."""
    account = Account.create()
    client = await connect(quiet, private_key=account.key.hex(), wallet=wallet_of(account.address))
    other = await connect(quiet)
    up, down = quiet.market("doge")["tokens"]
    signed = await client.create_limit_order(asset_id=up, price="0.30", size=10, side="BUY")
    assert (signed.signature_type, signed.maker) == (kind, wallet_of(account.address))
    assert (await client.post_order(signed)).status == "live"
    assert (await other.place_limit_order(asset_id=down, price="0.70", size=10, side="BUY")).status == "matched"
    assert (await client.get_balance_allowance(asset_type="CONDITIONAL", asset_id=up)).balance == 10_000_000


async def test_winning_shares_are_redeemed_through_the_relayer(start_paper: Any, connect: Any, eventually: Any) -> None:
    """With --redeem claim, polymarket-client's redeem_positions pays a resolved market's winner, once, and not before."""
    paper = start_paper(timeframes="5s", resolution_delay=0.1, resolution_spread=0, taker_delay=0, redeem="claim")
    config = get_environment_config(paper.environment)
    quick = create_environment(name="paper", config=dataclasses.replace(config, relayer_poll_frequency_ms=50))
    account = Account.create()
    client = await polymarket.AsyncSecureClient.create(
        private_key=account.key.hex(),
        wallet=deposit_wallets(account.address)[0],
        environment=quick,
        api_key=RelayerApiKey(key="any", address=account.address),
    )
    try:
        start = (paper.get("/paper/state")["now_ms"] // 5_000 + 1) * 5
        slug = f"btc-updown-5s-{start}"
        market = await client.get_market(slug=slug)
        for token in (market.outcomes.yes.token_id, market.outcomes.no.token_id):
            await client.place_market_order(asset_id=token, side="BUY", amount=10, max_price="0.95")
        before = (await client.get_balance_allowance(asset_type="COLLATERAL")).balance

        async def resolved() -> bool:
            return bool((await client.get_market(slug=slug)).state.closed)

        await eventually(resolved, 15)
        assert (await client.get_balance_allowance(asset_type="COLLATERAL")).balance == before
        won = sum(one["size"] for one in paper.get("/paper/record")["trades"] if one["outcome"] == _winner(paper))
        for paid in (won, 0):
            handle = await client.redeem_positions(condition_id=str(market.condition_id))
            assert (await handle.wait()).transaction_hash.startswith("0x")
            after = (await client.get_balance_allowance(asset_type="COLLATERAL")).balance
            assert after - before == paid
            before = after
        assert won > 0
    finally:
        await client.close()


def _winner(paper: Any) -> str:
    return str(paper.get("/paper/record")["resolutions"][0]["winner"])
