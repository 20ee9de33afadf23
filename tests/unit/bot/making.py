"""What the bot's tests are made of: clocks, an event loop in virtual time, a ledger, a market, one slot's inputs."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

from bot.strategy.api import Inputs
from bot.venue.types import Level, Market
from bus import Control
from ledger import Identity, Ledger
from ledger.rows import Intent
from ledger.schema import SCHEMA
from ledger.values import Outcome, Side

T = TypeVar("T")

IDENTITY = Identity("paper", "137", "0xWallet")
START_MS = 1_800_000_000_000  # on every grid
WINDOW = f"btc-updown-5m-{START_MS // 1000}"
END_MS = START_MS + 300_000
SHARE = 1_000_000
MARKET = Market(
    slug=WINDOW,
    condition_id="0xcondition",
    up_token="1",
    down_token="2",
    tick=Decimal("0.01"),
    min_size=5 * SHARE,
    fee_rate=Decimal("0.07"),
    fee_exponent=1,
    neg_risk=False,
    accepting=True,
    closed=False,
    strike=Decimal(60_000),
    winner=None,
)


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop that does not wait: where nothing is ready, its time jumps to the next timer."""

    def __init__(self) -> None:
        super().__init__(_Jumping())
        self._selector: _Jumping

    def time(self) -> float:
        return self._selector.now_s

    def advance(self, by_s: float) -> None:
        """Something takes so long in the loop itself."""
        self._selector.now_s += by_s


class _Jumping(selectors.DefaultSelector):
    now_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert timeout is not None, "nothing is ready and no timer is set: everybody waits for ever"
        self.now_s += max(0.0, timeout)
        found: list[tuple[selectors.SelectorKey, int]] = super().select(0)
        return found


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(work)


class ManualClock:
    """A clock that moves when it is told to, or with the running loop's virtual time."""

    boot_id = "boot-1"

    def __init__(self, wall_ms: int = START_MS) -> None:
        self.started_ms, self.moved_ms = wall_ms, 0

    def boot_ms(self) -> int:
        return 1_000_000 + self._passed()

    def wall_ms(self) -> int:
        return self.started_ms + self._passed()

    def _passed(self) -> int:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return self.moved_ms
        return self.moved_ms + (round(loop.time() * 1000) if isinstance(loop, VirtualLoop) else 0)


def take(ledger: Ledger, clock: ManualClock, instance: str = "one") -> int:
    """Begin an epoch."""
    return ledger.take(
        instance=instance,
        sha="a" * 40,
        color="blue",
        request="",
        wall_ms=clock.wall_ms(),
        boot_ms=clock.boot_ms(),
        boot_id=clock.boot_id,
    )


def make_ledger(folder: Path, clock: ManualClock, mode: str = "run") -> Ledger:
    """A ledger whose epoch 1 has applied a control of generation 1."""
    ledger = Ledger.hold(folder / "ledger.db", IDENTITY, SCHEMA)
    ledger.execute("PRAGMA synchronous = OFF")  # what survives power loss is the bus's tests' matter; this is faster
    epoch = take(ledger, clock)
    apply(ledger, epoch, 1, mode)
    return ledger


def apply(ledger: Ledger, epoch: int, generation: int, mode: str) -> None:
    """Apply a control."""
    body = Control.model_validate({"generation": generation, "by": "test", "mode": mode}).model_dump_json()
    ledger.apply_control(generation, epoch, body=body, refused="[]", wall_ms=START_MS)


INTENT = Intent(
    order_id="0x01",
    epoch=1,
    tick=START_MS,
    generation=1,
    slot="BTC-5m",
    window=WINDOW,
    window_end_ms=END_MS,
    condition_id=MARKET.condition_id,
    token_id=MARKET.up_token,
    outcome=Outcome.UP,
    side=Side.BUY,
    seq=1,
    price=Decimal("0.50"),
    size=10 * SHARE,
    cost=5 * SHARE + 175_001,
    order_type="FAK",
    body='{"order":1}',
    reason="test",
)

INPUTS = Inputs(
    slot="BTC-5m",
    window=WINDOW,
    now_ms=END_MS - 60_000,
    start_ms=START_MS,
    end_ms=END_MS,
    average_ms=60_000,
    strike=60_000.0,
    lead_price=60_060.0,
    volatility=5e-5,
    average_seconds=0.0,
    average_price=None,
    asks_up=(Level(Decimal("0.60"), 400 * SHARE), Level(Decimal("0.65"), 400 * SHARE)),
    bids_up=(Level(Decimal("0.58"), 400 * SHARE),),
    asks_down=(Level(Decimal("0.42"), 400 * SHARE),),
    bids_down=(Level(Decimal("0.40"), 400 * SHARE),),
    tick=Decimal("0.01"),
    min_size=5 * SHARE,
    fee_rate=0.07,
    fee_exponent=1,
    held=None,
    held_shares=0,
    streak_window="",
    streak_outcome="",
    streak=0,
    blocked="",
    seen_ms=END_MS - 60_000,
)


def inputs(**fields: Any) -> Inputs:
    """One slot's inputs: a minute before the end, a price above the strike, cheap offers; with some fields changed."""
    return replace(INPUTS, **fields)
