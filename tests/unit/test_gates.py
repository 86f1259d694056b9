"""Gates: what passes, what fails, and what is not known and must not be called either."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from report_example import NOW, bad, empty, good, minute, verification

from harness.config import GateSettings
from harness.evidence import Evidence, count, counted, duration, named, share
from harness.gates import GATES, Gate, decide, evaluate
from harness.phases import Phase
from harness.records import Backlog, Quarantined, Rejection, Verdict, Verification
from harness.routing import Store
from harness.statistics import Result, Role, Statistics

PASS, FAIL, INCONCLUSIVE = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE


def gate(name: str, evidence: Evidence, settings: GateSettings | None = None) -> Gate:
    return next(each for each in evaluate(evidence, settings or GateSettings()) if each.name == name)


def compared(results: dict[tuple[str, Result], int]) -> Evidence:
    """Evidence of a run that counted these comparisons; each operation was served, at most a hundred times."""
    found = Statistics()
    for (operation, result), n in results.items():
        found.comparisons[operation, result] += n
        found.latencies[operation, Store.LEGACY, Role.SERVED].add_all([0.001] * min(n, 100))
    return replace(good(), statistics=found)


def timed(**calls: tuple[float, int, int]) -> Evidence:
    """Evidence of calls: by operation the seconds of each, how many were made, and how many of them failed."""
    found = Statistics()
    for name, (seconds, n, failed) in calls.items():
        store, operation = name.split("_", 1)
        key = (operation, Store(store), Role.SERVED if store == "legacy" else Role.SHADOWED)
        found.latencies[key].add_all([seconds] * n)
        found.errors[key] += failed
    return replace(good(), statistics=found)


def test_every_gate_passes_on_a_migration_with_nothing_wrong() -> None:
    """The example that the other tests break one thing of passes every gate, and so as a whole."""
    gates = evaluate(good(), GateSettings())
    assert {each.name: each.verdict for each in gates} == dict.fromkeys(GATES, PASS)
    assert decide(gates) is PASS
    assert not any(each.next_step for each in gates)


def test_nothing_is_passed_before_anything_happened() -> None:
    """An empty ledger passes no gate and fails none, and each says what to do next."""
    gates = evaluate(empty(), GateSettings())
    assert {each.verdict for each in gates} == {INCONCLUSIVE}
    assert all(each.next_step for each in gates)
    assert decide(gates) is INCONCLUSIVE


@pytest.mark.parametrize("name", GATES)
def test_what_is_no_pass_says_what_to_do(name: str) -> None:
    """Whatever is wrong, a gate that does not pass names evidence and a next step."""
    found = gate(name, bad())
    assert found.evidence
    assert bool(found.next_step) is (found.verdict is not PASS)


@pytest.mark.parametrize(
    ("verdicts", "whole"),
    [
        ([PASS, PASS], PASS),
        ([PASS, INCONCLUSIVE], INCONCLUSIVE),
        ([PASS, INCONCLUSIVE, FAIL], FAIL),
        ([FAIL, PASS], FAIL),
        ([], INCONCLUSIVE),
    ],
)
def test_any_fail_fails_and_any_doubt_is_inconclusive(verdicts: list[Verdict], whole: Verdict) -> None:
    """One failing gate decides; else one inconclusive gate; and no gate at all is no pass."""
    assert decide([Gate("g", "?", verdict, "") for verdict in verdicts]) is whole


@pytest.mark.parametrize("phase", Phase)
def test_phase_needs_a_finished_backfill(phase: Phase) -> None:
    """Before BACKFILLED not everything was copied; from then on it was."""
    evidence = good()
    found = gate("phase", replace(evidence, phase=replace(evidence.phase, phase=phase)))
    assert found.verdict is (INCONCLUSIVE if phase in {Phase.IDLE, Phase.PREPARED} else PASS)


def test_parts_without_capture_block() -> None:
    """A tenant whose changes nobody notes fails the phase gate by name."""
    found = gate("phase", replace(good(), uncaptured=("dispatch_organization_late",)))
    assert found.verdict is FAIL
    assert "dispatch_organization_late" in found.evidence


_VERIFICATIONS: list[tuple[Verification | None, Verdict]] = [
    (None, INCONCLUSIVE),
    (verification(NOW), PASS),
    (verification(NOW - timedelta(hours=24) + timedelta(seconds=1)), PASS),
    (verification(NOW - timedelta(hours=24)), INCONCLUSIVE),
    (verification(NOW, broken=True), FAIL),
    (verification(NOW - timedelta(days=9), broken=True), FAIL),
    (replace(verification(NOW), verdict=INCONCLUSIVE, unsettled=3), INCONCLUSIVE),
    (replace(verification(NOW), compared=0), INCONCLUSIVE),
    (replace(verification(NOW), verdict=FAIL, unaccounted=2), FAIL),
]


@pytest.mark.parametrize(("latest", "verdict"), _VERIFICATIONS)
def test_verified_wants_a_young_pass_of_something(latest: Verification | None, verdict: Verdict) -> None:
    """None, an old one, an unsettled one and one of no rows prove nothing; a failed one fails at any age."""
    assert gate("verified", replace(good(), verification=latest)).verdict is verdict


def test_an_old_pass_does_not_outweigh_a_later_failure() -> None:
    """Only the latest verification counts."""
    evidence = replace(good(), verification=verification(broken=True), earlier=(verification(),))
    assert gate("verified", evidence).verdict is FAIL


@pytest.mark.parametrize(
    ("matched", "mismatched", "verdict"),
    [
        (0, 0, INCONCLUSIVE),  # no traffic
        (999, 0, INCONCLUSIVE),  # one too few
        (1000, 0, PASS),
        (999, 1, PASS),  # exactly the limit
        (1998, 3, FAIL),
        (100, 1, INCONCLUSIVE),  # might still be within the limit at the minimum
        (10, 2, FAIL),  # cannot be within it any more, whatever the rest brings
        (0, 1000, FAIL),
    ],
)
def test_mismatches_at_the_edges(matched: int, mismatched: int, verdict: Verdict) -> None:
    """A thousandth may mismatch, out of at least a thousand; doubt is never a pass."""
    evidence = compared({("find", Result.MATCHED): matched, ("find", Result.MISMATCHED): mismatched})
    assert gate("mismatches", evidence).verdict is verdict


def test_comparisons_that_were_not_made_do_not_count() -> None:
    """A million comparisons not made are no traffic; transient and ignored ones are settled."""
    none = compared({("find", Result.NOT_COMPARED): 1_000_000})
    assert gate("mismatches", none).verdict is INCONCLUSIVE
    some = compared({("find", Result.IGNORED): 500, ("find", Result.TRANSIENT): 500})
    assert gate("mismatches", some).verdict is PASS


def test_a_bad_operation_is_not_hidden_by_a_busy_one() -> None:
    """The rate must hold for each operation, however small its part in the whole."""
    busy = {("get", Result.MATCHED): 1_000_000}
    found = gate("mismatches", compared({**busy, ("find", Result.MATCHED): 20, ("find", Result.MISMATCHED): 20}))
    assert found.verdict is FAIL
    assert "find (20 in 40)" in found.evidence
    doubtful = gate("mismatches", compared({**busy, ("find", Result.MATCHED): 20, ("find", Result.MISMATCHED): 1}))
    assert doubtful.verdict is INCONCLUSIVE
    assert "find (1 in 21)" in doubtful.evidence


def test_a_limit_of_zero_allows_no_mismatch() -> None:
    """With max_mismatch_rate 0 a single mismatch fails, in a million or in one."""
    for matched in (0, 1_000_000):
        evidence = compared({("find", Result.MATCHED): matched, ("find", Result.MISMATCHED): 1})
        assert gate("mismatches", evidence, GateSettings(max_mismatch_rate=0)).verdict is FAIL


def test_coverage_names_what_was_only_ever_left_out() -> None:
    """An operation that was served and never compared is inconclusive, by name."""
    found = gate("coverage", compared({("get", Result.MATCHED): 5000, ("find", Result.NOT_COMPARED): 70}))
    assert found.verdict is INCONCLUSIVE
    assert "find (served 70 times)" in found.evidence
    assert "get" not in found.evidence


def test_coverage_leaves_writes_to_verify() -> None:
    """A served write needs no comparison, but writes alone compare nothing."""
    everything = good()
    assert everything.calls("update", Store.LEGACY, Role.SERVED)
    assert "update" in gate("coverage", everything).evidence
    only = replace(compared({("update", Result.NOT_COMPARED): 40}), writes=frozenset({"update"}))
    assert gate("coverage", only).verdict is INCONCLUSIVE
    assert gate("coverage", replace(everything, writes=frozenset())).verdict is INCONCLUSIVE


@pytest.mark.parametrize(
    ("legacy", "new", "verdict"),
    [
        ((1000, 0), (1000, 0), PASS),
        ((1000, 0), (1000, 1), PASS),  # exactly the limit
        ((1000, 0), (1000, 2), FAIL),
        ((1000, 50), (1000, 50), PASS),  # no worse than legacy
        ((1000, 50), (1000, 0), PASS),
        ((999, 0), (1000, 0), INCONCLUSIVE),
        ((1000, 0), (999, 0), INCONCLUSIVE),
        ((1000, 0), (5, 5), FAIL),  # new is down: no patience for the rest
        ((1000, 0), (5, 1), INCONCLUSIVE),  # one failure may yet be within the limit
        ((1000, 0), (0, 0), INCONCLUSIVE),
        ((0, 0), (1000, 0), INCONCLUSIVE),
    ],
)
def test_errors_beyond_legacys(legacy: tuple[int, int], new: tuple[int, int], verdict: Verdict) -> None:
    """New may fail no more than a thousandth oftener than legacy, over enough calls of both."""
    assert gate("errors", timed(legacy_find=(0.001, *legacy), new_find=(0.001, *new))).verdict is verdict


def test_failed_writes_of_legacy_do_not_excuse_new() -> None:
    """Only operations that both stores were asked are set against each other."""
    evidence = timed(legacy_find=(0.001, 2000, 0), new_find=(0.001, 2000, 20), legacy_update=(0.001, 2000, 2000))
    assert gate("errors", evidence).verdict is FAIL


@pytest.mark.parametrize(
    ("seconds", "calls", "verdict"),
    [
        (0.0140, 100, PASS),
        (0.0160, 100, FAIL),
        (0.0010, 100, PASS),
        (0.0160, 99, INCONCLUSIVE),
        (0.0160, 0, INCONCLUSIVE),
    ],
)
def test_latency_by_operation(seconds: float, calls: int, verdict: Verdict) -> None:
    """New's 99th percentile may be half as long again as legacy's 10 ms, over at least a hundred calls."""
    found = gate("latency", timed(legacy_find=(0.010, 100, 0), new_find=(seconds, calls, 0)))
    assert found.verdict is verdict
    assert "find" in found.evidence


def test_latency_says_which_operations_it_could_not_judge() -> None:
    """A rare operation beside a well-measured one is named, and a slow one is not hidden by a fast one."""
    rare = {"legacy_rare": (0.001, 3, 0), "new_rare": (0.9, 3, 0)}
    found = gate("latency", timed(legacy_find=(0.010, 100, 0), new_find=(0.010, 100, 0), **rare))
    assert found.verdict is PASS
    assert "not judged, fewer than 100 calls of both stores: rare" in found.evidence
    slow = {"legacy_slow": (0.001, 100, 0), "new_slow": (0.009, 100, 0)}
    assert gate("latency", timed(legacy_find=(0.010, 900, 0), new_find=(0.001, 900, 0), **slow)).verdict is FAIL


def test_latency_joins_both_roles() -> None:
    """Calls that a store served and calls that it shadowed are one population."""
    evidence = timed(legacy_find=(0.010, 100, 0), new_find=(0.010, 60, 0))
    assert gate("latency", evidence).verdict is INCONCLUSIVE
    evidence.statistics.latencies["find", Store.NEW, Role.SERVED].add_all([0.010] * 40)
    assert gate("latency", evidence).verdict is PASS


@pytest.mark.parametrize(
    ("backlog", "verdict"),
    [
        ({Store.LEGACY: Backlog(), Store.NEW: Backlog()}, PASS),
        ({Store.LEGACY: Backlog(9, 5.0), Store.NEW: Backlog()}, PASS),
        ({Store.LEGACY: Backlog(9, 5.01), Store.NEW: Backlog()}, FAIL),
        ({Store.LEGACY: Backlog(), Store.NEW: Backlog(1, 60)}, FAIL),
        ({Store.LEGACY: Backlog()}, INCONCLUSIVE),
        ({}, INCONCLUSIVE),
    ],
)
def test_lag_of_both_stores(backlog: dict[Store, Backlog], verdict: Verdict) -> None:
    """Either store's oldest note may be too old; a queue that was not read is not known to be empty."""
    assert gate("lag", replace(good(), backlog=backlog)).verdict is verdict


