"""Where the public streams and routes are. Reading them needs no key and no account."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Hosts:
    """One address for each source; http(s) for routes, ws(s) for streams."""

    gamma: str
    clob: str
    clob_ws: str
    rtds_ws: str
    binance: str
    binance_ws: str


# polymarket-client 0.14's production configuration; Binance's market data hosts, which are open where binance.com is not
# (binance-spot-api-docs, faqs/market_data_only).
REAL = Hosts(
    gamma="https://gamma-api.polymarket.com",
    clob="https://clob.polymarket.com",
    clob_ws="wss://ws-subscriptions-clob.polymarket.com/ws/market",
    rtds_ws="wss://ws-live-data.polymarket.com",
    binance="https://data-api.binance.vision",
    binance_ws="wss://data-stream.binance.vision",
)


def hosts_at(url: str) -> Hosts:
    """All of them at one paper exchange, ``http://HOST:PORT``."""
    url = url.rstrip("/")
    streams = "ws" + url.removeprefix("http")
    return Hosts(url, url, f"{streams}/ws/market", f"{streams}/rtds", url, streams)
