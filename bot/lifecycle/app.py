"""Puts one instance together and runs it until it is told to stop."""

from __future__ import annotations

import asyncio
import gc
import os
import secrets
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from bot.context import Context
from bot.lifecycle.instance import Runner
from bot.lifecycle.keys import Access, Keys, access, keep_for_others, keys_of_deployer
from bot.lifecycle.metrics import Metrics
from bot.market_data.binance import LEAD_TIMING, BinanceFeed
from bot.market_data.binance_messages import stream_url
from bot.market_data.books import Books
from bot.market_data.debounce import Dispatch, PriceTrigger
from bot.market_data.history import fetch_history
from bot.market_data.market_channel import BOOKS_TIMING, MarketChannel
from bot.market_data.markets import Markets
from bot.market_data.prices import Prices
from bot.market_data.rtds import SETTLEMENT_TIMING, SettlementFeed
from bot.settings import CHAIN, BotSettings
from bot.slots import make_slots
from bot.strategy.guard import GuardedStrategy, load_strategy
from bot.venue.account_watch import AccountWatch
from bot.venue.credentials import endpoints
from bot.venue.pace import RequestPace
from bot.venue.polymarket import (
    Owner,
    PolymarketVenue,
    TimeLimits,
    derive_credentials,
    trading_wallet,
)
from bot.venue.stream import Stream
from bot.venue.types import VenueError
from bus import VERSION, Bus, Clock, Instance, InstanceFile, Log, Logging, Role, SettingsError, new_id, write_atomically
from bus.tasks import Guard, serve_metrics
from ledger import Identity, Ledger

# A thread that ends the process when the event loop stands still.
#
# It counts its own wake-ups and not the clock, so that a process that was paused as a whole is not killed for having slept. And
# it looks whether the disk stands, fsync included: then the loop waits for it, and a new process would wait just so.


WAKE_EVERY_S = 0.5


class Watchdog:
    """`on_stuck` is called from the thread after the loop has not run for `limit_s` seconds of wake-ups.

    Args:
        write: writes something to the disk that the loop writes to, and returns when it is there; an OSError counts as done.
    """

    def __init__(self, limit_s: float, on_stuck: Callable[[], None], write: Callable[[], None] = lambda: None) -> None:
        self._wakes_allowed = max(2, round(limit_s / WAKE_EVERY_S))
        self._on_stuck, self._write = on_stuck, write
        self._beats = 0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def start(self) -> None:
        """Begin to watch the running loop."""
        self._beat(asyncio.get_running_loop())
        self._thread.start()

    def stop(self) -> None:
        """Watch no longer."""
        self._end.set()

    def _beat(self, loop: asyncio.AbstractEventLoop) -> None:
        self._beats += 1
        if not self._end.is_set():
            loop.call_later(WAKE_EVERY_S / 2, self._beat, loop)

    def _run(self) -> None:
        beats, silent = self._beats, 0
        while not self._end.wait(WAKE_EVERY_S):
            silent = silent + 1 if self._beats == beats else 0
            beats = self._beats
            if silent < self._wakes_allowed:
                continue
            if not self._disk_stood() and self._beats == beats:
                self._on_stuck()
                return
            beats, silent = self._beats, 0

    def _disk_stood(self) -> bool:
        """Whether the disk let a write wait, for as long as it did."""
        began = time.monotonic()
        with suppress(OSError):
            self._write()
        return time.monotonic() - began > WAKE_EVERY_S


# The garbage collector works in the quiet right after a poll, and not between a price and its order.
#
# What stands when an instance is ready (modules, tables, the feeds' past) is taken out of its sight once, so that a collection
# looks at what came since: a few ms, where it was a few hundred.


MOST_NEW = 50_000
"""Objects that may come and stay between two polls before it works in their midst all the same: a bound on memory."""


class GcTuning:
    """Call `after_poll` after each healthy poll."""

    def __init__(self) -> None:
        self._settled = False

    def after_poll(self) -> None:
        """Collect now. The first time: everything that is there stays for good, and is looked at no more."""
        gc.collect()
        if not self._settled:
            self._settled = True
            gc.freeze()
            gc.set_threshold(MOST_NEW, 10, 10)


# Puts one instance together and runs it until it is told to stop.


VENUE_RETRY_S = 1.0
EXIT_STUCK = 70


