"""Lists of records whose order does not matter: each item meets its own counterpart, and nothing is lost."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from fakes import prompt

from adapters.prompts.prompt import PromptPage
from harness.compare import Comparison, Outcome, Pair
from harness.order import side_by_side
from harness.settings import RuleSettings

FREE = RuleSettings(name="free", field="items", action="unordered", reason="of the test")


def page(*rows: object) -> PromptPage:
    return PromptPage(rows, len(rows))  # type: ignore[arg-type]  # prompts; a test may put others in


def test_records_find_their_counterparts() -> None:
    """Shuffled items that all differ in one field stand beside the ones that they were made of."""
    rows = [prompt(name=f"prompt {n}") for n in range(30)]
    others = [replace(row, version=n + 2) for n, row in enumerate(rows)]
    Random(1).shuffle(others)
    ours, theirs = side_by_side(page(*rows), page(*others), {"items"})
    assert [row.id for row in ours.items] == [row.id for row in theirs.items]
    assert {row.id for row in ours.items} == {row.id for row in rows}


def test_nothing_is_lost_or_made_up() -> None:
    """What has no counterpart comes last, on either side, and the page that was given is not changed."""
    one, two, three = prompt(), prompt(), prompt()
    given = page(three, two, one)
    assert side_by_side(page(one, two), given, {"items"}) == (page(one, two), replace(given, items=(one, two, three)))
    ours, theirs = side_by_side(page(one, two, three), page(three, one), {"items"})
    assert (ours.items, theirs.items) == ((one, three, two), (one, three))
    assert given.items == (three, two, one)


def test_order_matters_where_nobody_says_otherwise() -> None:
    """Without the list's name both stay as they are."""
    one, two = prompt(), prompt()
    assert side_by_side(page(one, two), page(two, one), {"tags"}) == (page(one, two), page(two, one))


def test_a_field_that_differs_in_every_item_is_named_alone() -> None:
    """Under a rule for the order, items that all differ in a field differ in that field, and are no other items."""
    rows = [prompt(name=f"prompt {n}") for n in range(10)]
    others = [replace(row, version=n + 2) for n, row in enumerate(rows)][::-1]
    pair = Pair(Outcome(page(*rows)), Outcome(page(*others)))
    assert {found.field for found in Comparison([FREE]).differences(pair)} == {"version"}
    version = RuleSettings(name="version", field="version", action="ignore", reason="of the test")
    assert Comparison([FREE, version]).excuses(pair) == {"free", "version"}


def test_another_number_of_items_is_still_a_difference() -> None:
    """An item more is not excused by a rule for the order."""
    one, two = prompt(), prompt()
    pair = Pair(Outcome(page(one, two)), Outcome(PromptPage((two,), 2)))
    assert [found.field for found in Comparison([FREE]).differences(pair)] == ["length"]
    assert not Comparison([FREE]).excuses(pair)


def test_a_mismatch_is_confirmed_beside_a_field_that_never_repeats() -> None:
    """Two looks repeat each other if they differ only in what rules excuse; without the rule they do not."""
    row = prompt()

    def look(version: int) -> Pair:
        return Pair(Outcome(replace(row, version=version)), Outcome(replace(row, content="edited")))

    version = RuleSettings(name="version", field="version", action="ignore", reason="of the test")
    assert Comparison([version]).repeated(look(2), look(3))
    assert not Comparison().repeated(look(2), look(3))
    assert Comparison().repeated(look(2), look(2))
