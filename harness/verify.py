"""Verify: stored data against stored data.

1. Both sides are read once, at the same time, each as it was at one snapshot, segment by segment: of each bucket of
   rows the databases say how many they are and the sum of their digests (``narrowing``).
2. Only the rows of unequal buckets are listed, key by key, with their digests.
3. Only unequal rows are looked at again, and at last read field by field (``looking``).

Each step is bounded in memory, however many rows differ. What the first step found of a segment is kept, so that a
verification that was interrupted goes on: at most one segment of each worker is read again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, fields, replace
from datetime import datetime
from itertools import islice
from threading import Event
from typing import Any, Protocol

from harness import looking
from harness.errors import CrossfadeError
from harness.failpoints import passing
from harness.looking import Looker
from harness.narrowing import MILLION, Cells, Plan, Segment, Sums, differing
from harness.ports import Clock
from harness.records import Kind, RowDifference, Verdict, Verification
from harness.routing import Store
from harness.settings import VerifySettings

_MOST_LOOKED_AT = 10_000  # rows in one look; more differing rows are looked at in turns
_POLL = 0.2


class Moment(Protocol):
    """A snapshot of one store."""

    @property
    def at(self) -> datetime: ...


class Side(looking.Rows, Protocol):
    """One store's rows, as verify reads them. Keys sort alike on both sides."""

    def size(self) -> int:
        """About how many rows there are; a guess will do."""
        ...

    def is_quick(self) -> bool:
        """Whether it knows the quicker digests (``Plan.quick``)."""
        ...

    def fingerprint(self) -> str:
        """Changes when sums that were kept say nothing any more of what there is now."""
        ...

    def segments(self, megabytes: int) -> Sequence[Segment]:
        """All rows, in pieces of about that size."""
        ...

    def snapshot(self) -> AbstractContextManager[Any]:
        """A ``Moment`` that lasts as long as the block."""
        ...

    def digest(self, segment: Segment, plan: Plan, taken: Any) -> Sums:
        """The sums of a segment at a moment: of its rows, of its unrepresentable ones, and the number of the rest.

        Called from several threads at once.
        """
        ...

    def foreign(self, plan: Plan, cells: Cells) -> int:
        """How many rows of these buckets are none of the migration's."""
        ...

    def listed(self, plan: Plan, cells: Cells, *, fit: bool) -> AbstractContextManager[Iterator[tuple[str, str]]]:
        """Key and digest of each row of the buckets, in the order of keys, with bounded memory.

        ``fit``: the representable rows or the others.
        """
        ...


@dataclass(frozen=True, slots=True)
class Sitting:
    """What a verification goes by, from its beginning to its end, however often it is interrupted.

    ``at``: its first snapshot. ``sittings``: how many snapshots it rests on.
    """

    fingerprint: str
    at: datetime
    plan: Plan
    segments: Mapping[Store, tuple[Segment, ...]]
    sittings: int = 1