async def run(settings: BotSettings, bus: Bus, clock: Clock, logging: Logging) -> int:
    """One instance from start to stop; the exit code. Raises SettingsError, BusError for what stops a start."""
    strategy = load_strategy(settings.strategy)
    given = await access(settings, bus, logging.log)
    _hide(logging, given.keys)
    wallet = _wallet_of(settings, given.signer)
    identity = Identity(settings.venue, CHAIN, wallet)
    _check_ledger(bus, identity)
    instance_id = new_id(clock, settings.color, settings.sha)
    log = logging.log.bind(instance=instance_id)
    metrics = Metrics(VERSION, settings.sha, dropped=lambda: logging.dropped)
    try:
        server, address = await serve_metrics(
            metrics.text, settings.metrics_host, settings.metrics_port, settings.metrics_hosts
        )
    except OSError as error:
        raise SettingsError(
            f"BOT_METRICS_PORT {settings.metrics_port} on {settings.metrics_host} cannot be used ({error.strerror}); "
            "choose another one, or 0 for any that is free"
        ) from error
    file = InstanceFile(
        bus,
        clock,
        Instance(
            id=instance_id,
            role=Role.WARMING,
            color=settings.color,
            sha=settings.sha,
            unit=settings.unit,
            deploy_id=settings.deploy_id,
            pid=os.getpid(),
            started_ms=clock.wall_ms(),
            why_not="warming",
            metrics=address,
        ),
    )
    file.write(file.document)
    log.info("started", version=VERSION, pid=os.getpid(), wallet=wallet, metrics=address)
    watchdog = Watchdog(
        max(10.0, 2 * settings.poll_interval),
        lambda: _exit_stuck(log, logging),
        lambda: write_atomically(bus.directory / ".bot-probe", b"", durable=True),
    )
    watchdog.start()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    try:
        return await _live(settings, bus, clock, log, logging, given, strategy, identity, file, metrics, stop)
    finally:
        watchdog.stop()
        await server.cleanup()
        log.info("stopped")
        file.close()


async def _live(
    settings: BotSettings,
    bus: Bus,
    clock: Clock,
    log: Log,
    logging: Logging,
    given: Access,
    strategy: GuardedStrategy,
    identity: Identity,
    file: InstanceFile,
    metrics: Metrics,
    stop: asyncio.Event,
) -> int:
    pace = RequestPace(clock.boot_ms, settings.requests_per_second)
    venue = await _connect(settings, bus, given, log, logging, stop, pace)
    if venue is None:
        file.write(file.document.model_copy(update={"role": Role.STOPPED}))
        return 0
    skips = venue.skips
    slots = make_slots(settings.assets, settings.timeframes)
    account = AccountWatch(venue, clock, log)
    prices = Prices(settings.assets, skips, settings.basis_after)
    markets = Markets(venue, slots, account.now_ms, log, pace)
    routes = Dispatch(prices, markets, Books(clock.boot_ms, skips=skips), PriceTrigger())
    random = secrets.SystemRandom().random
    ends = endpoints(settings)
    feed = BinanceFeed(
        Stream("feed", stream_url(ends.binance_ws_url, settings.assets), timing=LEAD_TIMING, random=random, log=log),
        settings.assets,
        on_update=routes.price,
        boot_ms=clock.boot_ms,
        log=log,
        after_updates=routes.news.flush,
        skips=skips,
    )
    settlement = SettlementFeed(
        Stream(
            "settlement_stream",
            ends.venue.prices_ws,
            timing=SETTLEMENT_TIMING,
            random=random,
            log=log.bind(action="settlement averages are made of the lead's prices until it is back"),
        ),
        settings.assets,
        on_price=prices.settle,
        now_ms=lambda: account.now_ms() or clock.wall_ms(),
        boot_ms=clock.boot_ms,
        skips=skips,
    )
    world = Context(
        settings,
        identity,
        bus,
        clock,
        log,
        slots,
        venue,
        feed,
        prices,
        markets,
        account,
        strategy,
        routes.books,
        routes.news,
        settlement,
        skips,
        pace,
    )
    channel = MarketChannel(
        Stream("market_channel", ends.venue.market_ws, timing=BOOKS_TIMING, random=random, log=log),
        wanted=world.tokens_soon,
        on_event=routes.event,
        on_lost=routes.books.lost,
        skips=skips,
    )
    world.use_channel(channel)
    failed: list[Exception] = []
    runner: Runner

    def fail(error: Exception) -> None:
        failed.append(error)
        runner.stop()

    guard = Guard(log, on_failure=fail)
    armed = asyncio.Event()
    runner = Runner(world, file, metrics, guard, secrets.randbits, GcTuning().after_poll, armed=armed)
    guard.start(account.run(), "account")
    guard.start(feed.run(), "feed")
    guard.start(settlement.run(), "settlement")
    guard.start(world.markets.run(), "markets")
    guard.start(channel.run(), "market-channel")
    guard.start(world.reread_forever(), "books-in-doubt")
    seeding = asyncio.create_task(_seed(settings, world), name="history")
    stopping = asyncio.create_task(_stop_when(stop, runner), name="stop")
    arming = asyncio.create_task(_arm(settings, venue, log, logging, armed), name="arm")
    arming.add_done_callback(lambda task: _fail_unarmed(task, log, fail))
    try:
        await runner.run()
    finally:
        for task in (seeding, stopping, arming):
            task.cancel()
        await asyncio.gather(seeding, stopping, arming, return_exceptions=True)
        await guard.close()
        await venue.close()
    return 1 if failed else 0


