"""A picture of a database, to be compared with one taken later: what it holds, in every schema."""

from __future__ import annotations

import psycopg
from psycopg import sql

_RELATIONS = """
    SELECT n.nspname, c.relname, c.relkind::text,
           coalesce(string_agg(a.attname || ' ' || a.atttypid::regtype::text, ', ' ORDER BY a.attnum), '')
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    WHERE n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'
    GROUP BY 1, 2, 3
"""
_OTHERS = """
    SELECT 'schema ' || nspname FROM pg_namespace WHERE nspname NOT LIKE 'pg\\_%'
    UNION ALL SELECT 'trigger ' || tgname || ' on ' || tgrelid::regclass::text FROM pg_trigger WHERE NOT tgisinternal
    UNION ALL SELECT 'function ' || p.oid::regprocedure::text || md5(prosrc) FROM pg_proc p
              JOIN pg_namespace n ON n.oid = p.pronamespace
              WHERE n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'
"""


def picture(url: str, *schemas: str) -> dict[str, str]:
    """Every relation with its columns and, for tables, a digest of its rows; triggers, functions and schemas.

    ``schemas``: only the tables of these, instead of all there is.
    """
    found: dict[str, str] = {}
    with psycopg.connect(url, autocommit=True) as connection:
        for schema, name, kind, columns in connection.execute(_RELATIONS).fetchall():
            if schemas and (schema not in schemas or kind not in "rp"):
                continue
            digest = _digest(connection, schema, name) if kind in "rp" else ""
            found[f"{kind} {schema}.{name}"] = f"{columns} {digest}"
        if not schemas:
            found |= {row[0]: "" for row in connection.execute(_OTHERS).fetchall()}
    return found


def _digest(connection: psycopg.Connection[tuple[str, ...]], schema: str, table: str) -> str:
    query = sql.SQL("SELECT count(*) || ' ' || md5(coalesce(string_agg(t::text, '/' ORDER BY t::text), '')) FROM {} t")
    row = connection.execute(query.format(sql.Identifier(schema, table))).fetchone()
    assert row is not None
    return row[0]
