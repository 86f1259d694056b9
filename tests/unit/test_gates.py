"""Gates: what passes, what fails, and what is not known and must not be called either."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from report_example import NOW, bad, empty, good, minute, verification

from harness.deciding import GateSettings
from harness.evidence import Evidence
from harness.gates import GATES, STATISTICAL, Gate, decide, evaluate
from harness.gates.finding import SHARERS
from harness.gates.latency import quantile
from harness.phases import Phase
from harness.records import Backlog, Quarantined, Rejection, Verdict, Verification
from harness.routing import Store
from harness.sketch import Sketch
from harness.statistics import Apply, Paired, Result, Role, Statistics
from harness.words import count, counted, duration, named, share

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


def paired(**results: dict[Paired, int]) -> Evidence:
    """Evidence of operations that both stores were asked: by operation, how often came what of it."""
    found = Statistics()
    for name, pairs in results.items():
        for result, n in pairs.items():
            found.pairs[name, result] += n
        found.latencies[name, Store.LEGACY, Role.SERVED].add(0.001)
    return replace(good(), statistics=found)


def written(**calls: tuple[int, int]) -> Evidence:
    """Fine pairs of a read, and updates: by store, how many were made and how many of them failed."""
    evidence = paired(find={Paired.ANSWERED: 10_000})
    for store, (n, failed) in calls.items():
        evidence.statistics.latencies["update", Store(store), Role.SERVED].add_all([0.001] * n)
        evidence.statistics.errors["update", Store(store), Role.SERVED] += failed
    return evidence


def timed(**calls: list[float]) -> Evidence:
    """Evidence of pairs that both stores answered: by store and operation, the seconds of each."""
    found = Statistics()
    for name, seconds in calls.items():
        store, operation = name.split("_", 1)
        found.latencies[operation, Store(store), Role.SERVED].add_all(seconds)
        found.paired[operation, Store(store)].add_all(seconds)
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
    (replace(verification(NOW), restriction="sample of 1 % with seed 7"), INCONCLUSIVE),
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
        (1000, 0, INCONCLUSIVE),  # not a single one, and yet the rate may well be beyond the limit
        (4415, 0, INCONCLUSIVE),  # one too few, as the table in docs/gates.md says
        (4416, 0, PASS),
        (9990, 10, INCONCLUSIVE),  # just the limit as far as one sees
        (23708 - 10, 10, PASS),
        (1998, 3, INCONCLUSIVE),
        (100, 1, INCONCLUSIVE),
        (10, 2, FAIL),  # few, but not by chance
        (10_000, 40, FAIL),
        (0, 1000, FAIL),
    ],
)
def test_mismatches_at_the_edges(matched: int, mismatched: int, verdict: Verdict) -> None:
    """A thousandth may mismatch: certainly more fails, certainly no more passes, and doubt is neither."""
    evidence = compared({("find", Result.MATCHED): matched, ("find", Result.MISMATCHED): mismatched})
    assert gate("mismatches", evidence).verdict is verdict


def test_comparisons_that_were_not_made_do_not_count() -> None:
    """A million comparisons not made are no traffic; transient and ignored ones are settled."""
    none = compared({("find", Result.NOT_COMPARED): 1_000_000})
    assert gate("mismatches", none).verdict is INCONCLUSIVE
    some = compared({("find", Result.IGNORED): 3000, ("find", Result.TRANSIENT): 3000})
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
    for matched, verdict in ((999, INCONCLUSIVE), (1000, PASS)):
        evidence = compared({("find", Result.MATCHED): matched})
        assert gate("mismatches", evidence, GateSettings(max_mismatch_rate=0)).verdict is verdict


def test_the_minimum_is_asked_for_all_the_same() -> None:
    """A lenient limit would be kept for certain after a hundred comparisons; less than the minimum is no pass."""
    evidence = compared({("find", Result.MATCHED): 999})
    assert gate("mismatches", evidence, GateSettings(max_mismatch_rate=0.1)).verdict is INCONCLUSIVE
    assert gate("mismatches", evidence, GateSettings(max_mismatch_rate=0.1, min_comparisons=999)).verdict is PASS


def test_a_rate_says_its_figures() -> None:
    """Observed, bounds, limit, counts and alpha stand beside the sentence, as numbers, of the whole and of each."""
    evidence = compared({("find", Result.MATCHED): 9_000, ("find", Result.MISMATCHED): 3, ("get", Result.MATCHED): 997})
    figures = gate("mismatches", evidence).figures
    assert (figures["hits"], figures["n"], figures["limit"], figures["alpha"]) == (3, 10_000, 0.001, 0.05)
    assert figures["observed"] == 0.0003
    assert 0 < figures["bound_low"] < figures["observed"] < figures["bound_high"] < 0.002
    assert figures["alpha_fail"] == pytest.approx(0.005)
    assert (figures["operations"]["find"]["hits"], figures["operations"]["get"]["n"]) == (3, 997)
    json.dumps(figures)


@pytest.mark.parametrize("name", GATES)
@pytest.mark.parametrize("example", [good, bad, empty])
def test_figures_are_plain_json(name: str, example: Callable[[], Evidence]) -> None:
    """Whatever a gate found can be written as strict JSON: no infinity, nothing of ours."""
    json.dumps(dict(gate(name, example()).figures), allow_nan=False)


def test_what_is_missing_to_a_pass_is_said() -> None:
    """An open rate says how many observations without a further hit would be enough."""
    found = gate("mismatches", compared({("find", Result.MATCHED): 2000}))
    assert "with no more of them, 4,416 would be enough" in found.evidence


def test_alpha_is_shared_among_those_who_may_fail() -> None:
    """The more gates, operations and new beginnings, the more evidence a fail takes; a pass takes no more for it."""
    assert len(set(STATISTICAL) - {"coverage"}) == SHARERS
    evidence = compared({("find", Result.MATCHED): 3300, ("find", Result.MISMATCHED): 14})
    (alone,) = evaluate(evidence, GateSettings(), only={"mismatches"})
    (one_of_many,) = evaluate(evidence, GateSettings(), only={"mismatches"}, sequences=20)
    assert (alone.verdict, one_of_many.verdict) == (FAIL, INCONCLUSIVE)
    fine = compared({("find", Result.MATCHED): 4416})
    assert {gate.verdict for gate in evaluate(fine, GateSettings(), only={"mismatches"}, sequences=20)} == {PASS}


def test_only_the_gates_that_are_asked_for() -> None:
    """A step of a ramp may ask some of them; the order stays the table's."""
    assert [each.name for each in evaluate(good(), GateSettings(), only=("lag", "mismatches"))] == ["mismatches", "lag"]


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
    ("pairs", "verdict"),
    [
        ({Paired.ANSWERED: 4416}, PASS),
        ({Paired.ANSWERED: 4415}, INCONCLUSIVE),
        ({Paired.ANSWERED: 4000, Paired.SLOW: 416}, PASS),  # slow is no failure
        ({Paired.ANSWERED: 4400, Paired.BOTH_FAILED: 200}, PASS),  # legacy answered neither
        ({Paired.ANSWERED: 4400, Paired.LEGACY_FAILED: 200}, PASS),
        ({Paired.ANSWERED: 2, Paired.NEW_FAILED: 5}, FAIL),  # new is down: no patience for the rest
        ({Paired.ANSWERED: 400, Paired.NEW_FAILED: 1}, INCONCLUSIVE),
        ({Paired.ANSWERED: 10_000, Paired.NEW_FAILED: 40}, FAIL),
        ({}, INCONCLUSIVE),
    ],
)
def test_errors_of_new_where_legacy_had_none(pairs: dict[Paired, int], verdict: Verdict) -> None:
    """New may fail a thousandth of what legacy answers; what legacy fails as well is not new's alone."""
    assert gate("errors", paired(find=pairs)).verdict is verdict


