"""The noise baseline: what differs by itself is learned, what was written is not taken for it, nothing is hidden."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from random import Random
from uuid import UUID

import pytest
from fakes import NOON, InMemoryPrompts, RouteBook, prompt

from adapters.prompts.contract import PromptRepository
from adapters.prompts.prompt import Prompt, PromptFilter, PromptPage
from harness.baseline import Baseline, Finding, as_toml, judge, propose
from harness.config import load
from harness.errors import ConfigError, StoreUnavailable
from harness.noise import Patience, Twice
from harness.router import Router
from harness.routing import Store
from harness.settings import CompareSettings, RuleSettings
from harness.statistics import Statistics

SECRET = "Say what broke."  # noqa: S105 - the content of every prompt of fakes.prompt


class Restless(InMemoryPrompts):
    """A store of which every prompt that is read goes through ``blur``, and every list through ``shuffle``."""

    def __init__(self, *prompts: Prompt) -> None:
        super().__init__(*prompts)
        self.blur: Callable[[Prompt], Prompt] = lambda row: row
        self.shuffle: Callable[[tuple[Prompt, ...]], tuple[Prompt, ...]] = lambda rows: rows
        self.writes = 0

    def find_by_id(self, id: UUID) -> Prompt | None:
        found = super().find_by_id(id)
        return None if found is None else self.blur(found)

    def find_all(self, query: PromptFilter) -> PromptPage:
        page = super().find_all(query)
        return replace(page, items=self.shuffle(tuple(map(self.blur, page.items))))

    def edit(self) -> None:
        """What a writer would do: a change that a mark shows."""
        self.writes += 1
        for id, row in list(self.rows.items()):
            self.rows[id] = replace(row, content=f"{SECRET} {self.writes}", version=row.version + 1)


def asked(
    store: Restless,
    times: int = 20,
    *,
    rules: Sequence[RuleSettings] = (),
    wait: Callable[[float], object] = lambda seconds: None,
    lists: bool = True,
) -> tuple[Baseline, tuple[RuleSettings, ...]]:
    """The store asked twice for a prompt, and for a list of all, so many times; the judgement and the proposals."""
    twice = Twice(
        PromptRepository,
        (store, store),
        mark=lambda: store.writes,
        rules=rules,
        patience=Patience(pause=0.01, looks=3, look_seconds=0.01),
        random=Random(3).random,
        wait=wait,
    )
    for _ in range(times):
        twice.repository.find_by_id(next(iter(store.rows)))
        if lists:
            twice.repository.find_all(PromptFilter())
    found = judge(twice.counts, rules, at=NOON, store=Store.LEGACY, seconds=1.0, limit=0.1, alpha=0.05)
    return found, propose(twice.counts, rules, Store.LEGACY)


def counting() -> Callable[[], int]:
    made = iter(range(1, 1_000_000))
    return lambda: next(made)


def differing(found: Baseline) -> set[tuple[str, str]]:
    return {(each.operation, each.field) for each in found.noise}


def test_a_store_that_repeats_itself_has_no_noise() -> None:
    """Equal answers make no field noisy; a field is still only once there is evidence enough for the limit."""
    found, proposals = asked(Restless(prompt(), prompt()), 100)
    assert (found.noise, proposals, found.compared, found.transient) == ((), (), 200, 0)
    assert {each.finding for each in found.fields} == {Finding.STILL}
    assert {"content", "outcome", "presence"} <= {each.field for each in found.fields}
    few, _ = asked(Restless(prompt()), 5)
    assert {each.finding for each in few.fields} == {Finding.UNKNOWN}


def test_exactly_the_field_that_differs_by_itself_is_noise() -> None:
    """One unsteady field is found in every operation that shows it, and one rule for it alone is proposed."""
    store, number = Restless(prompt(), prompt()), counting()
    store.blur = lambda row: replace(row, description=f"asked for {number()} times")
    found, proposals = asked(store)
    assert differing(found) == {("find_by_id", "description"), ("find_all", "description")}
    assert found.uncovered == found.noise
    assert all(each.low > 0 for each in found.noise)
    [rule] = proposals
    assert (rule.field, rule.action, rule.operation) == ("description", "ignore", "*")
    assert "NOT covered" in found.sentence()


def test_a_proposed_rule_covers_what_it_was_proposed_for() -> None:
    """Under the proposed rule the same noise is covered by its name, the rule is needed, and nothing more proposed."""
    store, number = Restless(prompt(), prompt()), counting()
    store.blur = lambda row: replace(row, description=str(number()))
    _, proposals = asked(store)
    found, more = asked(store, rules=proposals)
    assert more == ()
    assert len(found.noise) == 2
    assert found.uncovered == ()
    assert {each.rules for each in found.noise} == {(proposals[0].name,)}
    assert [(rule.name, rule.finding) for rule in found.rules] == [(proposals[0].name, Finding.NOISE)]


def test_rare_noise_counts_however_rare() -> None:
    """A field that differs once in a hundred pairs, with nothing written, is noise and not a passing difference."""
    store, number = Restless(prompt()), counting()
    store.blur = lambda row: replace(row, description="odd" if number() == 101 else None)
    found, _ = asked(store, 100, lists=False)
    [only] = found.noise
    assert (only.field, only.differed, only.compared) == ("description", 1, 100)


def test_an_order_that_nobody_fixed_is_noise_of_the_list() -> None:
    """Items in another order are the list's noise, not that of all their fields; the rule lets the order be."""
    store, number = Restless(prompt(name="a"), prompt(name="b"), prompt(name="c")), counting()
    store.shuffle = lambda rows: rows if number() % 2 else rows[::-1]
    found, [rule] = asked(store)
    assert differing(found) == {("find_all", "items")}
    assert (rule.field, rule.action, rule.operation) == ("items", "unordered", "find_all")
    covered, more = asked(store, rules=[rule])
    assert (covered.uncovered, more) == ((), ())
    assert covered.rules[0].finding is Finding.NOISE


