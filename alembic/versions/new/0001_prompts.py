"""Prompt Manager's table as documented; one that its own migration made before is adopted

What was there and what was added is written down in crossfade.adoption, so that the way down undoes just that.
"""

from __future__ import annotations

from alembic import op
from sqlalchemy import Connection, text

from harness.errors import StoreUnavailable

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# Column: type, may it be NULL.
COLUMNS = {
    "id": ("uuid", False),
    "name": ("character varying(255)", False),
    "description": ("text", True),
    "content": ("text", False),
    "type": ("character varying(50)", False),
    "project_id": ("character varying(255)", True),
    "organization_id": ("character varying(255)", True),
    "enabled": ("boolean", False),
    "version": ("integer", False),
    "created_at": ("timestamp with time zone", False),
    "updated_at": ("timestamp with time zone", False),
}

TABLE = """
    CREATE TABLE prompts (
        id uuid PRIMARY KEY DEFAULT {id},
        name varchar(255) NOT NULL,
        description text,
        content text NOT NULL,
        type varchar(50) NOT NULL,
        project_id varchar(255),
        organization_id varchar(255),
        enabled boolean NOT NULL DEFAULT false,
        version integer NOT NULL DEFAULT 1,
        created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now()
    )
"""

CHECKS = {
    "prompts_name_length": "char_length(name) >= 1 AND char_length(name) <= 255",
    "prompts_content_length": "char_length(content) >= 1 AND char_length(content) <= 10000",
    "prompts_type_valid": "type IN ('question-answering', 'summarization', 'entity-extraction', 'text-generation',"
    " 'translation', 'classification', 'custom')",
    "prompts_version_positive": "version > 0",
}

INDEXES = {
    "idx_prompts_name": "INDEX idx_prompts_name ON prompts (name)",
    "idx_prompts_project_id": "INDEX idx_prompts_project_id ON prompts (project_id)",
    "idx_prompts_organization_id": "INDEX idx_prompts_organization_id ON prompts (organization_id)",
    "idx_prompts_type": "INDEX idx_prompts_type ON prompts (type)",
    "idx_prompts_enabled": "INDEX idx_prompts_enabled ON prompts (enabled)",
    "idx_prompts_created_at": "INDEX idx_prompts_created_at ON prompts (created_at DESC)",
    "idx_prompts_project_enabled": "INDEX idx_prompts_project_enabled ON prompts (project_id, enabled) WHERE enabled",
    "idx_prompts_project_enabled_unique": "UNIQUE INDEX idx_prompts_project_enabled_unique ON prompts (project_id)"
    " WHERE enabled AND project_id IS NOT NULL",
}

FUNCTION = """
    CREATE FUNCTION update_updated_at_column() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        NEW.updated_at = now();
        RETURN NEW;
    END;
    $$
"""

TRIGGER = """
    CREATE TRIGGER update_prompts_updated_at BEFORE UPDATE ON prompts
    FOR EACH ROW EXECUTE FUNCTION update_updated_at_column()
"""


def upgrade() -> None:
    bind = op.get_bind()
    op.execute(
        """
        CREATE TABLE crossfade.adoption (
            object text PRIMARY KEY,
            origin text NOT NULL,
            definition text,
            CONSTRAINT adoption_origin CHECK (origin IN ('adopted', 'created'))
        )
        """
    )
    op.execute(
        "COMMENT ON TABLE crossfade.adoption IS"
        " 'What of the new store''s own table was there before us, and what we added, so that it can be undone'"
    )
    there = _exists(bind, "SELECT to_regclass('prompts') IS NOT NULL")
    if there:
        _check_shape(bind)
    else:
        op.execute(TABLE.format(id=_default_id(bind)))
    _note(bind, "table prompts", there)
    of_table = {"table": "prompts"}
    for name, rule in CHECKS.items():
        found = "SELECT EXISTS (SELECT FROM pg_constraint WHERE conrelid = to_regclass(:table) AND conname = :name)"
        _ensure(bind, f"constraint {name}", found, of_table | {"name": name}, _add_check(name, rule))
    for name, definition in INDEXES.items():
        found = "SELECT EXISTS (SELECT FROM pg_index WHERE indrelid = to_regclass(:table)"
        found += " AND indexrelid = to_regclass(:name))"
        _ensure(bind, f"index {name}", found, of_table | {"name": name}, f"CREATE {definition}")
    found = "SELECT to_regprocedure('update_updated_at_column()') IS NOT NULL"
    _ensure(bind, "function update_updated_at_column", found, {}, FUNCTION)
    found = "SELECT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = to_regclass(:table) AND tgname = :name)"
    named = of_table | {"name": "update_prompts_updated_at"}
    _ensure(bind, "trigger update_prompts_updated_at", found, named, TRIGGER)


