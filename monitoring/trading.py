"""PnL, win rate, exposure, orders, and why nothing was done."""

from __future__ import annotations

from typing import Any

from monitoring.grafana import BLUE, GREEN, RED, Panel, Query, Row, dashboard
from monitoring.parts import DEPLOYS, DOUBT, RATE, TAKES, WHO, lines, quantiles, rate_by, stat

# Wilson's interval of 95 % of wins among resolved windows (Wilson 1927); z = 1.96.
_WINS, _LOSSES = "max(bot_ledger_wins)", "max(bot_ledger_losses)"
_N = f"({_WINS} + {_LOSSES})"
_CENTRE = f"({_WINS} + 1.9208) / ({_N} + 3.8416)"
_HALF = f"1.96 * sqrt({_WINS} * {_LOSSES} / {_N} + 0.9604) / ({_N} + 3.8416)"


def trading() -> dict[str, Any]:
    """PnL, win rate, exposure, orders, refusals."""
    return dashboard(
        "ns-trading",
        "Never Sleeps: trading",
        "What was decided, sent and won. Totals come from the ledger and do not depend on which bot is asked.",
        (
            Row(
                "Now",
                (
                    WHO,
                    stat(
                        "PnL",
                        "Of all resolved windows, in pUSD.",
                        "none",
                        "never_sleeps:pnl_pusd",
                        "pUSD",
                        decimals=2,
                        steps=((None, RED), (0, GREEN)),
                    ),
                    stat(
                        "PnL today",
                        "Since midnight UTC, in pUSD.",
                        "none",
                        "max(bot_ledger_pnl_today_pusd)",
                        "pUSD",
                        decimals=2,
                        steps=((None, RED), (0, GREEN)),
                    ),
                    stat(
                        "At stake",
                        "Positions at their cost, in pUSD.",
                        "none",
                        "never_sleeps:exposure_pusd",
                        "pUSD",
                        decimals=2,
                        steps=((None, BLUE),),
                    ),
                    DOUBT,
                ),
            ),
            Row(
                "Results",
                (
                    lines(
                        "PnL",
                        "Of all resolved windows, in pUSD.",
                        "none",
                        Query("never_sleeps:pnl_pusd", "PnL"),
                        Query("max(bot_ledger_fees_pusd)", "fees"),
                        decimals=2,
                    ),
                    lines(
                        "Win rate",
                        "Of resolved windows with a gain or a loss, with Wilson's 95 % interval.",
                        "percentunit",
                        Query(f"{_WINS} / {_N}", "rate"),
                        Query(f"{_CENTRE} - {_HALF}", "from"),
                        Query(f"{_CENTRE} + {_HALF}", "to"),
                    ),
                    lines(
                        "At stake and balance",
                        "In pUSD.",
                        "none",
                        Query("never_sleeps:exposure_pusd", "at stake"),
                        Query("max(bot_balance_pusd)", "balance"),
                        decimals=2,
                    ),
                    lines(
                        "PnL by asset",
                        "In pUSD.",
                        "none",
                        Query("sum by (asset) (max without (color, instance) (bot_ledger_slot_pnl_pusd))", "{{asset}}"),
                        decimals=2,
                    ),
                    Panel(
                        "bargauge",
                        "PnL by slot",
                        "In pUSD.",
                        "none",
                        (Query("max by (slot) (bot_ledger_slot_pnl_pusd)", "{{slot}}", instant=True),),
                        decimals=2,
                        steps=((None, RED), (0, GREEN)),
                    ),
                    lines(
                        "Slots by state",
                        "At the newest poll.",
                        "none",
                        Query("max by (state) (bot_slots)", "{{state}}"),
                        stacked=True,
                    ),
                ),
            ),
            Row(
                "Orders",
                (
                    lines(
                        "Orders in 5 minutes",
                        "By the venue's first answer.",
                        "none",
                        Query("sum by (outcome) (increase(bot_orders_total[5m]))", "{{outcome}}"),
                    ),
                    lines(
                        "Orders and fills",
                        "Since the ledger began.",
                        "none",
                        Query("max(bot_ledger_orders)", "orders"),
                        Query("max(bot_ledger_fills)", "fills"),
                    ),
                    lines("In doubt", "Orders in doubt.", "none", Query("never_sleeps:orders_in_doubt", "in doubt")),
                    lines(
                        "Tick to send",
                        "From a tick's due time to the order's bytes at the socket.",
                        "s",
                        *quantiles("bot_order_tick_to_send_seconds"),
                    ),
                    lines(
                        "Send to answer",
                        "From the order's bytes at the socket to the venue's answer.",
                        "s",
                        *quantiles("bot_order_send_to_answer_seconds"),
                    ),
                    lines(
                        "Decisions a minute",
                        "Of active polls, entries and exits.",
                        "none",
                        Query(
                            f'60 * sum by (action) (rate(bot_decisions_total{{action!="none"}}{RATE}))', "{{action}}"
                        ),
                    ),
                ),
            ),
            Row(
                "Why nothing was done",
                (
                    lines(
                        "Refusals a minute",
                        "Why active polls left a slot alone.",
                        "none",
                        Query(f"60 * {rate_by('bot_refusals_total', 'reason')} > 0", "{{reason}}"),
                        width=16,
                        stacked=True,
                    ),
                    lines(
                        "Entries closed",
                        "The reason that closes all entries, while one does.",
                        "none",
                        Query("max by (reason) (bot_entries_closed) > 0", "{{reason}}"),
                        Query("max(bot_entries_open)", "open"),
                    ),
                ),
            ),
        ),
        (*DEPLOYS, TAKES),
    )