def test_order_and_content_are_told_apart() -> None:
    """A list in another order whose items differ in one field as well has these two noises and no other."""
    store, number = Restless(prompt(name="a"), prompt(name="b")), counting()
    store.shuffle = lambda rows: rows if number() % 2 else rows[::-1]
    store.blur = lambda row: replace(row, version=number())
    found, proposals = asked(store)
    assert differing(found) == {("find_all", "items"), ("find_all", "version"), ("find_by_id", "version")}
    covered, more = asked(store, rules=proposals)
    assert {rule.finding for rule in covered.rules} == {Finding.NOISE}
    assert {rule.action for rule in more} <= {"tolerance"}  # a version may come further apart than was ever seen


def test_stamps_get_a_tolerance_above_what_was_seen() -> None:
    """Stamps that differ by a little are proposed a tolerance, which hides less than ignoring them would."""
    store, random = Restless(prompt()), Random(5)
    store.blur = lambda row: replace(row, updated_at=NOON + timedelta(milliseconds=random.randint(0, 30)))
    found, [rule] = asked(store)
    assert {field for _, field in differing(found)} == {"updated_at"}
    assert (rule.field, rule.action) == ("updated_at", "tolerance")
    assert 0.03 < rule.tolerance < 0.1
    assert asked(store, rules=[rule])[0].uncovered == ()


def test_flags_get_no_tolerance() -> None:
    """A flag that flickers is no number: the rule proposed ignores it, in words."""
    store, number = Restless(prompt()), counting()
    store.blur = lambda row: replace(row, enabled=bool(number() % 2))
    _, [rule] = asked(store)
    assert (rule.field, rule.action) == ("enabled", "ignore")


