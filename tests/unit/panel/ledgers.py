"""A small ledger for what the panel reads."""

from __future__ import annotations

from bus import Bus, Control
from ledger import Identity, Ledger
from ledger.predictions import Prediction, add_predictions
from ledger.schema import SCHEMA

DAY = 86_400_000
NOW = 20_000 * DAY + 5_000
INTENT = (
    "INSERT INTO intents(order_id, epoch, tick, generation, slot, window, window_end_ms, condition_id, token_id, outcome, side, "
    "seq, price, size, cost, order_type, body, reason, wall_ms, boot_ms) "
    "VALUES (?, ?, 1, 1, ?, ?, ?, 'c', 't', 'Up', ?, 1, '0.50', 10000000, 5000000, 'FAK', '{}', 'edge', ?, ?)"
)


def make_ledger(bus: Bus, now_ms: int = NOW) -> None:
    """Two epochs, the first one's holder died; two orders, one in doubt; three outcomes on two days, one corrected."""
    with Ledger.hold(bus.ledger, Identity("paper", "137", "0xabc"), SCHEMA) as ledger:
        one = take(ledger, now_ms - 90_000, 1_000)
        ledger.apply_control(1, one, body='{"mode":"run"}', refused="[]", wall_ms=1)
        ledger.miss(now_ms - 95_000, now_ms - 92_000, 2, one, "no instance ran")
        ledger.claim(now_ms - 90_000, one, 1_000)
        ledger.complete(now_ms - 90_000, one, healthy=True, lag_ms=3, duration_ms=12, state="{}")
        ledger.execute(INTENT, ("0x1", one, "BTC-5m", "w1", now_ms, "BUY", now_ms - 80_000, 2_000))
        state = "INSERT INTO orders(epoch, order_id, state, text, wall_ms, boot_ms) VALUES (?, ?, ?, '', 1, ?)"
        ledger.execute(state, (one, "0x1", "accepted", 2_040))
        ledger.execute(state, (one, "0x1", "done", 2_900))
        fill = "INSERT INTO fills VALUES (?, '0x1', ?, ?, 'w1', 'Up', 'BUY', '0.50', ?, 1, 70000, ?)"
        ledger.execute(fill, ("t1", "MATCHED", one, 4_000_000, now_ms))
        ledger.execute(fill, ("t2", "MATCHED", one, 6_000_000, now_ms))
        ledger.execute(fill, ("t2", "FAILED", one, 6_000_000, now_ms))
        two = take(ledger, now_ms - 60_000, 30_000)
        ledger.execute(INTENT, ("0x2", two, "ETH-5m", "w2", now_ms, "BUY", now_ms - 50_000, 40_000))
        ledger.execute(state, (two, "0x2", "in_doubt", 45_000))
        outcome = "INSERT INTO outcomes(window, epoch, slot, winner, payout, pnl, fees, wall_ms) VALUES (?,?,?,'Up',0,?,5000,?)"
        ledger.execute(outcome, ("w0", two, "BTC-5m", -2_000_000, now_ms - DAY))
        ledger.execute(outcome, ("w1", two, "BTC-5m", 3_500_000, now_ms))
        ledger.execute(outcome, ("w3", two, "ETH-5m", 1_000_000, now_ms))
        ledger.execute(
            "INSERT INTO corrections(epoch, window, slot, payout, pnl, fees, reason, wall_ms) "
            "VALUES (?, 'w3', 'ETH-5m', 0, -1500000, 0, 'x', ?)",
            (two, now_ms),
        )
        add_calibration(ledger, two)
        ledger.release(two, request="r", reason="named", wall_ms=now_ms, boot_ms=50_000)
        take(ledger, now_ms, 50_030)


def take(ledger: Ledger, wall_ms: int, boot_ms: int) -> int:
    """Begin an epoch."""
    return ledger.take(instance="i", sha="s", color="blue", request="", wall_ms=wall_ms, boot_ms=boot_ms, boot_id="b")


def add_calibration(ledger: Ledger, epoch: int) -> None:
    """Forty windows of BTC that went up and down in turn; the market knew it, the model had it at a half."""
    add_predictions(
        ledger,
        epoch,
        [
            Prediction(
                f"btc-updown-5m-{number * 300}", 60, "BTC-5m", number * 300_000 + 240_000,
                strike=100.0 + number % 2, model=0.5, market=0.1 if number % 2 else 0.9, belief=0.5, basis=None,
            )
            for number in range(41)
        ],
    )  # fmt: skip


def make_day(bus: Bus, now_ms: int, windows: int = 144) -> None:
    """A day of trading by one holder: windows of four slots, each bought, every third sold again, two in three won."""
    with Ledger.hold(bus.ledger, Identity("paper", "137", "0xabc"), SCHEMA) as ledger:
        epoch = take(ledger, now_ms - DAY, 1_000)
        ledger.apply_control(1, epoch, body=Control(generation=1, by="test").model_dump_json(), refused="[]", wall_ms=1)
        state = "INSERT INTO orders(epoch, order_id, state, text, wall_ms, boot_ms) VALUES (?, ?, ?, '', ?, ?)"
        fill = "INSERT INTO fills VALUES (?, ?, 'MATCHED', ?, ?, 'Up', ?, '0.50', 10000000, 5000000, 70000, ?)"
        for number in range(windows):
            slot = ("BTC-5m", "ETH-5m", "SOL-15m", "DOGE-15m")[number % 4]
            end = now_ms - (windows - number) * DAY // windows
            window = f"{slot.partition('-')[0].lower()}-updown-{slot.partition('-')[2]}-{end // 1000}"
            for side in ("BUY", "SELL")[: 1 + (number % 3 == 2)]:
                order, at = f"0x{number:062x}{side == 'SELL':02x}", end - 30_000 + 10_000 * (side == "SELL")
                boot = at - now_ms + DAY + 2_000
                ledger.execute(INTENT, (order, epoch, slot, window, end, side, at, boot))
                ledger.execute(state, (epoch, order, "accepted", at + 40, boot + 40 + number % 7))
                ledger.execute(fill, (f"t{number}{side}", order, epoch, window, side, at + 50))
                ledger.execute(state, (epoch, order, "done", at + 900, boot + 900))
            pnl = 4_930_000 if number % 3 else -5_070_000
            ledger.execute(
                "INSERT INTO outcomes(window, epoch, slot, winner, payout, pnl, fees, wall_ms) VALUES (?,?,?,?,0,?,70000,?)",
                (window, epoch, slot, "Up" if number % 3 else "Down", pnl, end + 20_000),
            )
        add_calibration(ledger, epoch)
