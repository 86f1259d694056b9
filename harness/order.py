"""Order: lists of records whose order does not matter, put side by side before they are compared.

DeepDiff pairs the items of such lists too, but only while most of them are equal: one field that differs in every item
makes it call all items other ones, and comparing each with each takes seconds.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Collection
from typing import Any

_MOST = 200  # unequal items that are compared each with each


def are_records(value: object) -> bool:
    """Whether it is a list of dataclasses."""
    return isinstance(value, list | tuple) and bool(value) and all(map(_is_record, value))


def side_by_side(legacy: Any, new: Any, unordered: Collection[str], *, free: bool = False) -> tuple[Any, Any]:
    """Both answers, with the lists of records in fields of these names in one order.

    Equal items find each other first, then those with the most equal fields. What finds no partner comes last.
    ``free``: these two are such lists themselves.
    """
    if type(legacy) is not type(new):
        return legacy, new
    if _is_record(legacy):
        return _records(legacy, new, unordered)
    if type(new) not in {list, tuple}:
        return legacy, new
    ours, theirs = list(legacy), list(new)
    if free and are_records(legacy) and are_records(new):
        ours, theirs = _paired(ours, theirs)
    for place, (one, other) in enumerate(zip(ours, theirs, strict=False)):
        ours[place], theirs[place] = side_by_side(one, other, unordered, free=free)
    return type(legacy)(ours), type(new)(theirs)


def _records(legacy: Any, new: Any, unordered: Collection[str]) -> tuple[Any, Any]:
    # Copied, and not made anew, which would run checks of the application's own.
    legacy, new = copy.copy(legacy), copy.copy(new)
    for field in dataclasses.fields(new):
        before = getattr(legacy, field.name), getattr(new, field.name)
        after = side_by_side(*before, unordered, free=field.name in unordered)
        object.__setattr__(legacy, field.name, after[0])
        object.__setattr__(new, field.name, after[1])
    return legacy, new


def _paired(ours: list[Any], theirs: list[Any]) -> tuple[list[Any], list[Any]]:
    partners: dict[int, Any] = {}
    for place, one in enumerate(ours):
        same = next((at for at, other in enumerate(theirs) if one == other), None)
        if same is not None:
            partners[place] = theirs.pop(same)
    for place, one in enumerate(ours) if len(theirs) <= _MOST else ():
        if place not in partners and theirs:
            partners[place] = theirs.pop(max(range(len(theirs)), key=lambda at: _likeness(one, theirs[at])))
    alone = [one for place, one in enumerate(ours) if place not in partners]
    return [*(ours[place] for place in partners), *alone], [*partners.values(), *theirs]


def _likeness(one: Any, other: Any) -> int:
    """How many fields are equal."""
    if type(one) is not type(other):
        return -1
    return sum(getattr(one, field.name) == getattr(other, field.name) for field in dataclasses.fields(one))


def _is_record(value: object) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)
