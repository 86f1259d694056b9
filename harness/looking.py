"""The second look: of rows that seemed to differ, which really do.

Two stores are never read at the same moment, and what was written is carried over a little later. So a row is reported
only when two looks in a row found the same two versions of it, and nothing noted for it at either. (A carrying-over
between the two reads of one look would show new's old version once, and the next look new's later one.) What is absent
has no version: a row deleted and inserted anew looks absent twice if it is looked at in an unlucky moment twice. So
of a row that one side has not, three looks have to say the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Event
from typing import Protocol

from harness.ports import Clock
from harness.records import FieldDifference, Kind, RowDifference

_PAUSE = 0.1
_LATE_LOOKS = 3
_DESCRIBED = 500  # rows read whole at once, and how many bytes of them, though one row may have more
_DESCRIBED_BYTES = 8_000_000


@dataclass(frozen=True, slots=True)
class Mark:
    """What is known of a row without reading it. Equal marks, equal rows.

    ``version`` changes with every write to the row, also with one that brings old values back; None if the store
    does not tell. ``size``: about how many bytes the row has.
    """

    scope: str | None
    digest: str
    version: str | None = field(default=None, compare=False)
    size: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Record:
    """One row: its scope, and each canonical column as text; None is NULL. ``version`` as in ``Mark``."""

    scope: str | None
    values: tuple[str | None, ...]
    version: str | None = field(default=None, compare=False)


class Rows(Protocol):
    """One store's representable rows, by key."""

    @property
    def columns(self) -> Sequence[str]: ...

    def marks(self, keys: Collection[str]) -> Mapping[str, Mark]:
        """Marks of the rows with these keys that there are. Two rows of one key are equal to no row."""
        ...

    def records(self, keys: Collection[str]) -> Mapping[str, Record]:
        """The rows with these keys that there are."""
        ...


class Queue(Protocol):
    """What is known to be on its way, and what cannot go."""

    def noted(self, keys: Collection[str], scopes: Collection[str | None]) -> frozenset[str]:
        """Those of the keys for which something is noted and not yet carried over."""
        ...

    def owed(self, keys: Collection[str]) -> frozenset[str]:
        """Those of the keys that new holds and legacy cannot, which is known."""
        ...

    def misplaced(self, keys: Collection[str]) -> Mapping[str, str | None]:
        """Scopes of those of the keys of which legacy and quarantine now say something different.

        Without those for which something is noted and not yet carried over.
        """
        ...


@dataclass(slots=True)
class Findings:
    """Rows that differ, by what became of them."""

    kinds: Counter[Kind] = field(default_factory=Counter)
    examples: list[RowDifference] = field(default_factory=list)
    transient: int = 0
    unsettled: int = 0
    owed: int = 0


@dataclass(frozen=True, slots=True)
class Looker:
    """Looks at rows again, a batch at a time, until each is equal, confirmed, or out of patience.

    ``until``: the moment on the clock when patience ends. ``found`` gets every confirmed difference, with its fields;
    without it, no more rows than ``examples`` are read.
    """

    legacy: Rows
    new: Rows
    queue: Queue
    examples: int
    until: float
    clock: Clock
    stop: Event
    found: Callable[[RowDifference], None] | None = None
    findings: Findings = field(default_factory=Findings)

    def look(self, keys: Collection[str]) -> None:
        """Look at rows that seemed to differ."""
        before: dict[str, tuple[object, int]] = {}
        late, open_keys, findings = 0, set(keys), self.findings
        while open_keys:
            confirmed: dict[str, Kind] = {}
            theirs, ours = self.new.marks(open_keys), self.legacy.marks(open_keys)
            scopes = {mark.scope for mark in (*theirs.values(), *ours.values())}
            on_the_way, owed = self.queue.noted(open_keys, scopes), self.queue.owed(open_keys)
            for key in sorted(open_keys):
                mine, other = ours.get(key), theirs.get(key)
                # With the versions: neither row was written to between the looks, not even back and forth.
                seen = mine, other, mine and mine.version, other and other.version
                times = before[key][1] + 1 if key in before and before[key][0] == seen else 1
                if mine == other:
                    findings.transient += 1
                    open_keys.discard(key)
                elif key in on_the_way:
                    before.pop(key, None)
                elif key in owed:
                    findings.owed += 1
                    open_keys.discard(key)
                elif times < (2 if mine and other else 3):
                    before[key] = seen, times
                else:
                    confirmed[key] = Kind.DIFFERENT if mine and other else Kind.MISSING if mine else Kind.EXTRA
                    open_keys.discard(key)
            self._confirm(confirmed, {key: _size(ours.get(key)) + _size(theirs.get(key)) for key in confirmed})
            late += self.clock() >= self.until  # what is not on its way gets the looks that confirm it, however late
            if self.stop.is_set() or late > _LATE_LOOKS:
                findings.unsettled += len(open_keys)
                return
            if open_keys:
                self.stop.wait(_PAUSE)

    def look_at_quarantine(self, keys: Collection[str]) -> None:
        """Look at rows of which legacy and quarantine seemed to say something different, twice in a row."""
        odd, late = self.queue.misplaced(keys), 0
        while odd and late <= _LATE_LOOKS and not self.stop.is_set():
            late += self.clock() >= self.until
            self.stop.wait(_PAUSE)
            now = self.queue.misplaced(odd)
            confirmed = {key for key in now.keys() & odd.keys() if now[key] == odd[key]}
            for key in sorted(confirmed):
                self.findings.kinds[Kind.MISPLACED] += 1
                self._tell(RowDifference(key, now[key], Kind.MISPLACED))
            odd = {key: scope for key, scope in now.items() if key in odd and key not in confirmed}
        self.findings.unsettled += len(odd)  # they never stood still

    def _confirm(self, confirmed: Mapping[str, Kind], sizes: Mapping[str, int]) -> None:
        self.findings.kinds.update(confirmed.values())
        keys = list(confirmed)
        if self.found is None:
            keys = keys[: max(0, self.examples - len(self.findings.examples))]
        for some in _portions(keys, sizes):
            ours, theirs = self.legacy.records(some), self.new.records(some)
            for key in some:
                self._tell(difference(self.legacy.columns, key, confirmed[key], ours.get(key), theirs.get(key)))

    def _tell(self, row: RowDifference) -> None:
        if len(self.findings.examples) < self.examples:
            self.findings.examples.append(row)
        if self.found is not None:
            self.found(row)


def _size(mark: Mark | None) -> int:
    return 0 if mark is None else mark.size


def _portions(keys: Sequence[str], sizes: Mapping[str, int]) -> Iterator[list[str]]:
    """The keys in portions whose rows fit into memory together."""
    portion, size = list[str](), 0
    for key in keys:
        if portion and (len(portion) == _DESCRIBED or size + sizes[key] > _DESCRIBED_BYTES):
            yield portion
            portion, size = [], 0
        portion.append(key)
        size += sizes[key]
    if portion:
        yield portion


def difference(
    columns: Sequence[str], key: str, kind: Kind, ours: Record | None, theirs: Record | None
) -> RowDifference:
    """How two versions of one row differ, field by field."""
    scope = ours.scope if ours else theirs.scope if theirs else None
    if kind is not Kind.DIFFERENT or ours is None or theirs is None:
        return RowDifference(key, scope, kind)
    differing = tuple(
        FieldDifference(name, mine, other)
        for name, mine, other in zip(columns, ours.values, theirs.values, strict=True)
        if mine != other
    )
    return RowDifference(key, scope, kind, differing)
