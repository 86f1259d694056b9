"""Assess: what will not fit, and why, before anything is written.

One aggregate query for each tenant, over the same canonical SELECT that the backfill uses, in read-only transactions.
Examples name rows by tenant and id, never by their texts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from typing import Any

from sqlalchemy import Connection, Engine, and_, func, select, text

from adapters.postgres.errors import speaking_for
from adapters.prompts.canonical import BY_NUMBER, COLUMNS, REASONS, Reason
from adapters.prompts.discover import tenants_of
from adapters.prompts.dispatch import Reading, canonical_select, tenant_tables
from harness.config import Settings
from harness.errors import StoreUnavailable
from harness.routing import Store

BLOCKS, DECIDE, NOTE = "blocks", "decide", "note"
_EXAMPLES = 3
_NEW_COLUMNS = frozenset(COLUMNS) - {"system_message"}  # which prepare adds


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing found. ``code`` is of a closed set; ``severity``: "blocks", "decide" or "note"."""

    code: str
    severity: str
    count: int
    text: str
    examples: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TenantCounts:
    """What one query says of a tenant's prompts."""

    tenant: str
    rows: int
    enabled: int
    projects: int
    bytes: int
    with_system_message: int
    longest_content: int
    longest_system_message: int
    both_stamps_null: int
    one_stamp_null: int
    unknown_types: int
    lowest_id: int
    highest_id: int
    conflicting: int
    reasons: dict[str, int]


@dataclass(frozen=True, slots=True)
class Assessment:
    findings: tuple[Finding, ...]
    tenants: tuple[TenantCounts, ...]
    legacy_version: int
    new_version: int | None
    settings_to_copy: str
    recommendation: str

    @property
    def blocked(self) -> bool:
        return any(finding.severity == BLOCKS for finding in self.findings)

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"blocked": self.blocked}


def assess(legacy: Engine, new: Engine, settings: Settings) -> Assessment:
    """Look at both databases and write nothing. Raises StoreUnavailable if legacy is no Dispatch database."""
    reading = Reading(settings.legacy.time_zone, settings.migration.scope_policy, settings.migration.keep)
    with speaking_for(Store.LEGACY), legacy.connect() as connection:
        connection.execute(text("SET TRANSACTION READ ONLY"))
        version = _version(connection)
        findings = list(_tenant_findings(connection))
        usable = [tenant.slug for tenant in tenants_of(connection) if tenant.usable and tenant.slug is not None]
        if not usable and not findings:
            raise StoreUnavailable("legacy has no organization with a slug; check the database's name")
        with_sidecar = connection.execute(text("SELECT to_regclass('crossfade.sidecar')")).scalar() is not None
        counted = [_count(connection, slug, reading, with_sidecar) for slug in usable]
        findings += _row_findings(connection, counted, reading, with_sidecar)
        findings += _legacy_findings(connection, settings)
    with speaking_for(Store.NEW), new.connect() as connection:
        connection.execute(text("SET TRANSACTION READ ONLY"))
        new_version = _version(connection)
        findings += _new_findings(connection)
    found = tuple(sorted(findings, key=lambda each: (BLOCKS, DECIDE, NOTE).index(each.severity)))
    return Assessment(
        found, tuple(counted), version, new_version, _settings_to_copy(settings, counted), _recommendation(found)
    )


def _version(connection: Connection) -> int:
    query = text("SELECT current_setting('server_version_num')::int / 10000")
    return int(connection.execute(query).scalar_one())


def _tenant_findings(connection: Connection) -> Iterator[Finding]:
    for tenant in tenants_of(connection):
        for complaint in tenant.problems:
            severity = NOTE if tenant.usable or tenant.slug is None else BLOCKS
            yield Finding(complaint.problem.value, severity, 1, complaint.text)


