"""The bot's metrics, served from its own event loop, so that a dead loop is a failed scrape.

Counters of the process start at 0 at every start; lifetime totals (`bot_ledger_*`) come from the ledger by way of status, are
gauges, and are exported by every instance, NaN until they are known. Times are exported as timestamps, never as ages: a frozen
process cannot export its own age. Every label has a closed list of values, and all of them are there from the start.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

from bot.context import Context
from bot.lifecycle.polls import Poll
from bot.orders.order_plan import AnswerKind as Outcome
from bot.reasons import ReasonCode
from bot.venue.decoding import Code, Origin
from bot.venue.types import VenueMode
from bus import DocumentError, Role, SlotStatus, Status, read_status

_FAST = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1)
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
_ORDER = (0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

ACTIONS = ("none", "enter", "exit")
OUTCOMES = ("accepted", "refused", "in_doubt")
SLOT_STATES = ("off", "waiting", "snipe", "order_open", "in_doubt", "position")
POLLS = ("active", "shadow")
MONEY = ("exposure", "pnl", "pnl_today", "fees")
TOTALS = (
    ("polls_completed", "Polls completed."),
    ("polls_missed", "Ticks without a completed poll."),
    ("orders", "Intents."),
    ("fills", "Fills."),
    ("wins", "Resolved windows with a gain."),
    ("losses", "Resolved windows with a loss."),
    ("failed_trades", "Trades that failed on the chain."),
    ("in_doubt", "Orders in doubt now."),
    ("exposure", "At stake now, in pUSD."),
    ("pnl", "PnL of all resolved windows, in pUSD."),
    ("pnl_today", "PnL since midnight UTC, of resolved windows and of what was sold in others, in pUSD."),
    ("fees", "Fees paid, in pUSD."),
)
_UNKNOWN = float("nan")


class Metrics:
    """All metrics of one instance.

    Args:
        dropped: how many lines of the log were dropped so far.
    """

    def __init__(self, version: str, sha: str, dropped: Callable[[], int] = lambda: 0) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # the library's own gap
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._before_scrape: list[Callable[[], None]] = []

        def gauge(name: str, text: str, *labels: str, unknown: bool = False) -> Gauge:
            made = Gauge(name, text, labels, registry=registry)
            if unknown:
                made.set(_UNKNOWN)
            return made

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, labels, registry=registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(name, text, buckets=buckets, registry=registry)

        Info("bot_build", "The version and commit that runs.", registry=registry).info(
            {"version": version, "git_sha": sha}
        )
        # Who trades.
        self.active = gauge("bot_active", "1 while this instance holds the lease.")
        self.epoch = gauge("bot_epoch", "The newest epoch that this instance held.")
        self.healthy = gauge("bot_healthy", "1 when the last poll, shadow or not, was healthy.")
        self._role = gauge("bot_role", "1 for the role that this instance has.", "role")
        self._since = gauge("bot_epoch_began_timestamp_seconds", "When the newest epoch began.", unknown=True)
        # Polls.
        self.interval = gauge("bot_poll_interval_seconds", "The time between two ticks.", unknown=True)
        self._tick = gauge(
            "bot_tick_timestamp_seconds", "The tick of the newest active poll, whoever made it.", unknown=True
        )
        self.polled = gauge(
            "bot_poll_timestamp_seconds", "When this instance last polled, shadow or not.", unknown=True
        )
        self._polls = counter("bot_polls", "Polls made by this process; an active one has its row.", "kind")
        self._lag = histogram(
            "bot_poll_lag_seconds", "From a tick's due time to the start of its active poll.", _SECONDS
        )
        self._duration = histogram("bot_poll_duration_seconds", "How long an active poll took.", _SECONDS)
        # Decisions and orders.
        self._slots = gauge("bot_slots", "Slots by state at the last active poll, whoever made it.", "state")
        self._decisions = counter("bot_decisions", "Decisions of active polls.", "action")
        self._refusals = counter("bot_refusals", "Why active polls left a slot alone.", "reason")
        self._open = gauge("bot_entries_open", "1 when entries are allowed.", unknown=True)
        self._closed = gauge("bot_entries_closed", "1 for the reason that closes entries.", "reason")
        self._tick_to_send = histogram(
            "bot_order_tick_to_send_seconds", "From a tick's due time to its order's bytes at the socket.", _ORDER
        )
        self._send_to_answer = histogram(
            "bot_order_send_to_answer_seconds", "From an order's bytes at the socket to the venue's answer.", _ORDER
        )
        self._orders = counter("bot_orders", "Orders sent by this process, by the venue's first answer.", "outcome")
        self._totals = {
            name: gauge(
                f"bot_ledger_{name}" + ("_pusd" if name in MONEY else ""), f"{text} From the ledger.", unknown=True
            )
            for name, text in TOTALS
        }
        self._slot_pnl = gauge(
            "bot_ledger_slot_pnl_pusd", "PnL of a slot's resolved windows. From the ledger.", "slot", "asset"
        )
        self.balance = gauge("bot_balance_pusd", "pUSD at the venue.", unknown=True)
        self._mode = gauge("bot_venue_mode", "1 for the mode that the venue is in.", "mode")
        # Data.
        self.feed_time = gauge("bot_feed_timestamp_seconds", "When the newest data of a feed came.", "feed")
        self.feed_connected = gauge("bot_feed_connected", "1 while a feed's connection brings data.", "feed")
        self.reconnects = counter("bot_feed_reconnects", "Connections of the price stream after the first.")
        self.gaps = counter("bot_feed_gaps", "Times that the price stream was interrupted.")
        self.parse_errors = counter("bot_feed_parse_errors", "Messages of the price stream that could not be read.")
        self.skipped = counter(
            "bot_venue_data_skipped",
            "What a venue sent and could not be read, or contradicted itself.",
            "source",
            "code",
        )
        self.clock_offset = gauge(
            "bot_clock_offset_seconds", "How far this machine's clock is off the venue's.", unknown=True
        )
        # The machine.
        self.loop_lag = histogram("bot_loop_lag_seconds", "How late the event loop woke a sleeper.", _FAST)
        self._commit = histogram(
            "bot_ledger_commit_seconds", "A poll's durable commit to the ledger, its fsync included.", _FAST
        )
        self.ledger_bytes = gauge("bot_ledger_bytes", "Size of the ledger's files.", "file")
        self.bus_free = gauge("bot_bus_free_bytes", "Room left on the disk of the bus.", unknown=True)
        self.bus_size = gauge("bot_bus_size_bytes", "Size of the disk of the bus.", unknown=True)
        self.fsync_failed = gauge("bot_fsync_failed", "1 when an fsync failed on this bus and nobody looked yet.")
        self._dropped_lines = counter("bot_log_lines_dropped", "Lines of the log that nobody read in time.")
        self._dropped, self._dropped_before = dropped, 0
        self._begin()

    def _begin(self) -> None:
        """All label values at 0: else the first event is invisible to increase()."""
        for family, values in (
            (self._role, Role),
            (self._polls, POLLS),
            (self._slots, SLOT_STATES),
            (self._decisions, ACTIONS),
            (self._refusals, ReasonCode),
            (self._closed, ReasonCode),
            (self._orders, OUTCOMES),
            (self._mode, VenueMode),
            (self.ledger_bytes, ("db", "wal")),
        ):
            for value in values:
                family.labels(str(value))
        for origin in Origin:
            for code in Code:
                self.skipped.labels(origin, code)

    def prepare(self, slots: Iterable[tuple[str, str]], feeds: Iterable[str]) -> None:
        """Begin the series of these slots (id, asset) and feeds."""
        for slot, asset in slots:
            self._slot_pnl.labels(slot, asset).set(_UNKNOWN)
        for feed in feeds:
            self.feed_time.labels(feed).set(_UNKNOWN)
            self.feed_connected.labels(feed)

    def before_scrape(self, look: Callable[[], None]) -> None:
        """Call `look` before each answer, in the event loop; it must be quick."""
        self._before_scrape.append(look)

    # --- what happened

    def note_role(self, role: Role) -> None:
        """This instance has that role now."""
        for each in Role:
            self._role.labels(str(each)).set(each is role)

    def note_shadow(self) -> None:
        """Count one shadow poll."""
        self._polls.labels("shadow").inc()

    def note_poll(self, done: Poll, commit_s: float | None = None) -> None:
        """Count one active poll. commit_s: what its completed row took."""
        self._tick.set(done.tick / 1000)
        self._polls.labels("active").inc(done.completed)
        self._lag.observe(max(0, done.lag_ms) / 1000)
        self._duration.observe(done.duration_ms / 1000)
        if commit_s is not None:
            self._commit.observe(commit_s)
        for evaluation in done.evaluations:
            action = evaluation.decision.action
            self._decisions.labels(action).inc()
            if action == "none":
                self._refusals.labels(evaluation.decision.code).inc()

    def note_order(self, outcome: Outcome, tick_to_send_s: float, send_to_answer_s: float) -> None:
        """Count one order that was sent for the first time."""
        self._orders.labels(outcome).inc()
        self._tick_to_send.observe(max(0.0, tick_to_send_s))
        self._send_to_answer.observe(max(0.0, send_to_answer_s))

    def note_status(self, status: Status) -> None:
        """Take over what the lease holder published: a standby reads it from the bus."""
        if status.tick is not None:
            self._tick.set(status.tick / 1000)
        self._since.set(status.since_ms / 1000)
        for name, gauge in self._totals.items():
            gauge.set(float(getattr(status.totals, name)))
        self.balance.set(_UNKNOWN if status.balance is None else float(status.balance))
        for mode in VenueMode:
            self._mode.labels(str(mode)).set(mode == status.venue_mode)
        self._open.set(status.is_open)
        known = status.entries_code if status.entries_code in {*ReasonCode} else ReasonCode.OTHER
        for code in ReasonCode:
            self._closed.labels(code).set(not status.is_open and code == known)
        states = [slot_state(slot) for slot in status.slots]
        for state in SLOT_STATES:
            self._slots.labels(state).set(states.count(state))
        for slot in status.slots:
            self._slot_pnl.labels(slot.slot, slot.asset).set(float(slot.pnl))

    def text(self) -> bytes:
        """Everything as Prometheus reads it."""
        for look in self._before_scrape:
            look()
        dropped = self._dropped()
        self._dropped_lines.inc(dropped - self._dropped_before)
        self._dropped_before = dropped
        return generate_latest(self.registry)


def slot_state(slot: SlotStatus) -> str:
    """The one of SLOT_STATES that matters most."""
    if slot.in_doubt:
        return "in_doubt"
    if slot.orders:
        return "order_open"
    if slot.position is not None:
        return "position"
    if not slot.enabled:
        return "off"
    return "snipe" if slot.in_snipe else "waiting"


# What the metrics show of the world around an instance: looked at when Prometheus asks, so that no poll pays for it.


class MetricsSampler:
    """Fills the gauges that nobody tells of: feeds, the disk, and on a standby what the lease holder published.

    Args:
        is_active: whether this instance holds the lease; then it publishes status itself.
    """

    def __init__(self, world: Context, metrics: Metrics, is_active: Callable[[], bool]) -> None:
        self._world, self._metrics, self._is_active = world, metrics, is_active
        self._counted = {"connects": 1, "gaps": 0, "parse_errors": 0}
        self._skipped: dict[tuple[str, str], int] = {}
        metrics.interval.set(world.settings.interval_ms / 1000)
        metrics.prepare(((slot.id, slot.asset) for slot in world.slots), (feed.name for feed in world.feed_status()))
        metrics.before_scrape(self.look)

    def look(self) -> None:
        """Look at everything once."""
        self._look_at_feeds()
        self._look_at_disk()
        offset = self._world.account.clock_offset_ms
        if offset is not None:
            self._metrics.clock_offset.set(offset / 1000)
        if not self._is_active():
            try:
                self._metrics.note_status(read_status(self._world.bus).body)
            except DocumentError:
                return  # nobody traded yet, or a newer release does: what was known stays

    def _look_at_feeds(self) -> None:
        metrics, now_ms = self._metrics, self._world.clock.wall_ms()
        for feed in self._world.feed_status():
            metrics.feed_connected.labels(feed.name).set(feed.connected)
            if feed.age_ms is not None:
                metrics.feed_time.labels(feed.name).set((now_ms - feed.age_ms) / 1000)
        state = self._world.feed.state()
        for name, counter in (
            ("connects", metrics.reconnects),
            ("gaps", metrics.gaps),
            ("parse_errors", metrics.parse_errors),
        ):
            found = getattr(state, name)
            counter.inc(max(0, found - self._counted[name]))
            self._counted[name] = max(found, self._counted[name])

        for (origin, code), count in self._world.skips.counts.items():
            metrics.skipped.labels(origin, code).inc(count - self._skipped.get((origin, code), 0))
            self._skipped[origin, code] = count

    def _look_at_disk(self) -> None:
        metrics, bus = self._metrics, self._world.bus
        for file, path in (("db", bus.ledger), ("wal", bus.ledger.with_name(f"{bus.ledger.name}-wal"))):
            try:
                metrics.ledger_bytes.labels(file).set(path.stat().st_size)  # never an open: that would drop its locks
            except OSError:
                metrics.ledger_bytes.labels(file).set(0)
        try:
            room = os.statvfs(bus.directory)
        except OSError:
            return
        metrics.bus_free.set(room.f_bavail * room.f_frsize)
        metrics.bus_size.set(room.f_blocks * room.f_frsize)
        metrics.fsync_failed.set(bus.fsync_failed.exists())
