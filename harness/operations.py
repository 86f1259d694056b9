"""Operations: how a repository contract tells the core what each of its methods does.

A contract is a Protocol whose public methods are each marked ``@read`` or ``@write``. The marks carry what the
core must know and cannot guess: which scope a call touches, and which record. Both are functions of the call's
own arguments (without ``self``) and may answer None for "cannot be told from the arguments".
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, TypeVar

F = TypeVar("F", bound=Callable[..., Any])
Kind = Literal["read", "write"]
ScopeOf = Callable[..., str | None]
KeyOf = Callable[..., Hashable | None]

_MARK = "__crossfade_operation__"


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of a contract, as the router sees it.

    ``moves``: the record may have stood in another scope before than the one that the arguments name.
    """

    name: str
    kind: Kind
    scope: ScopeOf | None = None
    key: KeyOf | None = None
    moves: bool = False


def read(*, scope: ScopeOf | None = None, key: KeyOf | None = None) -> Callable[[F], F]:
    """Mark a method as one that changes nothing and may be asked of either store."""
    return _mark("read", scope, key)


def write(*, scope: ScopeOf | None = None, key: KeyOf | None = None, moves: bool = False) -> Callable[[F], F]:
    """Mark a method as one that changes a record and belongs to the store with authority.

    ``moves`` says that it may take the record out of another scope than the one that the arguments name.
    """
    return _mark("write", scope, key, moves)


def _mark(kind: Kind, scope: ScopeOf | None, key: KeyOf | None, moves: bool = False) -> Callable[[F], F]:
    def decorate(method: F) -> F:
        setattr(method, _MARK, Operation(method.__name__, kind, scope, key, moves))
        return method

    return decorate


def operations_of(contract: type[Any]) -> Mapping[str, Operation]:
    """The operations of a contract by method name, inherited ones included.

    Raises TypeError for a public method that bears no mark: an undeclared method would bypass the router.
    """
    found: dict[str, Operation] = {}
    for name in dir(contract):
        member = getattr(contract, name)
        if name.startswith("_") or not callable(member):
            continue
        operation = getattr(member, _MARK, None)
        if operation is None:
            raise TypeError(f"{contract.__name__}.{name} is marked neither @read nor @write")
        found[name] = operation
    if not found:
        raise TypeError(f"{contract.__name__} declares no operation")
    return MappingProxyType(found)