class Checkpoints(Protocol):
    """Where the sums of finished segments are kept. At most one verification at a time."""

    def interrupted(self) -> Sitting | None:
        """The verification that did not come to its end, if there is one."""
        ...

    def kept(self) -> Iterable[tuple[Store, int, bytes]]:
        """Its finished segments, by number, and their sums."""
        ...

    def begin(self, sitting: Sitting) -> None:
        """Keep this one from now on. Kept sums stay only if it goes on with the same fingerprint and moment."""
        ...

    def keep(self, store: Store, number: int, sums: bytes) -> None: ...

    def end(self) -> None:
        """Forget it."""
        ...


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be compared, if not everything. ``restriction`` says so in words, in every verdict."""

    restriction: str = ""
    seed: int = 1
    in_million: int = MILLION


@dataclass(frozen=True, slots=True)
class Verify:
    """One verification, of two sides. Errors of a store are raised: there is no verdict then.

    ``patience``: seconds that differing rows may take to be carried over before they count as unsettled. Unsettled
    rows make the verdict inconclusive, never a pass; so does everything that was not looked at.
    ``found`` gets every confirmed difference, in no order. ``apart``: new is known to have rows that are none of the
    migration's; a matter of speed alone. ``progress``: segments done, and how many there are.
    """

    legacy: Side
    new: Side
    queue: looking.Queue
    settings: VerifySettings
    clock: Clock
    stop: Event
    asked: Asked = Asked()
    checkpoints: Checkpoints | None = None
    found: Callable[[RowDifference], None] | None = None
    apart: bool = False
    progress: Callable[[int, int], None] = lambda done, total: None

    def run(self, *, patience: float, resume: bool = False) -> Verification:
        """Compare, and return the verdict. ``resume``: go on with one that was interrupted, if it was the same."""
        started = self.clock()
        sitting, sums = self._sweep(resume)
        ours, theirs, buckets = sums[Store.LEGACY], sums[Store.NEW], sitting.plan.buckets
        looker = Looker(
            self.legacy,
            self.new,
            self.queue,
            self.settings.examples,
            self.clock() + patience,
            self.clock,
            self.stop,
            self.found,
        )
        unequal = ours.unequal(theirs, 0, buckets)
        new_only = theirs.rows[-1] if sitting.plan.apart else self._foreign(sitting.plan, unequal)
        self._narrow(sitting.plan, unequal, looker.look, fit=True)
        unequal = ours.unequal(theirs, buckets, 2 * buckets)
        self._narrow(sitting.plan, unequal, looker.look_at_quarantine, fit=False)
        if self.stop.is_set():
            raise _interrupted(self.checkpoints)
        if self.checkpoints is not None:
            self.checkpoints.end()
        kinds = looker.findings.kinds
        return Verification(
            at=sitting.at,
            verdict=_verdict(looker.findings, self.asked),
            compared=ours.count(0, buckets) + kinds[Kind.EXTRA],
            missing=kinds[Kind.MISSING],
            extra=kinds[Kind.EXTRA],
            different=kinds[Kind.DIFFERENT],
            transient=looker.findings.transient,
            unsettled=looker.findings.unsettled,
            quarantined=theirs.count(buckets, 2 * buckets),
            unaccounted=kinds[Kind.MISPLACED],
            new_only=new_only,
            seconds=self.clock() - started,
            examples=tuple(looker.findings.examples),
            owed=looker.findings.owed,
            restriction=self.asked.restriction,
            snapshots=sitting.sittings,
        )

    def _foreign(self, plan: Plan, unequal: Cells) -> int:
        """New's rows that are none of the migration's: one of them makes its bucket unequal, so no other has any."""
        return self.new.foreign(plan, unequal) if unequal.count else 0

    def _narrow(self, plan: Plan, cells: Cells, look: Callable[[Collection[str]], None], *, fit: bool) -> None:
        """Look at every row of the buckets that differs."""
        if not cells.count:
            return
        # Both servers sort at the same time; then they are read side by side.
        with self.legacy.listed(plan, cells, fit=fit) as ours, self.new.listed(plan, cells, fit=fit) as theirs:
            suspects = differing(ours, theirs)
            while not self.stop.is_set() and (batch := list(islice(suspects, _MOST_LOOKED_AT))):
                look(batch)

    def _sweep(self, resume: bool) -> tuple[Sitting, dict[Store, Sums]]:
        """The sums of both sides."""
        sides = {Store.LEGACY: self.legacy, Store.NEW: self.new}
        with ExitStack() as stack:
            # New first: what is carried over between the two snapshots differs in new's then, and is looked at again.
            moments = {store: stack.enter_context(sides[store].snapshot()) for store in (Store.NEW, Store.LEGACY)}
            sitting, done = self._begin(sides, moments[Store.NEW].at, resume)
            sums = {store: Sums(sitting.plan.cells) for store in sides}
            for store, _, kept in done:
                sums[store].merge(kept)
            finished = {(store, number) for store, number, _ in done}
            jobs: dict[Future[Sums], tuple[Store, int]] = {}
            pools = {store: ThreadPoolExecutor(self.settings.workers, f"verify-{store}") for store in sides}
            for pool in pools.values():
                stack.callback(pool.shutdown, wait=True, cancel_futures=True)
            for store, side in sides.items():
                for number, segment in enumerate(sitting.segments[store]):
                    if (store, number) not in finished:
                        job = pools[store].submit(side.digest, segment, sitting.plan, moments[store])
                        jobs[job] = store, number
            self._collect(jobs, sums, len(finished))
        return sitting, sums

    def _collect(self, jobs: dict[Future[Sums], tuple[Store, int]], sums: dict[Store, Sums], before: int) -> None:
        total = before + len(jobs)
        while jobs:
            self.progress(total - len(jobs), total)
            for job in wait(jobs, _POLL, return_when=FIRST_COMPLETED).done:
                store, number = jobs.pop(job)
                found = job.result()
                sums[store].merge(found)
                if self.checkpoints is not None:
                    self.checkpoints.keep(store, number, found.dump())
                    passing("verify.segment_kept")
            if self.stop.is_set():
                raise _interrupted(self.checkpoints)
        self.progress(total, total)

    def _begin(
        self, sides: Mapping[Store, Side], at: datetime, resume: bool
    ) -> tuple[Sitting, list[tuple[Store, int, Sums]]]:
        """What to go by, and what is finished of it."""
        fingerprint = repr((self.asked, [side.fingerprint() for side in sides.values()]))
        before = self.checkpoints.interrupted() if resume and self.checkpoints is not None else None
        if before is not None and before.fingerprint == fingerprint and self.checkpoints is not None:
            sitting = replace(before, sittings=before.sittings + 1)
            done = [(store, number, Sums.load(body)) for store, number, body in self.checkpoints.kept()]
        else:
            rows, quick = max(side.size() for side in sides.values()), all(side.is_quick() for side in sides.values())
            plan = Plan.of(rows, self.asked.seed, self.asked.in_million, quick=quick, apart=self.apart)
            megabytes = self.settings.segment_mb
            segments = {store: tuple(side.segments(megabytes)) for store, side in sides.items()}
            sitting, done = Sitting(fingerprint, at, plan, segments), []
        if self.checkpoints is not None:
            self.checkpoints.begin(sitting)
        return sitting, done


def _interrupted(checkpoints: Checkpoints | None) -> CrossfadeError:
    on = "crossfade verify --resume goes on" if checkpoints is not None else "run it again"
    return CrossfadeError(f"the verification was interrupted, and there is no verdict; {on}")


def _verdict(findings: looking.Findings, asked: Asked) -> Verdict:
    if findings.kinds.total():
        return Verdict.FAIL
    return Verdict.INCONCLUSIVE if findings.unsettled or asked.restriction else Verdict.PASS


def said(verification: Verification) -> str:
    """The verdict in one word. What was not compared as a whole never has the word for what was."""
    clean = verification.verdict is Verdict.INCONCLUSIVE and not verification.unsettled
    if clean and verification.restriction:
        return "sample" if verification.restriction.startswith("sample") else "partial"
    return verification.verdict.value


def as_json(verification: Verification) -> dict[str, object]:
    """The verification's counts, as ``verify --json`` prints them."""
    plain = {f.name: getattr(verification, f.name) for f in fields(verification) if f.name != "examples"}
    return plain | {"at": verification.at.isoformat(), "verdict": said(verification)}
