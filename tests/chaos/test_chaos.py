"""The short form of the chaos run: each kind of fault once, and nothing lost."""

from __future__ import annotations

import pytest

from chaos.campaign import Plan, campaign


@pytest.mark.slow
def test_nothing_is_lost_while_everything_dies() -> None:
    """Every kind of fault strikes while authority moves; afterwards the checker explains all that clients saw."""
    result = campaign(Plan(seed=7, faults=20, gap=0.5))
    assert not result.violations, str(result)
    assert len(result.faults) >= 15, str(result)
    assert result.acts["done"] > 1, f"authority hardly moved: {result}"
    assert min(result.accepted["legacy"], result.accepted["new"]) > 0, f"one store accepted nothing: {result}"