def test_what_was_written_in_between_is_no_noise() -> None:
    """A write between the two answers is a passing difference: asked again, the pair is equal and counts as such."""
    store = Restless(prompt())
    number = counting()
    # Every other pause is between two answers, every other one before the next look.
    found, proposals = asked(store, wait=lambda seconds: store.edit() if number() % 3 == 1 else None, lists=False)
    assert (found.noise, proposals) == ((), ())
    assert found.transient > 0
    assert found.compared + found.unsettled == 20


def test_a_store_that_never_stands_still_is_not_judged() -> None:
    """Pairs that meet a write each time are counted apart, and say nothing of any field."""
    store = Restless(prompt())
    found, proposals = asked(store, wait=lambda seconds: store.edit(), lists=False)
    assert (found.compared, found.unsettled, found.fields, proposals) == (0, 20, (), ())
    assert "no pair" in found.sentence()


@pytest.mark.parametrize("share", [3, 10])
def test_noise_that_only_busy_moments_show_is_not_called_still(share: int) -> None:
    """Where somebody writes all the time, a field that differs now and then is not known to be still, nor its rule."""
    store, number = Restless(prompt()), counting()
    store.blur = lambda row: replace(row, description="odd" if number() % share == 0 else None)

    def elsewhere(_seconds: float) -> None:
        store.writes += 1  # to another database of the same server, say: no row here has changed

    rule = RuleSettings(name="odd", field="description", action="ignore", reason="of the test")
    found, proposals = asked(store, 300, rules=[rule], wait=elsewhere, lists=False)
    assert (found.noise, proposals) == ((), ())
    [odd] = [each for each in found.fields if each.field == "description"]
    assert (odd.finding, odd.differed) == (Finding.UNKNOWN, 0)
    assert odd.doubtful > 0
    assert odd.high > 1 / share
    assert {each.finding for each in found.fields if each is not odd} == {Finding.STILL}
    assert found.rules[0].finding is Finding.UNKNOWN
    assert "1 field differed while something was written" in found.sentence()


def asked_twice(store: Restless) -> Twice:
    """The store compared with itself, without a wait and without rules."""
    return Twice(
        PromptRepository,
        (store, store),
        mark=lambda: 0,
        rules=(),
        patience=Patience(0, 2, 0),
        random=Random(1).random,
        wait=lambda seconds: None,
    )


def test_a_missing_answer_gets_no_rule() -> None:
    """An answer that is there and then not is noise, and reported; no rule is proposed that would hide it."""
    store, number = Restless(prompt()), counting()
    kept = store.rows.copy()

    def vanish(name: str) -> None:
        store.rows = kept if number() % 2 else {}

    store.before = vanish
    twice = asked_twice(store)
    for _ in range(5):
        twice.repository.find_by_id(next(iter(kept)))
    found = judge(twice.counts, (), at=NOON, store=Store.LEGACY, seconds=1.0, limit=0.1, alpha=0.05)
    assert differing(found) == {("find_by_id", "presence")}
    assert propose(twice.counts, (), Store.LEGACY) == ()


def test_noise_of_one_operation_is_excused_there_alone() -> None:
    """A field that stands still in another operation gets a rule on the operation in which it does not."""
    store, number = Restless(prompt()), counting()
    store.shuffle = lambda rows: tuple(replace(row, description=str(number())) for row in rows)
    found, [rule] = asked(store)
    assert differing(found) == {("find_all", "description")}
    assert rule.operation == "find_all"
    assert asked(store, rules=[rule])[0].uncovered == ()
    elsewhere = replace(rule, operation="find_by_id")
    assert len(asked(store, rules=[elsewhere])[0].uncovered) == 1


def test_a_rule_that_nothing_needs_is_told() -> None:
    """A rule whose field never differed is not needed for noise, or there is too little evidence to say so."""
    rule = RuleSettings(name="old", field="content", action="ignore", reason="of the test")
    assert asked(Restless(prompt()), 100, rules=[rule])[0].rules[0].finding is Finding.STILL
    assert asked(Restless(prompt()), 2, rules=[rule])[0].rules[0].finding is Finding.UNKNOWN


