"""One count over a tenant's prompts, in the database.

Rows are put into a few hundred classes (why they do not fit, what is odd about them) and each class is summed up, so
one pass over the table answers everything that is asked of single rows, in memory that does not grow with them. What
is asked of several rows together (who shares a project) is a second pass, over three columns that Dispatch's own
unique index holds; the tuples are read again only where that index cannot be used. Under scope policy ``project`` a
third one, over enabled prompts alone, ranks those that are in each other's way.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import (
    Connection,
    Integer,
    Row,
    Select,
    Subquery,
    Table,
    and_,
    cast,
    func,
    literal_column,
    select,
    text,
)

from adapters.prompts.assessment.findings import EXAMPLES, Code, TenantCounts
from adapters.prompts.canonical import BY_NUMBER, Reading, Reason
from adapters.prompts.dispatch import canonical_select
from adapters.prompts.dispatch_tables import tenant_tables
from adapters.prompts.workload import has_sidecar

UNKNOWN_SHOWN = 20  # types without a name that are told apart, the most frequent first
_LISTS = 13  # of ids for each class: of each list the lowest and the highest are kept, and examples are among them


class Class(NamedTuple):
    """Rows that are alike in whether they fit and in what is odd about them, summed up.

    ``bytes`` of texts as they are, ``stored_bytes`` as compressed where legacy keeps them so. ``ids``: some of them.
    """

    reason: str | None
    unknown: bool
    stamps: int  # how many are NULL
    ids: tuple[int, int]
    rows: int
    enabled: int
    bytes: int
    stored_bytes: int
    messages: int
    longest_content: int
    longest_system_message: int


def count_tenant(connection: Connection, slug: str, reading: Reading) -> TenantCounts:
    """Count a tenant's prompts as they will be read."""
    _, prompt = tenant_tables(slug)
    rows = _rows(connection, slug, prompt, reading)
    classes = [_read(row) for row in connection.execute(_classes(rows))]
    conflicts = [] if reading.by_type else list(connection.execute(_conflicts(rows, reading)))
    places = connection.execute(_places(prompt)).one()
    odd = {code: [each for each in classes if is_odd(each)] for code, is_odd in _ODD.items()}
    reasons = {name: [each for each in classes if each.reason == name] for name in {c.reason for c in classes} if name}
    fit = [each for each in classes if each.reason is None]
    beyond = sum(row.rows for row in conflicts)
    found = {name: sum(each.rows for each in group) for name, group in reasons.items()}
    examples = {name: _some(each.ids for each in group) for name, group in (odd | reasons).items() if group}
    if beyond:
        found[Reason.ENABLED_CONFLICT] = beyond
        examples[Reason.ENABLED_CONFLICT] = _some((row.lowest, row.highest) for row in conflicts)
    size = text("SELECT pg_total_relation_size(to_regclass(format('%I.%I', cast(:schema AS text), 'prompt')))")
    return TenantCounts(
        tenant=slug,
        **_totals(classes),
        projects=places.projects,
        scopes=places.scopes if reading.by_type else places.projects,
        table_bytes=connection.execute(size, {"schema": prompt.schema}).scalar_one(),
        fit_rows=sum(each.rows for each in fit) - beyond,
        fit_bytes=sum(each.bytes for each in fit),
        fit_stored_bytes=sum(each.stored_bytes for each in fit),
        crowded_projects=places.crowded_projects,
        crowded_rows=int(places.crowded_rows),
        type_conflicts=int(places.type_conflicts),
        reasons=found,
        odd={code: sum(each.rows for each in group) for code, group in odd.items() if group},
        unknown_types={kind: int(number) for kind, number in places.unknown or ()},
        examples=examples,
        first_id=min((each.ids[0] for each in classes), default=None),
        last_id=max((each.ids[1] for each in classes), default=None),
    )


_ODD: dict[str, Callable[[Class], bool]] = {
    Code.UNKNOWN_TYPES: lambda each: each.unknown,
    Code.ONE_STAMP_NULL: lambda each: each.stamps == 1,
    Code.BOTH_STAMPS_NULL: lambda each: each.stamps == 2,
}


def _rows(connection: Connection, slug: str, prompt: Table, reading: Reading) -> Subquery:
    own = prompt.c
    canonical = canonical_select(slug, prompt, reading, with_sidecar=has_sidecar(connection), with_conflicts=False)
    added = canonical.add_columns(
        own.id.label("local"),
        own.genai_type.label("local_type"),
        own.project_id.label("local_project"),
        own.created_at.label("local_created"),
        own.updated_at.label("local_updated"),
    )
    return added.subquery("rows")


