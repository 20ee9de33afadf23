"""The adapter to Polymarket's exchange, and to everything that speaks its protocol (paper).

The only place that imports `polymarket` (polymarket-client). The version is pinned to 0.14.0, because its client has
no public way to name other hosts, to set time limits, or to be made without touching the account: `client` and
`channel` use its private parts for that. A newer version needs a look at these two files first.

    adapter          the Venue protocol over HTTP
    client           where the venue answers, credentials, and the library's client for our hosts and time limits
    channel, http1   the connections on which everything travels that changes something at the venue
    signing          prices and sizes to signed amounts; EIP-712 order id, signature and body (pure)
    answers          what the answer to a sent order means, also for people (pure)
    reading          the venue's JSON of markets and books to our types (pure)
    account_reading  the same of balances, holdings, orders and trades (pure)
    streams          what happens to our orders, told as it happens
"""

from bot.venue.polymarket.adapter import Owner, PolymarketVenue
from bot.venue.polymarket.answers import DUPLICATE, NO_MATCH, NOT_SENT
from bot.venue.polymarket.client import (
    Credentials,
    Hosts,
    NoCredentialsError,
    RelayerKey,
    TimeLimits,
    derive_credentials,
    official_hosts,
    paper_hosts,
    signer_address,
    trading_wallet,
)

__all__ = [
    "DUPLICATE",
    "NOT_SENT",
    "NO_MATCH",
    "Credentials",
    "Hosts",
    "NoCredentialsError",
    "Owner",
    "PolymarketVenue",
    "RelayerKey",
    "TimeLimits",
    "derive_credentials",
    "official_hosts",
    "paper_hosts",
    "signer_address",
    "trading_wallet",
]