def test_open_quarantine_fails_with_reasons_and_counts() -> None:
    """One row is enough; reasons are counted, and so are rows that are not listed."""
    rows = tuple(Quarantined(str(n), "p", str(n), None, "too_long" if n else "empty", NOW) for n in range(3))
    found = gate("quarantine", replace(good(), quarantined=rows, quarantined_total=8))
    assert found.verdict is FAIL
    assert found.evidence == "8 rows in quarantine: too_long 2, empty 1 and 5 not listed here"
    assert gate("quarantine", replace(good(), quarantined_total=1)).verdict is FAIL
    assert gate("quarantine", replace(good(), quarantined=rows[:1])).verdict is FAIL


def test_rejected_scopes_fail_by_name() -> None:
    """A scope that could not be carried over fails; so do records that have none."""
    rejected = tuple(Rejection(scope, "why", 1, NOW, NOW) for scope in ("acme/project-1", None))
    found = gate("rejections", replace(good(), rejections=rejected))
    assert found.verdict is FAIL
    assert "acme/project-1 and records without a scope" in found.evidence


def test_evaluating_changes_no_evidence() -> None:
    """Gates only read: looking up an operation leaves no empty entry behind."""
    evidence = replace(good(), statistics=minute(1))
    before = evidence.statistics.dump()
    evaluate(evidence, GateSettings())
    assert evidence.statistics.dump() == before


@pytest.mark.parametrize(
    ("said", "text"),
    [
        (count(1234567), "1,234,567"),
        (counted(1, "row"), "1 row"),
        (counted(0, "mismatch", "mismatches"), "0 mismatches"),
        (share(0), "0 %"),
        (share(0.001), "0.1 %"),
        (share(0.000001), "under 0.001 %"),
        (share(0.9999), "over 99.9 %"),
        (share(1), "100 %"),
        (duration(0), "0 s"),
        (duration(0.0000123), "12.3 µs"),
        (duration(0.000999999), "1 ms"),
        (duration(0.25), "250 ms"),
        (duration(0.9996), "1 s"),
        (duration(5), "5 s"),
        (duration(99.8), "99.8 s"),
        (duration(600), "10 min"),
        (duration(86400), "24 h"),
        (duration(400_000), "4.63 days"),
        (named([]), ""),
        (named(["a"]), "a"),
        (named(["a", "b", "c"]), "a, b and c"),
        (named([str(n) for n in range(9)], 2), "0, 1 and 7 more"),
    ],
)
def test_numbers_in_words(said: str, text: str) -> None:
    """Three digits, the unit that suits, and nothing rounded to none or all."""
    assert said == text