def _count(connection: Connection, slug: str, reading: Reading, with_sidecar: bool) -> TenantCounts:
    _, prompt = tenant_tables(slug)
    row, rows = prompt.c, canonical_select(slug, prompt, reading, with_sidecar=with_sidecar).subquery("rows")
    # Aggregates over the table and over its canonical reading, each in one pass.
    own = select(
        func.count(),
        func.count().filter(row.enabled),
        func.count(row.project_id.distinct()),
        func.coalesce(func.sum(func.octet_length(row.genai_prompt)), 0),
        func.count(row.genai_system_message),
        func.coalesce(func.max(func.char_length(row.genai_prompt)), 0),
        func.coalesce(func.max(func.char_length(row.genai_system_message)), 0),
        func.count().filter(and_(row.created_at.is_(None), row.updated_at.is_(None))),
        func.count().filter(row.created_at.is_(None) != row.updated_at.is_(None)),
        func.count().filter(row.genai_type.notin_(list(BY_NUMBER))),
        func.coalesce(func.min(row.id), 0),
        func.coalesce(func.max(row.id), 0),
    )
    several = select(row.project_id).where(row.enabled, row.project_id.isnot(None))
    crowded = several.group_by(row.project_id).having(func.count() > 1).subquery()
    conflicting = connection.execute(select(func.count()).select_from(crowded)).scalar_one()
    reasons = select(rows.c.reason, func.count()).where(rows.c.reason.isnot(None)).group_by(rows.c.reason)
    counts: list[Any] = [int(value) for value in connection.execute(own).one()]
    found = {reason: int(number) for reason, number in connection.execute(reasons)}
    names = [field.name for field in fields(TenantCounts)]  # the query's columns are in the fields' order
    return TenantCounts(**dict(zip(names, [slug, *counts, conflicting, found], strict=True)))


def _row_findings(
    connection: Connection, counted: list[TenantCounts], reading: Reading, with_sidecar: bool
) -> Iterator[Finding]:
    for reason, meaning in REASONS.items():
        number = sum(tenant.reasons.get(reason, 0) for tenant in counted)
        if number:
            severity = DECIDE if reason == Reason.ENABLED_CONFLICT else NOTE
            todo = "decide with migration.keep, or mend it in Dispatch" if severity == DECIDE else "mend it in Dispatch"
            told = f"{number} rows cannot be represented and will be quarantined: {meaning}; {todo}"
            yield Finding(reason, severity, number, told, _examples(connection, counted, reading, with_sidecar, reason))
    yield from _shape_findings(counted, reading)


def _shape_findings(counted: list[TenantCounts], reading: Reading) -> Iterator[Finding]:
    messages = sum(tenant.with_system_message for tenant in counted)
    if messages:
        yield Finding(
            "system_message",
            NOTE,
            messages,
            f"{messages} rows carry a system message, for which prompts has no column; prepare adds a nullable one",
        )
    unknown = sum(tenant.unknown_types for tenant in counted)
    if unknown:
        told = f"{unknown} rows have a type that Dispatch does not know; they become type custom, scope type-<number>"
        yield Finding("unknown_types", NOTE, unknown, told)
    for name, told in (
        ("one_stamp_null", "rows lack one stamp; it takes the other one"),
        ("both_stamps_null", "rows lack both stamps; they take 1970-01-01"),
    ):
        number = sum(getattr(tenant, name) for tenant in counted)
        if number:
            yield Finding(name, NOTE, number, f"{number} {told}")
    crowded = sum(tenant.conflicting for tenant in counted)
    if crowded:
        told = f"{crowded} projects have several enabled prompts, and prompts allows one for each project_id; "
        told += (
            'under scope_policy = "type" each type of a project is a scope of its own, so all of them fit'
            if reading.by_type
            else 'scope_policy = "type" would carry all of them'
        )
        yield Finding("enabled_conflicts", NOTE, crowded, told)
    if _overlap(counted):
        told = f"ids repeat in {len(counted)} tenants; canonical ids are derived from tenant and id, so none collide"
        yield Finding("ids_repeat", NOTE, len(counted), told)


def _overlap(counted: list[TenantCounts]) -> bool:
    ranges = sorted((tenant.lowest_id, tenant.highest_id) for tenant in counted if tenant.rows)
    return any(a[1] >= b[0] for a, b in pairwise(ranges))


def _examples(
    connection: Connection, counted: list[TenantCounts], reading: Reading, with_sidecar: bool, reason: str
) -> tuple[str, ...]:
    found: list[str] = []
    for tenant in counted:
        if not tenant.reasons.get(reason) or len(found) >= _EXAMPLES:
            continue
        _, prompt = tenant_tables(tenant.tenant)
        canonical = canonical_select(tenant.tenant, prompt, reading, with_sidecar=with_sidecar)
        rows = canonical.add_columns(prompt.c.id.label("local")).subquery("rows")
        first = select(rows.c.local).where(rows.c.reason == reason).order_by(rows.c.local)
        numbers = connection.execute(first.limit(_EXAMPLES - len(found))).scalars()
        found += [f"{tenant.tenant}/{number}" for number in numbers]
    return tuple(found)


