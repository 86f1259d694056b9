"""The loop that keeps workers busy with chunks: how many at once, when a part is finished, what ends it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest

from harness.backfill import Chunk, Copied, backfill
from harness.errors import Conflict, CrossfadeError, StoreUnavailable


@dataclass
class Plan:
    """Parts with so many rows each, cut as wide as asked for."""

    sizes: dict[str, int]
    finished: list[str] = field(default_factory=list)
    breaks_at: int | None = None

    def parts(self) -> Sequence[str]:
        return list(self.sizes)

    def chunks(self, part: str, rows: Callable[[], int]) -> Iterator[Chunk]:
        low = 1
        while low <= self.sizes[part]:
            if low == self.breaks_at:
                raise StoreUnavailable("legacy is away")
            high = min(low + rows() - 1, self.sizes[part])
            yield Chunk(part, low, high)
            low = high + 1

    def finish(self, part: str) -> None:
        self.finished.append(part)


@dataclass
class Pace:
    """Admits as many chunks as it is given; None admits all."""

    admitted: int | None = None
    rows: int = 10
    ended: list[int] = field(default_factory=list)

    def admit(self, stop: threading.Event) -> bool:
        if self.admitted is None:
            return True
        self.admitted -= 1
        return self.admitted >= 0

    def chunk_rows(self) -> int:
        return self.rows

    def done(self, rows: int, seconds: float) -> None:
        assert seconds >= 0
        self.ended.append(rows)


def whole(chunk: Chunk) -> Copied:
    return Copied(copied=chunk.high - chunk.low + 1)


def run(
    plan: Plan,
    copy: Callable[[Chunk], Copied] = whole,
    executor: Executor | None = None,
    *,
    workers: int = 2,
    pace: Pace | None = None,
    stop: threading.Event | None = None,
    breath: float = 0.0,
) -> tuple[Copied, bool]:
    with executor or ThreadPoolExecutor(workers) as pool:
        return backfill(
            plan,
            copy,
            pool,
            workers=workers,
            pace=pace or Pace(),
            stop=stop or threading.Event(),
            breath=breath,
        )


def test_every_chunk_of_every_part() -> None:
    """All rows are counted once, each part is finished once, empty ones included, and the pace knows of each chunk."""
    plan, pace = Plan({"a": 25, "empty": 0, "b": 7}), Pace()
    assert run(plan, pace=pace) == (Copied(copied=32), True)
    assert sorted(plan.finished) == ["a", "b", "empty"]
    assert sorted(pace.ended) == [5, 7, 10, 10]


def test_so_many_at_once_and_no_more() -> None:
    """Three workers have three chunks under way, of different parts if need be, and never a fourth."""
    together, most, lock = threading.Barrier(3), [0, 0], threading.Lock()

    def copy(chunk: Chunk) -> Copied:
        with lock:
            most[0] += 1
            most[1] = max(most)
        together.wait(10)  # broken, and an error, unless three come
        with lock:
            most[0] -= 1
        return whole(chunk)

    assert run(Plan({"a": 10, "b": 40, "c": 10}), copy, ThreadPoolExecutor(8), workers=3)[1]
    assert most[1] == 3


def test_a_part_is_finished_when_its_last_chunk_is() -> None:
    """Not when the last one was planned: the first may still be under way."""
    plan, later = Plan({"a": 20}), threading.Event()
    seen: list[list[str]] = []

    def copy(chunk: Chunk) -> Copied:
        if chunk.low == 1:
            later.wait(10)
        else:
            later.set()
        seen.append(list(plan.finished))
        return whole(chunk)

    assert run(plan, copy)[1]
    assert (seen, plan.finished) == ([[], []], ["a"])


def test_a_failure_ends_it_after_what_is_under_way() -> None:
    """The error keeps its class and says which chunk; those under way count, no other begins, nothing is finished."""
    failed, copied = threading.Event(), []

    def copy(chunk: Chunk) -> Copied:
        if chunk.low == 1:
            failed.set()
            raise Conflict("new: no")
        failed.wait(10)
        copied.append(chunk)
        return whole(chunk)

    plan, pace = Plan({"a": 1000}), Pace()
    with pytest.raises(Conflict, match=r"^a, keys 1 to 10: new: no$") as raised:
        run(plan, copy, pace=pace)
    assert isinstance(raised.value.__cause__, Conflict)
    assert (len(copied) <= 2, pace.ended, plan.finished) == (True, [10] * len(copied), [])


def test_an_error_that_is_not_ours() -> None:
    """Told with its class and the chunk, and without its words, which may quote a row."""

    def copy(chunk: Chunk) -> Copied:
        raise ValueError("a row's text")

    with pytest.raises(CrossfadeError, match=r"^a, keys 1 to 10: unexpected ValueError") as raised:
        run(Plan({"a": 10}), copy)
    assert "text" not in str(raised.value)


def test_chunks_that_the_executor_gives_up() -> None:
    """An executor that loses its workers cancels what they had: an error, and not a part that is taken for finished."""

    class Lost(ThreadPoolExecutor):
        def submit(self, *given: object, **more: object) -> Future[object]:  # type: ignore[override]
            future: Future[object] = Future()
            future.cancel()
            future.set_running_or_notify_cancel()
            return future

    plan = Plan({"a": 10})
    with pytest.raises(CrossfadeError, match="given up by the executor"):
        run(plan, executor=Lost(1))
    assert plan.finished == []


def test_stopped_from_outside_or_by_the_pace() -> None:
    """What is under way is awaited and counted; the result says that not all is finished, unless it is."""
    plan = Plan({"a": 50})
    assert run(plan, pace=Pace(admitted=3)) == (Copied(copied=30), False)
    assert plan.finished == []
    stop = threading.Event()

    def copy(chunk: Chunk) -> Copied:
        stop.set()
        return whole(chunk)

    done, finished = run(Plan({"a": 50}), copy, stop=stop)
    assert (done.copied in {10, 20, 30}, finished) == (True, False)
    assert run(Plan({"a": 5}), copy, stop=threading.Event()) == (Copied(copied=5), True)


def test_a_plan_that_breaks_off() -> None:
    """Chunks that had begun are awaited before the error goes on."""
    plan, pace = Plan({"a": 50}, breaks_at=21), Pace()
    with pytest.raises(StoreUnavailable, match="legacy is away"):
        run(plan, pace=pace)
    assert (pace.ended, plan.finished) == ([10, 10], [])


def test_a_breath_between_rounds() -> None:
    """With a breath, nothing is under way after each round of chunks, so that others get their turn."""
    under_way, lock = [0], threading.Lock()

    class Stop(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            breaths.append((timeout, under_way[0]))
            return False

    breaths: list[tuple[float | None, int]] = []

    def copy(chunk: Chunk) -> Copied:
        with lock:
            under_way[0] += 1
        with lock:
            under_way[0] -= 1
        return whole(chunk)

    assert run(Plan({"a": 50}), copy, stop=Stop(), breath=0.5)[1]
    assert breaths == [(0.5, 0), (0.5, 0)]
