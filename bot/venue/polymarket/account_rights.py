"""What an account may do, asked for now and then: buy at all, and have the exchange take its outcome tokens."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from bot.venue.polymarket import account_reading

CLOSED_ONLY_EVERY_S, APPROVAL_EVERY_S = 60.0, 600.0


class AccountRights:
    """The newest answers.

    Args:
        ban_status: asks for the account's mode; None where the venue does not know the question.
        token_balance: asks for balance and allowances of a token.
        now_s: a monotonic clock.
    """

    def __init__(
        self,
        ban_status: Callable[[], Awaitable[object | None]],
        token_balance: Callable[[str], Awaitable[object]],
        now_s: Callable[[], float],
    ) -> None:
        self._ban_status, self._token_balance, self._now_s = ban_status, token_balance, now_s
        self._is_closed_only, self._closed_only_until_s = False, 0.0
        self._sells_until_s = 0.0
        self.token_id: str | None = None
        """A token of a market, to ask about."""

    async def closed_only(self) -> bool:
        """Whether the account may only sell, as the venue said last. One that does not know the question has no such mode."""
        if self._closed_only_until_s <= self._now_s():
            payload = await self._ban_status()
            if payload is not None:
                self._is_closed_only = isinstance(payload, dict) and payload.get("closed_only") is True
            self._closed_only_until_s = self._now_s() + CLOSED_ONLY_EVERY_S
        return self._is_closed_only

    async def may_sell(self, wallet: str, exchange: str) -> bool | None:
        """Whether the exchange may take outcome tokens of this wallet: an allowance of its own, the same for every token.

        Without it one can buy and never sell (py-clob-client 265, 109). While it lacks it is asked for at every look; None until
        a token is known that can be asked about.
        """
        if self.token_id is None or self._now_s() < self._sells_until_s:
            return None if self.token_id is None else True
        token = account_reading.account(await self._token_balance(self.token_id), wallet, exchange)
        self._sells_until_s = self._now_s() + APPROVAL_EVERY_S if token.allowance else 0.0
        return token.allowance > 0
