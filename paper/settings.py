"""Settings: command line over environment (``PAPER_*``) over defaults."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from paper.engine.book import parse_units
from paper.engine.faults import KINDS, Kind
from paper.engine.feed import Tape, load_tape
from paper.engine.markets import parse_timeframe
from paper.engine.prices import ASSETS
from paper.errors import UsageError
from paper.stdio import check_proxies, loopback
from paper.wire.forms import TradeForm

__all__ = ["Settings", "load_tapes"]

_LONGEST_TWAP_S = 60  # as far as the price history has every tick


class Settings(BaseSettings):
    """How the exchange behaves. Durations are seconds.

    Defaults are as the venue was recorded, not as convenient; a comment above each names who recorded it. A share that nobody
    counted is large enough to come up in an hour, and small enough that one can trade.
    """

    model_config = SettingsConfigDict(use_attribute_docstrings=True, env_prefix="PAPER_", extra="forbid")

    host: str = Field(default_factory=loopback)
    """address to listen on"""
    hosts: str = ""
    """further host names by which it is reached, comma-separated"""
    port: int = Field(8700, ge=0, le=65535)
    """port to listen on; 0 takes any free one"""
    data: Path = Path(".run/paper")
    """folder of the durable record"""
    seed: int = 1
    """seed of all randomness"""
    tape: Annotated[tuple[str, ...], NoDecode] = ()
    """price tapes, FILE or FILE@ASSET, comma-separated"""
    mirror: str = ""
    """mirror a real exchange with play money: real (also without a value), or the URL of another paper"""
    recording: Path | None = None
    """folder of a recording to mirror instead, in the times of now"""
    speed: float = Field(1.0, ge=1, le=1000)
    """how many times faster a recording is played than it was"""
    record_to: Path | None = None
    """folder into which a mirror writes all that it receives"""
    record_budget: float = Field(20.0, ge=0.001, le=100000)
    """GiB that it may have there, oldest first"""
    tape_at: datetime | None = None
    """where in the tapes to start (ISO 8601, UTC)"""
    timeframes: Annotated[tuple[str, ...], NoDecode] = ("5m", "15m")
    """listed timeframes, comma-separated"""
    start_balance: str = "10000"
    """pUSD that a new account gets"""
    resolution_delay: float = Field(2.0, ge=0, le=3600)
    """least seconds from a window's end to its resolution"""
    resolution_spread: float = Field(0.5, ge=0, le=100)
    """how much longer it may take: up to delay * (1 + spread), drawn for each window"""
    # 4.3, 4.6, 5.0 bp (p10, p50, p90; 1 October 2026); -3.3 and -8.5 bp on other days.
    basis: float = Field(4.6, ge=-100, le=100)
    """basis points by which Binance's prices stand above the settlement prices"""
    # 72 window ends of a day lay within 0.7 bp; days differed by 8 bp and more.
    basis_drift: float = Field(2.0, ge=0, le=100)
    """standard deviation of that, within some hours"""
    # RTDS, Chainlink: 1.1, 1.4, 1.8 s (p10, p50, p90).
    stream_delay: float = Field(1.4, ge=0, le=60)
    """seconds by which the settlement price streams are late, in the middle"""
    twap: Annotated[tuple[str, ...], NoDecode] = ()
    """seconds that decide a timeframe's windows, such as 15m=30,1h=0; else a fifth, 60 at most"""
    # Recorded: the strike is the final average of the window before.
    strike: Literal["average", "spot"] = "average"
    """opening reference: the average before the start, or the price at it"""
    # Gamma showed it 20 to 90 s late, and not at all for some windows (MetaMask mobile 34968).
    strike_delay: float = Field(20.0, ge=0, le=3600)
    """least seconds from a window's start until Gamma shows its strike, of 5m and longer"""
    strike_spread: float = Field(3.5, ge=0, le=100)
    """how much longer it may take: up to delay * (1 + spread), drawn for each window"""
    strike_missing: float = Field(0.02, ge=0, le=1)
    """share of windows whose strike is never shown"""
    # A voided window resolves 0.5/0.5; how often is not known.
    void_windows: float = Field(0.002, ge=0, le=1)
    """share of windows that resolve to a half for each share"""
    v2_markets: float = Field(0.0, ge=0, le=1)
    """share of windows whose market is of protocol v2"""
    data_v1: Literal["on", "off", "gone"] = "on"
    """the Data API's older routes: there, 404, or 410"""
    late_markets: float = Field(0.0, ge=0, le=1)
    """share of windows whose market appears after its start"""
    # A field of the market: 250 ms in June 2026, 50 since 17 August, 150 since 4 September.
    taker_delay: float = Field(0.15, ge=0, le=10)
    """seconds that a taker's order is held"""
    # py-sdk 228, ts-sdk 264, trader 942, clob-client 317; UNMATCHED ends a delayed order whose matching failed.
    delayed_answers: float = Field(0.1, ge=0, le=1)
    """share of held orders that are answered at once, delayed or live, without amounts"""
    unmatched_delays: float = Field(0.05, ge=0, le=1)
    """share of the orders answered so that end UNMATCHED after the delay"""
    vanished_delays: float = Field(0.02, ge=0, le=1)
    """share of the orders answered so of which nothing is ever seen again"""
    # On chain 100 at a limit of 0.90 gave 112.359545 at 0.89; 5 at 0.999 were filled with 25 at 0.20 (nautilus_trader 3747).
    market_buys: Literal["money", "shares"] = "money"
    """what a market BUY fills: its money, or its shares"""
    small_takers: bool = True
    """whether FAK and FOK orders may be smaller than 5 shares"""
    # A trade of 1070.54 at 0.401 had several makers at 0.363.
    trades: Literal["joint", "single"] = "joint"
    """an order that meets several makers at once: one trade of all of them, or one of each"""
    trade_price: Literal["limit", "average"] = "limit"
    """price that a trade of several makers shows: the taker's limit, or what was paid"""
    # Documented for the user channel.
    prefixed_statuses: float = Field(0.05, ge=0, le=1)
    """share of trades whose statuses carry the prefix TRADE_STATUS_"""
    # 12 of 34 buys of one user (clob-client 338), none of most.
    failed_trades: float = Field(0.01, ge=0, le=1)
    """share of trades whose settlement fails"""
    retried_trades: float = Field(0.0, ge=0, le=1)
    """share of trades whose settlement is tried again"""
    fresh_shares: Literal["at_once", "mined"] = "at_once"
    """when bought shares can be sold: at once, or once the trade is MINED"""
    stale_balances: float = Field(0.0, ge=0, le=1)
    """share of fills that a balance shows only after /balance-allowance/update"""
    approvals: Literal["all", "collateral", "none"] = "all"
    """what a new wallet lets the exchange take: pUSD and shares, pUSD alone, nothing"""
    settle_time: float = Field(1.0, ge=0, le=600)
    """seconds from a trade to its confirmation"""
    heartbeat_timeout: float = Field(10.0, gt=0, le=600)
    """seconds without a heartbeat until orders are cancelled"""
    rate_tier: Literal["standard", "elite", "none"] = "standard"
    """rate limits of orders and cancels"""
    binance_ping: float = Field(20.0, gt=0, le=3600)
    """seconds between pings on Binance's streams"""
    binance_lifetime: float = Field(86400.0, gt=0)
    """seconds until Binance's streams are closed"""
    binance_notice: float = Field(600.0, ge=0)
    """seconds before that at which serverShutdown is sent"""
    faults: Annotated[tuple[str, ...], NoDecode] = ()
    """kinds of faults that come by themselves, comma-separated, or all"""
    fault_seed: int = 1
    """seed of these faults"""
    fault_interval: float = Field(60.0, gt=0, le=86400)
    """mean seconds between them"""
    redeem: Literal["auto", "claim"] = "auto"
    """winning shares are paid by themselves, or when claimed"""
    house: bool = True
    """whether market maker and crowd trade"""
    finished_orders: Literal["null", "show"] = "null"
    """what a look-up of a finished order answers"""

    @field_validator("tape", "timeframes", "faults", "twap", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("mirror")
    @classmethod
    def _check_mirror(cls, value: str) -> str:
        if value not in ("", "real") and not value.startswith(("http://", "https://")):
            raise ValueError(f"expected real, or the URL of another paper such as http://127.0.0.1:8700; was {value!r}")
        if value == "real":
            check_proxies(os.environ)
        return value

    @model_validator(mode="after")
    def _one_source(self) -> Settings:
        given = [
            name
            for name, value in (("tape", self.tape), ("mirror", self.mirror), ("recording", self.recording))
            if value
        ]
        if len(given) > 1:
            raise ValueError(f"prices come from one place: give one of --{', --'.join(given)}")
        return self

    @field_validator("timeframes")
    @classmethod
    def _check_timeframes(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for timeframe in value:
            parse_timeframe(timeframe)
        return value

    @field_validator("twap")
    @classmethod
    def _check_twap(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for part in value:
            timeframe, _, seconds = part.partition("=")
            parse_timeframe(timeframe)
            if not seconds.isdecimal() or int(seconds) > _LONGEST_TWAP_S:
                raise ValueError(f"expected TIMEFRAME=SECONDS, 0 to {_LONGEST_TWAP_S}, such as 15m=30; was {part!r}")
        return value

    @field_validator("faults")
    @classmethod
    def _check_faults(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        chosen = KINDS if value == ("all",) else value
        unknown = [kind for kind in chosen if kind not in KINDS]
        if unknown:
            raise ValueError(f"unknown kind of fault {unknown[0]!r}; kinds are {', '.join(KINDS)}")
        return tuple(chosen)

    @field_validator("start_balance")
    @classmethod
    def _check_balance(cls, value: str) -> str:
        if not 0 <= parse_units(value) <= 10**18:
            raise ValueError(f"expected 0 to 10^12 pUSD, was {value}")
        return value

    @field_validator("tape_at")
    @classmethod
    def _utc(cls, value: datetime | None) -> datetime | None:
        return value.replace(tzinfo=UTC) if value is not None and value.tzinfo is None else value

    @property
    def twap_seconds(self) -> dict[str, int]:
        """Seconds of the average of the timeframes that have one of their own."""
        return {timeframe: int(seconds) for timeframe, _, seconds in (item.partition("=") for item in self.twap)}

    @property
    def start_balance_units(self) -> int:
        """Start balance in base units."""
        return parse_units(self.start_balance)

    @property
    def fault_kinds(self) -> tuple[Kind, ...]:
        """Kinds of faults that come by themselves."""
        return tuple(kind for kind in KINDS if kind in self.faults)

    @property
    def trade_form(self) -> TradeForm:
        """How trades are shown."""
        return TradeForm(self.trade_price == "limit", self.prefixed_statuses, self.seed)

    @property
    def settle_ms(self) -> int:
        """Time from a trade to its confirmation in ms."""
        return round(self.settle_time * 1000)

    @property
    def heartbeat_ms(self) -> int:
        """Time without a heartbeat until orders are cancelled, in ms."""
        return round(self.heartbeat_timeout * 1000)


def load_tapes(specs: tuple[str, ...]) -> dict[str, Tape]:
    """Load ``FILE`` or ``FILE@ASSET`` tapes; without @ the asset is the start of the file's name (``btc-2018.csv``).

    Raises:
        UsageError: unknown asset, two tapes for one, or a bad file.
    """
    tapes: dict[str, Tape] = {}
    for spec in specs:
        file, _, named = spec.rpartition("@") if "@" in spec else (spec, "", "")
        asset = (named or Path(file).name.split("-")[0].split(".")[0]).upper()
        if asset not in ASSETS:
            raise UsageError(
                f"tape {spec}: asset {asset!r} is unknown; write FILE@ASSET with one of {', '.join(ASSETS)}"
            )
        if asset in tapes:
            raise UsageError(f"tape {spec}: {asset} has a tape already; give one tape an asset")
        tapes[asset] = load_tape(Path(file))
    return tapes
