"""What the counts of legacy's rows mean for the migration."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from adapters.prompts.assessment.findings import BLOCKS, DECIDE, EXAMPLES, NOTE, Code, Finding, TenantCounts
from adapters.prompts.canonical import REASONS, Reading, Reason
from harness.words import count, counted, named

_ODD = {
    Code.ONE_STAMP_NULL: "without created_at or without updated_at: the missing stamp takes the other one's value",
    Code.BOTH_STAMPS_NULL: "without any stamp: they will say 1970-01-01 00:00 UTC",
}

_KINDS_NAMED = 5


def row_findings(tenants: Sequence[TenantCounts], reading: Reading) -> Iterator[Finding]:
    """What all tenants' counts together mean."""
    yield from _quarantine(tenants)
    yield from _columns(tenants)
    yield from _enabled(tenants, reading)
    if number := _alike_numbered(tenants):
        told = f"{counted(number, 'tenant')} with ids of the same range: new's ids are made of tenant and id, so none "
        yield Finding(Code.IDS_REPEAT, NOTE, number, told + "collide")


def _quarantine(tenants: Sequence[TenantCounts]) -> Iterator[Finding]:
    for reason, meaning in REASONS.items():
        if number := sum(tenant.reasons.get(reason, 0) for tenant in tenants):
            todo = (
                'decide with migration.keep, or use scope_policy = "type"'
                if reason == Reason.ENABLED_CONFLICT
                else "mend them in Dispatch; until then they stay with legacy"
            )
            told = f"{counted(number, 'row')} to be quarantined: {meaning}; {todo}"
            yield Finding(reason, DECIDE, number, told, _examples(tenants, reason))


def _columns(tenants: Sequence[TenantCounts]) -> Iterator[Finding]:
    if messages := sum(tenant.with_system_message for tenant in tenants):
        told = (
            f"{counted(messages, 'row')} with a system message, for which Prompt Manager has no column: prepare adds "
        )
        yield Finding(Code.SYSTEM_MESSAGE, NOTE, messages, told + "one")
    if number := sum(tenant.odd.get(Code.UNKNOWN_TYPES, 0) for tenant in tenants):
        told = (
            f"{counted(number, 'row')} of types that Dispatch has no name for: {_kinds(tenants, number)}; their type "
        )
        told += "will be custom"
        yield Finding(Code.UNKNOWN_TYPES, NOTE, number, told, _examples(tenants, Code.UNKNOWN_TYPES))
    for code, meaning in _ODD.items():
        if number := sum(tenant.odd.get(code, 0) for tenant in tenants):
            yield Finding(code, NOTE, number, f"{counted(number, 'row')} {meaning}", _examples(tenants, code))


def _kinds(tenants: Sequence[TenantCounts], number: int) -> str:
    """Unknown types by how many rows have them; of too many only the most frequent."""
    unknown: Counter[int] = Counter()
    for tenant in tenants:
        unknown.update(tenant.unknown_types)
    shown = unknown.most_common(_KINDS_NAMED)
    others = number - sum(times for _, times in shown)
    told = [f"{kind} × {count(times)}" for kind, times in shown]
    return named([*told, f"{count(others)} of others"] if others else told)


def _enabled(tenants: Sequence[TenantCounts], reading: Reading) -> Iterator[Finding]:
    projects = sum(tenant.crowded_projects for tenant in tenants)
    rows = sum(tenant.crowded_rows for tenant in tenants)
    if projects:
        told = (
            f"{counted(projects, 'project')} with several enabled prompts, {count(rows)} in all, where new allows one "
            'for each of its project_ids: scope_policy = "type" makes a scope of each type and carries all of them, '
            f'"project" would carry {count(projects)} and hold back {count(rows - projects)}'
        )
        yield Finding(Code.SEVERAL_ENABLED, NOTE, projects, told)
    if reading.by_type and (conflicts := sum(tenant.type_conflicts for tenant in tenants)):
        told = (
            f"{counted(conflicts, 'enabled prompt')} beside another one of the same project and type, which Dispatch's "
            "own constraint uq_prompt_type_project_enabled forbids: disable them, then restore the constraint"
        )
        conflicting = tuple(tenant.tenant for tenant in tenants if tenant.type_conflicts)
        yield Finding(Code.TYPE_CONFLICTS, BLOCKS, conflicts, told, conflicting[:EXAMPLES])


def _examples(tenants: Sequence[TenantCounts], name: str) -> tuple[str, ...]:
    found = [f"{tenant.tenant}/{number}" for tenant in tenants for number in tenant.examples.get(name, ())]
    return tuple(found[:EXAMPLES])


def _alike_numbered(tenants: Sequence[TenantCounts]) -> int:
    """How many tenants have ids in a range that another tenant has ids in, too."""
    alike, before = set[str](), None
    ranges = sorted(
        (t.first_id, t.last_id, t.tenant) for t in tenants if t.first_id is not None and t.last_id is not None
    )
    for first, last, tenant in ranges:
        if before is not None and first <= before[0]:
            alike |= {tenant, before[1]}
        before = max(before or (last, tenant), (last, tenant))
    return len(alike)
