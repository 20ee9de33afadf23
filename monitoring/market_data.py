"""Ages, gaps and latency of what the bot sees."""

from __future__ import annotations

from typing import Any

from monitoring.grafana import GREEN, RED, YELLOW, Query, Row, dashboard
from monitoring.parts import DEPLOYS, RATE, WHO, lines, quantiles, rate_by, stat


def market_data() -> dict[str, Any]:
    """Ages, gaps, latency of what the bot sees."""
    return dashboard(
        "ns-market-data",
        "Never Sleeps: market data",
        "How fresh what the bot decides upon is.",
        (
            Row(
                "Now",
                (
                    stat(
                        "Oldest feed",
                        "The age of the feed that is silent for longest.",
                        "s",
                        "max(never_sleeps:feed_age_seconds)",
                        "age",
                        steps=((None, GREEN), (2, YELLOW), (5, RED)),
                    ),
                    stat(
                        "Connected",
                        "Feeds whose connection brings data.",
                        "none",
                        "sum(bot_feed_connected and on (instance) (bot_active == 1))",
                        "feeds",
                        steps=((None, RED), (1, GREEN)),
                    ),
                    stat(
                        "Venue",
                        "What the venue allows.",
                        "none",
                        "max by (mode) (bot_venue_mode) == 1",
                        "{{mode}}",
                        names=True,
                    ),
                    stat(
                        "Clock",
                        "How far this machine's clock is off the venue's.",
                        "s",
                        "max(bot_clock_offset_seconds)",
                        "offset",
                        steps=((None, GREEN), (0.5, YELLOW), (1, RED)),
                    ),
                    WHO,
                ),
            ),
            Row(
                "Feeds",
                (
                    lines(
                        "Age of the newest data",
                        "As the trader sees it.",
                        "s",
                        Query("never_sleeps:feed_age_seconds", "{{feed}}"),
                        width=16,
                    ),
                    lines(
                        "Interruptions in an hour",
                        "Gaps, new connections and unreadable messages, all bots together.",
                        "none",
                        Query("sum(increase(bot_feed_gaps_total[1h]))", "gaps"),
                        Query("sum(increase(bot_feed_reconnects_total[1h]))", "reconnects"),
                        Query("sum(increase(bot_feed_parse_errors_total[1h]))", "unreadable"),
                    ),
                    lines(
                        "Venue mode",
                        "The mode that the venue is in.",
                        "none",
                        Query("max by (mode) (bot_venue_mode) > 0", "{{mode}}"),
                    ),
                    lines(
                        "Clock offset",
                        "This machine's clock against the venue's.",
                        "s",
                        Query("max by (instance) (bot_clock_offset_seconds)", "{{instance}}"),
                    ),
                    lines(
                        "Poll duration",
                        "Most of it is the reading of books.",
                        "s",
                        *quantiles("bot_poll_duration_seconds"),
                    ),
                ),
            ),
            Row(
                "Paper exchange",
                (
                    lines(
                        "Requests a second",
                        "Answered by paper, by area.",
                        "reqps",
                        Query(rate_by("paper_requests_total", "area"), "{{area}}"),
                    ),
                    lines(
                        "Errors a second",
                        "Answers of 400 and above.",
                        "reqps",
                        Query(
                            f'sum by (area, status) (rate(paper_requests_total{{status!="2xx"}}{RATE})) > 0',
                            "{{area}} {{status}}",
                        ),
                    ),
                    lines(
                        "Answer time",
                        "99th percentile of paper's answers.",
                        "s",
                        Query(
                            f"histogram_quantile(0.99, sum by (le, area) (rate(paper_request_seconds_bucket{RATE})))",
                            "{{area}}",
                        ),
                    ),
                    lines(
                        "Streams and markets",
                        "Open WebSockets, markets, resting orders.",
                        "none",
                        Query("max(paper_streams)", "streams"),
                        Query("max(paper_markets)", "markets"),
                        Query("max(paper_orders_open)", "orders"),
                    ),
                    lines(
                        "Lead price",
                        "Paper's lead price, relative to an hour ago.",
                        "percentunit",
                        Query(
                            'paper_price{kind="lead"} / avg_over_time(paper_price{kind="lead"}[1h]) - 1', "{{asset}}"
                        ),
                    ),
                    lines(
                        "Faults armed",
                        "What somebody breaks on purpose.",
                        "none",
                        Query("sum by (kind) (paper_faults_armed) > 0", "{{kind}}"),
                    ),
                ),
            ),
        ),
        DEPLOYS,
    )
