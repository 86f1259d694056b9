"""A row is reported only when it stood still and differed; what happens between two reads is no difference."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from threading import Event

from harness.looking import Looker, Mark, Record
from harness.records import Kind, RowDifference

Moment = Callable[[int], Mark | None]  # the row as it is at a look


@dataclass
class Shelf:
    """A side with one row, which changes from look to look."""

    row: Moment
    looks: int = 0
    columns: tuple[str, ...] = ("content",)

    def marks(self, keys: Collection[str]) -> Mapping[str, Mark]:
        self.looks += 1
        mark = self.row(self.looks)
        return {} if mark is None else dict.fromkeys(keys, mark)

    def records(self, keys: Collection[str]) -> Mapping[str, Record]:
        mark = self.row(self.looks)
        return {} if mark is None else {key: Record(mark.scope, (mark.digest,), mark.version) for key in keys}


@dataclass
class Notes:
    noted_until: int = 0
    asked: int = 0
    debts: frozenset[str] = field(default_factory=frozenset)

    def noted(self, keys: Collection[str], scopes: Collection[str | None]) -> frozenset[str]:
        self.asked += 1
        return frozenset(keys) if self.asked <= self.noted_until else frozenset()

    def owed(self, keys: Collection[str]) -> frozenset[str]:
        return self.debts & set(keys)

    def misplaced(self, keys: Collection[str]) -> Mapping[str, str | None]:
        return {}


def look(legacy: Moment, new: Moment, notes: Notes | None = None, stop: Event | None = None) -> Looker:
    found: list[RowDifference] = []
    looker = Looker(
        Shelf(legacy),
        Shelf(new),
        notes or Notes(),
        examples=5,
        until=0.0,
        clock=lambda: -1.0,
        stop=stop or Event(),
        found=found.append,
    )
    looker.look(["key"])
    assert found == looker.findings.examples
    return looker


def mark(digest: str, version: str = "1") -> Mark:
    return Mark("scope", digest, version)


def test_two_looks_confirm_a_row_of_both_sides() -> None:
    """Two versions that stood still and differ are a difference, with the field that differs."""
    looker = look(lambda n: mark("a"), lambda n: mark("b"))
    [row] = looker.findings.examples
    assert (row.kind, [f.field for f in row.fields]) == (Kind.DIFFERENT, ["content"])
    assert isinstance(looker.new, Shelf)
    assert looker.new.looks == 2


def test_equal_at_the_second_look_is_transient() -> None:
    """What was carried over in the meantime is no difference."""
    findings = look(lambda n: mark("a"), lambda n: mark("a" if n > 1 else "b")).findings
    assert (findings.kinds.total(), findings.transient) == (0, 1)


def test_a_row_that_keeps_changing_is_never_confirmed() -> None:
    """A new version at each look is a new row to look at, also where the values came back."""
    looker = look(lambda n: mark("a", str(min(n, 6))), lambda n: mark("b"))
    assert isinstance(looker.new, Shelf)
    assert (looker.findings.kinds[Kind.DIFFERENT], looker.new.looks) == (1, 7)


def test_absence_has_no_version() -> None:
    """A row deleted and inserted anew, missed by two looks in a row, is not reported: absence takes three."""
    anew = look(lambda n: mark("a"), lambda n: None if n < 3 else mark("a", "2"))
    assert (anew.findings.kinds.total(), anew.findings.transient) == (0, 1)
    gone = look(lambda n: mark("a"), lambda n: None)
    assert gone.findings.kinds == {Kind.MISSING: 1}
    extra = look(lambda n: None, lambda n: mark("a"))
    assert extra.findings.kinds == {Kind.EXTRA: 1}


def test_what_is_noted_waits() -> None:
    """While something is noted no look counts; afterwards it takes two again."""
    looker = look(lambda n: mark("a"), lambda n: mark("b"), Notes(noted_until=3))
    assert isinstance(looker.new, Shelf)
    assert (looker.findings.kinds[Kind.DIFFERENT], looker.new.looks) == (1, 5)


def test_debt_is_counted_apart() -> None:
    """A record that legacy cannot hold is known, and no difference."""
    findings = look(lambda n: None, lambda n: mark("a"), Notes(debts=frozenset({"key"}))).findings
    assert (findings.kinds.total(), findings.owed) == (0, 1)


def test_asked_to_stop_it_leaves_the_row_unsettled() -> None:
    """Nothing is confirmed by one look only."""
    stop = Event()
    stop.set()
    findings = look(lambda n: mark("a"), lambda n: mark("b"), stop=stop).findings
    assert (findings.kinds.total(), findings.unsettled) == (0, 1)