def _classes(rows: Subquery) -> Select[Any]:
    content, message = rows.c.content, rows.c.system_message
    stamps = cast(rows.c.local_created.is_(None), Integer) + cast(rows.c.local_updated.is_(None), Integer)
    octets, stored = (
        func.sum(size(content) + func.coalesce(size(message), 0)) for size in (func.octet_length, func.pg_column_size)
    )
    return select(
        rows.c.reason.label("class_reason"),
        rows.c.local_type.notin_(list(BY_NUMBER)).label("class_unknown"),
        stamps.label("class_stamps"),
        _list(rows).label("class_list"),
        func.min(rows.c.local).label("lowest"),
        func.max(rows.c.local).label("highest"),
        func.count().label("rows"),
        func.count().filter(rows.c.enabled).label("enabled"),
        octets.label("bytes"),
        stored.label("stored_bytes"),
        func.count(message).label("messages"),
        func.max(func.char_length(content)).label("longest_content"),
        func.coalesce(func.max(func.char_length(message)), 0).label("longest_system_message"),
    ).group_by("class_reason", "class_unknown", "class_stamps", "class_list")


def _list(rows: Subquery) -> Any:
    return func.mod(rows.c.local, literal_column(str(_LISTS)))


def _read(row: Row[Any]) -> Class:
    return Class(
        row.class_reason,
        row.class_unknown,
        row.class_stamps,
        (row.lowest, row.highest),
        row.rows,
        row.enabled,
        int(row.bytes),
        int(row.stored_bytes),
        row.messages,
        row.longest_content,
        row.longest_system_message,
    )


def _totals(classes: Sequence[Class]) -> dict[str, int]:
    return {
        "rows": sum(each.rows for each in classes),
        "enabled": sum(each.enabled for each in classes),
        "bytes": sum(each.bytes for each in classes),
        "with_system_message": sum(each.messages for each in classes),
        "longest_content": max((each.longest_content for each in classes), default=0),
        "longest_system_message": max((each.longest_system_message for each in classes), default=0),
    }


def _some(ids: Iterable[Collection[int]]) -> tuple[int, ...]:
    return tuple(sorted({number for some in ids for number in some})[:EXAMPLES])


def _places(prompt: Table) -> Select[Any]:
    """What is asked of all rows of a project, or of a project and type, together."""
    own, enabled = prompt.c, func.count().filter(prompt.c.enabled)
    # In the order of Dispatch's unique index, which then answers this alone, and without a sort.
    grouped = select(own.genai_type, own.project_id, func.count().label("rows"), enabled.label("enabled"))
    places = grouped.group_by(own.genai_type, own.project_id).cte("places")
    within = select(places.c.project_id, func.sum(places.c.enabled).label("enabled"))
    projects = within.where(places.c.project_id.is_not(None)).group_by(places.c.project_id).cte("projects")
    times = func.sum(places.c.rows).label("times")
    unknown = select(places.c.genai_type.label("kind"), times).where(places.c.genai_type.notin_(list(BY_NUMBER)))
    kinds = unknown.group_by(places.c.genai_type).order_by(times.desc(), places.c.genai_type).limit(UNKNOWN_SHOWN)
    most = kinds.subquery("most")
    crowded, shared = projects.c.enabled > 1, and_(places.c.enabled > 1, places.c.project_id.is_not(None))
    return select(
        select(func.count()).select_from(projects).scalar_subquery().label("projects"),
        select(func.count(places.c.project_id)).scalar_subquery().label("scopes"),
        select(func.count()).select_from(projects).where(crowded).scalar_subquery().label("crowded_projects"),
        _total(projects.c.enabled, crowded).label("crowded_rows"),
        _total(places.c.enabled - 1, shared).label("type_conflicts"),
        select(func.jsonb_agg(func.jsonb_build_array(most.c.kind, most.c.times))).scalar_subquery().label("unknown"),
    )


def _total(number: Any, condition: Any) -> Any:
    return select(func.coalesce(func.sum(number), 0)).where(condition).scalar_subquery()


def _conflicts(rows: Subquery, reading: Reading) -> Select[Any]:
    """Rows that fit but for another enabled prompt of their project, by list of ids.

    The same as the canonical SELECT says of each row by looking at its rivals, said of all by ranking them once.
    """
    never: Any = literal_column("'-infinity'::timestamp")
    age = [func.coalesce(rows.c.local_updated, rows.c.local_created, never), rows.c.local]
    order = [each.desc() for each in age] if reading.keep == "newest" else age
    place = func.count().over(partition_by=rows.c.local_project)
    if reading.keep != "undecided":
        place = func.row_number().over(partition_by=rows.c.local_project, order_by=order)
    enabled = select(rows.c.local, rows.c.reason, place.label("place"))
    ranked = enabled.where(rows.c.enabled, rows.c.local_project.is_not(None)).subquery("ranked")
    ids: list[Any] = [func.min(ranked.c.local).label("lowest"), func.max(ranked.c.local).label("highest")]
    chosen = select(func.count().label("rows"), *ids).where(ranked.c.reason.is_(None), ranked.c.place > 1)
    return chosen.group_by(_list(ranked))
