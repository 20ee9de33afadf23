"""Things of the bus that stand still, for tests."""

from dataclasses import dataclass

from ledger import Identity, Ledger

IDENTITY = Identity("paper", "137", "0xwallet")


@dataclass
class FrozenClock:
    """A clock that stands until a test moves it."""

    wall: int = 1_790_000_000_123
    boot: int = 50_000
    boot_id: str = "boot-1"

    def boot_ms(self) -> int:
        return self.boot

    def wall_ms(self) -> int:
        return self.wall


def take(ledger: Ledger, instance: str = "i") -> int:
    """Begin an epoch with details that do not matter."""
    return ledger.take(instance=instance, sha="a" * 40, color="blue", request="", wall_ms=1, boot_ms=1, boot_id="b")


def complete(ledger: Ledger, tick: int, epoch: int) -> None:
    """Complete a poll with details that do not matter."""
    ledger.complete(tick, epoch, healthy=True, lag_ms=0, duration_ms=1, state="{}")


def release(ledger: Ledger, epoch: int, request: str = "r") -> None:
    """Release an epoch with details that do not matter."""
    ledger.release(epoch, request=request, reason="handover", wall_ms=1, boot_ms=1)