def _legacy_findings(connection: Connection, settings: Settings) -> Iterator[Finding]:
    database = text(
        "SELECT setconfig_zone FROM (SELECT coalesce((SELECT split_part(c, '=', 2) FROM pg_db_role_setting s,"
        " unnest(s.setconfig) c WHERE s.setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())"
        " AND s.setrole = 0 AND lower(split_part(c, '=', 1)) = 'timezone'),"
        " (SELECT reset_val FROM pg_settings WHERE name = 'TimeZone')) AS setconfig_zone) z"
    )
    zone = str(connection.execute(database).scalar_one())
    if _same_zone(connection, zone, settings.legacy.time_zone) is False:
        told = (
            f"legacy's sessions default to time zone {zone}, and the settings read its stamps as "
            f"{settings.legacy.time_zone}; set legacy.time_zone to the zone that Dispatch's own sessions use"
        )
        yield Finding("time_zone", DECIDE, 1, told)
    if not connection.execute(text("SELECT has_database_privilege(current_database(), 'CREATE')")).scalar_one():
        yield Finding("rights", BLOCKS, 1, "our user may not create the schema crossfade in legacy; grant CREATE on it")
    owned = text(
        "SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE c.relname = 'prompt' AND c.relkind IN ('r', 'p')"
        " AND starts_with(n.nspname::text, 'dispatch_organization_')"
        " AND NOT (has_table_privilege(c.oid, 'TRIGGER') AND pg_has_role(c.relowner, 'USAGE'))"
    )
    if missing := list(connection.execute(owned).scalars()):
        told = f"our user is not among the owners of {len(missing)} prompt tables, so it can attach no trigger or index"
        yield Finding("rights", BLOCKS, len(missing), told, tuple(missing[:_EXAMPLES]))


def _same_zone(connection: Connection, one: str, other: str) -> bool | None:
    """Whether two zones' clocks agree in winter and summer; None for one that the server does not know."""
    known = text("SELECT count(*) FROM pg_timezone_names WHERE lower(name) IN (lower(:one), lower(:other))")
    wanted = len({one.lower(), other.lower()})
    if connection.execute(known, {"one": one, "other": other}).scalar_one() != wanted:
        return None
    same = text(
        "SELECT bool_and(timezone(:one, t) = timezone(:other, t)) FROM unnest(ARRAY[timestamp '2024-01-15 12:00',"
        " timestamp '2024-07-15 12:00']) t"
    )
    return bool(connection.execute(same, {"one": one, "other": other}).scalar_one())


def _new_findings(connection: Connection) -> Iterator[Finding]:
    if not connection.execute(text("SELECT has_database_privilege(current_database(), 'CREATE')")).scalar_one():
        yield Finding("rights", BLOCKS, 1, "our user may not create the schema crossfade in new; grant CREATE on it")
    if connection.execute(text("SELECT to_regclass('prompts')")).scalar() is None:
        yield Finding("no_prompts_table", NOTE, 1, "new has no table prompts yet; prepare creates it as documented")
        return
    columns = text(
        "SELECT attname FROM pg_attribute WHERE attrelid = 'prompts'::regclass AND attnum > 0 AND NOT attisdropped"
    )
    missing = sorted(_NEW_COLUMNS - set(connection.execute(columns).scalars()))
    if missing:
        told = f"new's table prompts lacks the columns {', '.join(missing)}; it is not Prompt Manager's"
        yield Finding("unfit_prompts_table", BLOCKS, len(missing), told)
        return
    rows = connection.execute(text("SELECT count(*) FROM prompts")).scalar_one()
    yield Finding("prompts_table", NOTE, rows, f"new's table prompts is there with {rows} rows; prepare adopts it")


def _settings_to_copy(settings: Settings, counted: list[TenantCounts]) -> str:
    rows = sum(tenant.rows for tenant in counted)
    chunk = 5000 if rows < 1_000_000 else 20_000
    return (
        f'[legacy]\ntime_zone = "{settings.legacy.time_zone}"\n\n'
        f'[migration]\nscope_policy = "{settings.migration.scope_policy}"\nkeep = "{settings.migration.keep}"\n\n'
        f"[backfill]\nchunk_rows = {chunk}\n"
    )


def _recommendation(findings: tuple[Finding, ...]) -> str:
    severities = {finding.severity for finding in findings}
    if BLOCKS in severities:
        return "Not yet: mend what blocks, then assess again"
    if DECIDE in severities:
        return "Decide what is marked so, put the settings into crossfade.toml, then crossfade prepare"
    return "Nothing stands in the way: put the settings into crossfade.toml, then crossfade prepare"
