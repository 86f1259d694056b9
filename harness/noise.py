"""Noise: which fields of a store's answers differ by themselves, learned by asking the store twice.

Two answers of one store to one question differ for two reasons: something was written in between, or the answer is not
a function of what is stored (an order that nobody fixed, the time of day, a random number). Only the latter is noise. A
``Mark`` tells them apart: two equal marks around both answers prove that nothing was written. Where the marks differ
the pair is asked again; what never stands still is counted apart. A field that differed while something was written
is in doubt: it may be noise, or the write. That it differs so rarely as to be still is not said of it then.
"""

from __future__ import annotations

import dataclasses
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

from harness.compare import LENGTH, OTHER, OUTCOME, PRESENCE, Comparison, Difference, Outcome, Pair, distance
from harness.errors import StoreUnavailable
from harness.operations import operations_of
from harness.settings import RuleSettings

Mark = Callable[[], Hashable]  # another value after anything was written to the store than before
FieldKey = tuple[str, str]  # operation, field

WHOLE = frozenset({OUTCOME, PRESENCE, LENGTH, OTHER})  # names that stand for a whole answer: no field's


@dataclass(frozen=True, slots=True)
class Trait:
    """How one field differed between two answers. ``apart``: of two numbers, or of two stamps in seconds.

    ``shape`` says it in words that hold nothing of the values. ``rule``: the name of the rule that excuses it.
    """

    field: str
    order: bool = False
    apart: Decimal | None = None
    shape: str = ""
    rule: str = ""


@dataclass(slots=True)
class Noisy:
    """What was seen of a field that differed. ``open``: how often no rule excused it."""

    differed: int = 0
    open: int = 0
    rules: set[str] = dataclasses.field(default_factory=set)
    order: bool = True
    apart: Decimal | None = Decimal(0)
    shape: str = ""

    def add(self, traits: Iterable[Trait]) -> None:
        """One pair of answers, in which the field differed in these places."""
        self.differed += 1
        traits = tuple(traits)
        self.open += any(not trait.rule for trait in traits)
        for trait in traits:
            self.rules.update(filter(None, (trait.rule,)))
            self.order = self.order and trait.order
            known = self.apart is not None and trait.apart is not None
            self.apart = max(self.apart or Decimal(0), trait.apart or Decimal(0)) if known else None
            self.shape = trait.shape


class Counts:
    """What asking twice has found so far. Safe for threads.

    ``compared``: pairs that were settled, by operation; ``transient`` ones among them differed until something that
    was written had passed. ``shown``: settled pairs whose answers had the field. ``doubtful``: pairs, settled later or
    not, in which it differed while something was written; ``doubted``: in which a rule excused something of that.
    """

    def __init__(self) -> None:
        self.compared: Counter[str] = Counter()
        self.transient: Counter[str] = Counter()
        self.unsettled: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.shown: Counter[FieldKey] = Counter()
        self.noisy: defaultdict[FieldKey, Noisy] = defaultdict(Noisy)
        self.doubtful: Counter[FieldKey] = Counter()
        self.used: Counter[str] = Counter()  # pairs in which the rule of that name excused something
        self.doubted: Counter[str] = Counter()
        self.lock = threading.Lock()

    def settled(self, operation: str, pair: Pair, traits: Iterable[Trait] = (), *, transient: bool = False) -> None:
        by_field: defaultdict[str, list[Trait]] = defaultdict(list)
        for trait in traits:
            by_field[trait.field].append(trait)
        names = {OUTCOME, PRESENCE, *fields_of(pair.legacy.answer), *fields_of(pair.new.answer), *by_field}
        with self.lock:
            self.compared[operation] += 1
            self.transient[operation] += transient
            self.shown.update((operation, name) for name in names)
            for name, found in by_field.items():
                self.noisy[operation, name].add(found)
            self.used.update({trait.rule for found in by_field.values() for trait in found} - {""})

    def in_doubt(self, operation: str, traits: Collection[Trait]) -> None:
        """How a pair differed, at any of its looks, while something was written."""
        with self.lock:
            self.doubtful.update({(operation, trait.field) for trait in traits})
            self.doubted.update({trait.rule for trait in traits} - {""})

    def unanswered(self, operation: str, *, failed: bool) -> None:
        with self.lock:
            (self.failed if failed else self.unsettled)[operation] += 1


@dataclass(frozen=True, slots=True)
class Patience:
    """How a pair is asked. ``pause``: seconds between its two answers, at most; each time another part of it.

    ``looks``: how often, until nothing is written in between; ``look_seconds``: between two of them.
    """

    pause: float
    looks: int
    look_seconds: float


