"""What the counts of legacy's rows mean for the migration."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from sqlalchemy import Connection, func, select, union_all

from adapters.prompts.assessment.findings import BLOCKS, DECIDE, EXAMPLES, NOTE, Code, Finding, TenantCounts
from adapters.prompts.canonical import REASONS, Reading, Reason
from adapters.prompts.dispatch import tenant_tables
from harness.evidence import count, counted, named

_ODD = {
    Code.ONE_STAMP_NULL: "without created_at or without updated_at: the missing stamp takes the other one's value",
    Code.BOTH_STAMPS_NULL: "without any stamp: they will say 1970-01-01 00:00 UTC",
}


def row_findings(connection: Connection, tenants: Sequence[TenantCounts], reading: Reading) -> Iterator[Finding]:
    """What all tenants' counts together mean."""
    yield from _quarantine(tenants)
    yield from _columns(tenants)
    yield from _enabled(tenants, reading)
    if repeated := _repeated_ids(connection, [tenant.tenant for tenant in tenants]):
        told = f"{counted(repeated, 'id')} of legacy in more than one tenant: new's ids are made of tenant and id, so "
        yield Finding(Code.IDS_REPEAT, NOTE, repeated, told + "none collide")


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
    unknown: Counter[int] = Counter()
    for tenant in tenants:
        unknown.update(tenant.unknown_types)
    if number := unknown.total():
        types = named([f"{kind} × {times}" for kind, times in unknown.most_common()])
        told = f"{counted(number, 'row')} of types that Dispatch has no name for: {types}; their type will be custom"
        yield Finding(Code.UNKNOWN_TYPES, NOTE, number, told, _examples(tenants, Code.UNKNOWN_TYPES))
    for code, meaning in _ODD.items():
        if number := sum(tenant.odd.get(code, 0) for tenant in tenants):
            yield Finding(code, NOTE, number, f"{counted(number, 'row')} {meaning}", _examples(tenants, code))


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


def _repeated_ids(connection: Connection, slugs: Sequence[str]) -> int:
    if len(slugs) < 2:
        return 0
    ids = union_all(*(select(tenant_tables(slug)[1].c.id.label("id")) for slug in slugs)).subquery()
    repeated = select(ids.c.id).group_by(ids.c.id).having(func.count() > 1).subquery()
    return connection.execute(select(func.count()).select_from(repeated)).scalar_one()
