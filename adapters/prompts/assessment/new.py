"""What new holds already, and whether Crossfade may add what it needs there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sqlalchemy import Boolean, Connection, DateTime, Integer, String, Text, Uuid, func, select, text
from sqlalchemy.types import TypeEngine

from adapters.prompts.assessment.findings import BLOCKS, DECIDE, EXAMPLES, NOTE, Code, Finding
from adapters.prompts.assessment.server import Server
from adapters.prompts.canonical import Reading
from adapters.prompts.prompt_manager import migrating, prompts
from harness.words import counted

_ADDED = "system_message"
_BEFORE_OWN_UUIDS = 12  # this server needs an extension to make a random uuid


def new_findings(connection: Connection, slugs: Sequence[str], reading: Reading, server: Server) -> Iterator[Finding]:
    if server.version <= _BEFORE_OWN_UUIDS:
        yield from _extension(connection)
    kind = connection.execute(
        text("SELECT relkind::text FROM pg_catalog.pg_class WHERE oid = to_regclass(:name)"), {"name": prompts.name}
    ).scalar()
    if kind is None:
        yield Finding(Code.NO_PROMPTS_TABLE, NOTE, 1, "new has no table prompts yet; prepare creates it as documented")
        may = "SELECT coalesce(has_schema_privilege(current_schema(), 'CREATE'), false)"
        if not connection.execute(text(may)).scalar_one():
            told = "our user may not create the table prompts in new; grant it CREATE on the schema"
            yield Finding(Code.RIGHTS, BLOCKS, 1, told)
        return
    wrong = _wrong_columns(connection) if kind in {"r", "p"} else ["it is no table"]
    if wrong:
        told = f"new has a prompts that is not Prompt Manager's: {', '.join(wrong)}; check CROSSFADE_NEW_URL"
        yield Finding(Code.UNFIT_PROMPTS_TABLE, BLOCKS, len(wrong), told, tuple(wrong[:EXAMPLES]))
        return
    yield from _table_rights(connection)
    if connection.execute(text("SELECT has_table_privilege(:name, 'SELECT')"), {"name": prompts.name}).scalar_one():
        yield from _rows(connection, slugs, reading)


def _extension(connection: Connection) -> Iterator[Finding]:
    query = text("SELECT installed_version FROM pg_catalog.pg_available_extensions WHERE name = 'uuid-ossp'")
    found = connection.execute(query).one_or_none()
    if found is None:
        told = "new is a PostgreSQL 12 without the extension uuid-ossp, which makes its ids; install postgresql-contrib"
        yield Finding(Code.EXTENSION, BLOCKS, 1, told)
    elif found.installed_version is None:
        told = "new is a PostgreSQL 12, whose ids come from the extension uuid-ossp; prepare adds it if our user may"
        yield Finding(Code.EXTENSION, NOTE, 1, told)


def _wrong_columns(connection: Connection) -> list[str]:
    query = text(
        "SELECT attname, format_type(atttypid, atttypmod) AS type, attnotnull AND NOT atthasdef AS wanted"
        " FROM pg_catalog.pg_attribute WHERE attrelid = to_regclass(:name) AND attnum > 0 AND NOT attisdropped"
    )
    there = {row.attname: row for row in connection.execute(query, {"name": prompts.name})}
    wrong = [
        f"{column.name} is {there[column.name].type}" if column.name in there else f"{column.name} is missing"
        for column in prompts.columns
        if not column.system
        and (column.name in there or column.name != _ADDED)
        and (column.name not in there or there[column.name].type != _described(column.type))
    ]
    return wrong + [f"{name} must be given" for name, row in there.items() if row.wanted and name not in prompts.c]


def _described(kind: TypeEngine[object]) -> str:
    """A type as PostgreSQL's format_type says it."""
    if isinstance(kind, String) and not isinstance(kind, Text):
        return f"character varying({kind.length})"
    names = {Text: "text", Boolean: "boolean", Integer: "integer", Uuid: "uuid", DateTime: "timestamp with time zone"}
    return names[type(kind)]


def _table_rights(connection: Connection) -> Iterator[Finding]:
    owned = text("SELECT pg_has_role(relowner, 'USAGE') FROM pg_catalog.pg_class WHERE oid = to_regclass(:name)")
    if not connection.execute(owned, {"name": prompts.name}).scalar_one():
        told = "our user is not among the owners of new's table prompts, to which prepare adds a column and a trigger; "
        yield Finding(Code.RIGHTS, BLOCKS, 1, told + "make it a member of the owner")


def _rows(connection: Connection, slugs: Sequence[str], reading: Reading) -> Iterator[Finding]:
    ours = migrating(slugs, with_type=reading.by_type)
    counts = select(func.count().label("rows"), func.count().filter(ours).label("ours")).select_from(prompts)
    rows, within = connection.execute(counts).one()
    told = f"new has Prompt Manager's table, with {counted(rows, 'row')}: prepare adopts it"
    yield Finding(Code.PROMPTS_TABLE, NOTE, rows, told)
    if beyond := rows - within:
        told = f"{counted(beyond, 'row')} of new in scopes that legacy has no place for: they stay in new only"
        yield Finding(Code.NEW_ONLY, NOTE, beyond, told)
    prepared = connection.execute(text("SELECT to_regclass('crossfade.phase') IS NOT NULL")).scalar_one()
    if within and not prepared:
        told = (
            f"{counted(within, 'row')} of new in scopes of legacy, though Crossfade has copied none: verify will call "
            "extra what legacy does not have; see whether a copy was tried before, and remove it"
        )
        yield Finding(Code.ROWS_IN_NEW, DECIDE, within, told)
