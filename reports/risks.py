"""Open risks: what the evidence leaves open or gives reason to fear, each with what to do about it.

Derived from evidence alone; a gate that fails is no risk but a reason, and stands with the gates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from harness.evidence import Evidence, settled
from harness.gates import Gate
from harness.phases import Phase
from harness.records import Verdict
from harness.routing import Store
from harness.words import count, counted, duration, named
from reports.wording import readable

Risk = tuple[str, str, str]  # its name, what is so, what to do

_HOURS = 24.0


def risks(evidence: Evidence, gates: Sequence[Gate]) -> list[dict[str, Any]]:
    """In the table's order: what could lose or hide data first."""
    found = [risk for look in _LOOKS for risk in look(evidence)]
    found += _open_gates(gates)
    return [{"name": name, "risk": readable(text, 1000), "do": readable(do, 1000)} for name, text, do in found]


def _authority(evidence: Evidence) -> Iterator[Risk]:
    if evidence.unfinished:
        yield "unfinished", f"an act is half done: {evidence.unfinished}", "crossfade resume"
    if evidence.uncaptured:
        text = f"nobody notes the changes of {named(evidence.uncaptured)}"
        yield "uncaptured", text, "crossfade prepare, then crossfade backfill and crossfade verify"
    for store, mode in evidence.guard.items():
        if mode != "enforce" and evidence.phase.phase is not Phase.COMPLETE:
            text = f"the guard of {store} does not enforce ({mode}): a write without authority would pass"
            yield "guard", text, 'set guard.mode = "enforce", then crossfade prepare'
    if total := sum(evidence.rogue_writes.values()):
        where = named([f"{store} {count(n)}" for store, n in evidence.rogue_writes.items() if n])
        text = f"{counted(total, 'write')} went to a store without authority ({where})"
        yield "rogue", text, "crossfade rogue names their writers; stop them, then crossfade verify"
    if evidence.holders:
        text = f"a move of authority would wait for {named(evidence.holders)}"
        yield "long_transactions", text, "end these transactions before the cutover"


def _data(evidence: Evidence) -> Iterator[Risk]:
    latest = evidence.verification
    if latest is None:
        if evidence.started:
            yield "verification", "nothing is verified since the last copy or repair", "crossfade verify"
    else:
        age = max(0.0, (evidence.generated_at - latest.at).total_seconds())
        if age > _HOURS * 3600:
            yield "verification_old", f"the last verification is {duration(age)} old", "crossfade verify"
        if latest.restriction:
            text = f"the last verification looked at a part alone ({latest.restriction}): nothing is said of the rest"
            yield "verification_part", text, "crossfade verify, of everything"
        if latest.unsettled:
            text = f"{counted(latest.unsettled, 'row')} never stood still while they were verified"
            yield "unsettled", text, "crossfade catchup, then crossfade verify"
    if evidence.quarantined_accepted:
        text = f"{counted(evidence.quarantined_accepted, 'row')} of legacy will be left behind, accepted by name"
        yield "left_behind", text, "see below that each of them may go; their scopes are without them in new"
    if evidence.rejections:
        text = f"{counted(evidence.total('rejections'), 'scope')} could not be carried over"
        yield "rejections", text, "mend what their errors say, then crossfade catchup"


def _way_back(evidence: Evidence) -> Iterator[Risk]:
    if evidence.phase.phase is Phase.COMPLETE:
        yield (
            "complete",
            "legacy was let go of: there is no way back",
            "keep a backup of legacy as long as you need one",
        )
        return
    if debt := max(evidence.debts_total, len(evidence.debts)):
        text = f"a rollback is refused, or leaves {counted(debt, 'record')} behind, that legacy cannot hold"
        yield "debt", text, "mend them in new, or roll back with --accept-debt"
    if evidence.new_only:
        text = f"{counted(evidence.new_only, 'record')} of new cannot be held by legacy and would stay behind"
        yield "new_only", text, "make sure that nobody needs them from legacy"
    if evidence.started and evidence.rolled_back_at is None:
        text = "no rollback was carried out: the way back is untried"
        yield "unrehearsed", text, "crossfade ramp, then crossfade rollback --reason rehearsal, then ramp again"


def _evidence(evidence: Evidence) -> Iterator[Risk]:
    statistics = evidence.statistics
    left = sum(statistics.drops.values())
    made = settled(statistics.results())
    if left and left > 0.05 * (left + made):
        worst = named([f"{reason.replace('_', ' ')} {count(n)}" for reason, n in statistics.drops.most_common(3)])
        text = f"of {counted(left + made, 'comparison')} {count(left)} were not made or not settled ({worst})"
        yield (
            "not_compared",
            text,
            "the reasons stand with the operations; raise shadow.queue or shadow.workers if full",
        )
    if evidence.baseline is not None and (open_ := evidence.baseline.uncovered):
        text = f"{counted(len(open_), 'field differs by itself', 'fields differ by themselves')}, and no rule says so"
        yield "noise", text, "crossfade baseline proposes rules; without them their mismatches mean nothing"
    if evidence.started and 0 < evidence.route.shadow_percent < 100:
        text = f"only {evidence.route.shadow_percent:g} % of the reads are compared: rare differences are seen later"
        yield "sample_only", text, "crossfade ramp --shadow 100, as long as the stores can bear it"
    if failures := statistics.failures.total():
        kinds = named([f"{part} {count(n)}" for part, n in statistics.failures.most_common(3)])
        text = f"{counted(failures, 'failure')} of Crossfade's own ({kinds}), unnoticed by callers"
        yield "failures", text, "see the processes' logs around the time; figures may lack what these concern"
    if lost := statistics.unrecorded.total():
        yield (
            "unrecorded",
            f"the latency of {counted(lost, 'call')} is not known",
            "read the latencies with that in mind",
        )
    if fallbacks := statistics.fallbacks.total():
        text = f"{counted(fallbacks, 'read')} were answered by the other store, because the served one failed"
        yield "fallbacks", text, "after complete there is no other store: mend the errors of new first"


def _pins(evidence: Evidence) -> Iterator[Risk]:
    pinned = [name for name, store in evidence.route.pins.items() if store is Store.LEGACY]
    if pinned:
        text = f"{counted(len(pinned), 'name')} pinned to legacy: {named(sorted(pinned))}"
        yield "pinned", text, "see why, and unpin them: the cutover moves them too"


def _open_gates(gates: Sequence[Gate]) -> list[Risk]:
    return [
        ("gate_open", f"the gate {gate.name} cannot be told: {gate.evidence}", gate.next_step or "see the gate")
        for gate in gates
        if gate.verdict is Verdict.INCONCLUSIVE
    ]


_LOOKS: tuple[Callable[[Evidence], Iterator[Risk]], ...] = (_authority, _data, _way_back, _evidence, _pins)