def test_a_rule_that_is_too_narrow_is_not_taken_for_cover() -> None:
    """Noise beyond a rule's tolerance stays open, and a wider rule of another name is proposed."""
    store, number = Restless(prompt()), counting()
    store.blur = lambda row: replace(row, version=10 * number())
    narrow = RuleSettings(
        name="version-noise", field="version", action="tolerance", tolerance=0.5, reason="of the test"
    )
    found, [wider] = asked(store, rules=[narrow])
    assert len(found.uncovered) == 2
    assert wider.name != narrow.name
    assert wider.tolerance >= 10


def test_a_store_that_is_away_is_counted_and_raised() -> None:
    """No answer is no comparison."""
    store = Restless(prompt())

    def away(name: str) -> None:
        raise StoreUnavailable("legacy: away")

    store.before = away
    twice = asked_twice(store)
    with pytest.raises(StoreUnavailable):
        twice.repository.find_by_id(next(iter(store.rows)))
    assert (twice.counts.failed.total(), twice.counts.compared.total()) == (1, 0)


def test_nothing_of_a_value_is_kept() -> None:
    """What is kept, printed and proposed says how values differed, never what they say."""
    store, number = Restless(prompt()), counting()
    store.blur = lambda row: replace(row, content=f"{SECRET} {number()}")
    found, proposals = asked(store)
    assert found.noise
    assert SECRET not in json.dumps(found.dump()) + as_toml(proposals) + found.sentence()


def test_a_baseline_survives_the_ledger() -> None:
    """Dumped as JSON and loaded, it is the same but for the fields that did not differ."""
    store, number = Restless(prompt()), counting()
    store.blur = lambda row: replace(row, version=number())
    rule = RuleSettings(name="old", field="content", action="ignore", reason="of the test")
    found, _ = asked(store, rules=[rule])
    again = Baseline.load(json.loads(json.dumps(found.dump())))
    assert again == replace(found, fields=found.noise)
    assert again.sentence() == found.sentence()


def test_the_proposed_text_is_a_settings_file(tmp_path: Path) -> None:
    """Pasted into crossfade.toml as it is, the proposals are the rules in force."""
    store, number = Restless(prompt(name="a"), prompt(name="b")), counting()
    store.blur = lambda row: replace(row, description=str(number()), version=number())
    _, proposals = asked(store)
    file = tmp_path / "crossfade.toml"
    file.write_text(as_toml(proposals))
    assert len(tomllib.loads(file.read_text())["compare"]["rules"]) == len(proposals) == 2
    assert load(file, {}).compare.rules == proposals


def test_what_rules_excused_is_kept_by_name() -> None:
    """Counts by rule survive the ledger and add up over processes; what older processes wrote has none."""
    counted = Statistics()
    counted.rules["find_all", "stamps"] = 3
    again = Statistics.load(json.loads(json.dumps(counted.dump())))
    again.merge(counted)
    assert again.rules == {("find_all", "stamps"): 6}
    older = counted.dump()
    del older["rules"]
    assert Statistics.load(older).rules == {}


def test_rules_have_names_of_their_own_and_a_known_operation() -> None:
    """Two rules of one name, a tolerance where none belongs, and an operation that there is not are refused."""
    rule = RuleSettings(name="one", field="version", action="ignore", reason="of the test")
    with pytest.raises(ValueError, match="two rules called one"):
        CompareSettings(rules=(rule, rule))
    with pytest.raises(ValueError, match="tolerance"):
        replace(rule, tolerance=1.0)
    with pytest.raises(ValueError, match="tolerance"):
        replace(rule, action="tolerance")
    store = InMemoryPrompts()
    with pytest.raises(ConfigError, match="find_nothing"):
        Router[PromptRepository](
            PromptRepository,
            legacy=store,
            new=store,
            routes=RouteBook(),
            rules=[replace(rule, operation="find_nothing")],
        )