@pytest.mark.parametrize(
    ("legacy", "new", "verdict"),
    [
        ((1000, 0), (1000, 0), PASS),
        ((1000, 300), (1000, 300), PASS),  # no worse than legacy
        ((1000, 300), (1000, 0), PASS),
        ((0, 0), (1000, 0), PASS),
        ((1000, 0), (0, 0), PASS),  # not made in new yet, so nothing to fail
        ((1000, 0), (1000, 5), INCONCLUSIVE),
        ((1000, 0), (1000, 200), FAIL),
        ((0, 0), (1000, 200), FAIL),  # all writes have moved: nothing to set it against
        ((0, 0), (1000, 2), INCONCLUSIVE),
        ((99, 0), (1000, 200), FAIL),
        ((99, 30), (1000, 200), PASS),  # the little that legacy was given it failed more often
    ],
)
def test_writes_that_new_fails_more_often(legacy: tuple[int, int], new: tuple[int, int], verdict: Verdict) -> None:
    """Writes are made in one store only: shares are compared, each with its bounds; reads' good pairs hide nothing.

    An automatic ramp whose writes have all moved retreats when new fails them, though legacy is given none any more.
    """
    assert gate("errors", written(legacy=legacy, new=new)).verdict is verdict


@pytest.mark.parametrize(
    ("pairs", "verdict"),
    [
        ({Paired.ANSWERED: 1000, Paired.SLOW: 20}, PASS),
        ({Paired.ANSWERED: 950, Paired.SLOW: 50}, INCONCLUSIVE),
        ({Paired.ANSWERED: 800, Paired.SLOW: 200}, FAIL),
        ({Paired.ANSWERED: 999}, INCONCLUSIVE),
        ({Paired.ANSWERED: 600, Paired.SLOW: 200, Paired.LEGACY_SLOW: 200}, INCONCLUSIVE),  # a busy machine
        ({Paired.ANSWERED: 6000, Paired.SLOW: 2000, Paired.LEGACY_SLOW: 2000}, PASS),
        ({Paired.ANSWERED: 600, Paired.SLOW: 100, Paired.LEGACY_SLOW: 300}, PASS),
        ({Paired.ANSWERED: 500, Paired.SLOW: 400, Paired.LEGACY_SLOW: 100}, FAIL),
        ({Paired.NEW_FAILED: 1000}, INCONCLUSIVE),  # nothing that both answered
    ],
)
def test_slow_answers_pair_by_pair(pairs: dict[Paired, int], verdict: Verdict) -> None:
    """One in twenty may be slow beyond legacy's slow ones, of those calls that both stores answered."""
    assert gate("slow", paired(find=pairs)).verdict is verdict


