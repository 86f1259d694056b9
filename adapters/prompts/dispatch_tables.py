"""Netflix Dispatch's tables, and the sidecar beside them, as this migration knows them."""

from __future__ import annotations

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Identity,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
)

from adapters.prompts.canonical import (
    TEXT_LIMIT,
)

CORE_SCHEMA = "dispatch_core"
TENANT_PREFIX = "dispatch_organization_"
IDENTIFIER_BYTES = 63  # PostgreSQL cuts longer names, so a long slug's schema is cut too

sidecar_metadata = MetaData(schema="crossfade")
sidecar = Table(
    "sidecar",
    sidecar_metadata,
    Column("organization", Text, primary_key=True),
    Column("legacy_id", Integer, primary_key=True, autoincrement=False),
    Column("id", Uuid, nullable=False, unique=True),
    Column("name", String(TEXT_LIMIT)),
    Column("description", Text),
    Column("type", String(50)),
    Column("version", Integer),
    # Instants that the row's own stamps cannot tell from another: clocks set back show the same time twice.
    Column("created_at", DateTime(timezone=True)),
    Column("updated_at", DateTime(timezone=True)),
    Column("xmin", Text, system=True),
    CheckConstraint("char_length(name) BETWEEN 1 AND 255", name="sidecar_name_length"),
    CheckConstraint("version > 0", name="sidecar_version_positive"),
    postgresql_with={"vacuum_truncate": "false"},  # to cut the file short, writers would be locked out
)


def tenant_schema(slug: str) -> str:
    """The schema of an organization, cut to PostgreSQL's identifier length as the server cuts it."""
    return (TENANT_PREFIX + slug).encode()[:IDENTIFIER_BYTES].decode(errors="ignore")


def tenant_tables(slug: str, metadata: MetaData | None = None) -> tuple[Table, Table]:
    """The ``project`` and ``prompt`` tables of a tenant: the columns that this migration touches."""
    metadata = metadata or MetaData()
    schema = tenant_schema(slug)
    project = Table(
        "project",
        metadata,
        Column("id", Integer, Identity(), primary_key=True),
        Column("name", String),
        Column("organization_id", Integer),
        schema=schema,
    )
    prompt = Table(
        "prompt",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("genai_type", Integer, nullable=False),
        Column("genai_prompt", String, nullable=False),
        Column("genai_system_message", String),
        Column("enabled", Boolean, nullable=False),
        Column("created_at", DateTime),
        Column("updated_at", DateTime),
        Column("project_id", Integer, ForeignKey(project.c.id, ondelete="CASCADE")),
        Column("xmin", Text, system=True),  # the transaction that wrote the row
        UniqueConstraint(
            "genai_type",
            "project_id",
            "enabled",
            name="uq_prompt_type_project_enabled",
            deferrable=True,
            initially="DEFERRED",
        ),
        schema=schema,
    )
    return project, prompt
