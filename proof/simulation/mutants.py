"""The code with one rule removed: each must be found by some seed, or the simulation could not have found the rule's absence."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import bot.lifecycle.active
import bot.lifecycle.instance
import bot.orders.manager
import bot.orders.open_orders
import deployer.rollout.decide
import deployer.service
import ledger.base
from bot.account.portfolio import Portfolio
from bot.lifecycle.instance import Runner
from bot.lifecycle.polls import ShadowPoll, shadow_poll
from bot.orders.manager import OrderManager
from bot.orders.resolution import Evidence, conclude
from bot.reasons import Reason, ReasonCode
from bot.strategy.evaluation import Own
from bot.venue.polymarket import PolymarketVenue
from bus import Handover, Lease, Role, read_instances
from deployer.rollout.observed import Actions, Now, Observed, Policy
from ledger import Ledger
from ledger.rows import Intent
from ledger.schema import TERMINAL, OrderState
from proof.simulation.effects import put_in, replace_in

_FENCE = re.compile(r"CREATE TRIGGER IF NOT EXISTS \w+_fence .*? END;", re.DOTALL)
_STALE_S, _LOOK_EVERY_S = 1.0, 0.3


@dataclass(frozen=True, slots=True)
class Mutant:
    """One rule removed.

    seed: one that finds it soon. word: of what the check says that finds it.
    """

    rule: str
    remove: Callable[[], None]
    seed: int
    word: str


def _no_fence() -> None:
    for module in (ledger.base, bot.lifecycle.instance):
        replace_in(module, "SCHEMA", lambda tables: _FENCE.sub("", tables))


def _intent_after_send() -> None:
    def adds(own: Callable[..., None]) -> Callable[..., None]:
        def add_intent(*arguments: Any) -> None:
            asyncio.get_running_loop().call_later(0.05, own, *arguments)

        return add_intent

    replace_in(bot.orders.manager, "add_intent", adds)


def _new_salt() -> None:
    sign, send = PolymarketVenue.sign, OrderManager._send
    signed: dict[str, tuple[Any, Any]] = {}

    def remember(self: PolymarketVenue, request: Any, market: Any, salt: int, timestamp_ms: int) -> Any:
        found = sign(self, request, market, salt, timestamp_ms)
        signed[found.order_id] = (request, market)
        return found

    async def send_anew(self: OrderManager, intent: Intent, begun: Any = None) -> None:
        if begun is None and intent.order_id not in self._unsent and intent.order_id in signed:
            again = self._venue.sign(*signed[intent.order_id], self._random_bits(53), self._now_ms())
            intent = replace(intent, body=again.body)
        await send(self, intent, begun)

    put_in(PolymarketVenue, "sign", remember)
    put_in(OrderManager, "_send", send_anew)


def _not_found_is_absent() -> None:
    def conclude_so(evidence: Evidence) -> tuple[OrderState, str] | None:
        if evidence.shown is None and not evidence.filled and evidence.state in (None, OrderState.IN_DOUBT):
            return OrderState.REFUSED, "the venue does not show it"
        return conclude(evidence)

    put_in(bot.orders.open_orders, "conclude", conclude_so)


def _abandons_sent() -> None:
    close = OrderManager.close

    async def close_so(self: OrderManager, limit_s: float) -> None:
        self._unsent |= {key for key, intent in self.open.items() if intent.state not in TERMINAL}
        await close(self, limit_s)

    put_in(OrderManager, "close", close_so)


def _taker_forgets_doubt() -> None:
    put_in(bot.orders.open_orders, "open_intents", lambda _ledger, _now_ms: [])


def _release_says_nothing() -> None:
    put_in(bot.lifecycle.active.Active, "state", lambda _self: "")


def _taker_forgets_streaks() -> None:
    put_in(bot.lifecycle.active, "goes_on_from", lambda *_of: {})


def _no_expiry() -> None:
    put_in(Handover, "in_force", lambda self, _clock: self.wanted is not None and bool(self.request_id))


def _spent_again() -> None:
    put_in(Ledger, "is_spent", lambda _self, _request: False)


def _retired_takes() -> None:
    def delays(own: Callable[..., int | None]) -> Callable[..., int | None]:
        return lambda me, handover, clock: own(me, None if handover is None else handover.changed(retired=()), clock)

    replace_in(bot.lifecycle.instance, "take_delay_ms", delays)
    put_in(bot.lifecycle.instance, "is_retired", lambda _id, _handover: False)


def _needs_the_lease() -> None:
    async def poll(world: Any, own: Own) -> ShadowPoll:
        return replace(await shadow_poll(world, own), why_not=Reason(ReasonCode.STANDBY, "it has no lease"))

    put_in(bot.lifecycle.instance, "shadow_poll", poll)


def _risk_ignores_pending() -> None:
    def uses(own: Callable[..., Any]) -> Callable[..., Any]:
        return lambda self, slot, _open, minute, risk: own(self, slot, (), minute, risk)

    replace_in(Portfolio, "usage", uses)


def _halt_ignored() -> None:
    put_in(bot.lifecycle.active, "is_halted", lambda _bus: False)


def _yields_to_the_dead() -> None:
    def yields(own: Callable[..., str | None]) -> Callable[..., str | None]:
        def yield_to(me: str, handover: Any, clock: Any, target: Any, *, spent: bool) -> str | None:
            if target is not None and target.document is not None:
                target = replace(target, alive=True)
            return own(me, handover, clock, target, spent=spent)

        return yield_to

    replace_in(bot.lifecycle.instance, "yield_to", yields)


def _lease_by_clock() -> None:
    def tries(own: Callable[..., bool]) -> Callable[..., bool]:
        def try_lock(self: Runner) -> bool:
            if own(self):
                return True
            bus, now_s = self._world.bus, self._world.clock.boot_ms() / 1000
            looked_s, written, since_s = self.__dict__.get("_looked", (0.0, 0, now_s))
            if now_s - looked_s < _LOOK_EVERY_S:
                return False
            holders = [view for view in read_instances(bus) if view.document and view.document.role is Role.ACTIVE]
            beats = sum(view.sequence for view in holders)
            since_s = since_s if beats == written else now_s
            self.__dict__["_looked"] = (now_s, beats, since_s)
            return bool(beats and now_s - since_s > _STALE_S)

        return try_lock

    replace_in(Runner, "_try_lock", tries)
    put_in(Lease, "check", lambda _self: None)  # which would find that nothing is locked


Deciding = Callable[[Observed, Now, Policy], Actions]


def _decides(change: Callable[[Deciding], Deciding]) -> Callable[[], None]:
    def remove() -> None:
        replace_in(deployer.service, "decide", change)

    return remove


def _ignores_busy(decide: Deciding) -> Deciding:
    return lambda seen, now, policy: decide(replace(seen, busy=frozenset()), now, policy)


def _confirms_at_once(decide: Deciding) -> Deciding:
    return lambda seen, now, policy: decide(seen, now, replace(policy, confirm_polls=0))


def _sees_no_ill(decide: Deciding) -> Deciding:
    def blind(seen: Observed, now: Now, policy: Policy) -> Actions:
        well = tuple(
            view
            if view.document is None
            else replace(view, document=view.document.model_copy(update={"active_unhealthy": 0}))
            for view in seen.instances
        )
        return decide(replace(seen, instances=well), now, policy)

    return blind


def _newest_ignored() -> None:
    passed: set[str] = set()

    def notices(own: Callable[[Observed, Now], Actions]) -> Callable[[Observed, Now], Actions]:
        def notice(seen: Observed, now: Now) -> Actions:
            if seen.history.open is not None and seen.target is not None and seen.target != seen.history.open.sha:
                passed.add(seen.target)
            return () if seen.target in passed else own(seen, now)

        return notice

    replace_in(deployer.rollout.decide, "notice_branch", notices)


MUTANTS: dict[str, Mutant] = {
    "no-fence": Mutant("a row carries its decision's epoch, and an old one is refused", _no_fence, 11, "I1"),
    "intent-after-send": Mutant("written before sent", _intent_after_send, 4, "I3"),
    "new-salt": Mutant("the identical bytes are the only retry", _new_salt, 1, "I3"),
    "not-found-is-absent": Mutant("not finding an order proves nothing", _not_found_is_absent, 1, "I5"),
    "abandons-sent": Mutant("only what was not sent is abandoned at a yield", _abandons_sent, 5, "I5"),
    "taker-forgets-doubt": Mutant("a taker settles what is in doubt", _taker_forgets_doubt, 5, "is open or in doubt"),
    "release-says-nothing": Mutant("a release carries the streaks", _release_says_nothing, 8, "goes on from"),
    "taker-forgets-streaks": Mutant("a taker goes on from the streaks", _taker_forgets_streaks, 1, "goes on from"),
    "no-expiry": Mutant("a request expires", _no_expiry, 4, "after its end"),
    "spent-again": Mutant("a request is spent by one yield", _spent_again, 2, "a second time"),
    "retired-takes": Mutant("who is retired never takes", _retired_takes, 1, "retired"),
    "needs-the-lease": Mutant("a standby needs no lease to be ready", _needs_the_lease, 4, "nobody is fit"),
    "risk-ignores-pending": Mutant("what is pending counts as spent", _risk_ignores_pending, 3, "at stake"),
    "halt-ignored": Mutant("no entry leaves after a halt", _halt_ignored, 9, "I6"),
    "yields-to-the-dead": Mutant("nobody yields to who is dead", _yields_to_the_dead, 205, "dead"),
    "lease-by-clock": Mutant("nobody ever takes a lease by clock", _lease_by_clock, 227, "I1"),
    "two-candidates": Mutant("never two candidates", _decides(_ignores_busy), 6, "beside"),
    "confirms-at-once": Mutant("confirmed after N healthy polls", _decides(_confirms_at_once), 6, "is confirmed after"),
    "no-take-back": Mutant("a sick candidate gives the lease back", _decides(_sees_no_ill), 18, "newest commit"),
    "newest-ignored": Mutant("the newest commit wins", _newest_ignored, 12, "newest commit"),
}
