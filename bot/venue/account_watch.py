"""The account at the venue and the venue's clock, read beside the polls."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from bot.reasons import Reason, ReasonCode
from bot.venue.types import BASE_UNITS, Account, Venue, VenueError
from bus import Clock, Log

# No multiples of a second: the venue tells whole seconds, and looks at ever other fractions of one narrow its offset down.
LOOK_EVERY_S = 4.7
RETRY_S = 0.7
SPACING_S = 1.0
"""Between two looks at the balance, however many fills change it."""
STALE_MS = 30_000
LEAST_BALANCE = BASE_UNITS  # a marketable order is worth at least 1 pUSD (venue.md 2.3)
VENUE_CLOCK_ERROR_MS = 500  # the venue tells whole seconds; the adapter gives their middle


@dataclass(frozen=True, slots=True)
class Offset:
    """What is known of (venue's UTC ms - our CLOCK_BOOTTIME ms): it lies in [low, high]."""

    low: int
    high: int

    def narrowed(self, told_ms: int, sent_boot_ms: int, received_boot_ms: int) -> Offset:
        """With one more answer of the venue. Answers that contradict what was known begin anew: its clock was set."""
        low = told_ms - VENUE_CLOCK_ERROR_MS - received_boot_ms
        high = told_ms + VENUE_CLOCK_ERROR_MS - sent_boot_ms
        both = Offset(max(self.low, low), min(self.high, high))
        return both if both.low <= both.high else Offset(low, high)

    def best(self, ours: int) -> int:
        """The most likely offset: our own clock's where it is possible, else the nearest that is."""
        return min(max(ours, self.low), self.high)

    def disagreement(self, ours: int) -> int:
        """How far our own clock is off, in ms; 0 where it may be right."""
        return abs(ours - self.best(ours))


def account_problem(account: Account) -> Reason | None:
    """Why an account cannot buy anything, and what to do, or None. Pure."""
    if account.closed_only:
        return _closed(
            "the venue has this account in closed-only mode: it may sell what it holds and buy nothing; "
            "its settings on the venue's site, or the venue's support, say why"
        )
    if account.balance < LEAST_BALANCE:
        return _closed(
            f"wallet {account.wallet} holds {account.balance / BASE_UNITS:.2f} pUSD, an order needs at least "
            f"{LEAST_BALANCE / BASE_UNITS:.0f}: deposit, or set BOT_WALLET and BOT_SIGNATURE_TYPE to the wallet that has it"
        )
    if account.allowance < LEAST_BALANCE:
        return _closed(
            f"the exchange may spend {account.allowance / BASE_UNITS:.2f} pUSD of wallet {account.wallet}: give the allowance "
            "once, by enabling trading on the venue's site with this wallet (docs/how-to/live.md)"
        )
    if account.may_sell is None:
        return _closed("the account was not asked yet whether the exchange may sell its outcome tokens")
    if not account.may_sell:
        return _closed(
            f"the exchange may not take outcome tokens of wallet {account.wallet}: what it buys could never be sold; "
            "approve them once, by enabling trading on the venue's site with this wallet (docs/how-to/live.md)"
        )
    return None


def _closed(text: str) -> Reason:
    return Reason(ReasonCode.ACCOUNT, text)


UNKNOWN = Offset(-(1 << 62), 1 << 62)


class AccountWatch:
    """Keeps the balance and the venue's clock current. Its properties never wait."""

    def __init__(self, venue: Venue, clock: Clock, log: Log) -> None:
        self._venue, self._clock, self._log = venue, clock, log
        self._offset = UNKNOWN
        self._seen_boot_ms: int | None = None
        self._told_boot_ms: int | None = None
        self._soon = asyncio.Event()
        self.account: Account | None = None
        self.problem: str | None = "the venue was not asked yet"

    def now_ms(self) -> int | None:
        """The venue's time now, in UTC ms; None until it told its clock."""
        if self._offset == UNKNOWN:
            return None
        return self._clock.boot_ms() + self._offset.best(self._ours())

    @property
    def clock_offset_ms(self) -> int | None:
        """How far this machine's wall clock is off the venue's; None until known."""
        return None if self._offset == UNKNOWN else self._offset.disagreement(self._ours())

    @property
    def stale(self) -> Reason | None:
        """Why the account cannot be relied upon, or None."""
        if self._seen_boot_ms is None or self._clock.boot_ms() - self._seen_boot_ms > STALE_MS:
            return _closed(self.problem or "the venue did not answer about the account")
        return None

    @property
    def closed(self) -> Reason | None:
        """Why this account may enter nothing now, in words that say what to do, or None."""
        return self.stale or (None if self.account is None else account_problem(self.account))

    def look_soon(self) -> None:
        """Ask again at once: a fill changed the balance."""
        self._soon.set()

    async def run(self) -> None:
        """Ask every few seconds, until cancelled; sooner while the clocks disagree, which keeps entries closed."""
        while True:
            is_known = await self._look() and not self.clock_offset_ms and not self._is_incomplete
            wait_s = LOOK_EVERY_S if is_known else RETRY_S
            spacing_s = min(SPACING_S, wait_s)
            await asyncio.sleep(spacing_s)
            try:
                async with asyncio.timeout(wait_s - spacing_s):
                    await self._soon.wait()
            except TimeoutError:
                continue

    @property
    def _is_incomplete(self) -> bool:
        return self.account is not None and self.account.may_sell is None

    def _is_due(self, asked_boot_ms: int | None, every_s: float) -> bool:
        """Whether something was asked for long ago, or not at all, or the last look failed."""
        is_old = asked_boot_ms is None or self._clock.boot_ms() - asked_boot_ms >= every_s * 1000
        return is_old or self.problem is not None

    async def _look(self) -> bool:
        try:
            sent = self._clock.boot_ms()
            if self.clock_offset_ms or self._is_due(self._told_boot_ms, LOOK_EVERY_S - SPACING_S):
                venue_ms = await self._venue.server_time_ms()
                self._offset = self._offset.narrowed(venue_ms, sent, self._clock.boot_ms())
                self._told_boot_ms = sent
            if not (self._soon.is_set() or self._is_incomplete) and not self._is_due(
                self._seen_boot_ms, LOOK_EVERY_S - SPACING_S
            ):
                return True  # only the clock was asked
            self._soon.clear()
            self.account = await self._venue.account()
        except VenueError as error:
            if self.problem is None:
                self._log.warning("account_not_read", reason=str(error))
            self.problem = str(error)
            return False
        self._seen_boot_ms = self._clock.boot_ms()
        self.problem = None
        return True

    def _ours(self) -> int:
        return self._clock.wall_ms() - self._clock.boot_ms()
