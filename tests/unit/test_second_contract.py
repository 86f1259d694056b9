"""A second, unrelated contract: the core wraps it as it is, knowing neither its names nor its keys."""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Protocol

import pytest
from fakes import RouteBook, Samples

from harness.errors import Conflict, NotFound
from harness.operations import read, write
from harness.router import Router
from harness.routing import Store
from harness.settings import RuleSettings, ShadowSettings
from harness.statistics import Drop, Result, Role


@dataclass(frozen=True, slots=True)
class Purse:
    owner: str
    currency: str
    balance: Decimal
    movements: tuple[Decimal, ...] = ()


class Purses(Protocol):
    """Money by owner and currency: two keys in one, other verbs, keyword-only arguments."""

    @read(scope=lambda owner, currency: owner, key=lambda owner, currency: (owner, currency))
    def look_into(self, owner: str, currency: str) -> Purse: ...

    @read(scope=lambda *, of: of)
    def currencies(self, *, of: str) -> frozenset[str]: ...

    @read()
    def richest(self) -> Purse | None: ...

    @write(scope=lambda owner, currency, amount: owner, key=lambda owner, currency, amount: (owner, currency))
    def pay_in(self, owner: str, currency: str, amount: Decimal) -> Purse: ...


class Drawer:
    """Purses in a dictionary."""

    def __init__(self) -> None:
        self.purses: dict[tuple[str, str], Purse] = {}

    def look_into(self, owner: str, currency: str) -> Purse:
        if (owner, currency) not in self.purses:
            raise NotFound(f"{owner} has no {currency}")
        return self.purses[owner, currency]

    def currencies(self, *, of: str) -> frozenset[str]:
        return frozenset(currency for owner, currency in self.purses if owner == of)

    def richest(self) -> Purse | None:
        return max(self.purses.values(), key=lambda purse: purse.balance, default=None)

    def pay_in(self, owner: str, currency: str, amount: Decimal) -> Purse:
        if amount <= 0:
            raise Conflict("only what is positive can be paid in")
        before = self.purses.get((owner, currency), Purse(owner, currency, Decimal(0)))
        after = replace(before, balance=before.balance + amount, movements=(*before.movements, amount))
        self.purses[owner, currency] = after
        return after


class Safe(Drawer):
    """Another class, as the new store's is."""


@pytest.fixture
def drawers() -> tuple[Drawer, Safe]:
    old, young = Drawer(), Safe()
    for drawer in (old, young):
        drawer.pay_in("ann", "EUR", Decimal(5))
        drawer.pay_in("ann", "EUR", Decimal(7))
        drawer.pay_in("ann", "USD", Decimal(3))
        drawer.pay_in("bob", "EUR", Decimal(50))
    return old, young


def test_an_unrelated_contract_is_routed_and_compared(drawers: tuple[Drawer, Safe]) -> None:
    """Reads, writes, refusals and comparisons of a contract that the core has never seen."""
    old, young = drawers
    samples = Samples()
    with Router[Purses](
        Purses,
        legacy=old,
        new=young,
        routes=RouteBook.of(reads=100),
        samples=samples,
        settings=ShadowSettings(look_seconds=0.01),
    ) as router:
        purses: Purses = router.repository
        assert purses.look_into("ann", currency="EUR").balance == 12
        assert purses.currencies(of="ann") == {"EUR", "USD"}
        assert purses.richest() == Purse("bob", "EUR", Decimal(50), (Decimal(50),))
        with pytest.raises(NotFound):
            purses.look_into("cyd", "EUR")
        assert router.settle(5)
        assert purses.pay_in("bob", "EUR", Decimal(1)).balance == 51
        assert purses.look_into("bob", "EUR").balance == 50, "new has not been told, for there is no carrier"
        assert router.settle(5)
    found = router.statistics()
    assert found.results() == {Result.MATCHED: 4, Result.MISMATCHED: 1}
    assert found.fields == {("look_into", "balance"): 1, ("look_into", "length"): 1}
    assert found.latency(Store.LEGACY, Role.SERVED, "pay_in").count == 1
    assert samples.kept[0].scope == "bob"
    assert samples.kept[0].arguments == "'bob', 'EUR'"


def test_composite_keys_are_held_and_rules_apply(drawers: tuple[Drawer, Safe]) -> None:
    """A composite key can be quarantined, and rules name the fields of this contract's own values."""
    old, young = drawers
    young.purses["ann", "USD"] = replace(young.purses["ann", "USD"], balance=Decimal("3.004"))
    rules = [
        RuleSettings(
            name="tenths", field="balance", action="tolerance", tolerance=0.01, reason="new keeps tenths of a cent"
        )
    ]
    book = RouteBook.of(reads=100, held_keys=frozenset({("bob", "EUR")}))
    with Router[Purses](Purses, legacy=old, new=young, routes=book, rules=rules) as router:
        router.repository.look_into("bob", "EUR")
        router.repository.look_into("ann", "USD")
        assert router.settle(5)
    found = router.statistics()
    assert found.drops == {Drop.HELD: 1}
    assert found.results() == {Result.NOT_COMPARED: 1, Result.IGNORED: 1}


def test_a_contract_with_an_undeclared_method_is_refused() -> None:
    """A method that is marked neither read nor write would bypass the router, so there is no router for it."""

    class Leaky(Protocol):
        @read()
        def look(self) -> int: ...

        def slip_by(self) -> int: ...

    with pytest.raises(TypeError, match="slip_by"):
        Router[object](Leaky, legacy=object(), new=object(), routes=RouteBook())
