"""Other kinds of accounts and wallets: proxies, Safes, and what the relayer pays them."""

from __future__ import annotations

import contextlib
import dataclasses
from collections import Counter
from typing import Any

import polymarket
import pytest
from eth_account import Account
from polymarket._internal.environment import create_environment, get_environment_config
from polymarket.auth import RelayerApiKey

from paper.engine.signing import deposit_wallets, proxy_wallet, safe_wallet


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


async def test_winning_shares_are_redeemed_through_the_relayer(start_paper: Any, eventually: Any) -> None:
    """With --redeem claim, redeem_positions pays a deposit wallet, a Safe and a proxy their winning shares, once each."""
    paper = start_paper(timeframes="5s", resolution_delay=0.1, resolution_spread=0, taker_delay=0, redeem="claim")
    config = get_environment_config(paper.environment)
    quick = create_environment(name="paper", config=dataclasses.replace(config, relayer_poll_frequency_ms=50))
    async with contextlib.AsyncExitStack() as stack:
        clients = []
        for wallet_of in (lambda address: deposit_wallets(address)[0], safe_wallet, proxy_wallet):
            account = Account.create()
            client = await polymarket.AsyncSecureClient.create(
                private_key=account.key.hex(),
                wallet=wallet_of(account.address),
                environment=quick,
                api_key=RelayerApiKey(key="any", address=account.address),
            )
            stack.push_async_callback(client.close)
            clients.append(client)
        slug = paper.window()
        market = await clients[0].get_market(slug=slug)
        for client in clients:
            for token in (market.outcomes.yes.token_id, market.outcomes.no.token_id):
                await client.place_market_order(asset_id=token, side="BUY", amount=10, max_price="0.95")
        before = [await _cash(client) for client in clients]

        async def resolved() -> bool:
            return bool((await clients[0].get_market(slug=slug)).state.closed)

        await eventually(resolved)
        assert [await _cash(client) for client in clients] == before
        record = paper.get("/paper/record")
        won: Counter[str] = Counter()
        for one in record["trades"]:
            won[one["wallet"]] += one["size"] * (one["outcome"] == record["resolutions"][0]["winner"])
        for client, cash in zip(clients, before, strict=True):
            paid = won[str(client.wallet)]
            assert paid > 0
            for _ in ("it pays", "and the second time there is nothing left"):
                handle = await client.redeem_positions(condition_id=str(market.condition_id))
                assert (await handle.wait()).transaction_hash.startswith("0x")
                assert await _cash(client) - cash == paid


async def _cash(client: Any) -> int:
    return int((await client.get_balance_allowance(asset_type="COLLATERAL")).balance)
