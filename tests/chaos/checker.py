"""The checker: a pure function over what clients were told, what the stores accepted, and what they hold at last.

Each store writes down, in the writer's own transaction, every write that it accepts: the witness. By the route's
epoch and the witness's number all accepted writes of a record stand in one order. The checker shows that this order
is a legal explanation of everything that clients saw; where it is not, an acknowledged write was lost, or worse.

* Each acknowledged write was accepted exactly once, a refused one never, and nothing without a client asking.
* Each write found what the one before it had left, in whichever store that was: nothing lost, nothing resurrected.
* In one epoch a scope was accepted by one store only, and no later epoch's write ended before an earlier one's began.
* The order agrees with the clients' clocks.
* A read saw what was committed at some time, and never what was asked for only after the read had ended.
* Both stores hold what the last accepted write of each record has left.

Sound: a correct run is never blamed. An unknown outcome ends never; what it did is known from the witness.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from chaos.history import Kind, Operation, Outcome
from harness.routing import Store


@dataclass(frozen=True, slots=True)
class Witnessed:
    """One accepted write, as the store that took it wrote it down. Texts are ``<record> <value>``, None for no row."""

    store: Store
    number: int
    epoch: int
    scopes: tuple[str, ...]  # the row's scope; two when the write moved it
    before: str | None
    after: str | None
    client: str = ""

    @property
    def record(self) -> str:
        return record_of(self.after or self.before or "")

    @property
    def order(self) -> tuple[int, Store, int]:
        return self.epoch, self.store, self.number

    def __str__(self) -> str:
        where, who = " and ".join(self.scopes), f"{self.store} no. {self.number} by {self.client}"
        return f"epoch {self.epoch}, {who}: {where}: {self.before} → {self.after}"


@dataclass(frozen=True, slots=True)
class Held:
    """One row that a store holds."""

    scope: str
    text: str


@dataclass(frozen=True, slots=True)
class Violation:
    rule: str
    told: str
    history: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "\n    ".join([f"{self.rule}: {self.told}", *self.history])


@dataclass(frozen=True, slots=True)
class Run:
    """Everything that is known of a run when it is over."""

    operations: Sequence[Operation]
    witnessed: Sequence[Witnessed]
    initial: Sequence[Held]
    final: Mapping[Store, Sequence[Held]]


@dataclass(slots=True)
class _Case:
    """The run, sorted for the rules."""

    run: Run
    by_value: dict[str, Operation] = field(default_factory=dict)
    deletes: dict[str, list[Operation]] = field(default_factory=lambda: defaultdict(list))
    by_record: dict[str, list[Witnessed]] = field(default_factory=lambda: defaultdict(list))
    at_first: dict[str, Held] = field(default_factory=dict)

    def operation_of(self, each: Witnessed) -> Operation | None:
        """Whose write it was; of several deletes of one record the acknowledged one, else the earliest that may be."""
        if each.after is not None:
            return self.by_value.get(value_of(each.after))
        rank = [Outcome.ACKNOWLEDGED, Outcome.UNKNOWN, Outcome.REFUSED]
        return min(self.deletes.get(each.record, []), key=lambda op: (rank.index(op.outcome), op.invoked), default=None)

    def violation(self, rule: str, told: str, record: str) -> Violation:
        """With all that is known of the record, in the order of the stores, then of the clients."""
        told_of = [str(each) for each in self.by_record.get(record, [])]
        values = {value_of(each.after) for each in self.by_record.get(record, []) if each.after}
        asked = [op for op in self.run.operations if op.record == record or op.value in values]
        return Violation(rule, told, (*told_of, *(str(op) for op in asked)))


def check(run: Run) -> list[Violation]:
    """Every violation of every rule; none for a run that kept its promises."""
    case = _Case(run)
    for op in run.operations:
        if op.value is not None:
            case.by_value[op.value] = op
        if op.kind is Kind.DELETE and op.record is not None:
            case.deletes[op.record].append(op)
    for each in sorted(run.witnessed, key=lambda each: each.order):
        case.by_record[each.record].append(each)
    case.at_first = {record_of(held.text): held for held in run.initial}
    rules: tuple[Callable[[_Case], Iterable[Violation]], ...] = (
        _accepted_once,
        _asked_for,
        _each_found_what_was_left,
        _one_authority,
        _in_the_clients_order,
        _reads,
        _held_at_last,
        _errors,
    )
    return [violation for rule in rules for violation in rule(case)]


def record_of(text: str) -> str:
    return text.partition(" ")[0]


def value_of(text: str) -> str:
    return text.partition(" ")[2]


def _accepted_once(case: _Case) -> Iterable[Violation]:
    """An acknowledged write was accepted once, a refused one never, an unknown one at most once."""
    values = Counter(value_of(each.after) for each in case.run.witnessed if each.after is not None)
    gone = Counter(each.record for each in case.run.witnessed if each.after is None)
    for op in case.run.operations:
        if op.kind in {Kind.READ, Kind.DELETE}:
            continue
        times, record = values[op.value or ""], op.record or ""
        if op.outcome is Outcome.ACKNOWLEDGED and times == 0:
            yield case.violation("lost", f"acknowledged, and no store accepted it: {op}", record)
        if op.outcome is Outcome.REFUSED and times > 0:
            yield case.violation("refused", f"refused, and a store accepted it all the same: {op}", record)
        if times > 1:
            yield case.violation("twice", f"accepted {times} times: {op}", record)
    for record, ops in case.deletes.items():
        outcomes = Counter(op.outcome for op in ops)
        if gone[record] < outcomes[Outcome.ACKNOWLEDGED]:
            yield case.violation("lost", f"{record} was deleted with an acknowledgement that no store knows of", record)
        if gone[record] > outcomes[Outcome.ACKNOWLEDGED] + outcomes[Outcome.UNKNOWN]:
            yield case.violation("refused", f"{record} was deleted though the client was refused", record)
    for record, times in gone.items():
        if times > 1:
            yield case.violation("twice", f"{record} was deleted {times} times", record)


def _asked_for(case: _Case) -> Iterable[Violation]:
    for each in case.run.witnessed:
        if case.operation_of(each) is None:
            yield case.violation("unasked", f"accepted, and no client asked for it: {each}", each.record)


def _each_found_what_was_left(case: _Case) -> Iterable[Violation]:
    for record, accepted in case.by_record.items():
        left = case.at_first[record].text if record in case.at_first else None
        for each in accepted:
            if each.before != left:
                rule = "resurrected" if left is None else "lost"
                told = f"the write before had left {left}, this one found {each.before}: {each}"
                yield case.violation(rule, told, record)
            left = each.after


def _one_authority(case: _Case) -> Iterable[Violation]:
    """Acceptances of a scope by the two stores can be told apart by the moves of authority between them."""
    by_scope: dict[str, list[Witnessed]] = defaultdict(list)
    for each in case.run.witnessed:
        for scope in each.scopes:
            by_scope[scope].append(each)
    for scope, accepted in by_scope.items():
        epochs: dict[int, list[Witnessed]] = defaultdict(list)
        for each in accepted:
            epochs[each.epoch].append(each)
        ended, by = math.inf, ""  # the first that ended of all writes in later epochs
        for epoch in sorted(epochs, reverse=True):
            if len({each.store for each in epochs[epoch]}) > 1:
                told = f"{scope} was accepted by both stores in epoch {epoch}"
                yield Violation("both sides", told, tuple(map(str, epochs[epoch])))
            ops = [(each, op) for each in epochs[epoch] if (op := case.operation_of(each)) is not None]
            for each, op in ops:
                if op.invoked > ended:
                    told = f"{scope} was accepted in epoch {epoch} when a later epoch's write had ended"
                    yield Violation("both sides", told, (str(each), str(op), by))
            for each, op in ops:
                if op.returned < ended:
                    ended, by = op.returned, str(each)


def _in_the_clients_order(case: _Case) -> Iterable[Violation]:
    for record, accepted in case.by_record.items():
        latest = -math.inf
        for each in accepted:
            op = case.operation_of(each)
            if op is None:
                continue
            if op.returned < latest:
                yield case.violation("order", f"a write stands after one that began when it had ended: {op}", record)
            latest = max(latest, op.invoked)


def _reads(case: _Case) -> Iterable[Violation]:
    committed = {each.after for each in case.run.witnessed} | {held.text for held in case.run.initial}
    for read in case.run.operations:
        if read.kind is not Kind.READ or read.seen is None:
            continue
        writer = case.by_value.get(value_of(read.seen))
        if writer is not None and writer.invoked > read.returned:
            yield case.violation("future", f"a read saw what was written after it: {read}", record_of(read.seen))
        elif read.seen not in committed:
            yield case.violation("uncommitted", f"a read saw what no store accepted: {read}", record_of(read.seen))


def _held_at_last(case: _Case) -> Iterable[Violation]:
    left = dict(case.at_first)
    for record, accepted in case.by_record.items():
        last = accepted[-1]
        left.pop(record, None)
        if last.after is not None:
            left[record] = Held(last.scopes[-1], last.after)
    for store, rows in case.run.final.items():
        held = {record_of(row.text): row for row in rows}
        for record, times in Counter(record_of(row.text) for row in rows).items():
            if times > 1:
                yield case.violation("twice", f"{store} holds {record} {times} times", record)
        for record in sorted(left.keys() | held.keys()):
            wanted, found = left.get(record), held.get(record)
            if wanted != found:
                rule = "resurrected" if wanted is None else "lost"
                told = f"{store} holds {found} at last, the last accepted write left {wanted}"
                yield case.violation(rule, told, record)


def _errors(case: _Case) -> Iterable[Violation]:
    for op in case.run.operations:
        if op.fault:
            yield Violation("error", f"a client met an error that it should never meet: {op}")
