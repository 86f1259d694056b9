"""The checker on histories made by hand: what it must blame, and what it must not."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from chaos.checker import Held, Run, Witnessed, check
from chaos.history import History, Kind, Nothing, Operation, Outcome, read_histories
from harness.routing import Store

LEGACY, NEW = Store.LEGACY, Store.NEW
SCOPE = "acme/project-1/incident-summary"


def asked(
    kind: Kind,
    number: int,
    value: str | None,
    *,
    record: str = "r",
    outcome: Outcome = Outcome.ACKNOWLEDGED,
    seen: str | None = None,
) -> Operation:
    """An operation from second ``number`` to half a second later; for ever when its outcome is unknown."""
    returned = math.inf if outcome is Outcome.UNKNOWN else number + 0.5
    return Operation("client", number, kind, SCOPE, record, value, number, returned, outcome, seen)


def took(store: Store, number: int, epoch: int, before: str | None, after: str | None, scope: str = SCOPE) -> Witnessed:
    return Witnessed(store, number, epoch, (scope,), before, after)


def held(text: str, scope: str = SCOPE) -> Held:
    return Held(scope, text)


INSERT = asked(Kind.INSERT, 1, "a")
UPDATE = asked(Kind.UPDATE, 2, "b")
DELETE = asked(Kind.DELETE, 3, None)
READ = asked(Kind.READ, 4, None, seen="r b")
INSERTED = took(LEGACY, 1, 1, None, "r a")
UPDATED = took(NEW, 1, 2, "r a", "r b")
DELETED = took(NEW, 2, 2, "r b", None)
BOTH = {LEGACY: [held("r b")], NEW: [held("r b")]}
GOOD = Run([INSERT, UPDATE, READ], [INSERTED, UPDATED], [], BOTH)


def rules(run: Run) -> set[str]:
    return {violation.rule for violation in check(run)}


def test_a_run_that_kept_its_promises_is_not_blamed() -> None:
    """A record made in legacy, changed in new after a move, read, and held by both."""
    assert check(GOOD) == []


def test_an_unknown_outcome_may_have_happened_or_not() -> None:
    """Both are explained: what it did is known from the store that accepted it, whenever that was."""
    unknown = replace(UPDATE, outcome=Outcome.UNKNOWN, returned=math.inf)
    assert check(replace(GOOD, operations=[INSERT, unknown, READ])) == []
    assert check(Run([INSERT, unknown], [INSERTED], [], {LEGACY: [held("r a")], NEW: [held("r a")]})) == []
    late = took(NEW, 9, 3, "r c", "r b")
    between = asked(Kind.UPDATE, 3, "c")
    accepted = [INSERTED, took(NEW, 1, 2, "r a", "r c"), late]
    assert check(Run([INSERT, unknown, between], accepted, [], BOTH)) == []


def test_an_acknowledged_delete_and_a_refused_one_of_the_same_record() -> None:
    """Two clients delete one record: one is acknowledged, the other told that there is none."""
    late = replace(DELETE, number=4, outcome=Outcome.REFUSED)
    run = Run([INSERT, UPDATE, DELETE, late], [INSERTED, UPDATED, DELETED], [], {LEGACY: [], NEW: []})
    assert check(run) == []


MOVED = Witnessed(NEW, 1, 2, (SCOPE, "acme/project-2/incident-summary"), "r a", "r b")


def test_a_record_that_moved_is_held_where_it_moved_to() -> None:
    """Found in the scope that it left, it counts as lost."""
    there = held("r b", MOVED.scopes[1])
    assert check(Run([INSERT, UPDATE], [INSERTED, MOVED], [], {LEGACY: [there], NEW: [there]})) == []
    assert rules(Run([INSERT, UPDATE], [INSERTED, MOVED], [], BOTH)) == {"lost"}


OTHER = asked(Kind.INSERT, 5, "z", record="s")
ELSEWHERE = took(LEGACY, 5, 2, None, "s z")

BLAMED = {
    "an acknowledged write that no store accepted": (
        "lost",
        Run([INSERT, UPDATE], [INSERTED], [], {LEGACY: [held("r a")], NEW: [held("r a")]}),
    ),
    "an acknowledged delete that no store accepted": (
        "lost",
        Run([INSERT, UPDATE, DELETE], [INSERTED, UPDATED], [], BOTH),
    ),
    "a write that did not find what the one before had left": (
        "lost",
        replace(GOOD, initial=[held("r 0")], witnessed=[took(LEGACY, 1, 1, "r 0", "r a"),
                                                        took(NEW, 1, 2, "r 0", "r b")]),
    ),
    "an accepted write that is in neither store at last": (
        "lost",
        replace(GOOD, final={LEGACY: [held("r a")], NEW: [held("r a")]}),
    ),
    "a record of the beginning that nobody deleted and no store holds": (
        "lost",
        replace(GOOD, initial=[held("q 0")]),
    ),
    "a store that was not carried over to": (
        "lost",
        replace(GOOD, final={LEGACY: [held("r a")], NEW: [held("r b")]}),
    ),
    "a deleted record that is there at last": (
        "resurrected",
        Run([INSERT, UPDATE, DELETE], [INSERTED, UPDATED, DELETED], [], {LEGACY: [], NEW: [held("r b")]}),
    ),
    "a deleted record that a later write found": (
        "resurrected",
        Run(
            [INSERT, UPDATE, DELETE, asked(Kind.UPDATE, 4, "c")],
            [INSERTED, UPDATED, DELETED, took(NEW, 3, 2, "r b", "r c")],
            [],
            {LEGACY: [held("r c")], NEW: [held("r c")]},
        ),
    ),
    "a write that was refused and took effect": (
        "refused",
        replace(GOOD, operations=[INSERT, replace(UPDATE, outcome=Outcome.REFUSED)]),
    ),
    "a delete that was refused and took effect": (
        "refused",
        Run([INSERT, UPDATE, replace(DELETE, outcome=Outcome.REFUSED)], [INSERTED, UPDATED, DELETED], [],
            {LEGACY: [], NEW: []}),
    ),
    "a write that was executed twice": (
        "twice",
        replace(GOOD, witnessed=[INSERTED, UPDATED, took(NEW, 2, 2, "r b", "r b")]),
    ),
    "a record that one store holds twice": (
        "twice",
        replace(GOOD, final={LEGACY: [held("r b")], NEW: [held("r b"), held("r b", "elsewhere")]}),
    ),
    "an accepted write that nobody asked for": (
        "unasked",
        replace(GOOD, operations=[INSERT]),
    ),
    "a scope accepted by both stores in one epoch": (
        "both sides",
        Run([INSERT, UPDATE, OTHER], [INSERTED, UPDATED, ELSEWHERE], [],
            {store: [held("r b"), held("s z")] for store in Store}),
    ),
    "a scope accepted by the loser when the gainer's first write had ended": (
        "both sides",
        Run([INSERT, UPDATE, OTHER], [INSERTED, UPDATED, replace(ELSEWHERE, epoch=1)], [],
            {store: [held("r b"), held("s z")] for store in Store}),
    ),
    "an order of the stores against the clients' clocks": (
        "order",
        Run(
            [INSERT, UPDATE, asked(Kind.UPDATE, 3, "c")],
            [INSERTED, took(LEGACY, 2, 1, "r a", "r c"), took(LEGACY, 3, 1, "r c", "r b")],
            [],
            BOTH,
        ),
    ),
    "a read that saw what was written after it": (
        "future",
        replace(GOOD, operations=[INSERT, UPDATE, replace(READ, invoked=0.5, returned=0.9)]),
    ),
    "a read that saw what was never committed": (
        "uncommitted",
        replace(GOOD, operations=[INSERT, UPDATE, replace(READ, seen="r never")]),
    ),
    "an error that no client should meet": (
        "error",
        replace(GOOD, operations=[INSERT, UPDATE, replace(READ, seen=None, fault=True)]),
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", BLAMED)
def test_is_blamed(what: str) -> None:
    """Each of these is a violation, and by its own name."""
    rule, run = BLAMED[what]
    assert rule in rules(run)


def test_a_violation_tells_the_records_history() -> None:
    """What the stores accepted and what the clients were told of the record stands below the violation."""
    _, run = BLAMED["an accepted write that is in neither store at last"]
    told = str(check(run)[0])
    assert "r a → r b" in told
    assert "client update" in told


def judge(error: Exception) -> tuple[Outcome, bool]:
    return (Outcome.REFUSED, False) if isinstance(error, Nothing) else (Outcome.UNKNOWN, True)


def failing() -> None:
    raise ValueError("a surprise")


def refusing() -> None:
    raise Nothing


def test_a_history_survives_a_kill_between_its_two_lines(tmp_path: Path) -> None:
    """A call without its second line, and a line cut off in the middle, are calls of unknown outcome."""
    history = History(tmp_path / "client.1.jsonl", judge)
    history.perform(Kind.READ, SCOPE, lambda: "r a")
    history.perform(Kind.DELETE, SCOPE, refusing, record="r")
    history.perform(Kind.UPDATE, SCOPE, failing, record="r", value=history.token())
    history.perform(Kind.UPDATE, SCOPE, lambda: None, record="r", value="never told")
    path = tmp_path / "client.1.jsonl"
    path.write_text(path.read_text()[:-10])
    read, delete, faulty, cut = read_histories(tmp_path)
    assert (read.seen, read.outcome) == ("r a", Outcome.ACKNOWLEDGED)
    assert (delete.outcome, delete.why, delete.fault) == (Outcome.REFUSED, "Nothing", False)
    assert (faulty.outcome, faulty.fault, faulty.value) == (Outcome.UNKNOWN, True, "client.1:3")
    assert (cut.outcome, cut.value, cut.returned) == (Outcome.UNKNOWN, "never told", math.inf)
    assert read.invoked <= read.returned <= delete.invoked
