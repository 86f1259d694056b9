"""Compare: whether two outcomes of one operation are alike, and if not, in which fields they differ.

Equality is settled by ``==`` on frozen values, at a ten-millionth of a second. Only unequal answers meet DeepDiff,
in a thread that no caller waits for, under declared rules.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from deepdiff import DeepDiff
from deepdiff.model import AttributeRelationship, DiffLevel

from harness.errors import ConfigError
from harness.order import are_records, side_by_side
from harness.records import FieldDifference
from harness.routing import Store
from harness.settings import RuleSettings

PRESENCE = "presence"  # one answer is None
OUTCOME = "outcome"  # an error on one side, or another error
LENGTH = "length"  # a list has more, fewer or other items
OTHER = "other"  # anything that no field of a dataclass can be named for

SHOWN = 20  # differences kept of one pair
EXCERPT = 200  # characters kept of one value
_LEAD = 20  # of which so many come before the first character that differs


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one store answered, or the class of what it raised. Never the error itself: it holds frames, or rows."""

    answer: object = None
    error: type[BaseException] | None = None


@dataclass(frozen=True, slots=True)
class Pair:
    """The outcomes of one operation in both stores."""

    legacy: Outcome
    new: Outcome

    @classmethod
    def of(cls, served: Store, answered: Outcome, shadowed: Outcome) -> Pair:
        return cls(answered, shadowed) if served is Store.LEGACY else cls(shadowed, answered)

    @property
    def alike(self) -> bool:
        return alike(self.legacy, self.new)

    def since(self, earlier: Pair) -> tuple[Pair, Pair]:
        """What legacy said at the earlier look and now, and what new did, each as a pair."""
        return Pair(earlier.legacy, self.legacy), Pair(earlier.new, self.new)


def alike(one: Outcome, other: Outcome) -> bool:
    """Errors are alike when they are of the same class, answers when they are equal. Never raises."""
    if one.error is not None or other.error is not None:
        return one.error is other.error
    try:
        return bool(one.answer == other.answer)
    except Exception:  # noqa: BLE001 - values that cannot be compared are not shown to be equal
        return False


@dataclass(frozen=True, slots=True)
class Difference:
    """One place where two outcomes differ. ``rule``: the name of the rule that excuses it, empty if none does.

    The values are the application's own: not to be kept, nor shown whole.
    """

    field: str
    legacy: object
    new: object
    rule: str = ""

    @property
    def shown(self) -> FieldDifference:
        return FieldDifference(self.field, *excerpts(self.legacy, self.new))


def check_rules(rules: Iterable[RuleSettings], operations: Collection[str]) -> None:
    """Raises ConfigError for a rule on an operation that there is not: it would never apply, and nobody would know."""
    for rule in rules:
        if rule.operation != "*" and rule.operation not in operations:
            raise ConfigError(
                f"compare.rules: rule {rule.name} is about an unknown operation {rule.operation!r}; "
                f'known: {", ".join(sorted(operations))}, or "*" for all'
            )


class Comparison:
    """Tells which fields of two unequal outcomes differ, beyond what the rules excuse.

    A rule's field is looked for on the whole path to a difference, so that a rule on ``owner`` covers
    ``owner.name``, and lists within an unordered one are unordered too. The names of this module (``presence``,
    ``length`` …) can be ruled on as well.
    """

    def __init__(self, rules: Iterable[RuleSettings] = ()) -> None:
        self._rules = tuple(rules)

    def excuses(self, pair: Pair, operation: str = "") -> frozenset[str]:
        """The names of the rules that excuse every difference between them; empty if some difference stands.

        Without rules it costs nothing. ``operation``: whose outcomes these are; unnamed, only rules on all apply.
        """
        names: set[str] = set()
        for found in self.found(pair, operation) if self._rules else ():
            if not found.rule:
                return frozenset()
            names.add(found.rule)
        return frozenset(names)

    def repeated(self, pair: Pair, earlier: Pair, operation: str = "") -> bool:
        """Whether both stores said what they said at an earlier look, but for what the rules excuse.

        Without the rules a field that never repeats itself would keep every other difference from being confirmed.
        """
        return all(each.alike or self.excuses(each, operation) for each in pair.since(earlier))

    def differences(self, pair: Pair, operation: str = "") -> tuple[FieldDifference, ...]:
        """The differences that no rule excuses, at most ``SHOWN``. Empty: the rules excuse them all.

        A name in ``field`` is a field of a dataclass, or one of this module's names: a closed set, fit for labels.
        """
        standing = (found for found in self.found(pair, operation) if not found.rule)
        return tuple(found.shown for _, found in zip(range(SHOWN), standing, strict=False))

    def found(self, pair: Pair, operation: str = "") -> Iterator[Difference]:
        """All differences of an unequal pair, each with the rule that excuses it.

        An order that does not matter is one of them, under the list's name and without values.
        """
        rules = [rule for rule in self._rules if rule.operation in {"*", operation}]
        legacy, new = pair.legacy, pair.new
        if legacy.error is not None or new.error is not None:
            yield Difference(OUTCOME, _said(legacy), _said(new), _excusing(rules, OUTCOME, (), None, None))
        elif (legacy.answer is None) != (new.answer is None):
            yield Difference(PRESENCE, legacy.answer, new.answer, _excusing(rules, PRESENCE, (), None, None))
        else:
            yield from _deep(rules, legacy.answer, new.answer)


