"""Where the venue answers. The official addresses are those of polymarket-client's own environment."""

from __future__ import annotations

from dataclasses import dataclass

from polymarket._internal.environment import PRODUCTION_CONFIG

NOWHERE = "http://unused.invalid"
"""A host that cannot exist: what is not named is never reached by accident."""


@dataclass(frozen=True, slots=True)
class Hosts:
    """Base URLs of the exchange (CLOB), the market catalogue (Gamma), the relayer, the data API, and of three streams."""

    clob: str
    gamma: str
    relayer: str = NOWHERE
    data: str = NOWHERE
    market_ws: str = NOWHERE.replace("http", "ws", 1)
    user_ws: str = NOWHERE.replace("http", "ws", 1)
    prices_ws: str = NOWHERE.replace("http", "ws", 1)


def official_hosts() -> Hosts:
    """The hosts that the library speaks to by default."""
    config = PRODUCTION_CONFIG
    return Hosts(
        clob=config.clob_url,
        gamma=config.gamma_url,
        relayer=config.relayer_url,
        data=config.data_url,
        market_ws=config.clob_market_ws_url,
        user_ws=config.clob_user_ws_url,
        prices_ws=config.rtds_ws_url,
    )


def paper_hosts(url: str) -> Hosts:
    """All of them at one paper exchange, http://HOST:PORT."""
    streams = url.replace("http", "ws", 1)
    return Hosts(
        clob=url,
        gamma=url,
        relayer=url,
        data=url,
        market_ws=f"{streams}/ws/market",
        user_ws=f"{streams}/ws/user",
        prices_ws=f"{streams}/rtds",
    )
