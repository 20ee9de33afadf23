"""The bot's metrics, served from its own event loop, so that a dead loop is a failed scrape.

Counters of the process start at 0 at every start; lifetime totals come from the ledger and are gauges.
Times are exported as timestamps, never as ages: a frozen process cannot export its own age.
"""

from __future__ import annotations

from aiohttp import web
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    disable_created_metrics,
    generate_latest,
)

from bot.active import Poll
from bus import Status

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)


class Metrics:
    """All metrics of one instance."""

    def __init__(self, version: str, sha: str) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # the library's own gap
        self.registry = CollectorRegistry()
        registry = self.registry
        Info("bot_build", "The version and commit that runs.", registry=registry).info(
            {"version": version, "git_sha": sha}
        )
        self.active = Gauge("bot_active", "1 while this instance holds the lease.", registry=registry)
        self.epoch = Gauge("bot_epoch", "The newest epoch that this instance held.", registry=registry)
        self.healthy = Gauge("bot_healthy", "1 when the last poll, shadow or not, was healthy.", registry=registry)
        self._tick = Gauge("bot_tick_seconds", "The tick of the last active poll, as a timestamp.", registry=registry)
        self._polls = Counter("bot_polls", "Active polls completed by this process.", registry=registry)
        self._lag = Histogram(
            "bot_poll_lag_seconds",
            "From a tick's due time to the start of its poll.",
            buckets=_BUCKETS,
            registry=registry,
        )
        self._duration = Histogram(
            "bot_poll_duration_seconds", "How long a poll took.", buckets=_BUCKETS, registry=registry
        )
        self._decisions = Counter("bot_decisions", "Decisions of active polls.", ["action"], registry=registry)
        self._totals = {
            name: Gauge(f"bot_ledger_{name}", f"{text} From the ledger.", registry=registry)
            for name, text in (
                ("polls_completed", "Polls completed since the ledger began."),
                ("polls_missed", "Ticks without a completed poll since the ledger began."),
                ("orders", "Intents since the ledger began."),
                ("fills", "Fills since the ledger began."),
                ("in_doubt", "Orders in doubt now."),
                ("exposure", "At stake now, in pUSD."),
                ("pnl", "PnL of all resolved windows, in pUSD."),
                ("fees", "Fees paid, in pUSD."),
            )
        }
        self._feed_age = Gauge(
            "bot_feed_age_seconds", "Age of the newest data when status was written.", ["feed"], registry=registry
        )
        for action in ("none", "enter", "exit"):
            self._decisions.labels(action)  # else the first event is invisible to increase()
        self.active.set(0)

    def note_poll(self, done: Poll) -> None:
        """Count one active poll."""
        self._tick.set(done.tick / 1000)
        self._polls.inc(done.completed)
        self._lag.observe(max(0, done.lag_ms) / 1000)
        self._duration.observe(done.duration_ms / 1000)
        for evaluation in done.evaluations:
            self._decisions.labels(evaluation.decision.action).inc()

    def note_status(self, status: Status) -> None:
        """Take over the lifetime totals."""
        for name, gauge in self._totals.items():
            gauge.set(float(getattr(status.totals, name)))
        for feed in status.feeds:
            if feed.age_ms is not None:
                self._feed_age.labels(feed.name).set(feed.age_ms / 1000)

    async def serve(self, host: str, port: int) -> tuple[web.AppRunner, str]:
        """Serve /metrics; port 0 takes a free one. Returns the runner (clean it up at the end) and host:port.

        Raises OSError when the port is busy.
        """
        app = web.Application()
        app.router.add_get("/metrics", self._answer)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError:
            await runner.cleanup()
            raise
        bound = runner.addresses[0]
        return runner, f"{bound[0]}:{bound[1]}"

    async def _answer(self, _request: web.Request) -> web.Response:
        return web.Response(body=generate_latest(self.registry), content_type="text/plain", charset="utf-8")
