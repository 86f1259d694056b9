"""Comparing outcomes: which fields differ, what rules excuse, and what may never count as a match."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from types import SimpleNamespace

import pytest
from fakes import NOON, prompt

from adapters.prompts.prompt import PromptPage
from harness.compare import EXCERPT, Comparison, Outcome, Pair, alike
from harness.errors import Conflict, NotFound
from harness.records import FieldDifference
from harness.settings import RuleSettings


@dataclass(frozen=True, slots=True)
class Note:
    text: str
    tags: tuple[str, ...] = ()
    extra: object = None
    weight: float = 0.0


def rule(field: str, action: str, tolerance: float = 0.0) -> RuleSettings:
    return RuleSettings(name=f"{field}-{action}", field=field, action=action, reason="of the test", tolerance=tolerance)  # type: ignore[arg-type]


def fields(legacy: object, new: object, *rules: RuleSettings) -> list[str]:
    found = Comparison(rules).differences(Pair(Outcome(legacy), Outcome(new)))
    return sorted({difference.field for difference in found})


def test_errors_of_one_class_are_alike_and_no_others() -> None:
    """Two refusals match when their classes do; a refusal never matches an answer, not even None."""
    assert alike(Outcome(error=NotFound), Outcome(error=NotFound))
    assert not alike(Outcome(error=NotFound), Outcome(error=Conflict))
    assert not alike(Outcome(error=NotFound), Outcome(None))


def test_equality_that_raises_is_no_match() -> None:
    """Values whose == raises are not shown to be equal."""

    class Stubborn:
        def __eq__(self, other: object) -> bool:
            raise ValueError("ask me not")

        __hash__ = None  # type: ignore[assignment]

    assert not alike(Outcome(Stubborn()), Outcome(Stubborn()))


def test_fields_are_named_with_both_values() -> None:
    """A changed field is named after the dataclass field, and both values are kept as text."""
    one = prompt()
    other = replace(one, content="Say who noticed.", version=2)
    found = Comparison().differences(Pair(Outcome(one), Outcome(other)))
    assert set(found) == {
        FieldDifference("content", "Say what broke.", "Say who noticed."),
        FieldDifference("version", "1", "2"),
    }


def test_items_of_pages_count_by_their_field() -> None:
    """A difference within an item of a page is named after the item's field, without its index."""
    one, two = prompt(), prompt()
    legacy = PromptPage((one, two), 2)
    assert fields(legacy, PromptPage((one, replace(two, name="Other")), 2)) == ["name"]


def test_longer_lists_and_absent_answers_have_names_of_their_own() -> None:
    """Items more or fewer are "length", None against an answer "presence", an error against an answer "outcome"."""
    one = prompt()
    assert fields(PromptPage((one,), 1), PromptPage((), 1)) == ["length"]
    assert fields(one, None) == ["presence"]
    found = Comparison().differences(Pair(Outcome(error=NotFound), Outcome(one)))
    assert found == (FieldDifference("outcome", "NotFound", "an answer"),)


def test_names_that_are_data_never_become_fields() -> None:
    """Keys of dictionaries and attributes of other objects are data: they are "other", or the field that holds them."""
    assert fields({"acme": 1}, {"acme": 2}) == ["other"]
    assert fields(SimpleNamespace(acme=1), SimpleNamespace(acme=2)) == ["other"]
    assert fields(Note("a", extra={"acme": 1}), Note("a", extra={"acme": 2})) == ["extra"]
    assert fields(1, 2) == ["other"]


def test_ignored_fields_are_excused_and_the_others_are_not() -> None:
    """A rule excuses its own field only."""
    one = prompt()
    other = replace(one, updated_at=NOON + timedelta(hours=1), version=2)
    assert fields(one, other, rule("updated_at", "ignore")) == ["version"]
    assert fields(one, other, rule("updated_at", "ignore"), rule("version", "ignore")) == []


def test_a_rule_covers_what_lies_below_its_field() -> None:
    """A rule on a field excuses differences within that field's value."""
    assert fields(Note("a", extra=Note("b")), Note("a", extra=Note("c")), rule("extra", "ignore")) == []


@pytest.mark.parametrize(("seconds", "excused"), [(0.5, True), (1.0, True), (1.1, False)])
def test_tolerance_is_in_seconds_for_stamps(seconds: float, excused: bool) -> None:
    """Stamps no further apart than the tolerance are excused, up to and including it."""
    one = prompt()
    other = replace(one, updated_at=NOON + timedelta(seconds=seconds))
    assert (fields(one, other, rule("updated_at", "tolerance", 1.0)) == []) is excused


def test_tolerance_covers_numbers_and_nothing_else() -> None:
    """Numbers within the tolerance are excused; a number against a text, or a naive against an aware stamp, never."""
    loose = rule("weight", "tolerance", 0.1)
    assert fields(Note("a", weight=1.0), Note("a", weight=1.05), loose) == []
    assert fields(Note("a", weight=1.0), Note("a", weight=1.2), loose) == ["weight"]
    wide = rule("extra", "tolerance", 1e9)
    assert fields(Note("a", extra=1), Note("a", extra="1"), wide) == ["extra"]
    assert fields(Note("a", extra=NOON), Note("a", extra=NOON.replace(tzinfo=None)), wide) == ["extra"]


def test_a_stamp_without_zone_differs_from_one_in_utc() -> None:
    """A naive stamp is not the aware one, not even inside a page and next to a difference that a rule excuses."""
    one = prompt()
    other = replace(one, created_at=NOON.replace(tzinfo=None), version=2)
    assert fields(PromptPage((one,), 1), PromptPage((other,), 1), rule("version", "ignore")) == ["created_at"]


def test_unordered_lists_are_compared_as_bags() -> None:
    """Order alone is excused where declared; how often an item occurs is not."""
    free = rule("tags", "unordered")
    assert fields(Note("a", ("x", "y")), Note("a", ("y", "x"))) == ["tags"]
    assert fields(Note("a", ("x", "y")), Note("a", ("y", "x")), free) == []
    assert fields(Note("a", ("x", "y", "y")), Note("a", ("y", "x")), free) == ["length"]
    assert fields(Note("a", ("x", "y")), Note("b", ("y", "x")), free) == ["text"]


def test_what_deepdiff_does_not_see_is_still_a_difference() -> None:
    """Unequal values in which DeepDiff finds nothing are a difference, never a silent match; with rules too."""
    assert fields(object(), object()) == ["other"]
    assert fields(object(), object(), rule("tags", "unordered"), rule("text", "ignore")) == ["other"]


def test_long_values_are_cut_to_where_they_differ() -> None:
    """Of long texts the part around the first different character is kept, not ten thousand characters."""
    same = "a" * 5000
    (found,) = Comparison().differences(Pair(Outcome(Note(same + "x" + same)), Outcome(Note(same + "y" + same))))
    assert found.legacy is not None
    assert found.new is not None
    assert "x" in found.legacy
    assert "y" in found.new
    assert max(len(found.legacy), len(found.new)) <= EXCERPT + 2


def test_excuses_need_a_rule() -> None:
    """Without rules nothing is excused; with rules only what they cover entirely."""
    pair = Pair(Outcome(Note("a")), Outcome(Note("b")))
    assert not Comparison().excuses(pair)
    assert Comparison([rule("text", "ignore")]).excuses(pair)
    assert not Comparison([rule("tags", "ignore")]).excuses(pair)
