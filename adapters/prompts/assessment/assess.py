"""Assess: what will not fit, and why, before anything is written.

Both databases are read in read-only transactions, each of one snapshot. It works on a legacy database that Crossfade
has never touched.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine, text

from adapters.postgres.errors import speaking_for
from adapters.prompts.assessment.counting import count_tenant
from adapters.prompts.assessment.estimate import estimate_of, log_findings
from adapters.prompts.assessment.findings import BLOCKS, DECIDE, NOTE, Assessment, Code, Finding, Severity, TenantCounts
from adapters.prompts.assessment.legacy import index_findings, legacy_findings, readable_tenants, tenant_findings
from adapters.prompts.assessment.new import new_findings
from adapters.prompts.assessment.rows import row_findings
from adapters.prompts.assessment.sample import read_sample, time_work
from adapters.prompts.assessment.server import Server, look_at_server, server_findings, zone_findings
from adapters.prompts.canonical import Reading
from harness.ports import Clock
from harness.routing import Store
from harness.settings import Settings

__all__ = ["BLOCKS", "DECIDE", "NOTE", "Assessment", "Finding", "Severity", "TenantCounts", "assess"]


def assess(legacy: Engine, new: Engine | None, settings: Settings, *, clock: Clock = time.monotonic) -> Assessment:
    """Look at both databases, or at legacy alone, and write nothing.

    Rows are counted where they are; none comes here but those of a small sample, which is timed.

    Raises StoreUnavailable if legacy is no Dispatch database, ConfigError if legacy.time_zone names no time zone.
    """
    reading = Reading(settings.legacy.time_zone, settings.migration.scope_policy, settings.migration.keep)
    with _reading(legacy, Store.LEGACY) as connection:
        server = look_at_server(connection)
        found = [*server_findings(server, Store.LEGACY), *tenant_findings(connection)]
        zones = list(zone_findings(connection, settings.legacy.time_zone))
        found += zones
        found += legacy_findings(connection)
        slugs = readable_tenants(connection)
        counted = [count_tenant(connection, slug, reading) for slug in slugs]
        found += row_findings(counted, reading)
        found += index_findings(connection, counted, reading)
        sample = read_sample(connection, counted, reading, settings.backfill.chunk_rows, clock)
        work = time_work(connection, clock)
    other: Server | None = None
    if new is not None:
        with _reading(new, Store.NEW) as connection:
            other = look_at_server(connection)
            found += server_findings(other, Store.NEW)
            found += new_findings(connection, slugs, reading, other)
            work = time_work(connection, clock)
        if other.database == server.database:
            found.append(_SAME)
    estimate = estimate_of(counted, sample, work, settings, other or server)
    found += log_findings(estimate, other)
    ordered = tuple(sorted(found, key=lambda each: list(Severity).index(each.severity)))
    return Assessment(
        ordered,
        tuple(counted),
        estimate,
        server.version,
        other.version if other else None,
        _settings_to_copy(settings, counted, zones),
        _recommendation(ordered),
    )


_SAME = Finding(
    Code.SAME_DATABASE,
    BLOCKS,
    1,
    "legacy and new are one and the same database, and Crossfade keeps a schema of its own in each; "
    "check CROSSFADE_NEW_URL",
)


@contextmanager
def _reading(engine: Engine, store: Store) -> Iterator[Connection]:
    with speaking_for(store), engine.connect() as connection:
        connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
        yield connection


def _settings_to_copy(settings: Settings, counted: list[TenantCounts], zones: list[Finding]) -> str:
    """Sections for crossfade.toml. Addresses are left to the environment."""
    zone, note = settings.legacy.time_zone, ""
    if zones and len(zones[0].examples) == 1:
        [zone], note = zones[0].examples, "  # what legacy's sessions default to; see above"
    policy, keep = settings.migration.scope_policy, settings.migration.keep
    if policy == "project" and keep == "undecided" and any(tenant.crowded_projects for tenant in counted):
        policy = "type"  # which carries all of them
    chunk = max(settings.backfill.chunk_rows, 20_000 if sum(tenant.rows for tenant in counted) >= 1_000_000 else 0)
    return (
        "# The databases' addresses belong into CROSSFADE_LEGACY_URL and CROSSFADE_NEW_URL.\n\n"
        f'[legacy]\ntime_zone = "{zone}"{note}\n\n'
        f'[migration]\nscope_policy = "{policy}"\nkeep = "{keep}"\n\n'
        f"[backfill]\nchunk_rows = {chunk}\n"
    )


def _recommendation(findings: tuple[Finding, ...]) -> str:
    severities = {finding.severity for finding in findings}
    if BLOCKS in severities:
        return "Not yet: mend what blocks, then assess again"
    if DECIDE in severities:
        return "Decide what is marked so, put the settings into crossfade.toml, then crossfade prepare"
    return "Nothing stands in the way: put the settings into crossfade.toml, then crossfade prepare"