@pytest.mark.parametrize(
    ("carried", "rejected", "verdict"),
    [
        (0, 0, INCONCLUSIVE),
        (41, 0, INCONCLUSIVE),
        (42, 0, PASS),
        (300, 8, PASS),
        (300, 30, INCONCLUSIVE),
        (5, 20, FAIL),
    ],
)
def test_changes_that_the_other_store_refuses(carried: int, rejected: int, verdict: Verdict) -> None:
    """A tenth may be refused at first; nothing carried over is no traffic."""
    found = Statistics()
    found.applies.update({Apply.CARRIED: carried, Apply.REJECTED: rejected})
    assert gate("applies", replace(good(), statistics=found)).verdict is verdict


@pytest.mark.parametrize(
    ("seconds", "calls", "verdict"),
    [
        (0.0140, 100, PASS),
        (0.0160, 100, FAIL),  # of a hundred, the middle at least is certain
        (0.0160, 99, INCONCLUSIVE),
        (0.0010, 100, PASS),
        (0.0010, 99, INCONCLUSIVE),
        (0.0160, 0, INCONCLUSIVE),
    ],
)
def test_latency_by_operation(seconds: float, calls: int, verdict: Verdict) -> None:
    """New's quantiles may be half as long again as legacy's 10 ms, over at least a hundred pairs of calls."""
    found = gate("latency", timed(legacy_find=[0.010] * calls, new_find=[seconds] * calls))
    assert found.verdict is verdict
    assert "find" in found.evidence


def test_a_tail_of_few_calls_is_not_known() -> None:
    """Of a hundred calls five slow ones may be chance: the 99th percentile seems slower, and that is all."""
    calls = [0.010] * 95 + [0.100] * 5
    found = gate("latency", timed(legacy_find=[0.010] * 100, new_find=calls))
    assert found.verdict is INCONCLUSIVE
    assert "not for certain: find p99" in found.evidence