def downgrade() -> None:
    bind = op.get_bind()
    created = set(bind.execute(text("SELECT object FROM crossfade.adoption WHERE origin = 'created'")).scalars())
    # A table that holds rows is somebody's by now: it stays, whole, as its own document describes it.
    if "table prompts" not in created:
        _take_back(created)
    elif not _exists(bind, "SELECT EXISTS (SELECT FROM prompts)"):
        op.execute("DROP TABLE prompts")
        _drop_function(bind, created)
        if "extension uuid-ossp" in created:
            op.execute('DROP EXTENSION "uuid-ossp"')
    op.execute("DROP TABLE crossfade.adoption")


def _take_back(created: set[str]) -> None:
    if "trigger update_prompts_updated_at" in created:
        op.execute("DROP TRIGGER update_prompts_updated_at ON prompts")
    _drop_function(op.get_bind(), created)
    for name in INDEXES:
        if f"index {name}" in created:
            op.execute(f"DROP INDEX {name}")
    for name in CHECKS:
        if f"constraint {name}" in created:
            op.execute(f"ALTER TABLE prompts DROP CONSTRAINT {name}")


def _drop_function(bind: Connection, created: set[str]) -> None:
    if "function update_updated_at_column" not in created:
        return
    used = "SELECT EXISTS (SELECT FROM pg_trigger WHERE tgfoid = to_regprocedure('update_updated_at_column()'))"
    if not _exists(bind, used):
        op.execute("DROP FUNCTION update_updated_at_column()")


def _exists(bind: Connection, question: str, values: dict[str, str] | None = None) -> bool:
    return bool(bind.execute(text(question), values or {}).scalar_one())


def _note(bind: Connection, name: str, there: bool) -> None:
    statement = text("INSERT INTO crossfade.adoption (object, origin) VALUES (:object, :origin)")
    bind.execute(statement, {"object": name, "origin": "adopted" if there else "created"})


def _ensure(bind: Connection, name: str, found: str, values: dict[str, str], definition: str) -> None:
    there = _exists(bind, found, values)
    if not there:
        op.execute(definition)
    _note(bind, name, there)


def _add_check(name: str, rule: str) -> str:
    return f"ALTER TABLE prompts ADD CONSTRAINT {name} CHECK ({rule})"


def _default_id(bind: Connection) -> str:
    if (bind.dialect.server_version_info or (0,)) >= (13,):
        return "gen_random_uuid()"
    there = _exists(bind, "SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'uuid-ossp')")
    if not there:
        op.execute('CREATE EXTENSION "uuid-ossp"')
    _note(bind, "extension uuid-ossp", there)
    return "uuid_generate_v4()"


def _check_shape(bind: Connection) -> None:
    """Raise StoreUnavailable, naming each column that does not fit, unless the table can be adopted."""
    rows = bind.execute(
        text(
            "SELECT attname, format_type(atttypid, atttypmod), NOT attnotnull, atthasdef FROM pg_attribute"
            " WHERE attrelid = to_regclass('prompts') AND attnum > 0 AND NOT attisdropped ORDER BY attnum"
        )
    )
    found = {name: (kind, nullable, has_default) for name, kind, nullable, has_default in rows}
    wrong = [f"{name} is missing" for name in COLUMNS if name not in found]
    for name, (kind, nullable, has_default) in found.items():
        wanted = COLUMNS.get(name)
        if wanted is None:
            if not nullable and not has_default:
                wrong.append(f"{name} is unknown and must not be NULL")
        elif (kind, nullable) != wanted:
            wrong.append(f"{name} is {_described(kind, nullable)} instead of {_described(*wanted)}")
    key = (
        "SELECT EXISTS (SELECT FROM pg_constraint c JOIN pg_attribute a"
        " ON a.attrelid = c.conrelid AND c.conkey = ARRAY[a.attnum]"
        " WHERE c.conrelid = to_regclass('prompts') AND c.contype = 'p' AND a.attname = 'id')"
    )
    if not _exists(bind, key):
        wrong.append("id is not the primary key")
    if wrong:
        raise StoreUnavailable(
            f"new: there is a table prompts, but not Prompt Manager's: {'; '.join(wrong)}. Nothing was changed; "
            "see whether CROSSFADE_NEW_URL names the right database"
        )


def _described(kind: str, nullable: bool) -> str:
    return kind if nullable else f"{kind} NOT NULL"
