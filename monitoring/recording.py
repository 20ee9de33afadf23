"""The recording rules: what dashboards and alerts ask for again and again, under one name each."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Recording:
    """One rule: the series `name` is what `expr` gives."""

    name: str
    expr: str


# Lifetime totals are exported by every instance: their sum would count them as often as there are instances.
_TOTAL = "max without (color, instance, job) (bot_ledger_{0})"
# Counters of a process are added up over all that ever ran.
_P99 = "histogram_quantile(0.99, sum without (color, instance) (rate({0}_bucket[5m])))"

RECORDINGS = (
    Recording("never_sleeps:active", "sum(bot_active) or vector(0)"),
    Recording("never_sleeps:trader", "bot_build_info * on (instance) group_left () bot_active == 1"),
    Recording("never_sleeps:tick_timestamp_seconds", "max(bot_tick_timestamp_seconds)"),
    Recording("never_sleeps:polls_missed", _TOTAL.format("polls_missed")),
    Recording("never_sleeps:polls_completed", _TOTAL.format("polls_completed")),
    Recording("never_sleeps:orders_in_doubt", _TOTAL.format("in_doubt")),
    Recording("never_sleeps:pnl_pusd", _TOTAL.format("pnl_pusd")),
    Recording("never_sleeps:exposure_pusd", _TOTAL.format("exposure_pusd")),
    Recording(
        "never_sleeps:feed_age_seconds",
        "time() - max by (feed) (bot_feed_timestamp_seconds and on (instance) (bot_active == 1))",
    ),
    Recording("never_sleeps:poll_duration_seconds:p99", _P99.format("bot_poll_duration_seconds")),
    Recording("never_sleeps:poll_lag_seconds:p99", _P99.format("bot_poll_lag_seconds")),
    Recording("never_sleeps:order_tick_to_send_seconds:p99", _P99.format("bot_order_tick_to_send_seconds")),
    Recording("never_sleeps:order_send_to_answer_seconds:p99", _P99.format("bot_order_send_to_answer_seconds")),
    Recording("never_sleeps:ledger_commit_seconds:p99", _P99.format("bot_ledger_commit_seconds")),
    Recording("never_sleeps:loop_lag_seconds:p99", _P99.format("bot_loop_lag_seconds")),
)
