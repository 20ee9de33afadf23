"""A whole instance in virtual time: real bus, ledger and lease, a venue in memory, prices that stand still."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from bot.context import Context
from bot.lifecycle.instance import Runner
from bot.lifecycle.metrics import Metrics
from bot.market_data.basis import BasisState
from bot.market_data.binance import BinanceFeed, FeedState
from bot.market_data.binance_messages import PriceUpdate, Source
from bot.market_data.books import Books
from bot.market_data.debounce import PriceTrigger
from bot.market_data.history import Kline
from bot.market_data.markets import Markets
from bot.market_data.prices import Prices
from bot.market_data.rtds import SettlementPrice
from bot.settings import BotSettings
from bot.slots import make_slots
from bot.strategy.guard import DEFAULT_STRATEGY, load_strategy
from bot.venue.account_watch import AccountWatch
from bus import Instance, InstanceFile, InstanceView, Logging, Role, new_id, open_bus, read_instances, write_control
from bus.tasks import Guard
from ledger import Ledger
from tests.unit.bot.fake_venue import FakeVenue
from tests.unit.bot.making import END_MS, IDENTITY, ManualClock

ASSETS = ("BTC", "ETH")
PRICE = 60_060.0
INTERVAL_S = 5
QUOTE_S = 0.1


class Running:
    """One bus and venue, and the instances that are started on them. Starts 80 s before the windows' end."""

    def __init__(self, folder: Path, **control: Any) -> None:
        self.clock = ManualClock(END_MS - 80_000)
        self.bus = open_bus(folder / "bus")
        self.venue = FakeVenue()
        self.venue.now_ms = self.clock.wall_ms
        self.failures: list[Exception] = []
        self.strategy = load_strategy(DEFAULT_STRATEGY)
        self.world: Context
        write_control(self.bus, 0, lambda found: found.changed(generation=1, **control), by="test", clock=self.clock)

    @asynccontextmanager
    async def instance(self, color: str = "blue", after_poll: Callable[[], None] = lambda: None) -> AsyncIterator[str]:
        """Run an instance; gives its id. Ends it at the end. after_poll: as the Runner's."""
        logging = Logging(color=color, git_sha="a", deploy_id="")
        file = InstanceFile(
            self.bus,
            self.clock,
            Instance(id=new_id(self.clock, color, "a" * 40), role=Role.WARMING, color=color, sha="a" * 40),
        )
        file.write(file.document)
        world = self._world(logging)
        guard = Guard(world.log, on_failure=self.failures.append)
        runner = Runner(world, file, Metrics("0", "a"), guard, random.Random(1).getrandbits, after_poll)
        guard.start(_settlement_prices(world.prices, self.clock), "settlement")
        guard.start(world.account.run(), "account")
        guard.start(world.markets.run(), "markets")
        guard.start(self._quote(world.prices), "quotes")
        guard.start(world.reread_forever(), "books-in-doubt")
        task = asyncio.create_task(runner.run())
        try:
            yield file.document.id
        finally:
            runner.stop()
            await asyncio.wait_for(task, 60)
            await guard.close()
            file.close()
            logging.close()

    async def _quote(self, prices: Prices) -> None:
        """The lead is told again and again, as an exchange does whose price stands."""
        while True:
            for asset in ASSETS:
                if (price := prices.newest(asset)) is not None:
                    prices.take(PriceUpdate(asset, price, Source.BOOK, None, self.clock.boot_ms()))
            await asyncio.sleep(QUOTE_S)

    def _world(self, logging: Logging) -> Context:
        settings = BotSettings(assets=ASSETS, timeframes=("5m",), poll_interval=INTERVAL_S)
        prices = Prices(ASSETS)
        end_s = self.clock.boot_ms() // 1000
        walk = [Kline((end_s - 60 + n) * 1000, PRICE + n % 2) for n in range(60)]
        prices.seed(dict.fromkeys(ASSETS, walk), 0)
        for asset in ASSETS:
            prices.take(PriceUpdate(asset, PRICE, Source.BOOK, None, self.clock.boot_ms()))
        state = FeedState(
            connected=True, connects=1, gaps=0, parse_errors=0, last_error="", age_ms=dict.fromkeys(ASSETS, 0)
        )
        account = AccountWatch(self.venue, self.clock, logging.log)
        slots = make_slots(ASSETS, ("5m",))
        self.world = Context(
            settings,
            IDENTITY,
            self.bus,
            self.clock,
            logging.log,
            slots,
            self.venue,
            cast(BinanceFeed, SimpleNamespace(state=lambda: state, age_ms=state.age_ms.get)),
            prices,
            Markets(self.venue, slots, account.now_ms, logging.log),
            account,
            self.strategy,
            Books(self.clock.boot_ms),
            PriceTrigger(),
        )
        know_basis(prices, self.clock)
        return self.world

    def seen(self, instance_id: str) -> InstanceView:
        """An instance as others see it."""
        return next(found for found in read_instances(self.bus) if found.id == instance_id)

    def document(self, instance_id: str) -> Instance:
        """What an instance says of itself."""
        document = self.seen(instance_id).document
        assert document is not None
        return document

    def count(self, sql: str) -> int:
        """One number out of the ledger; 0 where there is none yet."""
        ledger = Ledger.reader(self.bus.ledger)
        if ledger is None:
            return 0
        with ledger:
            return ledger.integer(sql)


def know_basis(prices: Prices, clock: ManualClock) -> None:
    """The lead stands where the settlement price does, and has for long."""
    at = clock.wall_ms() - 1
    prices.inherit_basis({asset: BasisState(0.0, 600.0, at) for asset in ASSETS}, at)
    _settle(prices, clock)


async def _settlement_prices(prices: Prices, clock: ManualClock) -> None:
    """Both streams go on where the lead stands, every second."""
    while True:
        await asyncio.sleep(1)
        for asset in ASSETS:
            prices.take(PriceUpdate(asset, prices.newest(asset) or PRICE, Source.BOOK, None, clock.boot_ms()))
        _settle(prices, clock)


def _settle(prices: Prices, clock: ManualClock) -> None:
    wall_ms, boot_ms = clock.wall_ms(), clock.boot_ms()
    for asset in ASSETS:
        prices.settle(SettlementPrice(asset, prices.newest(asset) or PRICE, wall_ms, boot_ms, boot_ms))
