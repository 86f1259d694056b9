"""Gates of facts: what is so, or is not, or was not looked at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from harness.evidence import Evidence, settled
from harness.gates.finding import Finding, Terms, failed, inconclusive, passed
from harness.phases import NEXT_STEP, Phase, at_least
from harness.records import Verdict, Verification
from harness.routing import Store
from harness.statistics import Result, Role
from harness.words import count, counted, duration, named


def phase(evidence: Evidence, terms: Terms) -> Finding:
    phase = evidence.phase.phase
    if not at_least(phase, Phase.BACKFILLED):
        return inconclusive(f"the phase is {phase}: not everything has been copied", NEXT_STEP[phase])
    if evidence.uncaptured:
        return failed(
            f"changes are not noted in {counted(len(evidence.uncaptured), 'part')} of legacy: "
            f"{named(evidence.uncaptured)}",
            "crossfade prepare, then crossfade backfill",
        )
    return passed(f"the phase is {phase}: everything that existed has been copied or accounted for")


def verified(evidence: Evidence, terms: Terms) -> Finding:
    latest = evidence.verification
    if latest is None:
        return inconclusive("nothing was verified", "crossfade verify")
    age = max(0.0, (evidence.generated_at - latest.at).total_seconds())
    rows = f"{counted(latest.compared, 'row')} compared {duration(age)} ago"
    limit = terms.settings.verify_hours * 3600
    figures = {"n": latest.compared, "age_seconds": age, "limit_seconds": limit}
    if latest.verdict is Verdict.FAIL:
        return failed(f"{rows}: {_differing(latest)}", "crossfade repair --dry-run, then crossfade verify", **figures)
    if latest.restriction:
        text = f"{rows}: {latest.restriction} only, which says nothing of the rest"
        return inconclusive(text, "crossfade verify", **figures)
    if latest.verdict is Verdict.INCONCLUSIVE:
        text = f"{rows}: {count(latest.unsettled)} of them never stood still"
        return inconclusive(text, "crossfade catchup, then crossfade verify", **figures)
    if not latest.compared:
        return inconclusive(f"{rows}: an empty store proves nothing", "crossfade verify", **figures)
    if age >= limit:
        return inconclusive(f"{rows}, all equal; older than {duration(limit)}", "crossfade verify", **figures)
    return passed(f"{rows}: none missing, extra or different", **figures)


def _differing(found: Verification) -> str:
    kinds = {
        "missing in new": found.missing,
        "extra in new": found.extra,
        "different": found.different,
        "neither carried over nor in quarantine": found.unaccounted,
    }
    return named([f"{count(n)} {kind}" for kind, n in kinds.items() if n]) or "the verification failed"


def coverage(evidence: Evidence, terms: Terms) -> Finding:
    served = [name for name in evidence.statistics.operations if any(_served(evidence, name))]
    reads = [name for name in served if name not in evidence.writes]
    writes = [name for name in served if name in evidence.writes]
    if not reads:
        return inconclusive("no operation was served whose answers could be compared", "crossfade run")
    results = {name: evidence.statistics.results(name) for name in reads}
    figures = {"operations": {name: {"compared": settled(found)} for name, found in results.items()}}
    never = [name for name in reads if not settled(results[name])]
    if never:
        told = [f"{name} (served {count(sum(_served(evidence, name)))} times)" for name in never]
        return inconclusive(
            f"of {counted(len(reads), 'operation')} served, never compared: {named(told)}",
            "crossfade run with these operations; the report says why comparisons were dropped",
            **figures,
        )
    text = f"compared: {named([f'{name} {count(settled(results[name]))} times' for name in reads])}"
    if left := sum(found[Result.NOT_COMPARED] for found in results.values()):
        text += f"; {count(left)} comparisons were dropped or not settled"
    if writes:
        text += f"; what {named(writes)} left behind is compared by verify"
    return passed(text, **figures)


def _served(evidence: Evidence, operation: str) -> list[int]:
    return [evidence.calls(operation, store, Role.SERVED) for store in Store]


def lag(evidence: Evidence, terms: Terms) -> Finding:
    limit, backlogs = terms.settings.max_lag_seconds, evidence.backlog
    told = [
        f"{store} {duration(backlog.lag_seconds)} ({counted(backlog.notes, 'note')})"
        for store, backlog in backlogs.items()
    ]
    text = f"oldest note not yet carried over: {named(told)}; limit {duration(limit)}"
    figures = {"limit": limit} | {store.value: backlog.lag_seconds for store, backlog in backlogs.items()}
    if any(backlog.lag_seconds > limit for backlog in backlogs.values()):
        return failed(text, "crossfade catchup", **figures)
    return _unread(evidence, figures) or passed(text, **figures)


def dirty(evidence: Evidence, terms: Terms) -> Finding:
    limit, backlogs = terms.settings.max_dirty_keys, evidence.backlog
    told = [f"{store} {count(backlog.notes)}" for store, backlog in backlogs.items()]
    text = f"notes not yet carried over: {named(told)}; limit {count(limit)}"
    figures = {"limit": limit} | {store.value: backlog.notes for store, backlog in backlogs.items()}
    if any(backlog.notes > limit for backlog in backlogs.values()):
        return failed(text, "crossfade catchup", **figures)
    return _unread(evidence, figures) or passed(text, **figures)


def _unread(evidence: Evidence, figures: Mapping[str, float]) -> Finding | None:
    """A queue that was not read is not known to be empty."""
    unknown = [store.value for store in Store if store not in evidence.backlog]
    if not unknown:
        return None
    return inconclusive(f"the dirty queue of {named(unknown)} was not read", "crossfade status", **figures)


def quarantine(evidence: Evidence, terms: Terms) -> Finding:
    total, left = evidence.open_quarantine, evidence.quarantined_accepted
    figures = {"open": total, "accepted": left}
    if not total:
        but = f", but {counted(left, 'row')} accepted by name to be left behind" if left else ""
        return _settled_or_unknown(evidence, f"no row is in quarantine{but}", **figures)
    reasons = [f"{reason} {count(n)}" for reason, n in Counter(row.reason for row in evidence.undecided).most_common()]
    if unlisted := total - len(evidence.undecided):
        reasons.append(f"{count(unlisted)} not listed here")
    text = f"{counted(total, 'row')} in quarantine: {named(reasons)}"
    return failed(text, "mend these rows in legacy, or crossfade quarantine accept", **figures)


def rejections(evidence: Evidence, terms: Terms) -> Finding:
    if not evidence.rejections:
        return _settled_or_unknown(evidence, "every scope could be carried over", scopes=0)
    total = evidence.total("rejections")
    scopes = [each.scope or "records without a scope" for each in evidence.rejections]
    return failed(
        f"{counted(total, 'scope')} could not be carried over: {named(scopes, in_all=total)}",
        "mend what their errors say, then crossfade catchup",
        scopes=total,
    )


def rogue(evidence: Evidence, terms: Terms) -> Finding:
    """Catch-up makes rogue writes good; that it has, only a later verification of everything shows."""
    total, figures = sum(evidence.rogue_writes.values()), {each.value: n for each, n in evidence.rogue_writes.items()}
    if not total:
        return _settled_or_unknown(evidence, "every write was taken by the store with authority", **figures)
    where = named([f"{store} {count(n)}" for store, n in evidence.rogue_writes.items() if n])
    text = f"{counted(total, 'write')} went to a store without authority: {where}"
    latest = evidence.verification
    whole = latest is not None and latest.verdict is Verdict.PASS and not latest.restriction
    if latest is not None and whole and evidence.rogue_at is not None and evidence.rogue_at < latest.at:
        return passed(f"{text}; all before the last verification, which found both stores equal", **figures)
    return failed(text, "crossfade rogue; stop their writers; then crossfade catchup and crossfade verify", **figures)


def debt(evidence: Evidence, terms: Terms) -> Finding:
    limit, total = terms.settings.max_rollback_debt, max(evidence.debts_total, len(evidence.debts))
    figures = {"records": total, "limit": limit}
    if evidence.phase.phase is Phase.COMPLETE:
        return passed("the migration is complete: nothing goes back any more", **figures)
    text = f"legacy cannot hold {counted(total, 'record')} of new; limit {count(limit)}"
    if total > limit:
        return failed(text, "change or delete these records in new, or raise gates.max_rollback_debt", **figures)
    return _settled_or_unknown(evidence, text, **figures)


def rehearsal(evidence: Evidence, terms: Terms) -> Finding:
    at = evidence.rolled_back_at
    age = None if at is None else max(0.0, (evidence.generated_at - at).total_seconds())
    told = "no rollback has been carried out" if age is None else f"the last rollback was {duration(age)} ago"
    figures = {"age_seconds": age, "required": terms.settings.rehearse_rollback}
    if age is None and terms.settings.rehearse_rollback and evidence.phase.phase is not Phase.COMPLETE:
        next_step = "crossfade ramp 1, then crossfade rollback --reason rehearsal, then ramp again"
        return inconclusive(told, next_step, **figures)
    asked = "" if terms.settings.rehearse_rollback else "; none is asked for (gates.rehearse_rollback)"
    return _settled_or_unknown(evidence, f"{told}{asked}", **figures)


def _settled_or_unknown(evidence: Evidence, text: str, **figures: Any) -> Finding:
    """Nothing can be held back or rejected before it was copied: until then an empty list proves nothing."""
    if at_least(evidence.phase.phase, Phase.BACKFILLED):
        return passed(text, **figures)
    return inconclusive("not everything has been copied", NEXT_STEP[evidence.phase.phase], **figures)
