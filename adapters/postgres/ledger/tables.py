"""The ledger: Crossfade's own tables in the new database, beside those that both have (``schema``)."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from adapters.postgres.schema import SCHEMA, count, guarding, number, percent, single, stamp

ledger_metadata = MetaData(schema=SCHEMA)

phase = Table(
    "phase",
    ledger_metadata,
    single(),
    Column("phase", Text, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    stamp("since"),
    Column("actor", Text, nullable=False),
    Column("reason", Text, nullable=False),
    CheckConstraint("single", name="phase_single"),
    comment="Where the migration is",
)

route = Table(
    "route",
    ledger_metadata,
    single(),
    Column("epoch", BigInteger, nullable=False),
    percent("reads_percent", 0),
    percent("writes_percent", 0),
    percent("shadow_percent", 100),
    Column("salt", Text, nullable=False),
    *guarding(),
    Column("rollback_safe", Boolean, nullable=False, server_default=text("true")),
    Column("automatic", JSONB, nullable=False, server_default=text("'[]'")),
    CheckConstraint("single", name="route_single"),
    CheckConstraint("reads_percent BETWEEN 0 AND 100", name="route_reads_percent"),
    CheckConstraint("writes_percent BETWEEN 0 AND 100", name="route_writes_percent"),
    CheckConstraint("shadow_percent BETWEEN 0 AND 100", name="route_shadow_percent"),
    comment="Which share of the operations goes where",
)

audit = Table(
    "audit",
    ledger_metadata,
    number(),
    stamp("at"),
    Column("actor", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("detail", JSONB, nullable=False, server_default=text("'{}'")),
    comment="Who changed what about the migration, and why",
)

checkpoint = Table(
    "checkpoint",
    ledger_metadata,
    Column("part", Text, primary_key=True),
    Column("last_key", BigInteger),
    count("copied"),
    count("already_there"),
    count("quarantined"),
    count("deferred"),
    Column("finished", Boolean, nullable=False, server_default=text("false")),
    stamp("updated_at"),
    count("run"),
    comment="How far the backfill of each part is",
)

chunk = Table(
    "chunk",
    ledger_metadata,
    Column("part", Text, ForeignKey(checkpoint.c.part, ondelete="CASCADE"), primary_key=True),
    Column("low", BigInteger, primary_key=True, autoincrement=False),
    Column("high", BigInteger, nullable=False),
    count("copied"),
    count("already_there"),
    count("quarantined"),
    count("deferred"),
    stamp("at"),
    comment="Ranges of keys that are copied, of parts that are not finished",
)

quarantine = Table(
    "quarantine",
    ledger_metadata,
    Column("key", Text, primary_key=True),
    Column("part", Text, nullable=False),
    Column("local", Text, nullable=False),
    Column("scope", Text),
    Column("reason", Text, nullable=False),
    stamp("since"),
    Column("accepted", Text),
    Column("accepted_by", Text),
    Column("accepted_at", DateTime(timezone=True)),
    Column("image", JSONB),
    comment="Legacy rows that cannot be represented in new, and why",
)

pause = Table(
    "pause",
    ledger_metadata,
    Column("work", Text, primary_key=True),
    stamp("since"),
    Column("actor", Text, nullable=False),
    Column("reason", Text, nullable=False),
    comment="Work that is to stand still until somebody resumes it",
)

course = Table(
    "course",
    ledger_metadata,
    single(),
    Column("plan", JSONB, nullable=False),
    Column("step", Integer, nullable=False),
    Column("towards", Integer),
    Column("state", Text, nullable=False),
    Column("since", DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp()),
    Column("actor", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("revision", BigInteger, nullable=False),
    CheckConstraint("single", name="course_single"),
    comment="How far an automatic ramp has come",
)

deferred_index = Table(
    "deferred_index",
    ledger_metadata,
    Column("name", Text, primary_key=True),
    Column("schema", Text, nullable=False),
    Column("definition", Text, nullable=False),
    Column("tablespace", Text, nullable=False),
    Column("comment", Text),
    stamp("since"),
    comment="Indexes of the new store that were dropped for the copy and are to be built again, just as they were",
)

debt = Table(
    "debt",
    ledger_metadata,
    Column("key", Text, primary_key=True),
    Column("scope", Text),
    Column("reason", Text, nullable=False),
    stamp("since"),
    comment="Records of new that legacy cannot hold, and why",
)

left_behind = Table(
    "left_behind",
    ledger_metadata,
    number(),
    stamp("at"),
    Column("key", Text, nullable=False),
    Column("scope", Text),
    Column("reason", Text, nullable=False),
    Column("row", JSONB, nullable=False),
    comment="Records of new that a rollback left behind, why, and their rows as they were",
)

cascade = Table(
    "cascade",
    ledger_metadata,
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    stamp("at"),
    comment="Notes of cascades in legacy that are carried over, by number",
)

journal = Table(
    "journal",
    ledger_metadata,
    number(),
    Column("command", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("began_at", DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp()),
    Column("ended_at", DateTime(timezone=True)),
    Column("state", Text, nullable=False, server_default="pending"),
    Column("loser", Text, nullable=False),
    Column("before", JSONB, nullable=False),
    Column("after", JSONB, nullable=False),
    CheckConstraint("state IN ('pending', 'done', 'undone')", name="journal_state"),
    Index("journal_pending", "state", unique=True, postgresql_where=text("state = 'pending'")),
    comment="Every act that moves authority, from its intention on",
)

rejection = Table(
    "rejection",
    ledger_metadata,
    Column("scope", Text, primary_key=True, comment="the empty text stands for no scope"),
    Column("error", Text, nullable=False),
    Column("attempts", Integer, nullable=False, server_default=text("1")),
    stamp("first_seen"),
    stamp("last_seen"),
    comment="Scopes that could not be carried over, and why",
)

mismatch = Table(
    "mismatch",
    ledger_metadata,
    number(),
    stamp("at"),
    Column("operation", Text, nullable=False),
    Column("served", Text, nullable=False),
    Column("scope", Text),
    Column("arguments", Text, nullable=False),
    Column("differences", JSONB, nullable=False),
    comment="The newest confirmed mismatches of answers",
)

verification = Table(
    "verification",
    ledger_metadata,
    number(),
    stamp("at"),
    Column("verdict", Text, nullable=False),
    Column("body", JSONB, nullable=False),
    comment="What each run of verify found",
)

verifying = Table(
    "verifying",
    ledger_metadata,
    single(),
    Column("fingerprint", Text, nullable=False),
    Column("at", DateTime(timezone=True), nullable=False),
    Column("sittings", Integer, nullable=False),
    Column("plan", JSONB, nullable=False),
    CheckConstraint("single", name="verifying_single"),
    comment="The verification that has not come to its end, and what it goes by",
)

verified_segment = Table(
    "verified_segment",
    ledger_metadata,
    Column("store", Text, primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    stamp("at"),
    Column("sums", LargeBinary, nullable=False),
    comment="Finished segments of that verification: rows and digests, summed up by bucket",
)

statistics = Table(
    "statistics",
    ledger_metadata,
    Column("process", Uuid, primary_key=True),
    Column("minute", DateTime(timezone=True), primary_key=True),
    Column("body", JSONB, nullable=False),
    Index("statistics_minute", "minute"),
    comment="What each process counted in each minute",
)

lag = Table(
    "lag",
    ledger_metadata,
    Column("minute", DateTime(timezone=True), primary_key=True),
    Column("store", Text, primary_key=True),
    Column("seconds", Double, nullable=False),
    comment="Each store's greatest lag in each minute that somebody looked",
)

run = Table(
    "run",
    ledger_metadata,
    number(),
    stamp("at"),
    Column("body", JSONB, nullable=False),
    comment="What each parallel run did",
)

adoption = Table(
    "adoption",
    ledger_metadata,
    Column("object", Text, primary_key=True),
    Column("origin", Text, nullable=False),
    Column("definition", Text),
    CheckConstraint("origin IN ('adopted', 'created')", name="adoption_origin"),
    comment="What of the new store's own table was there before us, and what we added, so that it can be undone",
)
