"""Prompt Manager's prompts: its table as its own document describes it, read as canonical columns."""

from __future__ import annotations

import re
from collections.abc import Sequence
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
    any_,
    cast,
    func,
    literal_column,
    select,
    text,
)

from adapters.postgres.part import REASON, Part
from adapters.prompts.canonical import COLUMNS, INTEGER, LEGACY_TYPES, TEXT_LIMIT, UNKNOWN_TYPE
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


def migrating(organizations: Sequence[str], *, with_type: bool) -> ColumnElement[bool]:
    """Whether a row belongs to this migration: its scope is one that legacy has a place for.

    The others are new-only: born in the new system, unknown to legacy, never carried and never "extra".
    """
    tenants = "|".join(re.escape(name) for name in organizations)
    slugs = "|".join([*(known.slug for known in LEGACY_TYPES), UNKNOWN_TYPE])
    pattern = f"^(?:{tenants})/project-{INTEGER}" + (f"/(?:{slugs})$" if with_type else "$")
    return func.coalesce(prompts.c.project_id.regexp_match(pattern), False)


def whole_part() -> Part:
    """The table ``prompts``, which holds every organization."""

    def where_local(keys: ColumnElement[Any]) -> ColumnElement[bool]:
        return prompts.c.id == any_(cast(keys, ARRAY(Uuid)))

    def where_scope(scope: str) -> ColumnElement[bool]:
        return prompts.c.project_id == scope

    def noted(rows: FromClause) -> Select[Any]:
        key = cast(rows.c.id, Text)
        return select(rows.c.project_id.label("scope"), key.label("key"), key.label("local")).select_from(rows)

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
        noted=noted,
        scope_of=lambda rows: rows.project_id,
    )
