"""How long copy and verify will take, and how much they add: estimates, each as a range.

Reading was timed on a sample. Writing cannot be without writing, so it is reckoned from a piece of work that new did
for us. Sizes are reckoned from the rows' own widths and PostgreSQL's page layout ("Database Physical Storage" in its
manual); a test holds them against what a backfill really adds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from adapters.prompts.assessment.findings import NOTE, Code, Estimate, Finding, Growth, Range, TenantCounts
from adapters.prompts.assessment.sample import Sample
from adapters.prompts.assessment.server import Server
from adapters.prompts.prompt_manager import prompts
from harness.settings import Settings
from harness.words import size

# Writing a row with its nine index entries, in units of the work that was timed; it depends on disks and cache too.
_WRITE = Range(25.0, 120.0)
_CAUTION = 1.5  # for what busier hours add
_MARGIN = 1.2
_DEDUPLICATING = 13  # from this server on, a B-tree keeps equal keys once


def estimate_of(
    tenants: Sequence[TenantCounts], sample: Sample, work: Range, settings: Settings, server: Server
) -> Estimate:
    """``server``: new, or legacy where new was not looked at."""
    total, rows = sum(tenant.rows for tenant in tenants), sum(tenant.fit_rows for tenant in tenants)
    read = Range(sample.read.low * total, sample.read.high * total * _CAUTION)
    write = Range(_WRITE.low * work.low * rows, _WRITE.high * work.high * rows)
    throttled = total / settings.backfill.rows_per_second if settings.backfill.rows_per_second else 0.0
    copy = Range(max(read.low, write.low, throttled), max((read + write).high, throttled))
    # At best several workers share it, and new is read meanwhile; at worst one store after the other.
    verify = Range(sample.digest.low * total / 2, sample.digest.high * total * _CAUTION * 2)
    return Estimate(total, sample.rows, read, write, copy, verify, _growth(tenants, sample, server))


def log_findings(estimate: Estimate, new: Server | None) -> Iterator[Finding]:
    """Whether the copy will make new write its pages out again and again."""
    if new is not None and estimate.growth.wal.low > 2 * new.log_bytes:
        told = (
            f"the copy writes {size(estimate.growth.wal.low)} of log or more to new, whose max_wal_size is "
            f"{size(new.log_bytes)}: it will be faster, and write less, with a larger one while it runs"
        )
        yield Finding(Code.LOG_SIZE, NOTE, 1, told)


def _growth(tenants: Sequence[TenantCounts], sample: Sample, server: Server) -> Growth:
    rows = sum(tenant.fit_rows for tenant in tenants)
    if not rows:
        return Growth()
    every = sum(tenant.rows for tenant in tenants)
    enabled = sum(tenant.enabled for tenant in tenants) / every
    stored = sum(tenant.fit_stored_bytes for tenant in tenants) / rows
    plain = sum(tenant.fit_bytes for tenant in tenants) / rows + 8
    table = Range(_heap(rows, sample.widths, min(stored, plain)), _heap(rows, sample.widths, plain) * 1.1)
    entries = [_entries(index, sample.widths, enabled, server) for index in _indexes()]
    indexes = Range(sum(each.low for each in entries), sum(each.high for each in entries)) * rows
    records = rows * (_RECORD + len(entries) * _INDEX_RECORD)
    # Whole pages are written after each checkpoint, and whenever an index page splits.
    wal = Range(table.low + indexes.low + records, 3 * (table.high + indexes.high + records))
    legacy_index = Range(_IDENTITY / 0.9, _IDENTITY / 0.6) * every
    sidecar = Range(0.0, every * (_SIDECAR + 3 * sample.widths["organization_id"]))
    return Growth(
        table,
        indexes,
        wal,
        _MARGIN * (table.high + indexes.high) + wal.high,
        legacy_index,
        sidecar,
        _MARGIN * (legacy_index.high + sidecar.high),
    )


_PAGE, _USABLE = 8192, 8168
_TUPLE = 4 + 32 + 16 + 1 + 4 + 16 + 6  # pointer, header, id, enabled, version, stamps, alignment
_ENTRY = 4 + 8  # an index entry's pointer and header
_IDENTITY = _ENTRY + 16
_SIDECAR = 300  # a row with a name, a description and its two index entries
_RECORD, _INDEX_RECORD = 60, 60  # what the log adds to a row, and to an index entry
_REPEATING = frozenset({"name", "type", "enabled", "organization_id"})  # few values for many rows
_FIXED = {"id": 16, "enabled": 1, "created_at": 8, "updated_at": 8}


def _heap(rows: int, widths: dict[str, float], texts: float) -> float:
    named = sum(1 + widths[name] for name in ("name", "description", "type", "project_id", "organization_id"))
    return rows * (_TUPLE + named + texts) * _PAGE / _USABLE


def _indexes() -> list[tuple[tuple[str, ...], bool]]:
    """Columns of each of the new table's indexes, and whether it holds enabled rows only."""
    partial = [
        (tuple(column.name for column in index.columns), index.dialect_options["postgresql"]["where"] is not None)
        for index in sorted(prompts.indexes, key=lambda each: str(each.name))
    ]
    return [(tuple(column.name for column in prompts.primary_key), False), *partial]


def _entries(index: tuple[tuple[str, ...], bool], widths: dict[str, float], enabled: float, server: Server) -> Range:
    """Bytes of an index for each row of the table."""
    columns, partial = index
    keys = sum(_FIXED.get(name, 1 + widths.get(name, 0.0)) for name in columns)
    entry = _ENTRY + -(-keys // 8) * 8
    share = enabled if partial else 1.0
    if server.version >= _DEDUPLICATING and _REPEATING.issuperset(columns):
        return Range(6.5, 14.0) * share
    return Range(entry / 0.95, entry / 0.5) * share
