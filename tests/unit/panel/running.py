"""A real panel as a process, plain HTTP to it, and status documents as a bot writes them."""

from __future__ import annotations

import http.client
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from bus import (
    Bus,
    ControlStatus,
    FeedStatus,
    FileLock,
    OutcomeStatus,
    ParameterStatus,
    PositionStatus,
    SlotStatus,
    Status,
    StrategyStatus,
    SystemClock,
    Totals,
    UsageStatus,
    open_bus,
    read_control,
    write_status,
)
from panel.codes import codes_file, link_to, make_code
from tests.forked import Forked, listening

ASSETS = {"BTC": 91_250.4, "ETH": 3_120.55, "SOL": 182.314, "XRP": 2.2071, "DOGE": 0.17342, "BNB": 873.21}


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class RunningPanel:
    """One process of the panel and its bus."""

    process: Forked
    bus: Bus
    listening: dict[str, Any]
    token: str
    port: int = field(init=False)

    def __post_init__(self) -> None:
        self.port = int(self.listening["url"].rpartition(":")[2])

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        token: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """One request. body: bytes are sent as they are, everything else as JSON. token: the right one unless named, "" none."""
        sent = {"Host": f"127.0.0.1:{self.port}"}
        content: bytes | None = None
        if token != "":
            sent["Authorization"] = f"Bearer {token or self.token}"
        if method not in ("GET", "HEAD"):
            sent["Content-Type"] = "application/json"
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, path, content, {**sent, **(headers or {})})
            response = connection.getresponse()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()

    def link(self) -> str:
        """A link that opens the page once."""
        code = make_code(codes_file(Path(self.listening["token_file"])), SystemClock().wall_ms())
        return link_to(self.listening["url"], code)

    def post(self, path: str, **body: Any) -> Answer:
        """A write as the page makes it."""
        return self.call("POST", f"/api/{path}", body)

    def generation(self) -> int:
        """The generation that is on the bus."""
        return read_control(self.bus).generation


