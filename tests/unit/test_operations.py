"""Operations: what a contract declares is what the core knows."""

from __future__ import annotations

from typing import Protocol

import pytest

from harness.operations import operations_of, read, write


class Base(Protocol):
    @read(scope=lambda tenant, code: tenant, key=lambda tenant, code: (tenant, code))
    def look_up(self, tenant: str, code: str) -> int: ...


class Contract(Base, Protocol):
    @write()
    def clear(self) -> None: ...


def test_inherited_operations_are_found() -> None:
    """A contract's operations include those it inherits, with the scope and key that their arguments name."""
    found = operations_of(Contract)
    assert {name: operation.kind for name, operation in found.items()} == {"look_up": "read", "clear": "write"}
    look_up = found["look_up"]
    assert look_up.scope is not None
    assert look_up.key is not None
    assert (look_up.scope("t", "c"), look_up.key("t", code="c")) == ("t", ("t", "c"))


def test_unmarked_methods_are_refused() -> None:
    """A public method without a mark would bypass the router, so the contract is refused by that method's name."""

    class Careless(Contract, Protocol):
        def forgotten(self) -> None: ...

    with pytest.raises(TypeError, match=r"Careless\.forgotten"):
        operations_of(Careless)


def test_empty_contracts_are_refused() -> None:
    """A contract without any operation is a mistake, not a contract."""

    class Empty(Protocol):
        pass

    with pytest.raises(TypeError, match="Empty"):
        operations_of(Empty)
