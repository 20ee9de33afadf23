"""The endpoints that write: the eight actions, and requests to the deployer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Annotated, Any, Literal, Self, cast

from fastapi import APIRouter, Path, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from bus.control import LONGEST_PAUSE_S, MOST_WHY, pause_reason
from panel.actions import Actions, Asked, Asker, Written
from panel.guard import Token
from panel.views import Views

MOST_GENERATION = 1 << 53
LONGEST_WAIT_S = 15.0
LOOK_EVERY_S = 0.1
MOST_PARAMETERS = 100

# A JSON number or text; pUSD.
Money = Annotated[Decimal, Field(strict=False, gt=0, max_digits=12, decimal_places=4, allow_inf_nan=False)]
Price = Annotated[Decimal, Field(strict=False, gt=0, lt=1, max_digits=6, decimal_places=4, allow_inf_nan=False)]
Name = Annotated[str, Field(min_length=1, max_length=60, pattern="^[A-Za-z0-9_]+$")]
Value = bool | int | Annotated[float, Field(allow_inf_nan=False)] | Annotated[str, Field(max_length=200)] | None
SlotName = Annotated[str, Field(min_length=1, max_length=60)]


class BasedOn(BaseModel):
    """generation: the control generation that the person saw. wait_s: wait so long for the bot to apply it, or refuse it."""

    model_config = ConfigDict(extra="forbid", strict=True)

    generation: int = Field(ge=0, le=MOST_GENERATION)
    wait_s: float = Field(default=0.0, ge=0, le=LONGEST_WAIT_S, strict=False)


class PauseBody(BasedOn):
    """for_s: the pause ends by itself after so many seconds; null: somebody resumes. why: for whoever reads the page."""

    for_s: int | None = Field(default=None, ge=1, le=LONGEST_PAUSE_S)
    why: Annotated[str, AfterValidator(pause_reason)] = Field(default="", max_length=MOST_WHY)


class ResumeBody(BasedOn):
    """confirm: needed when trading is halted."""

    confirm: bool = False


class FlattenBody(BasedOn):
    """slot: the one in whose present window nothing shall be held; all where it is left out."""

    slot: SlotName | None = None


class EnterBody(BasedOn):
    """One entry in the slot's present window. max_spend: pUSD, fee included. max_price: the best offer where left out."""

    slot: SlotName
    outcome: Literal["Up", "Down"]
    max_spend: Money
    max_price: Price | None = None


class ChangeBody(BasedOn):
    """At least one thing to change; what is not named stays."""

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not self.changes():
            raise ValueError("expected at least one thing to change beside the generation")
        return self

    def changes(self) -> dict[str, Any]:
        """What was named."""
        return {name: getattr(self, name) for name in self.model_fields_set - {"generation", "wait_s"}}


class SlotBody(ChangeBody):
    """enabled: whether the slot shall be traded. max_order: most pUSD of one entry here; null leaves it to the risk limits."""

    enabled: bool = True
    max_order: Money | None = None


class RiskBody(ChangeBody):
    """Risk limits, as `bus.RiskLimits` has them; null takes one away, where there may be none."""

    max_order: Money = Decimal(50)
    max_slot: Money = Decimal(100)
    max_asset: Money = Decimal(300)
    max_total: Money = Decimal(1000)
    daily_loss: Money = Decimal(500)
    orders_per_minute: int = Field(default=60, ge=1, le=100_000)
    hourly_loss: Money | None = None
    count_open: bool = False
    losses_in_a_row: int | None = Field(default=None, ge=1, le=100)
    cool_down_minutes: int = Field(default=60, ge=1, le=1440)
    max_direction: Money | None = None
    correlated: tuple[Name, ...] = Field(default=(), max_length=50, strict=False)
    failed_trades_per_hour: int = Field(default=10, ge=1, le=10_000)


class StrategyBody(BasedOn):
    """parameters: values by name; null gives a parameter its default again."""

    parameters: dict[Name, Value] = Field(min_length=1, max_length=MOST_PARAMETERS)


