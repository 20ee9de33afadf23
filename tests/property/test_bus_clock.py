"""The grid of ticks, by hypothesis: no step of any clock repeats or skips one."""

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from bus import Anchor, new_anchor

INTERVALS = st.sampled_from([200, 1000, 1500, 5000, 7001])
WALL = 1_790_000_000_000


@dataclass
class Host:
    """Clocks that a test moves."""

    wall: int = WALL
    boot: int = 12_345
    boots: int = 0

    @property
    def boot_id(self) -> str:
        return str(self.boots)

    def boot_ms(self) -> int:
        return self.boot

    def wall_ms(self) -> int:
        return self.wall


@dataclass
class Poller:
    """Polls every due tick, fastening the grid anew where a taker does: another boot or another interval."""

    host: Host
    interval: int
    anchor: Anchor = field(init=False)
    polled: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.anchor = new_anchor(self.host, self.interval, None)

    def take(self) -> None:
        last = self.polled[-1] if self.polled else None
        if self.anchor.boot_id != self.host.boot_id or self.anchor.interval_ms != self.interval:
            self.anchor = new_anchor(self.host, self.interval, last)
            assert self.anchor.next_tick(self.host.boot) > (last or 0)
            assert self.anchor.due_ms(self.anchor.next_tick(self.host.boot)) <= self.host.boot + self.interval

    def run(self, ms: int) -> None:
        """Time passes on both clocks, and each tick is polled when it is due."""
        end = self.host.boot + ms
        while (due := self.anchor.due_ms(tick := self.anchor.next_tick(self.host.boot))) <= end:
            assert due > self.host.boot
            self.host.wall += due - self.host.boot
            self.host.boot = due
            assert self.anchor.tick_at(due) == tick
            assert self.anchor.tick_at(due - 1) == tick - self.interval
            self.polled.append(tick)
        self.host.wall += end - self.host.boot
        self.host.boot = end


step = st.integers(-10 * 365 * 86_400_000, 365 * 86_400_000)
events = st.one_of(
    st.tuples(st.just("run"), st.integers(0, 30_000)),
    st.tuples(st.just("step"), step),
    st.tuples(st.just("reboot"), step),
    st.tuples(st.just("interval"), INTERVALS),
    st.tuples(st.just("take"), st.none()),
)


@settings(deadline=None)
@given(INTERVALS, st.lists(events, max_size=12))
def test_ticks_never_repeat_nor_skip(interval: int, story: list[tuple[str, int | None]]) -> None:
    """Over wall clock steps, reboots, interval changes and takes, ticks only rise, and between fastenings by one interval."""
    host = Host()
    poller = Poller(host, interval)
    for kind, value in story:
        before = (len(poller.polled), poller.anchor)
        match kind, value:
            case "run", int():
                poller.run(value)
                new = poller.polled[before[0] :]
                assert len(new) in (value // poller.interval, value // poller.interval + 1)
            case "step", int():
                host.wall = max(0, host.wall + value)
            case "reboot", int():
                host.boots, host.boot, host.wall = host.boots + 1, 4000, max(0, host.wall + value)
                poller.take()
            case "interval", int():
                poller.interval = value
                poller.take()
            case _:
                poller.take()
                assert poller.anchor == before[1], "a take on the same boot keeps the grid"
    assert poller.polled == sorted(set(poller.polled))


@settings(deadline=None)
@given(INTERVALS, st.integers(0, 10**13), st.integers(0, 10**10), st.integers(-(10**7), 10**7))
def test_a_new_grid_lies_on_round_wall_times(interval: int, wall: int, boot: int, later: int) -> None:
    """A first grid's ticks are multiples of the interval, due when the wall clock of that moment says so."""
    host = Host(wall, boot)
    anchor = new_anchor(host, interval, None)
    tick = anchor.tick_at(boot + later)
    assert tick % interval == 0
    assert tick <= wall + later < tick + interval
    assert anchor.due_ms(tick) == boot + tick - wall
