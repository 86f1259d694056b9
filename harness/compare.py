"""Compare: whether two outcomes of one operation are alike, and if not, in which fields they differ.

Equality is settled by ``==`` on frozen values, at a ten-millionth of a second. Only unequal answers meet DeepDiff,
in a thread that no caller waits for, under declared rules.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from deepdiff import DeepDiff
from deepdiff.model import AttributeRelationship, DiffLevel

from harness.config import RuleSettings
from harness.records import FieldDifference
from harness.routing import Store

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

    def repeats(self, earlier: Pair) -> bool:
        """Whether both stores said what they said at an earlier look."""
        return alike(self.legacy, earlier.legacy) and alike(self.new, earlier.new)


def alike(one: Outcome, other: Outcome) -> bool:
    """Errors are alike when they are of the same class, answers when they are equal. Never raises."""
    if one.error is not None or other.error is not None:
        return one.error is other.error
    try:
        return bool(one.answer == other.answer)
    except Exception:  # noqa: BLE001 - values that cannot be compared are not shown to be equal
        return False


class Comparison:
    """Tells which fields of two unequal outcomes differ, beyond what the rules excuse.

    A rule's field is looked for on the whole path to a difference, so that a rule on ``owner`` covers
    ``owner.name``, and lists within an unordered one are unordered too. The names of this module (``presence``,
    ``length`` …) can be ruled on as well.
    """

    def __init__(self, rules: Iterable[RuleSettings] = ()) -> None:
        self._rules = tuple(rules)
        self._unordered = frozenset(rule.field for rule in self._rules if rule.action == "unordered")

    def excuses(self, pair: Pair) -> bool:
        """Whether the rules excuse every difference. Without rules it costs nothing."""
        return bool(self._rules) and not self.differences(pair)

    def differences(self, pair: Pair) -> tuple[FieldDifference, ...]:
        """The differences that no rule excuses, at most ``SHOWN``. Empty: the rules excuse them all.

        A name in ``field`` is a field of a dataclass, or one of this module's names: a closed set, fit for labels.
        """
        return tuple(found for _, found in zip(range(SHOWN), self._found(pair), strict=False))

    def _found(self, pair: Pair) -> Iterator[FieldDifference]:
        legacy, new = pair.legacy, pair.new
        if legacy.error is not None or new.error is not None:
            if not self._excused(OUTCOME, (), None, None):
                yield FieldDifference(OUTCOME, _said(legacy), _said(new))
        elif (legacy.answer is None) != (new.answer is None):
            if not self._excused(PRESENCE, (), None, None):
                yield FieldDifference(PRESENCE, *excerpts(legacy.answer, new.answer))
        else:
            yield from self._deep(legacy.answer, new.answer)

    def _deep(self, legacy: object, new: object) -> Iterator[FieldDifference]:
        levels = list(_levels(legacy, new, self._unordered))
        # Unequal, and yet no difference: either the order alone, where it does not matter, or a difference that
        # DeepDiff does not see. The latter is not to be mistaken for a match.
        if not levels and not (self._unordered and any(_levels(legacy, new, frozenset()))):
            yield FieldDifference(OTHER, *excerpts(legacy, new))
        for kind, level in levels:
            names = tuple(_names(level))
            field = LENGTH if kind in _OF_LENGTH else next(iter(names), OTHER)
            if not self._excused(field, names, level.t1, level.t2):
                yield FieldDifference(field, *excerpts(_present(level.t1), _present(level.t2)))

    def _excused(self, field: str, names: tuple[str, ...], legacy: object, new: object) -> bool:
        for rule in self._rules:
            if rule.field != field and rule.field not in names:
                continue
            if rule.action == "ignore" or (rule.action == "tolerance" and _within(rule.tolerance, legacy, new)):
                return True
        return False


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


def _levels(legacy: object, new: object, unordered: frozenset[str]) -> Iterator[tuple[str, DiffLevel]]:
    def order_matters_not(level: DiffLevel) -> bool:
        return next(iter(_names(level)), None) in unordered

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


def _within(tolerance: float, legacy: Any, new: Any) -> bool:
    """Whether two numbers, or two stamps in seconds, are no further apart."""
    try:
        if isinstance(legacy, datetime) and isinstance(new, datetime):
            return abs((legacy - new).total_seconds()) <= tolerance
        if isinstance(legacy, timedelta) and isinstance(new, timedelta):
            return abs((legacy - new).total_seconds()) <= tolerance
        if isinstance(legacy, int | float | Decimal) and isinstance(new, int | float | Decimal):
            return abs(Decimal(legacy) - Decimal(new)) <= Decimal(tolerance)
    except (TypeError, ArithmeticError):  # an aware stamp and a naive one; a NaN
        return False
    return False


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