async def _connect(
    settings: BotSettings,
    bus: Bus,
    given: Access,
    log: Log,
    logging: Logging,
    stop: asyncio.Event,
    pace: RequestPace,
) -> PolymarketVenue | None:
    """The venue with its credentials, on paper as soon as it answers; None when stopped before.

    Live never asks for credentials: with stored ones the venue is made without any request.
    """
    hosts, keys = endpoints(settings).venue, given.keys
    limits = TimeLimits(read_s=settings.request_limit, send_s=settings.request_limit)
    while not stop.is_set():
        try:
            credentials = given.credentials
            if credentials is None and keys is not None:
                credentials = await derive_credentials(hosts.clob, keys.key, may_create=True)
                keep_for_others(settings, bus, credentials, given.signer)
            assert credentials is not None, "who has no credentials has a key"
            for secret in (credentials.secret, credentials.passphrase, credentials.key):
                logging.hide(secret)
            venue = PolymarketVenue(
                hosts=hosts,
                private_key=keys.key if keys is not None else None,
                credentials=credentials,
                log=log,
                owner=Owner(settings.wallet, settings.signature_type, given.signer),
                limits=limits,
                relayer_key=keys.relayer_key if keys is not None else None,
                pace=pace,
            )
            await venue.open()
            return venue
        except VenueError as error:
            log.warning("venue_not_reached", reason=str(error), url=hosts.clob)
            try:
                async with asyncio.timeout(VENUE_RETRY_S):
                    await stop.wait()
            except TimeoutError:
                continue
    return None


async def _seed(settings: BotSettings, world: Context) -> None:
    """Volatility from history, so that it is there with the first poll; the stream fills in where it does not come."""
    history = await fetch_history(endpoints(settings).binance_url, settings.assets, log=world.log, skips=world.skips)
    world.prices.seed(history, world.clock.boot_ms() - world.now_ms())


def _fail_unarmed(task: asyncio.Task[None], log: Log, fail: Callable[[Exception], None]) -> None:
    """What was handed over is no key of this account: it can never trade."""
    error = None if task.cancelled() else task.exception()
    if isinstance(error, Exception):
        log.error("keys_refused", reason=str(error))
        fail(error)


async def _stop_when(stop: asyncio.Event, runner: Runner) -> None:
    await stop.wait()
    runner.stop()


def _hide(logging: Logging, keys: Keys | None) -> None:
    if keys is not None:
        logging.hide(keys.key)
        if keys.relayer_key is not None:
            logging.hide(keys.relayer_key.key)


async def _arm(settings: BotSettings, venue: PolymarketVenue, log: Log, logging: Logging, armed: asyncio.Event) -> None:
    """Wait for the keys where they were not there at the start. Raises SettingsError, ValueError: they are of another account."""
    if not venue.is_armed and settings.key_socket is not None:
        keys = await keys_of_deployer(settings.key_socket, log)
        _hide(logging, keys)
        venue.arm(keys.key, keys.relayer_key)
        log.info("keys_received")
    armed.set()


def _wallet_of(settings: BotSettings, signer: str) -> str:
    """The wallet that is traded for. signer: the key's address. Raises SettingsError."""
    try:
        return trading_wallet(signer, settings.wallet, settings.signature_type)
    except ValueError as error:
        raise SettingsError(f"BOT_KEY_FILE, BOT_WALLET and BOT_SIGNATURE_TYPE do not agree: {error}") from None


def _check_ledger(bus: Bus, identity: Identity) -> None:
    """Refuse at once to run on the bus of another wallet. Raises BusError."""
    ledger = Ledger.reader(bus.ledger, identity)
    if ledger is not None:
        ledger.close()


def _exit_stuck(log: Log, logging: Logging) -> None:
    log.error("event_loop_stuck", action="exit")
    logging.close()
    sys.stdout.flush()
    os._exit(EXIT_STUCK)
