"""The ledger, and the dirty queue of the new side"""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

TABLES = {
    "dirty": (
        """
        seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        part text NOT NULL,
        scope text,
        key text,
        local text,
        noted_at timestamptz NOT NULL DEFAULT clock_timestamp()
        """,
        "Which record of which scope changed here and is not yet carried over",
    ),
    "phase": (
        """
        single boolean PRIMARY KEY DEFAULT true,
        phase text NOT NULL,
        epoch bigint NOT NULL,
        since timestamptz NOT NULL DEFAULT now(),
        actor text NOT NULL,
        reason text NOT NULL,
        CONSTRAINT phase_single CHECK (single)
        """,
        "Where the migration is",
    ),
    "route": (
        """
        single boolean PRIMARY KEY DEFAULT true,
        epoch bigint NOT NULL,
        reads_percent numeric(5, 2) NOT NULL DEFAULT 0,
        writes_percent numeric(5, 2) NOT NULL DEFAULT 0,
        shadow_percent numeric(5, 2) NOT NULL DEFAULT 100,
        salt text NOT NULL,
        CONSTRAINT route_single CHECK (single),
        CONSTRAINT route_reads_percent CHECK (reads_percent BETWEEN 0 AND 100),
        CONSTRAINT route_writes_percent CHECK (writes_percent BETWEEN 0 AND 100),
        CONSTRAINT route_shadow_percent CHECK (shadow_percent BETWEEN 0 AND 100)
        """,
        "Which share of the operations goes where",
    ),
    "audit": (
        """
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        at timestamptz NOT NULL DEFAULT now(),
        actor text NOT NULL,
        action text NOT NULL,
        reason text NOT NULL,
        detail jsonb NOT NULL DEFAULT '{}'
        """,
        "Who changed what about the migration, and why",
    ),
    "checkpoint": (
        """
        part text PRIMARY KEY,
        last_key bigint,
        copied bigint NOT NULL DEFAULT 0,
        already_there bigint NOT NULL DEFAULT 0,
        quarantined bigint NOT NULL DEFAULT 0,
        deferred bigint NOT NULL DEFAULT 0,
        finished boolean NOT NULL DEFAULT false,
        updated_at timestamptz NOT NULL DEFAULT now()
        """,
        "How far the backfill of each part is",
    ),
    "standing": (
        "nothing boolean",
        "Always empty; its lock modes keep backfill chunks and catch-up apart",
    ),
    "quarantine": (
        """
        key text PRIMARY KEY,
        part text NOT NULL,
        local text NOT NULL,
        scope text,
        reason text NOT NULL,
        since timestamptz NOT NULL DEFAULT now()
        """,
        "Legacy rows that cannot be represented in new, and why",
    ),
    "rejection": (
        """
        scope text PRIMARY KEY,
        error text NOT NULL,
        attempts integer NOT NULL DEFAULT 1,
        first_seen timestamptz NOT NULL DEFAULT now(),
        last_seen timestamptz NOT NULL DEFAULT now()
        """,
        "Scopes that could not be carried over, and why",
    ),
    "mismatch": (
        """
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        at timestamptz NOT NULL DEFAULT now(),
        operation text NOT NULL,
        served text NOT NULL,
        scope text,
        arguments text NOT NULL,
        differences jsonb NOT NULL
        """,
        "The newest confirmed mismatches of answers",
    ),
    "verification": (
        """
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        at timestamptz NOT NULL DEFAULT now(),
        verdict text NOT NULL,
        body jsonb NOT NULL
        """,
        "What each run of verify found",
    ),
    "statistics": (
        """
        process uuid,
        minute timestamptz,
        body jsonb NOT NULL,
        PRIMARY KEY (process, minute)
        """,
        "What each process counted in each minute",
    ),
    "run": (
        """
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        at timestamptz NOT NULL DEFAULT now(),
        body jsonb NOT NULL
        """,
        "What each parallel run did",
    ),
}


def upgrade() -> None:
    for name, (columns, comment) in TABLES.items():
        op.execute(f"CREATE TABLE crossfade.{name} ({columns})")
        op.execute(f"COMMENT ON TABLE crossfade.{name} IS '{comment}'")
    op.execute("COMMENT ON COLUMN crossfade.rejection.scope IS 'the empty text stands for no scope'")
    op.execute(
        "ALTER TABLE crossfade.dirty SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000)"
    )
    op.execute("CREATE INDEX dirty_scope ON crossfade.dirty (scope)")
    op.execute("CREATE INDEX statistics_minute ON crossfade.statistics (minute)")


def downgrade() -> None:
    # Functions first: with them go the triggers on the other system's table, which write to what is dropped next.
    op.execute(
        """
        DO $$
        DECLARE found text;
        BEGIN
            FOR found IN
                SELECT oid::regprocedure::text FROM pg_proc WHERE pronamespace = 'crossfade'::regnamespace
            LOOP
                EXECUTE 'DROP FUNCTION ' || found || ' CASCADE';
            END LOOP;
        END $$
        """
    )
    for name in reversed(TABLES):
        op.execute(f"DROP TABLE crossfade.{name}")
