"""What the client library alone takes from a price to the same order on the same wire: no ledger, no risk, no standby.

python -m bench.naive [--orders 100]

The measure to hold `bench.trading`'s tick-to-send against on any machine: the way in which a script over the library trades.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from contextlib import suppress
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

from polymarket.errors import RequestRejectedError
from websockets.asyncio.client import connect

from bench.stage import STRIKE, FarEnd, make_market, make_venue, percentiles
from bench.trading import Stopwatch, quiet
from bot.slots import DEFAULT_ASSETS

WARM_UP = 5


async def naive(orders: int, watch: Stopwatch) -> list[float]:
    """Spans in ms of so many orders."""
    far, logs = FarEnd(DEFAULT_ASSETS, 0.03), quiet()
    venue = make_venue(far.http_url, logs.log)
    await venue.open()
    library = venue._client.library
    market = make_market("btc-updown-15m-1795465800")
    known = SimpleNamespace(
        fee_info=SimpleNamespace(rate=market.fee_rate, exponent=market.fee_exponent),
        neg_risk=False,
        tick_size=market.tick,
        token_ids=frozenset((market.up_token, market.down_token)),
        asset_ids=frozenset((market.up_token, market.down_token)),
    )

    async def resolve_market(_context: Any, *, token_id: str) -> Any:  # noqa: ARG001
        """As the library's cache answers once it is filled."""
        return known

    library._ctx.order_metadata.resolve_market = resolve_market  # type: ignore[method-assign,assignment]
    try:
        async with connect(f"{far.ws_url}/stream", compression=None) as socket:
            async for message in socket:
                if float(json.loads(message)["data"]["b"]) < STRIKE * 1.01:
                    continue
                with suppress(RequestRejectedError):  # the far end has nothing to match with
                    await library.place_limit_order(
                        token_id=market.up_token, price=Decimal("0.52"), size=Decimal(20), side="BUY"
                    )
                if len(watch.spans_ms) >= orders + WARM_UP:
                    break
    finally:
        await venue.close()
        far.close()
        logs.close()
    return watch.spans_ms[WARM_UP:]


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.naive", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--orders", type=int, default=100, help="(%(default)s)")
    watch = Stopwatch()
    spans = asyncio.run(naive(parser.parse_args().orders, watch))
    sys.stdout.write(f"{'tick-to-send of the library alone':<44}{percentiles(spans)}\n")
    sys.stdout.write(f"{'  of that on the processor':<44}{percentiles(watch.cpu_ms[WARM_UP:])}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
