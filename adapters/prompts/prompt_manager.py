"""Prompt Manager's prompts: its table as its own document describes it, read as canonical columns."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import (
    ARRAY,
    Boolean,
    CheckConstraint,
    Column,
    ColumnElement,
    DateTime,
    FromClause,
    Index,
    Integer,
    MetaData,
    Select,
    String,
    Table,
    Text,
    Uuid,
    and_,
    any_,
    case,
    cast,
    exists,
    func,
    literal,
    literal_column,
    null,
    or_,
    select,
    text,
    tuple_,
)

from adapters.postgres.part import REASON, Holding, Part, alike
from adapters.prompts.canonical import COLUMNS, INTEGER, LEGACY_TYPES, TEXT_LIMIT, UNKNOWN_TYPE, DebtReason, Reading
from adapters.prompts.dispatch import local_stamp, out_of_range
from adapters.prompts.prompt import PromptType

metadata = MetaData()
prompts = Table(
    "prompts",
    metadata,
    Column("id", Uuid, primary_key=True, server_default=text("gen_random_uuid()")),
    Column("name", String(TEXT_LIMIT), nullable=False),
    Column("description", Text),
    Column("content", Text, nullable=False),
    Column("type", String(50), nullable=False),
    Column("project_id", String(TEXT_LIMIT)),
    Column("organization_id", String(TEXT_LIMIT)),
    Column("enabled", Boolean, nullable=False, server_default=text("false")),
    Column("version", Integer, nullable=False, server_default=text("1")),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("updated_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("system_message", Text),
    Column("xmin", Text, system=True),  # the transaction that wrote the row
    CheckConstraint("char_length(name) >= 1 AND char_length(name) <= 255", name="prompts_name_length"),
    CheckConstraint("char_length(content) >= 1 AND char_length(content) <= 10000", name="prompts_content_length"),
    CheckConstraint(
        "type IN ({})".format(", ".join(f"'{known.value}'" for known in PromptType)),
        name="prompts_type_valid",
    ),
    CheckConstraint("version > 0", name="prompts_version_positive"),
)
Index("idx_prompts_name", prompts.c.name)
Index("idx_prompts_project_id", prompts.c.project_id)
Index("idx_prompts_organization_id", prompts.c.organization_id)
Index("idx_prompts_type", prompts.c.type)
Index("idx_prompts_enabled", prompts.c.enabled)
Index("idx_prompts_created_at", prompts.c.created_at.desc())
Index("idx_prompts_project_enabled", prompts.c.project_id, prompts.c.enabled, postgresql_where=prompts.c.enabled)
Index(
    "idx_prompts_project_enabled_unique",
    prompts.c.project_id,
    unique=True,
    postgresql_where=prompts.c.enabled & prompts.c.project_id.isnot(None),
)


def canonical_select() -> Select[Any]:
    """All prompts as canonical columns and a ``reason`` that is always NULL: the new store's rows are the canon."""
    chosen: list[ColumnElement[Any]] = [prompts.c[name] for name in COLUMNS]
    return select(*chosen, literal_column("NULL::text", Text).label(REASON))


def migrating(organizations: Sequence[str], *, with_type: bool, rows: Any = prompts.c) -> ColumnElement[bool]:
    """Whether a row belongs to this migration: its scope is one that legacy has a place for.

    The others are new-only: born in the new system, unknown to legacy, never carried and never "extra".
    ``rows``: whatever has the table's columns as attributes.
    """
    tenants = "|".join(re.escape(name) for name in organizations)
    slugs = "|".join([*(known.slug for known in LEGACY_TYPES), UNKNOWN_TYPE])
    pattern = f"^(?:{tenants})/project-{INTEGER}" + (f"/(?:{slugs})$" if with_type else "$")
    told = func.coalesce(rows.project_id.regexp_match(pattern), False)
    return case((_usual_scope(organizations, rows.project_id, with_type), literal_column("true")), else_=told)


def _usual_scope(organizations: Sequence[str], scope: Any, with_type: bool) -> ColumnElement[bool]:
    """Whether a scope is one of those that nearly all rows have: a part of what the pattern says, at a thirtieth of
    the pattern's price, which is more than all the rest of a row's digest costs.
    """
    organization, project, slug = (func.split_part(scope, _word("/"), literal_column(str(n))) for n in (1, 2, 3))
    number = func.split_part(project, _word("-"), literal_column("2"))
    parts = [organization, project, slug] if with_type else [organization, project]
    length = sum((func.octet_length(part) for part in parts), start=literal_column(str(len(parts) - 1), Integer))
    conditions = [
        organization.in_([_word(name) for name in organizations]),
        func.starts_with(project, _word("project-")),
        func.octet_length(scope) == length,  # so that nothing comes after the last part,
        func.octet_length(project) == func.octet_length(number) + literal_column("8"),  # nor after the number
        func.octet_length(number).between(_one(), literal_column("9")),
        ~func.starts_with(number, _word("0")),
    ]
    if with_type:
        conditions.append(slug.in_([_word(known.slug) for known in LEGACY_TYPES]))
    return and_(*conditions, func.ltrim(number, _word("0123456789")) == _word(""))