class AskBody(BaseModel):
    """What the deployer is asked. ref: a commit; empty leaves it to the deployer. now: wait for no approval."""

    model_config = ConfigDict(extra="forbid", strict=True)

    ref: str = Field(default="", max_length=100, pattern="^[A-Za-z0-9][A-Za-z0-9._/-]*$|^$")
    now: bool = False


def writes(actions: Actions, views: Views, conflict: dict[int | str, dict[str, Any]]) -> APIRouter:
    """The router. conflict: how the answer to a stale write is described."""
    router = APIRouter(prefix="/api", responses=conflict)

    async def done(body: BasedOn, write: Callable[[], Written]) -> Written:
        written = await run_in_threadpool(write)
        return await _followed(written, body.wait_s, views)

    @router.post("/pause")
    async def pause(body: PauseBody, request: Request) -> Written:
        """No entries; exits go on. It may end by itself."""
        who = _asker(request)
        return await done(body, lambda: actions.pause(body.generation, who, for_s=body.for_s, why=body.why))

    @router.post("/resume")
    async def resume(body: ResumeBody, request: Request) -> Written:
        """Entries again; needs confirm when halted."""
        return await done(body, lambda: actions.resume(body.generation, _asker(request), confirm=body.confirm))

    @router.post("/halt")
    async def halt(body: BasedOn, request: Request) -> Written:
        """The kill switch. The halt file is set even when control cannot be written."""
        return await done(body, lambda: actions.halt(body.generation, _asker(request)))

    @router.post("/flatten")
    async def flatten(body: FlattenBody, request: Request) -> Written:
        """Sell what is held in the present window of one slot or of all, and enter nothing more in it."""
        return await done(body, lambda: actions.flatten(body.generation, _asker(request), body.slot))

    @router.post("/enter")
    async def enter(body: EnterBody, request: Request) -> Written:
        """One entry by hand, within risk."""
        return await done(
            body,
            lambda: actions.enter(
                body.generation,
                _asker(request),
                slot=body.slot,
                outcome=body.outcome,
                max_spend=body.max_spend,
                max_price=body.max_price,
            ),
        )

    @router.post("/slots/{slot}")
    async def slot(slot: Annotated[str, Path(max_length=60)], body: SlotBody, request: Request) -> Written:
        """One slot on or off, and its largest order."""
        return await done(body, lambda: actions.slot(slot, body.generation, _asker(request), body.changes()))

    @router.post("/risk")
    async def risk(body: RiskBody, request: Request) -> Written:
        """Risk limits."""
        return await done(body, lambda: actions.risk(body.generation, _asker(request), body.changes()))

    @router.post("/strategy")
    async def strategy(body: StrategyBody, request: Request) -> Written:
        """Parameters of the strategy."""
        return await done(body, lambda: actions.strategy(body.generation, _asker(request), body.parameters))

    @router.post("/rollback")
    def rollback(body: AskBody, request: Request) -> Asked:
        """Ask the deployer for the commit that was confirmed before the present one, or for the one that is named."""
        return actions.ask_deployer("rollback", _asker(request), ref=body.ref, now=body.now)

    @router.post("/approve")
    def approve(body: AskBody, request: Request) -> Asked:
        """Tell the deployer to go on with a deploy that waits for a person."""
        return actions.ask_deployer("approve", _asker(request), ref=body.ref, now=body.now)

    return router


async def _followed(written: Written, wait_s: float, views: Views) -> Written:
    """The answer with how far the write has come, after waiting up to `wait_s` for the bot."""
    deadline = time.monotonic() + wait_s
    while True:
        progress = await run_in_threadpool(views.progress, written.generation, written.manual)
        if progress.settled or progress.stage == "refused" or time.monotonic() >= deadline:
            return written.model_copy(update={"progress": progress})
        await asyncio.sleep(LOOK_EVERY_S)


def _asker(request: Request) -> Asker:
    """Who asks and from where; what a proxy says of its client is kept, but not trusted."""
    token = cast(Token, request.state.token)  # the guard lets no write pass without one
    peer = request.client.host if request.client else "unknown"
    forwarded = request.headers.get("x-forwarded-for")
    return Asker(token.name, f"{peer} for {ascii(forwarded)[1:-1]:.100}" if forwarded else peer)