@pytest.mark.parametrize(("share", "quantile"), [(0.03, "p99"), (0.2, "p95"), (0.9, "p50")])
def test_each_quantile_is_judged(share: float, quantile: str) -> None:
    """A slow tail, a slow fifth, and slowness throughout: each is seen where it is."""
    slow = round(5000 * share)
    calls = [0.010] * (5000 - slow) + [0.100] * slow
    found = gate("latency", timed(legacy_find=[0.010] * 5000, new_find=calls))
    assert found.verdict is FAIL
    assert f"for certain beyond the limit 1.5 times: find {quantile} 9.97 times" in found.evidence


def test_small_differences_of_fast_calls_do_not_matter() -> None:
    """Three times as long, and a millisecond: nobody waits for that."""
    evidence = timed(legacy_find=[0.0005] * 5000, new_find=[0.0015] * 5000)
    assert gate("latency", evidence).verdict is PASS
    assert gate("latency", evidence, GateSettings(slowdown_seconds=0)).verdict is FAIL


def test_latency_says_which_operations_it_could_not_judge() -> None:
    """A rare operation beside a well-measured one is named, and a slow one is not hidden by a fast one."""
    fast = {"legacy_find": [0.010] * 3000, "new_find": [0.010] * 3000}
    found = gate("latency", timed(**fast, legacy_rare=[0.001] * 3, new_rare=[0.9] * 3))
    assert found.verdict is PASS
    assert "not judged, fewer than 100 calls of both stores: rare" in found.evidence
    slow = {"legacy_slow": [0.001] * 3000, "new_slow": [0.009] * 3000}
    assert gate("latency", timed(**fast, **slow)).verdict is FAIL


def test_a_quantiles_bounds_hold_it() -> None:
    """Of a thousand durations of 1 to 1,000 ms the bounds hold the true median, narrowly; of ten the p99 may be any."""
    sketch = Sketch()
    sketch.add_all(n / 1000 for n in range(1, 1001))
    median = quantile(sketch, 0.5, 0.01)
    assert 0.4 < median.low < median.estimate < median.high < 0.6
    few = Sketch()
    few.add_all([0.010] * 10)
    assert quantile(few, 0.99, 0.05).high == math.inf
    assert quantile(few, 0.99, 0.05).low <= 0.010


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


def test_many_notes_fail_though_none_is_old() -> None:
    """A queue that grows is seen before it is late."""
    grown = {Store.LEGACY: Backlog(10_001, 0.5), Store.NEW: Backlog()}
    assert gate("dirty", replace(good(), backlog=grown)).verdict is FAIL
    assert gate("lag", replace(good(), backlog=grown)).verdict is PASS
    assert gate("dirty", replace(good(), backlog={Store.LEGACY: Backlog()})).verdict is INCONCLUSIVE


def test_rogue_writes_stand_until_a_later_verification_of_everything() -> None:
    """Catch-up makes them good; a sample, a failure and an earlier verification do not show that it has."""
    some = replace(good(), rogue_writes={Store.LEGACY: 0, Store.NEW: 2}, rogue_at=NOW - timedelta(hours=2))
    assert gate("rogue", some).verdict is PASS  # the example was verified an hour ago
    found = gate("rogue", replace(some, rogue_at=NOW))
    assert found.verdict is FAIL
    assert "new 2" in found.evidence
    for latest in (None, verification(broken=True), replace(verification(), restriction="scope a")):
        assert gate("rogue", replace(some, verification=latest)).verdict is FAIL
    assert gate("rogue", replace(some, rogue_at=None)).verdict is FAIL


def test_rollback_debt_up_to_its_limit() -> None:
    """None is allowed unless the settings do; once the migration is complete nothing goes back."""
    owing = replace(good(), debts_total=3)
    assert gate("debt", owing).verdict is FAIL
    assert gate("debt", owing, GateSettings(max_rollback_debt=3)).verdict is PASS
    complete = replace(owing, phase=replace(owing.phase, phase=Phase.COMPLETE))
    assert gate("debt", complete).verdict is PASS


def test_a_rehearsal_is_asked_for_by_settings() -> None:
    """Without one the gate passes only if none is asked for, and says so; an old one counts."""
    asked = GateSettings(rehearse_rollback=True)
    assert "none is asked for" in gate("rehearsal", good()).evidence
    assert gate("rehearsal", good(), asked).verdict is INCONCLUSIVE
    assert gate("rehearsal", replace(good(), rolled_back_at=NOW - timedelta(days=3)), asked).verdict is PASS


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