def _deep(rules: Sequence[RuleSettings], legacy: object, new: object) -> Iterator[Difference]:
    unordered = {rule.field: rule.name for rule in rules if rule.action == "unordered"}
    ordered = list(_levels(legacy, new, frozenset()))
    levels = list(_levels(*side_by_side(legacy, new, unordered), unordered)) if unordered else ordered
    # Unequal, and yet DeepDiff sees no difference: that is not to be mistaken for a match.
    if not ordered and not levels:
        yield Difference(OTHER, legacy, new)
    for within, rule in unordered.items():
        if _fields(ordered, within) - _fields(levels, within):
            yield Difference(within, None, None, rule)
    for kind, level in levels:
        field, names = _field(kind, level), tuple(_names(level))
        rule = _excusing(rules, field, names, level.t1, level.t2)
        yield Difference(field, _present(level.t1), _present(level.t2), rule)


def _field(kind: str, level: DiffLevel) -> str:
    return LENGTH if kind in _OF_LENGTH else next(_names(level), OTHER)


def _fields(levels: Iterable[tuple[str, DiffLevel]], within: str) -> set[str]:
    """The fields that differ somewhere below the one of that name."""
    return {_field(kind, level) for kind, level in levels if within in _names(level)}


def _excusing(rules: Sequence[RuleSettings], field: str, names: Sequence[str], legacy: object, new: object) -> str:
    """The name of the first rule that excuses the difference, or nothing."""
    for rule in rules:
        if rule.field != field and rule.field not in names:
            continue
        if rule.action == "ignore" or (rule.action == "tolerance" and _within(rule.tolerance, legacy, new)):
            return rule.name
    return ""


_OF_LENGTH = frozenset({"iterable_item_added", "iterable_item_removed", "set_item_added", "set_item_removed"})
_OF_LENGTH |= {"repetition_change"}


class _ExactStamps:
    """Stamps are compared by ``==``: DeepDiff takes a stamp without a zone for one in UTC, and would not see it.

    A DeepDiff operator; the methods' names and arguments are DeepDiff's.
    """

    def match(self, level: DiffLevel) -> bool:
        return isinstance(level.t1, datetime) and isinstance(level.t2, datetime)

    def give_up_diffing(self, level: DiffLevel, diff_instance: Any) -> bool:
        if level.t1 != level.t2:
            diff_instance.custom_report_result("values_changed", level)
        return True

    def normalize_value_for_hashing(self, _parent: object, obj: object) -> object:
        if not isinstance(obj, datetime):
            return obj
        return (obj if obj.tzinfo is None else obj.astimezone(UTC)).isoformat()


def _levels(legacy: object, new: object, unordered: Collection[str]) -> Iterator[tuple[str, DiffLevel]]:
    def order_matters_not(level: DiffLevel) -> bool:
        # Records stand side by side already, and are compared in that order.
        return next(_names(level), None) in unordered and not (are_records(level.t1) and are_records(level.t2))

    found = DeepDiff(
        legacy,
        new,
        view="tree",
        ignore_order_func=order_matters_not if unordered else None,
        report_repetition=True,
        custom_operators=[_ExactStamps()],
        ignore_private_variables=False,
    )
    for kind, levels in found.items():
        for level in levels:
            yield kind, level


def _names(level: DiffLevel) -> Iterator[str]:
    """Names of dataclass fields on the path to a difference, innermost first. Keys and indexes are data, no names."""
    above = level.up
    while above is not None:
        step = above.t1_child_rel or above.t2_child_rel
        if isinstance(step, AttributeRelationship) and _is_field(above.t1, step.param):
            yield str(step.param)
        above = above.up


def _is_field(owner: object, name: object) -> bool:
    return dataclasses.is_dataclass(owner) and any(field.name == name for field in dataclasses.fields(owner))


def _within(tolerance: float, legacy: object, new: object) -> bool:
    apart = distance(legacy, new)
    return apart is not None and apart <= Decimal(repr(tolerance))


def distance(legacy: Any, new: Any) -> Decimal | None:
    """How far apart two numbers are, or two stamps or durations, in seconds; None for anything else."""
    try:
        if isinstance(legacy, datetime) and isinstance(new, datetime):
            return distance(legacy - new, timedelta(0))
        if isinstance(legacy, timedelta) and isinstance(new, timedelta):
            return Decimal(abs(legacy - new) // timedelta(microseconds=1)) / 1_000_000
        if isinstance(legacy, bool) or isinstance(new, bool):
            return None
        if isinstance(legacy, int | float | Decimal) and isinstance(new, int | float | Decimal):
            apart = abs(Decimal(legacy) - Decimal(new))
            return apart if apart.is_finite() else None
    except (TypeError, ArithmeticError):  # an aware stamp and a naive one; a NaN
        return None
    return None


def _present(value: object) -> object:
    return None if type(value).__name__ == "NotPresent" else value


def _said(outcome: Outcome) -> str:
    return outcome.error.__name__ if outcome.error is not None else "an answer"


def excerpts(legacy: object, new: object) -> tuple[str | None, str | None]:
    """Both values as text, None for None; long ones cut to where they begin to differ."""
    one, other = _text(legacy), _text(new)
    if one is None or other is None or max(len(one), len(other)) <= EXCERPT:
        return _cut(one, 0), _cut(other, 0)
    same = next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    start = max(0, same - _LEAD)
    return _cut(one, start), _cut(other, start)


def _text(value: object) -> str | None:
    if value is None:
        return None
    try:
        return str(value)
    except Exception:  # noqa: BLE001 - a value of the application's; it differs, whatever it looks like
        return f"<{type(value).__name__}>"


def _cut(text: str | None, start: int) -> str | None:
    if text is None or (start == 0 and len(text) <= EXCERPT):
        return text
    part = text[start : start + EXCERPT]
    return ("…" if start else "") + part + ("…" if start + EXCERPT < len(text) else "")