def environment(directory: Path, **settings: str) -> dict[str, str]:
    """The environment of a panel on a bus in `directory`, without settings of the machine."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PANEL_", "BUS_"))}
    own = {"BUS_DIR": str(directory / "bus"), "PANEL_PORT": "0", "PANEL_TOKEN_FILE": str(directory / "run" / "token")}
    return {**kept, **own, **settings}


@contextmanager
def running_panel(directory: Path, **settings: str) -> Iterator[RunningPanel]:
    """Start a panel, wait until it listens, end it afterwards. A later one in the same directory goes on with its bus."""
    with tempfile.NamedTemporaryFile(dir=directory, prefix="panel-", suffix=".log", delete=False) as made:
        log = Path(made.name)
    process = Forked(["panel"], environment=environment(directory, **settings), stdout=log, stderr=log)
    try:
        said = listening(process, log)
        token = Path(said["token_file"]).read_text().strip()
        yield RunningPanel(process, open_bus(directory / "bus"), said, token)
    finally:
        process.terminate()
        try:
            process.wait(10)
        finally:
            process.kill()


@contextmanager
def deployer_runs(bus: Bus) -> Iterator[None]:
    """Hold the lock by which a deployer is known to run."""
    lock = FileLock(bus.deployer_lock)
    assert lock.try_lock()
    try:
        yield
    finally:
        lock.unlock()


def make_status(*, now_ms: int | None = None, epoch: int = 7, color: str = "blue", **changes: Any) -> Status:
    """A busy moment: 16 slots, two of them in their snipe window, one position of each kind."""
    now = SystemClock().wall_ms() if now_ms is None else now_ms
    fields: dict[str, Any] = {
        "epoch": epoch,
        "instance": f"20261123T201500-{color}-4f2c91a-0a1b2c",
        "sha": "4f2c91a07be3d1d0c2a95a1f3d4e5f60718293a4"
        if color == "blue"
        else "b81d0e3c55aa93be1029384756abcdef01234567",
        "color": color,
        "since_ms": now - 8_040_000,
        "tick": now // 5000 * 5000,
        "interval_ms": 5000,
        "venue": "paper",
        "wallet": "0x5a0bE04C92287Bc6b2e1ad09be8fA77D6130c3d1",
        "balance": Decimal("9874.32"),
        "clock_offset_ms": 3,
        "control": ControlStatus(seen=1, applied=1),
        "slots": tuple(_slots(now)),
        "feeds": tuple(
            FeedStatus(
                name=f"binance {asset}", connected=True, age_ms=120 + 35 * index, fresh=True, reconnects=index % 2
            )
            for index, asset in enumerate(ASSETS)
        ),
        "outcomes": tuple(_outcomes(now)),
        "strategy": StrategyStatus(
            name="bot.strategy.snipe:Snipe",
            parameters={"snipe_fraction": 0.3, "min_edge": 0.03, "exit_edge": 0.05, "confirmations": 2, "kelly": 0.25},
            about={
                "snipe_fraction": ParameterStatus(default=0.3, least=0, most=1, unit="of the window"),
                "kelly": ParameterStatus(default=0.5, least=0, most=1, unit="of the Kelly stake"),
            },
        ),
        "usage": UsageStatus(
            slots={"SOL-5m": Decimal("31.02"), "ETH-15m": Decimal("31.02")},
            assets={"SOL": Decimal("31.02"), "ETH": Decimal("31.02")},
            total=Decimal("62.04"),
            loss_today=Decimal("12.40"),
            orders_last_minute=3,
        ),
        "totals": Totals(
            polls_completed=48_211,
            orders=96,
            fills=92,
            exposure=Decimal("61.40"),
            pnl=Decimal("312.87"),
            pnl_today=Decimal("41.06"),
            fees=Decimal("18.22"),
            wins=58,
            losses=31,
        ),
    }
    return Status(**{**fields, **changes})


def _slots(now: int) -> Iterator[SlotStatus]:
    for offset, assets in ((0, tuple(ASSETS)), (1, ("BTC", "ETH"))):
        for timeframe, length in (("5m", 300_000), ("15m", 900_000)):
            for index, asset in enumerate(assets):
                yield _slot(now, asset, timeframe, length, offset, index)


def _slot(now: int, asset: str, timeframe: str, length: int, offset: int, index: int) -> SlotStatus:
    snipe = offset == 0 and (asset, timeframe) in (("SOL", "5m"), ("ETH", "15m"))
    start = now // length * length + offset * length
    start, end = (now - length + 41_000, now + 41_000) if snipe else (start, start + length)
    strike = ASSETS[asset] * (1 - 0.0004 * (index - 2))
    window = f"{asset.lower()}-updown-{timeframe}-{start // 1000}"
    position = None
    if snipe:
        outcome = "Up" if asset == "SOL" else "Down"
        position = PositionStatus(
            window=window,
            outcome=outcome,
            shares=Decimal("42.5"),
            cost=Decimal("31.02"),
            value=Decimal("36.55"),
            average=Decimal("0.7299"),
            pnl=Decimal("5.53"),
        )
    return SlotStatus(
        slot=f"{asset}-{timeframe}{'+1' if offset else ''}",
        asset=asset,
        timeframe=timeframe,
        enabled=True,
        window=window,
        start_ms=start,
        end_ms=end,
        in_snipe=snipe,
        strike=None if offset else strike,
        lead_price=ASSETS[asset],
        probability_up=None if offset else 0.5 + 0.07 * (index - 2),
        edge=None if offset else 0.031 - 0.012 * index,
        best_ask_up=Decimal("0.52") + Decimal("0.07") * (index - 2),
        best_ask_down=Decimal("0.49") - Decimal("0.07") * (index - 2),
        best_bid_up=Decimal("0.51") + Decimal("0.07") * (index - 2),
        best_bid_down=Decimal("0.48") - Decimal("0.07") * (index - 2),
        settlement_price=ASSETS[asset] * 0.9999 if snipe else None,
        decision="hold" if snipe else "none",
        reason="holding; worth 0.958, bid 0.93"
        if snipe
        else "no strike yet"
        if offset
        else "edge +0.004 is below 0.03",
        code="holding" if snipe else "no_data" if offset else "edge",
        position=position,
        orders=int(snipe and asset == "ETH"),
        pnl=Decimal(f"{(index * 7 % 5) * 3.17 - 4.4:.2f}") if not offset else Decimal(0),
    )


def _outcomes(now: int) -> Iterator[OutcomeStatus]:
    for index, asset in enumerate(ASSETS):
        resolved = now - index * 301_000
        yield OutcomeStatus(
            window=f"{asset.lower()}-updown-5m-{resolved // 300_000 * 300}",
            slot=f"{asset}-5m",
            winner="Up" if index % 3 else "Down",
            pnl=Decimal("-12.40") if index % 4 == 2 else Decimal("7.85"),
            fees=Decimal("0.31"),
            resolved_ms=resolved,
        )


class Bot:
    """Stands in for the active bot's hand: writes status under rising sequence numbers."""

    def __init__(self, bus: Bus) -> None:
        self._bus, self._sequence = bus, 0

    def write(self, status: Status) -> None:
        """Write `status` now."""
        self._sequence += 1
        write_status(self._bus, status, self._sequence, SystemClock().wall_ms())
