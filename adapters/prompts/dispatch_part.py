"""One tenant of Netflix Dispatch, as whoever carries its rows needs it."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Delete,
    FromClause,
    Insert,
    Integer,
    Select,
    Table,
    Text,
    Uuid,
    and_,
    any_,
    cast,
    delete,
    exists,
    func,
    literal_column,
    null,
    or_,
    select,
)
from sqlalchemy.dialects.postgresql import insert

from adapters.postgres.part import Part
from adapters.prompts import dispatch_rows
from adapters.prompts.canonical import (
    Reading,
    parse_scope,
)
from adapters.prompts.dispatch import beside, canonical_select, derived_id, derived_prefix, prefixes, scope_of, word
from adapters.prompts.dispatch_tables import sidecar, tenant_tables


def _version(prompt: Table, *, with_sidecar: bool) -> ColumnElement[str]:
    own = cast(prompt.c.xmin, Text)
    return own + "/" + func.coalesce(cast(sidecar.c.xmin, Text), "") if with_sidecar else own


@lru_cache(maxsize=1024)  # put in words once: a process has many workers, and a test many migrations
def tenant_part(organization: str, reading: Reading, *, with_sidecar: bool = True) -> Part:
    """One tenant's prompt table, ready to be carried."""
    project, prompt = tenant_tables(organization)

    def where_local(keys: ColumnElement[Any]) -> ColumnElement[bool]:
        return prompt.c.id == any_(cast(keys, ARRAY(Integer)))

    def where_key(keys: ColumnElement[Any]) -> ColumnElement[bool]:
        ids = cast(keys, ARRAY(Uuid))
        derived = derived_prefix(organization, prompt.c.id) == any_(prefixes(ids))
        if not with_sidecar:
            return derived
        # Each arm has an index: the sidecar's own, and the one that ``prepare`` puts on the derived ids. OFFSET 0 keeps
        # the planner from reading all of an organization's entries instead.
        entries = select(sidecar.c.organization, sidecar.c.legacy_id).where(sidecar.c.id == any_(ids))
        found = entries.offset(literal_column("0")).subquery("entries")
        named = select(found.c.legacy_id).where(found.c.organization == word(organization))
        return or_(prompt.c.id == any_(func.array(named.scalar_subquery())), derived)

    def where_scope(scope: str) -> ColumnElement[bool] | None:
        place = parse_scope(scope, with_type=reading.by_type)
        if place is None or place.organization != organization:
            return None
        of_project = prompt.c.project_id == place.project
        return of_project if place.type is None else and_(of_project, prompt.c.genai_type == place.type)

    def noted(rows: FromClause) -> Select[Any]:
        # A scalar subquery and no join: for one row it costs a third of one. In a level of its own, because each time
        # a prepared statement runs, all expressions of a level that has one are searched for tables to lock.
        named = select(sidecar.c.id).where(beside(organization, rows.c.id)).correlate(rows).scalar_subquery()
        entry = select(named.label("id")).lateral("entry")
        key = func.coalesce(entry.c.id, derived_id(organization, rows.c.id))
        columns: list[ColumnElement[Any]] = [cast(key, Text).label("key"), cast(rows.c.id, Text).label("local")]
        return select(*columns).select_from(rows, entry)

    def staying(rows: FromClause) -> Select[Any]:
        columns: list[ColumnElement[Any]] = [cast(null(), Text).label("key"), cast(rows.c.id, Text).label("local")]
        return select(*columns).select_from(rows)

    def cascaded(rows: Any) -> ColumnElement[bool]:
        return and_(rows.project_id.isnot(None), ~exists().where(project.c.id == rows.project_id))

    def forget(rows: FromClause) -> Delete:
        return delete(sidecar).where(beside(organization, rows.c.id))

    def keep(local: ColumnElement[Any], keys: ColumnElement[Any]) -> Insert:
        arrays = cast(local, ARRAY(Integer)), cast(keys, ARRAY(Uuid))
        gone = func.unnest(*arrays).table_valued("number", "id", name="gone").render_derived(name="gone")
        free = select(word(organization), *gone.c).where(~exists().where(prompt.c.id == gone.c.number))
        return insert(sidecar).from_select(["organization", "legacy_id", "id"], free).on_conflict_do_nothing()

    return Part(
        name=organization,
        table=prompt,
        key="id",
        scope="project_id",
        canonical=canonical_select(organization, prompt, reading, with_sidecar=with_sidecar),
        few=canonical_select(organization, prompt, reading, few=True) if with_sidecar else None,
        order=prompt.c.id,
        local=cast(prompt.c.id, Text),
        where_local=where_local,
        where_key=where_key,
        where_scope=where_scope,
        noted=noted,
        staying=staying,
        guessed=lambda local: dispatch_rows.legacy_key(organization, local),
        scope_of=lambda rows: scope_of(organization, rows, reading),
        scope_by=("project_id", "genai_type") if reading.by_type else ("project_id",),
        cascaded=cascaded,
        forget=forget,
        forget_all=delete(sidecar).where(sidecar.c.organization == word(organization)),
        keep=keep,
        version=_version(prompt, with_sidecar=with_sidecar),
        identity=derived_prefix(organization, prompt.c.id),
        whole_scopes=not reading.by_type,
    )
