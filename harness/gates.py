"""Gates: the conditions of a cutover, each judged on the evidence and on nothing else.

One function for each gate, all in one table. What was not looked at is inconclusive, never passed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.config import GateSettings
from harness.evidence import Evidence, count, counted, duration, named, settled, share
from harness.phases import NEXT_STEP, Phase, at_least
from harness.records import Verdict, Verification
from harness.routing import Store
from harness.statistics import Result, Role

TAIL_CALLS = 100  # a 99th percentile of fewer calls is their maximum, and says little


@dataclass(frozen=True, slots=True)
class Gate:
    """One condition: what it asks, the verdict, the evidence in words and numbers, and what to do if it is no pass."""

    name: str
    question: str
    verdict: Verdict
    evidence: str
    next_step: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    verdict: Verdict
    evidence: str
    next_step: str = ""


Judge = Callable[[Evidence, GateSettings], Finding]


def _pass(evidence: str) -> Finding:
    return Finding(Verdict.PASS, evidence)


def _fail(evidence: str, next_step: str) -> Finding:
    return Finding(Verdict.FAIL, evidence, next_step)


def _inconclusive(evidence: str, next_step: str) -> Finding:
    return Finding(Verdict.INCONCLUSIVE, evidence, next_step)


def _phase(evidence: Evidence, settings: GateSettings) -> Finding:
    phase = evidence.phase.phase
    if not at_least(phase, Phase.BACKFILLED):
        return _inconclusive(f"the phase is {phase}: not everything has been copied", NEXT_STEP[phase])
    if evidence.uncaptured:
        return _fail(
            f"changes are not noted in {counted(len(evidence.uncaptured), 'part')} of legacy: "
            f"{named(evidence.uncaptured)}",
            "crossfade prepare, then crossfade backfill",
        )
    return _pass(f"the phase is {phase}: everything that existed has been copied or accounted for")


def _verified(evidence: Evidence, settings: GateSettings) -> Finding:
    latest = evidence.verification
    if latest is None:
        return _inconclusive("nothing was verified", "crossfade verify")
    age = max(0.0, (evidence.generated_at - latest.at).total_seconds())
    rows = f"{counted(latest.compared, 'row')} compared {duration(age)} ago"
    if latest.verdict is Verdict.FAIL:
        return _fail(f"{rows}: {_differing(latest)}", "crossfade repair --dry-run, then crossfade verify")
    if latest.verdict is Verdict.INCONCLUSIVE:
        return _inconclusive(
            f"{rows}: {count(latest.unsettled)} of them never stood still", "crossfade catchup, then crossfade verify"
        )
    if not latest.compared:
        return _inconclusive(f"{rows}: an empty store proves nothing", "crossfade verify, once there are rows")
    if age >= settings.verify_hours * 3600:
        return _inconclusive(
            f"{rows}, all equal; older than {duration(settings.verify_hours * 3600)}", "crossfade verify"
        )
    return _pass(f"{rows}: none missing, extra or different")


def _differing(found: Verification) -> str:
    kinds = {
        "missing in new": found.missing,
        "extra in new": found.extra,
        "different": found.different,
        "neither carried over nor in quarantine": found.unaccounted,
    }
    return named([f"{count(n)} {kind}" for kind, n in kinds.items() if n]) or "the verification failed"


def _mismatches(evidence: Evidence, settings: GateSettings) -> Finding:
    everything = evidence.statistics.results()
    compared, mismatched = settled(everything), everything[Result.MISMATCHED]
    if not compared:
        return _inconclusive("no answers were compared", "crossfade run")
    rate = mismatched / compared
    text = (
        f"{counted(mismatched, 'confirmed mismatch', 'confirmed mismatches')} in "
        f"{counted(compared, 'settled comparison')}, {share(rate)}; limit {share(settings.max_mismatch_rate)}"
    )
    beyond, unsure = _excessive(evidence, settings)
    if beyond:
        where = named([_rated(evidence, operation) for operation in beyond])
        return _fail(f"{text}; beyond it: {where}", "mend what the report's differing fields show, then crossfade run")
    if compared < settings.min_comparisons:
        return _inconclusive(f"{text}; fewer than {count(settings.min_comparisons)} comparisons", "crossfade run")
    if unsure:
        where = named([_rated(evidence, operation) for operation in unsure])
        return _inconclusive(f"{text}; too few comparisons to tell of {where}", "crossfade run")
    return _pass(text)


def _excessive(evidence: Evidence, settings: GateSettings) -> tuple[list[str | None], list[str | None]]:
    """Operations (None for all together) whose rate is beyond the limit: for certain, and on too few comparisons.

    It is certain on few comparisons too, if all those missing to the minimum could match and it would still be beyond.
    """
    beyond: list[str | None] = []
    unsure: list[str | None] = []
    for operation in (None, *evidence.statistics.operations):
        results = evidence.statistics.results(operation)
        mismatched, compared = results[Result.MISMATCHED], settled(results)
        if mismatched > settings.max_mismatch_rate * max(compared, settings.min_comparisons):
            beyond.append(operation)
        elif mismatched > settings.max_mismatch_rate * compared:
            unsure.append(operation)
    return beyond, unsure


def _rated(evidence: Evidence, operation: str | None) -> str:
    results = evidence.statistics.results(operation)
    mismatched, compared = results[Result.MISMATCHED], settled(results)
    return f"{operation or 'all operations together'} ({count(mismatched)} in {count(compared)})"


def _coverage(evidence: Evidence, settings: GateSettings) -> Finding:
    served = [name for name in evidence.statistics.operations if any(_served(evidence, name))]
    reads = [name for name in served if name not in evidence.writes]
    writes = [name for name in served if name in evidence.writes]
    if not reads:
        return _inconclusive("no operation was served whose answers could be compared", "crossfade run")
    results = {name: evidence.statistics.results(name) for name in reads}
    never = [name for name in reads if not settled(results[name])]
    if never:
        told = [f"{name} (served {count(sum(_served(evidence, name)))} times)" for name in never]
        return _inconclusive(
            f"of {counted(len(reads), 'operation')} served, never compared: {named(told)}",
            "crossfade run with these operations; the report says why comparisons were dropped",
        )
    text = f"compared: {named([f'{name} {count(settled(results[name]))} times' for name in reads])}"
    if left := sum(found[Result.NOT_COMPARED] for found in results.values()):
        text += f"; {count(left)} comparisons were dropped or not settled"
    if writes:
        text += f"; what {named(writes)} left behind is compared by verify"
    return _pass(text)


def _served(evidence: Evidence, operation: str) -> list[int]:
    return [evidence.calls(operation, store, Role.SERVED) for store in Store]


def _errors(evidence: Evidence, settings: GateSettings) -> Finding:
    # Only operations that both stores were asked: legacy's failed writes must not excuse new's failed reads.
    both = [name for name in evidence.statistics.operations if all(evidence.calls(name, store) for store in Store)]
    if not both:
        return _inconclusive("no operation was asked of both stores", "crossfade run")
    calls = {store: sum(evidence.calls(name, store) for name in both) for store in Store}
    failed = {store: sum(evidence.errors(name, store) for name in both) for store in Store}
    rate = {store: failed[store] / calls[store] for store in Store}
    text = "; ".join(
        f"{store}: {count(failed[store])} of {counted(calls[store], 'call')} failed, {share(rate[store])}"
        for store in Store
    )
    text += f"; limit {share(settings.max_error_rate)} beyond legacy"
    # As with mismatches: few calls fail the gate only if those missing to the minimum could not save it.
    allowed = (rate[Store.LEGACY] + settings.max_error_rate) * max(calls[Store.NEW], settings.min_comparisons)
    if failed[Store.NEW] > allowed:
        return _fail(text, "see new's log and its connections, then crossfade run")
    if min(calls.values()) < settings.min_comparisons:
        return _inconclusive(f"{text}; fewer than {counted(settings.min_comparisons, 'call')}", "crossfade run")
    return _pass(text)


def _latency(evidence: Evidence, settings: GateSettings) -> Finding:
    slow, judged, thin = [], [], []
    for name in evidence.statistics.operations:
        sketches = [evidence.statistics.latency(store, None, name) for store in (Store.LEGACY, Store.NEW)]
        legacy, new = (sketch.quantile(0.99) for sketch in sketches)
        if not legacy or not new or min(sketch.count for sketch in sketches) < TAIL_CALLS:
            if sketches[1].count or name not in evidence.writes:
                thin.append(name)
            continue
        told = f"{name} {new / legacy:.2f} times ({duration(legacy)} → {duration(new)})"
        judged.append(told)
        if new / legacy > settings.max_slowdown:
            slow.append(told)
    limit = f"limit {settings.max_slowdown:g} times"
    if slow:
        return _fail(f"new's 99th percentile over legacy's: {named(slow)}; {limit}", "look at new's plans and indexes")
    few = f"fewer than {TAIL_CALLS} calls of both stores: {named(thin)}" if thin else ""
    if not judged:
        return _inconclusive(few or "no operation was timed", "crossfade run")
    text = f"new's 99th percentile over legacy's: {named(judged)}; {limit}"
    return _pass(f"{text}; not judged, {few}" if thin else text)


def _lag(evidence: Evidence, settings: GateSettings) -> Finding:
    unknown = [store.value for store in Store if store not in evidence.backlog]
    told = [
        f"{store} {duration(backlog.lag_seconds)} ({counted(backlog.notes, 'note')})"
        for store, backlog in evidence.backlog.items()
    ]
    text = f"oldest note not yet carried over: {named(told)}; limit {duration(settings.max_lag_seconds)}"
    if any(backlog.lag_seconds > settings.max_lag_seconds for backlog in evidence.backlog.values()):
        return _fail(text, "crossfade catchup")
    if unknown:
        return _inconclusive(f"the dirty queue of {named(unknown)} was not read", "crossfade status")
    return _pass(text)


def _quarantine(evidence: Evidence, settings: GateSettings) -> Finding:
    total = evidence.open_quarantine
    if not total:
        left = evidence.quarantined_accepted
        but = f", but {counted(left, 'row')} accepted by name to be left behind" if left else ""
        return _settled_or_unknown(evidence, f"no row is in quarantine{but}")
    reasons = [f"{reason} {count(n)}" for reason, n in Counter(row.reason for row in evidence.undecided).most_common()]
    if unlisted := total - len(evidence.undecided):
        reasons.append(f"{count(unlisted)} not listed here")
    text = f"{counted(total, 'row')} in quarantine: {named(reasons)}"
    return _fail(text, "mend these rows in legacy, then crossfade catchup")


def _rejections(evidence: Evidence, settings: GateSettings) -> Finding:
    if not evidence.rejections:
        return _settled_or_unknown(evidence, "every scope could be carried over")
    scopes = [each.scope or "records without a scope" for each in evidence.rejections]
    return _fail(
        f"{counted(len(scopes), 'scope')} could not be carried over: {named(scopes)}",
        "mend what their errors say, then crossfade catchup",
    )


def _settled_or_unknown(evidence: Evidence, text: str) -> Finding:
    """Nothing can be held back or rejected before it was copied: until then an empty list proves nothing."""
    if at_least(evidence.phase.phase, Phase.BACKFILLED):
        return _pass(text)
    return _inconclusive("not everything has been copied", NEXT_STEP[evidence.phase.phase])


GATES: dict[str, tuple[str, Judge]] = {
    "phase": ("Was everything copied?", _phase),
    "verified": ("Is the stored data equal, row by row?", _verified),
    "mismatches": ("Do both stores give the same answers?", _mismatches),
    "coverage": ("Was every operation in use compared?", _coverage),
    "errors": ("Does new fail no more often than legacy?", _errors),
    "latency": ("Is new fast enough?", _latency),
    "lag": ("Is everything written carried over in time?", _lag),
    "quarantine": ("Can every row be represented in new?", _quarantine),
    "rejections": ("Could every scope be carried over?", _rejections),
}


def evaluate(evidence: Evidence, settings: GateSettings) -> tuple[Gate, ...]:
    """Judge every gate, in the table's order."""
    found = []
    for name, (question, judge) in GATES.items():
        finding = judge(evidence, settings)
        found.append(Gate(name, question, finding.verdict, finding.evidence, finding.next_step))
    return tuple(found)


def decide(gates: Sequence[Gate]) -> Verdict:
    """The verdict of all gates together: any fail fails; else any inconclusive one, or none at all, is inconclusive."""
    verdicts = {gate.verdict for gate in gates}
    if Verdict.FAIL in verdicts:
        return Verdict.FAIL
    return Verdict.PASS if verdicts == {Verdict.PASS} else Verdict.INCONCLUSIVE