def whole_part() -> Part:
    """The table ``prompts``, which holds every organization."""

    def where_local(keys: ColumnElement[Any]) -> ColumnElement[bool]:
        return prompts.c.id == any_(cast(keys, ARRAY(Uuid)))

    def where_scope(scope: str) -> ColumnElement[bool]:
        return prompts.c.project_id == scope

    def where_scopes(scopes: ColumnElement[Any]) -> ColumnElement[bool]:
        return prompts.c.project_id == any_(scopes)

    def noted(rows: FromClause) -> Select[Any]:
        key = cast(rows.c.id, Text)
        columns: list[ColumnElement[Any]] = [key.label("key"), key.label("local")]
        return select(*columns).select_from(rows)

    return Part(
        name="",
        table=prompts,
        key="id",
        scope="project_id",
        canonical=canonical_select(),
        order=None,
        local=cast(prompts.c.id, Text),
        where_local=where_local,
        where_key=where_local,
        where_scope=where_scope,
        where_scopes=where_scopes,
        noted=noted,
        scope_of=lambda rows: rows.project_id,
        scope_by=("project_id",),
        version=cast(prompts.c.xmin, Text),
    )


def giving_part(organizations: Sequence[str], reading: Reading) -> Part:
    """The table ``prompts`` as it is carried back to legacy: ``reason`` says why legacy cannot hold a row.

    Of several disabled prompts of a scope legacy holds the oldest. So the reading of one depends on its siblings, and
    scopes are noted as a whole. What is unholdable knows no order: whoever adds a disabled prompt beside another is
    told, even one with an earlier stamp, for then it is the other that falls out.
    """
    older = _rival(
        prompts.c, lambda rival: tuple_(rival.created_at, rival.id) < tuple_(prompts.c.created_at, prompts.c.id)
    )
    reason = _debt(prompts.c, organizations, reading, older)
    chosen: list[ColumnElement[Any]] = [prompts.c[name] for name in COLUMNS]

    # OFFSET 0 keeps the planner from computing the reason anew for each column that depends on it.
    canonical = select(*chosen, reason.label(REASON)).offset(literal_column("0"))
    return replace(whole_part(), canonical=canonical, holding=_holding(organizations, reading), whole_scopes=True)


def _holding(organizations: Sequence[str], reading: Reading) -> Holding:
    same = "id", "project_id", "organization_id", "enabled", "created_at"

    def unholdable(rows: Any) -> ColumnElement[Any]:
        return _debt(rows, organizations, reading, _rival(rows, lambda rival: rival.id != rows.id))

    def stays(old: Any, new: Any) -> ColumnElement[bool]:
        return and_(*(alike(getattr(old, name), getattr(new, name)) for name in same), _surely_in_range(new.updated_at))

    def alone(rows: Any) -> ColumnElement[bool]:
        return and_(rows.enabled, _debt(rows, organizations, reading, None).is_(None))

    return Holding(unholdable, (*same, "updated_at"), stays, alone)


def _debt(
    rows: Any, organizations: Sequence[str], reading: Reading, rival: ColumnElement[bool] | None
) -> ColumnElement[Any]:
    """Why legacy cannot hold a row, or NULL. The first that applies, in this order. ``rival``: None if it has none."""
    stamps = rows.created_at, rows.updated_at
    whens: list[tuple[ColumnElement[bool], str]] = [
        (~migrating(organizations, with_type=reading.by_type, rows=rows), DebtReason.NO_PLACE),
        (
            rows.organization_id.is_distinct_from(func.split_part(rows.project_id, _word("/"), _one())),
            DebtReason.ORGANIZATION_DIFFERS,
        ),
        (or_(*(out_of_range(stamp) for stamp in stamps)), DebtReason.STAMP_OUT_OF_RANGE),
        # Only now: at PostgreSQL's own limits timezone() raises.
        (or_(*(_out_of_local_range(stamp, reading.time_zone) for stamp in stamps)), DebtReason.STAMP_OUT_OF_RANGE),
    ]
    if rival is not None:
        whens.append((and_(~rows.enabled, rival), DebtReason.SECOND_DISABLED))
    return cast(case(*((condition, _word(reason)) for condition, reason in whens), else_=null()), Text)


def _rival(rows: Any, stands_before: Callable[[Any], ColumnElement[bool]]) -> ColumnElement[bool]:
    """Whether the row's scope has another disabled prompt."""
    rival = prompts.alias("rival")
    same_scope = rival.c.project_id == rows.project_id
    return exists(
        select(_one())
        .select_from(rival)
        .where(same_scope, ~rival.c.enabled, stands_before(rival.c))
        .correlate_except(rival)
    )


def _out_of_local_range(stamp: ColumnElement[Any], zone: str) -> ColumnElement[bool]:
    """Dispatch could not read such a stamp in its own zone."""
    local = local_stamp(stamp, zone)
    first: ColumnElement[Any] = literal_column("TIMESTAMP '0001-01-01'")
    after: ColumnElement[Any] = literal_column("TIMESTAMP '10000-01-01'")
    return or_(local < first, local >= after)


def _surely_in_range(stamp: ColumnElement[Any]) -> ColumnElement[bool]:
    """Whether a stamp is in the years 2 to 9998, and so in range on every clock."""
    first: ColumnElement[Any] = literal_column("TIMESTAMPTZ '0002-01-01 00:00:00+00'")
    after: ColumnElement[Any] = literal_column("TIMESTAMPTZ '9999-01-01 00:00:00+00'")
    return and_(stamp >= first, stamp < after)


def _word(word: str) -> ColumnElement[str]:
    return literal(word, literal_execute=True)


def _one() -> ColumnElement[int]:
    return literal_column("1", Integer)
