"""Won positions that must be claimed: redeemed through the venue's relayer, beside the polls (venue.md 2.2).

Whether there is anything to claim is the venue's word: the winning token's balance. Where the venue pays by itself it is 0 soon
after the resolution, and nothing is sent. Before each request leaves it is a row; whether it was carried out is seen by
looking at the balance again, never by its answer. A request that was carried out twice pays once.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Literal

from bot.context import Context
from bot.venue.types import BASE_UNITS, VenueError
from bus import LedgerFullError, Log
from ledger import Ledger, Value
from ledger.schema import COUNTED, LOOK_BACK_MS, PAID_SQL
from ledger.values import VOID

EVERY_S = 5.0
AT_ONCE = 3
MOST_REQUESTS = 6
AGAIN_AFTER_MS = 30_000  # doubled with each request: a transaction takes seconds to minutes
LEFT_LOOK_MS = 3_600_000
LEAST_HELD = BASE_UNITS // 10  # what an exit's rounding leaves is not worth a transaction

# Windows that were called paid before a sale of theirs failed on chain (venue.md: MATCHED, then FAILED): its shares came back,
# and pay as well.
_REOPENED = (
    "SELECT c.window, max(c.wall_ms) FROM corrections c WHERE c.payout > 0 AND c.window NOT IN (SELECT window FROM unpaid) "
    f"AND NOT EXISTS (SELECT 1 FROM redemptions r WHERE r.window = c.window AND r.state IN ({PAID_SQL}) "
    "AND r.wall_ms >= c.wall_ms) GROUP BY c.window"
)

Step = Literal["paid", "send", "left", "given_up", "dust", "wait"]


@dataclass(frozen=True, slots=True)
class Won:
    """A resolved window with winning shares. shares: of the ledger, in base units.

    requests: how many were sent. last, last_ms: the newest row about it, '' and the time of the outcome when there is none.
    """

    window: str
    condition_id: str
    token_id: str
    shares: int
    requests: int
    last: str
    last_ms: int


def is_due(won: Won, after_ms: int, now_ms: int) -> bool:
    """Whether its balance is to be looked at now. after_ms: how long the venue is given to pay by itself. Pure."""
    if won.last == "left":
        return now_ms - won.last_ms >= LEFT_LOOK_MS
    if won.last == "sent":
        return now_ms - won.last_ms >= min(AGAIN_AFTER_MS, 2 * after_ms)
    return now_ms - won.last_ms >= after_ms


def next_step(won: Won, held: int, cannot: str | None, now_ms: int) -> Step:
    """What is to be done about a won position of which the account holds `held` base units. Pure."""
    if held == 0:
        return "paid"
    if held < LEAST_HELD:
        return "dust"
    if cannot is not None:
        return "left"
    if won.last == "sent" and now_ms - won.last_ms < AGAIN_AFTER_MS << (won.requests - 1):
        return "wait"
    return "given_up" if won.requests >= MOST_REQUESTS else "send"


def won_positions(ledger: Ledger, now_ms: int) -> list[Won]:
    """What is won and neither paid, nor dust, nor given up, of the last seven days, longest untouched first."""
    rows = ledger.execute(
        "SELECT window, condition_id, token_id, payout, "
        "(SELECT count(*) FROM redemptions r WHERE r.window = h.window AND r.state = 'sent'), "
        "(SELECT r.state FROM redemptions r WHERE r.window = h.window ORDER BY r.id DESC LIMIT 1), "
        "coalesce((SELECT max(r.wall_ms) FROM redemptions r WHERE r.window = h.window), wall_ms) AS last_ms, "
        # Of a void window both outcomes pay, and one request for the market pays both: the one with more shares is looked at.
        "max(shares) FROM (SELECT o.window, i.condition_id, i.token_id, o.payout, o.wall_ms, "
        "sum(CASE f.side WHEN 'BUY' THEN f.size ELSE -f.size END) AS shares "
        f"FROM (SELECT window, wall_ms FROM unpaid UNION {_REOPENED}) u CROSS JOIN results o ON o.window = u.window "
        f"JOIN intents i ON i.window = o.window AND o.winner IN (i.outcome, '{VOID}') "
        f"JOIN fills f ON f.order_id = i.order_id AND {COUNTED} "
        "WHERE u.wall_ms > ? GROUP BY o.window, i.token_id) h GROUP BY window ORDER BY last_ms LIMIT 500",
        (now_ms - LOOK_BACK_MS,),
    )
    return [
        Won(str(window), str(condition), str(token), _int(payout), _int(requests), str(last or ""), _int(last_ms))
        for window, condition, token, payout, requests, last, last_ms, _shares in rows
    ]


class Redeemer:
    """One epoch's redeeming. Its task raises LedgerError (FencedError: the epoch is over)."""

    def __init__(self, world: Context, ledger: Ledger, epoch: int, log: Log) -> None:
        self._world, self._ledger, self._epoch, self._log = world, ledger, epoch, log

    async def run_forever(self) -> None:
        """Look every 5 s at what is due."""
        while True:
            try:
                await self._round()
            except (VenueError, LedgerFullError) as error:
                self._log.warning("redemption_waits", reason=str(error))
            await asyncio.sleep(EVERY_S)

    async def _round(self) -> None:
        now, after_ms = self._world.clock.wall_ms(), round(self._world.settings.redeem_after * 1000)
        due = [won for won in won_positions(self._ledger, now) if is_due(won, after_ms, now)]
        for won in due[:AT_ONCE]:
            await self._one(won)

    async def _one(self, won: Won) -> None:
        venue = self._world.venue
        held = await venue.shares(won.token_id)
        if held == 0:  # the venue's balance may be of before the shares were there: it counts once it was read anew
            await venue.refresh_balance(won.token_id)
            held = await venue.shares(won.token_id)
        cannot = "BOT_REDEEM=off" if self._world.settings.redeem == "off" else venue.cannot_redeem
        step = next_step(won, held, cannot, self._world.clock.wall_ms())
        if step == "paid":
            self._note(won, step, f"the account holds none any more, after {won.requests} requests")
        elif step == "dust":
            self._note(won, step, f"{held} base units are held: less than is worth a transaction")
        elif step == "left":
            self._note(won, step, f"{held} base units are held: {cannot}")
            self._log.warning("redemption_left", window=won.window, reason=cannot)
        elif step == "given_up":
            self._note(
                won, step, f"{held} base units are held after {won.requests} requests: claim on the venue's site"
            )
            self._log.error("redemption_given_up", window=won.window, requests=won.requests)
        elif step == "send":
            self._note(won, "sent", f"{held} base units are held")  # durable and fenced, right before it leaves
            try:
                transaction = await venue.redeem(won.condition_id)
            except VenueError as error:
                self._log.warning("redemption_in_doubt", window=won.window, reason=str(error))
            else:
                self._log.info("redemption_sent", window=won.window, transaction=transaction, held=held)

    def _note(self, won: Won, state: str, text: str) -> None:
        self._ledger.execute(
            "INSERT INTO redemptions(epoch, window, condition_id, state, shares, text, wall_ms) VALUES (?,?,?,?,?,?,?)",
            (self._epoch, won.window, won.condition_id, state, won.shares, text[:500], self._world.clock.wall_ms()),
        )
        self._world.account.look_soon()


def _int(value: Value) -> int:
    return value if isinstance(value, int) else 0
