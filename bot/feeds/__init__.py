"""The streams: the lead prices (Binance), their recent past and volatility; the venue's books; the settlement prices.

binance    the stream: reconnect, planned replacement, staleness
messages   its messages to price updates (pure)
candles    one-second closes and realised volatility (pure)
history    the last minutes over REST, so that volatility is there at once after a cold start
market_channel, book_messages        the books
settlement, settlement_messages      the prices that windows settle by
settled    the known part of a settlement average out of them (pure)
"""

from bot.market_data.binance import BinanceFeed, FeedState, Timing
from bot.market_data.binance_messages import PriceUpdate, Source
from bot.market_data.prices import Candles, Kline, Volatility, fetch_history

__all__ = [
    "BinanceFeed",
    "Candles",
    "FeedState",
    "Kline",
    "PriceUpdate",
    "Source",
    "Timing",
    "Volatility",
    "fetch_history",
]
