"""The throttle: rate, chunk size, pauses, replicas, and the moment at which work ends; by a clock of the test's own."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from harness.errors import ConfigError
from harness.throttle import Lag, Limits, Pause, Throttle, next_moment

BERLIN = ZoneInfo("Europe/Berlin")
BEGIN = datetime(2026, 3, 1, 22, 0, tzinfo=UTC)


@dataclass
class World(threading.Event):
    """A clock that waiting moves on: the stop event that a throttle is given. ``at_wait`` is called with the time."""

    passed: float = 0.0
    pause: Pause | None = None
    behind: list[Lag] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    looks: int = 0

    def __post_init__(self) -> None:
        super().__init__()
        self.script: dict[int, object] = {}

    __hash__ = object.__hash__

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        assert timeout > 0, "a wait of nothing would spin"
        before = int(self.passed)
        self.passed += timeout
        for second in range(before + 1, int(self.passed) + 1):
            act = self.script.pop(second, None)
            if callable(act):
                act()
        return self.is_set()

    def clock(self) -> float:
        return self.passed

    def now(self) -> datetime:
        return BEGIN + timedelta(seconds=self.passed)

    def present(self) -> Pause | None:
        self.looks += 1
        return self.pause

    def lags(self) -> Sequence[Lag]:
        return self.behind


def throttle(world: World, until: datetime | None = None, **limits: float) -> Throttle:
    given = Limits(**({"chunk_rows": 100} | limits))  # type: ignore[arg-type] # numbers of either kind
    return Throttle(
        given, clock=world.clock, now=world.now, pauses=world, pressures=[world], until=until, told=world.said.append
    )


def test_without_limits_nothing_waits() -> None:
    """Chunks are admitted one after the other, and the clock stands still."""
    world = World()
    made = throttle(world)
    assert all(made.admit(world) for _ in range(50))
    assert world.passed == 0


def test_the_rate_holds_over_time_and_saves_nothing_up() -> None:
    """Ten chunks of 100 rows at 50 rows a second begin two seconds apart; an idle hour buys no rush afterwards."""
    world = World()
    made = throttle(world, rows_per_second=50)
    begun = []
    for _ in range(10):
        assert made.admit(world)
        begun.append(world.passed)
        made.done(100, 0.1)
    assert begun == pytest.approx([2.0 * n for n in range(10)])
    world.passed += 3600
    for _ in range(3):
        assert made.admit(world)
        made.done(100, 0.1)
        begun.append(world.passed)
    assert begun[-1] - begun[-3] == pytest.approx(4.0)


def test_the_rate_counts_the_rows_that_there_were() -> None:
    """A chunk that had fewer rows than reckoned with gives the time back, one that had more takes it."""
    world = World()
    made = throttle(world, rows_per_second=50)
    assert made.admit(world)
    made.done(0, 0.1)
    assert made.admit(world)
    assert world.passed == 0
    made.done(200, 0.1)
    assert made.admit(world)
    assert world.passed == pytest.approx(4.0)


def test_chunks_follow_the_time_they_take() -> None:
    """Full chunks that are quick grow, at most twofold and up to the limit; slow ones shrink, whatever their rows."""
    world = World()
    made = throttle(world, chunk_seconds=1.0, max_chunk_rows=1_000)
    sizes = []
    for _ in range(5):
        made.done(made.chunk_rows(), made.chunk_rows() / 2_000)  # 2,000 rows a second
        sizes.append(made.chunk_rows())
    assert sizes == [200, 400, 800, 1_000, 1_000]
    made.done(1_000, 2.0)
    assert made.chunk_rows() == 500
    made.done(3, 60.0)  # rows of 50 MB
    assert made.chunk_rows() == 125
    for _ in range(5):
        made.done(3, 60.0)
    assert made.chunk_rows() == 1


def test_a_chunk_in_a_hole_says_nothing() -> None:
    """A chunk that is far from full, or empty, and quick does not change the size."""
    world = World()
    made = throttle(world, chunk_seconds=1.0, max_chunk_rows=1_000)
    made.done(0, 0.001)
    made.done(3, 0.001)
    made.done(3, 0.9)
    assert made.chunk_rows() == 100


def test_a_fixed_size_stays_and_a_low_rate_makes_small_chunks() -> None:
    """Without a target nothing is adapted; with one, a chunk is never more than a second of the rate."""
    world = World()
    fixed = throttle(world, rows_per_second=10)
    fixed.done(100, 60.0)
    assert fixed.chunk_rows() == 100
    assert throttle(world, rows_per_second=10, chunk_seconds=1.0).chunk_rows() == 10


def test_a_pause_is_told_of_once_and_ends() -> None:
    """Work stands still from the next look on, says who asked for it, and goes on when it is resumed."""
    world = World(pause=Pause("ann", BEGIN, "backups run"))
    world.script[90] = lambda: setattr(world, "pause", None)
    made = throttle(world)
    assert made.admit(world)
    assert 90 <= world.passed <= 92
    assert [text.split(" since")[0] for text in world.said] == ["paused by ann", "resumed"]
    assert "(backups run); crossfade backfill --resume" in world.said[0]


def test_pause_and_replicas_are_looked_at_once_a_second() -> None:
    """A thousand chunks within a second cost one look."""
    world = World()
    made = throttle(world)
    for _ in range(1_000):
        assert made.admit(world)
        world.passed += 0.0009
    assert world.looks == 1


def test_replicas_are_waited_for_until_they_have_caught_up_by_half() -> None:
    """Above the limit work waits, just below it still, below half of it it goes on; told of at each change only."""
    world = World(behind=[Lag(31.0, 0, "standby of legacy")])
    world.script[10] = lambda: world.behind.__setitem__(0, Lag(29.0, 0, "standby of legacy"))
    world.script[20] = lambda: world.behind.__setitem__(0, Lag(14.0, 0, "standby of legacy"))
    made = throttle(world, lag_seconds=30)
    assert made.admit(world)
    assert 20 <= world.passed <= 22
    assert len(world.said) == 2
    assert "standby of legacy by 31 s (limit 30 s)" in world.said[0]
    world.behind[0] = Lag(29.0, 0, "standby of legacy")
    world.passed += 1
    assert made.admit(world)  # below the limit nothing waits that did not wait before


def test_bytes_count_too_and_ignorance_holds_nobody_up() -> None:
    """A slot that keeps back too many bytes is waited for; a server that tells nothing is noted once and passed."""
    world = World(behind=[Lag(0.0, 2_000, "slot s of new"), Lag(note="legacy tells nothing")])
    made = throttle(world, lag_bytes=1_000)
    world.script[5] = world.behind.clear
    assert made.admit(world)
    assert world.passed >= 5
    assert world.said[0] == "legacy tells nothing"
    assert "slot s of new by 2,000 bytes (limit 1,000)" in world.said[1]
    assert throttle(World(behind=[Lag(9e9, 9, "x")])).admit(World())  # no limit


def test_until_ends_work_even_while_it_waits() -> None:
    """At the moment itself nothing is admitted any more, be it paused, paced or free."""
    for limits, pause in (({}, Pause("ann", BEGIN)), ({"rows_per_second": 0.001}, None)):
        world = World(pause=pause)
        made = throttle(world, until=BEGIN + timedelta(seconds=30.5), **limits)
        while made.admit(world):
            pass
        assert made.over
        assert world.passed == pytest.approx(30.5, abs=0.01)
    assert not throttle(World(), until=BEGIN).admit(World())


def test_stop_ends_every_wait() -> None:
    """A stop that comes while work waits is obeyed at once, and after it nothing is admitted."""
    world = World(pause=Pause("ann", BEGIN))
    world.script[3] = world.set
    made = throttle(world)
    assert not made.admit(world)
    assert world.passed <= 4
    assert not made.over
    assert not made.admit(world)
    assert not made.go_on(world)


def test_many_threads_share_one_rate() -> None:
    """Eight threads together are admitted as often as the rate allows, and every chunk is counted once."""
    admitted = threading.Barrier(8)
    passed = [0.0]
    made = Throttle(Limits(10, rows_per_second=100), clock=lambda: passed[0], now=lambda: BEGIN)
    begun: list[float] = []

    class Turn(threading.Event):
        """Its waits move the shared clock on a little, so that nobody sleeps."""

        def wait(self, timeout: float | None = None) -> bool:
            passed[0] += 0.0001
            return False

    def work() -> None:
        admitted.wait()
        for _ in range(10):
            assert made.admit(Turn())
            begun.append(passed[0])
            made.done(10, 0.01)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(begun) == 80
    assert max(begun) >= 79 * 0.1 - 1e-6


@pytest.mark.parametrize(
    ("text", "now", "expected"),
    [
        ("06:30 Europe/Berlin", "2026-03-01T22:00+00:00", "2026-03-02T05:30+00:00"),  # across midnight
        ("23:30 Europe/Berlin", "2026-03-01T22:00+00:00", "2026-03-01T22:30+00:00"),
        ("22:00 UTC", "2026-03-01T22:00+00:00", "2026-03-02T22:00+00:00"),  # that very minute is tomorrow's
        ("6:05 Z", "2026-03-01T22:00+00:00", "2026-03-02T06:05+00:00"),
        ("02:30 Europe/Berlin", "2026-03-28T23:00+00:00", "2026-03-29T01:30+00:00"),  # skipped: shown as 03:30
        ("02:30 Europe/Berlin", "2026-10-24T23:00+00:00", "2026-10-25T00:30+00:00"),  # twice: the first
        ("02:30 Europe/Berlin", "2026-10-25T00:45+00:00", "2026-10-25T01:30+00:00"),  # the first is past
        ("08:00 Europe/Berlin", "2026-03-28T20:00+00:00", "2026-03-29T06:00+00:00"),  # the day has 23 hours
    ],
)
def test_the_next_moment_a_clock_shows_a_time(text: str, now: str, expected: str) -> None:
    """Across midnight, across days of 23 and 25 hours, and never the present moment itself."""
    assert next_moment(text, datetime.fromisoformat(now)) == datetime.fromisoformat(expected)


def test_without_a_zone_it_is_the_clock_of_who_asks() -> None:
    """The zone that is given counts, and the machine's own where none is."""
    assert next_moment("23:30", BEGIN, BERLIN) == datetime(2026, 3, 1, 22, 30, tzinfo=UTC)
    local = BEGIN.astimezone()
    soon = local + timedelta(minutes=5)
    assert next_moment(f"{soon:%H:%M}", BEGIN) == soon


@pytest.mark.parametrize("text", ["24:00", "6.30", "06:60", "half past six", "06:30 Nowhere/Land", "", "06:30:00"])
def test_what_is_no_time_is_refused(text: str) -> None:
    """With what to write instead."""
    with pytest.raises(ConfigError, match="give"):
        next_moment(text, BEGIN)