class Twice:
    """Asks one store everything twice; ``repository`` has the reads of the contract, and answers as the store does.

    ``pair`` are two repositories of the same store that share nothing, not even a connection; which of them is asked
    first is drawn. ``random`` answers from 0 to below 1; ``wait`` waits for so many seconds.
    """

    def __init__(
        self,
        contract: type[Any],
        pair: tuple[Any, Any],
        *,
        mark: Mark,
        rules: Iterable[RuleSettings],
        patience: Patience,
        random: Callable[[], float],
        wait: Callable[[float], object],
    ) -> None:
        self._pair, self._mark, self._patience, self._random, self._wait = pair, mark, patience, random, wait
        self._rules = tuple(rules)
        self.counts = Counts()
        reads = [name for name, operation in operations_of(contract).items() if operation.kind == "read"]
        self.repository: Any = SimpleNamespace(**{name: self._reading(name) for name in reads})

    def _reading(self, name: str) -> Callable[..., Any]:
        def read(*args: Any, **kwargs: Any) -> Any:
            try:
                return self._read(name, args, kwargs)
            except StoreUnavailable:
                self.counts.unanswered(name, failed=True)
                raise

        return read

    def _read(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        pair, doubt = Pair(Outcome(), Outcome()), set[Trait]()
        for look in range(self._patience.looks):
            if look:
                self._wait(self._patience.look_seconds)
            before = self._mark()
            pair = self._ask(name, args, kwargs)
            if pair.alike:
                self.counts.settled(name, pair, transient=look > 0)
                break
            # Asked afterwards: the same mark then means that both answers were drawn from the same rows.
            stood_still = self._mark() == before
            found = traits(pair, name, self._rules)
            if stood_still:
                self.counts.settled(name, pair, found)
                break
            doubt.update(found)
        else:
            self.counts.unanswered(name, failed=False)
        self.counts.in_doubt(name, doubt)
        return pair.legacy.answer

    def _ask(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Pair:
        one, other = self._pair if self._random() < 0.5 else self._pair[::-1]
        first = _outcome(getattr(one, name), args, kwargs)
        if self._patience.pause:
            self._wait(self._random() * self._patience.pause)
        return Pair(first, _outcome(getattr(other, name), args, kwargs))


def _outcome(method: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Outcome:
    try:
        return Outcome(method(*args, **kwargs))
    except StoreUnavailable:
        raise
    except Exception as error:  # noqa: BLE001 - whatever a store raises is what it said; its class is compared
        return Outcome(error=type(error))


def traits(pair: Pair, operation: str, rules: Iterable[RuleSettings] = ()) -> tuple[Trait, ...]:
    """How the two unequal answers differ, each difference with the rule that excuses it.

    Where a list holds the same items in another order, the items' fields all differ, and yet none of them is noise:
    then the list is named in their place.
    """
    found = list(Comparison().found(pair, operation))
    excused = _Excused(pair, operation, tuple(rules))
    orders = []
    for name in sorted(_lists(pair.legacy.answer) & _lists(pair.new.answer)):
        free = RuleSettings(name="order", field=name, action="unordered", reason="whether it is the order alone")
        left = [each for each in Comparison([free]).found(pair, operation) if not each.rule]
        gone = _named(found) - _named(left)
        if gone and _named(left) < _named(found):
            orders.append(Trait(name, order=True, shape="another order", rule=excused.order(name, gone)))
            found = left
    return (*orders, *(_trait(each, excused.field(each.field)) for each in found))


class _Excused:
    """Which rule excuses a field in all places in which it differs between two answers."""

    def __init__(self, pair: Pair, operation: str, rules: tuple[RuleSettings, ...]) -> None:
        self._rules: dict[str, str] = {}
        self._standing: set[str] = set()
        for each in Comparison(rules).found(pair, operation) if rules else ():
            if each.rule:
                self._rules.setdefault(each.field, each.rule)
            else:
                self._standing.add(each.field)

    def field(self, name: str) -> str:
        return "" if name in self._standing else self._rules.get(name, "")

    def order(self, name: str, gone: set[str]) -> str:
        """The same of a list's order, or of all that differs only because of it."""
        by_items = [self.field(each) for each in sorted(gone)]
        return self.field(name) or (by_items[0] if all(by_items) else "")


def _named(found: Iterable[Difference]) -> set[str]:
    return {each.field for each in found}


def _trait(found: Difference, rule: str) -> Trait:
    return Trait(found.field, False, distance(found.legacy, found.new), _shape(found), rule)


def _shape(found: Difference) -> str:
    """What the two values are, without a word of theirs."""
    one, other = found.legacy, found.new
    if found.field == OUTCOME:
        return f"{one} and {other}"  # classes of errors
    if found.field == PRESENCE:
        return "an answer and none"
    if found.field == LENGTH:
        return "items more, fewer or other"
    apart = distance(one, other)
    if apart is not None:
        return f"{apart:.3g}{' s' if isinstance(one, datetime | timedelta) else ''} apart"
    if isinstance(one, str) and isinstance(other, str):
        return f"texts of {len(one):,} and {len(other):,} characters"
    return f"{_kind(one)} and {_kind(other)}"


def _kind(value: object) -> str:
    return "nothing" if value is None else type(value).__name__


def fields_of(answer: object) -> frozenset[str]:
    """The names under which differences of such an answer can be found: its dataclasses' fields, and ``length``."""
    return frozenset(name for name, _ in _walk(answer))


def _lists(answer: object) -> frozenset[str]:
    """The fields that hold lists of more than one item."""
    return frozenset(name for name, value in _walk(answer) if isinstance(value, list | tuple) and len(value) > 1)


def _walk(value: object) -> Iterator[tuple[str, object]]:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            inner = getattr(value, field.name)
            yield field.name, inner
            yield from _walk(inner)
    elif isinstance(value, list | tuple | set | frozenset):
        yield LENGTH, None
        for item in value:
            yield from _walk(item)
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _walk(item)
