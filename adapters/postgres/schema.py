"""Crossfade's own tables in both databases, and legacy's, as the present code knows them; ``ledger.tables`` has new's.

The revisions in ``alembic/`` make them; a test holds the two equal.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Identity,
    Index,
    MetaData,
    Numeric,
    Table,
    Text,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

SCHEMA = "crossfade"


def stamp(name: str) -> Column[Any]:
    return Column(name, DateTime(timezone=True), nullable=False, server_default=func.now())


def number() -> Column[Any]:
    return Column("id", BigInteger, Identity(always=True), primary_key=True)


def count(name: str) -> Column[Any]:
    return Column(name, BigInteger, nullable=False, server_default=text("0"))


def single() -> Column[Any]:
    """The key of a table that has one row."""
    return Column("single", Boolean, primary_key=True, server_default=text("true"))


def percent(name: str, default: int) -> Column[Any]:
    return Column(name, Numeric(5, 2), nullable=False, server_default=text(str(default)))


# --- In both databases -------------------------------------------------------------------------------------------

capture_metadata = MetaData(schema=SCHEMA)

dirty = Table(
    "dirty",
    capture_metadata,
    Column("seq", BigInteger, Identity(always=True), primary_key=True),
    Column("part", Text, nullable=False),
    Column("scope", Text(collation="C")),  # the order of a language costs a writer several times as much
    Column("key", Text),
    Column("local", Text),
    Column("noted_at", DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp()),
    Column("cascade", Boolean, nullable=False, server_default=text("false")),
    Index("dirty_scope", "scope"),
    # A queue: nearly every row is dead soon, so vacuum goes by their number and not by a share of the table. To cut the
    # file short it would lock writers out. https://www.postgresql.org/docs/current/sql-createtable.html
    postgresql_with={
        "autovacuum_vacuum_scale_factor": 0,
        "autovacuum_vacuum_threshold": 1000,
        "vacuum_truncate": "false",
    },
    comment="Which record of which scope changed here and is not yet carried over",
)

rogue = Table(
    "rogue",
    capture_metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("at", DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp()),
    Column("part", Text, nullable=False),
    Column("operation", Text, nullable=False),
    Column("scope", Text),
    Column("before", JSONB),
    Column("after", JSONB),
    Column("role", Text, nullable=False),
    Column("application", Text, nullable=False),
    comment="Writes that this store had no authority for, with their rows",
)


standing = Table(
    "standing",
    capture_metadata,
    Column("nothing", Boolean),
    comment="Always empty; its lock modes keep two kinds of work apart",
)


def guarding() -> list[Any]:
    """What a guard reads of the route, in both databases."""
    return [
        Column("guard", Text, nullable=False, server_default="enforce"),
        Column("pins", JSONB, nullable=False, server_default=text("'{}'")),
        CheckConstraint("guard IN ('enforce', 'record', 'off')", name="route_guard"),
    ]


# --- In the legacy database --------------------------------------------------------------------------------------

legacy_metadata = MetaData(schema=SCHEMA)

route_copy = Table(
    "route",
    legacy_metadata,
    single(),
    Column("epoch", BigInteger, nullable=False),
    percent("writes_percent", 0),
    Column("salt", Text, nullable=False),
    *guarding(),
    CheckConstraint("single", name="route_single"),
    CheckConstraint("writes_percent BETWEEN 0 AND 100", name="route_writes_percent"),
    comment="Which scopes this store has authority over, as the guard reads it",
)
