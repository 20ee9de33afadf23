"""Replay: the bot's decisions on a price tape, against the paper engine, under a virtual clock.

What decides is what trades: `bot.strategy.evaluation`, the strategy, `bot.orders.risk`, `bot.orders.order_plan`.
What answers is paper's engine, market
maker and crowd. Between them there is no wire, no ledger and no waiting; an order takes effect after the venue's hold and a
latency, on the book as it is then. Equal arguments give equal bytes.

    house      the paper side: prices, books, fills, resolutions
    trading    the bot's side: polls, prices between them, positions, limits
    result     trades, PnL, win rate; a picture of them as SVG
    command    the command line
"""

from bot.tools.replay.command import add_arguments, run_command

__all__ = ["add_arguments", "run_command"]
