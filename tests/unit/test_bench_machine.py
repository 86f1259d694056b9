"""The benchmarks' yardstick: when the machine itself was slow or stood still."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.machine import SLOW, STANDING_SECONDS, Beats, Speed

STEP, WORK = 0.004, 0.0001


def beats(slow: Sequence[int] = (), standing: Sequence[int] = (), *, first: bool = True, number: int = 100) -> Beats:
    """Beats of which some took longer, and some came late."""
    found, now = Beats(first=first), 1000.0
    for at in range(number):
        now += STEP + (2 * STANDING_SECONDS if at in standing else 0)
        took = WORK * (2 * SLOW if at in slow else 1)
        found.began.append(now)
        found.took.append(took)
        now += took
        found.ended.append(now)
    return found


def test_a_machine_that_keeps_its_speed() -> None:
    found = beats()
    speed = Speed(found)
    assert speed.kept(found.began[0], found.ended[-1])
    assert speed.slow_share == 0


def test_what_overlaps_slow_moments_is_told_from_what_does_not() -> None:
    found = beats(slow=range(40, 60))
    speed = Speed(found)
    assert speed.kept(found.began[0], found.ended[38])
    assert speed.kept(found.began[61], found.ended[-1])
    for began, ended in ((38, 41), (50, 50), (58, 62), (0, 99)):
        assert not speed.kept(found.began[began], found.ended[ended]), (began, ended)
    assert 0.19 < speed.slow_share < 0.3


def test_a_single_slow_beat_was_interrupted() -> None:
    found = beats(slow=[20, 50, 80])
    assert Speed(found).kept(found.began[0], found.ended[-1])


def test_a_machine_that_stood_still() -> None:
    """Nothing was slow, but nothing went on: only told where the work had precedence over all of ours."""
    found = beats(standing=[50])
    assert not Speed(found).kept(found.ended[49], found.began[50])
    assert Speed(found).kept(found.began[0], found.began[49])
    ours = beats(standing=[50], first=False)
    assert Speed(ours).kept(ours.began[0], ours.ended[-1])
