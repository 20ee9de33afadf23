"""Where this instance asks: the official hosts on live, one paper exchange on paper, and what settings put in their place."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from bot.settings import BotSettings
from bot.venue.polymarket import Hosts, official_hosts, paper_hosts

# Binance is the lead (venue.md 0); its addresses are its own documentation's (venue.md 3).
_BINANCE_URL, _BINANCE_WS_URL = "https://api.binance.com", "wss://stream.binance.com:9443"


@dataclass(frozen=True, slots=True)
class Endpoints:
    """venue: the exchange and its neighbours. binance_url, binance_ws_url: history and streams of the lead price."""

    venue: Hosts
    binance_url: str
    binance_ws_url: str


def endpoints(settings: BotSettings) -> Endpoints:
    """The hosts that settings mean."""
    paper = settings.venue == "paper"
    venue = paper_hosts(settings.paper_url) if paper else official_hosts()
    chosen = {
        "clob": settings.clob_url,
        "gamma": settings.gamma_url,
        "relayer": settings.relayer_url,
        "data": settings.data_url,
        "market_ws": settings.market_ws_url,
        "user_ws": settings.user_ws_url,
        "prices_ws": settings.prices_ws_url,
    }
    return Endpoints(
        venue=dataclasses.replace(venue, **{name: url for name, url in chosen.items() if url is not None}),
        binance_url=settings.binance_url or (settings.paper_url if paper else _BINANCE_URL),
        binance_ws_url=settings.binance_ws_url
        or (settings.paper_url.replace("http", "ws", 1) if paper else _BINANCE_WS_URL),
    )
