"""The bucket formula is the same in SQL and in Python."""

from __future__ import annotations

from sqlalchemy import Engine, text

from harness.routing import bucket

SALTS = ("", "5f0c", "ünïcödé")
SCOPES = ("", "acme/project-1/incident-summary", "漢字/project-7/type--5", "a" * 255, "quote ' and % and \\")


def test_sql_and_python_agree(new_engine: Engine) -> None:
    """For salts and scopes of all kinds, PostgreSQL computes the bucket that Python does."""
    formula = text("SELECT (('x' || substr(md5(:salt || :scope), 1, 8))::bit(32)::bigint) % 10000")
    with new_engine.connect() as connection:
        for salt in SALTS:
            for scope in SCOPES:
                computed = connection.execute(formula, {"salt": salt, "scope": scope}).scalar_one()
                assert computed == bucket(salt, scope)
