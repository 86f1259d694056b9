"""Authority: the guard's part of the route, the journal, rogue writes, rollback debt, accepted quarantine"""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

TABLES = {
    "rogue": (
        """
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        at timestamptz NOT NULL DEFAULT clock_timestamp(),
        part text NOT NULL,
        operation text NOT NULL,
        scope text,
        before jsonb,
        after jsonb,
        role text NOT NULL,
        application text NOT NULL
        """,
        "Writes that this store had no authority for, with their rows",
    ),
    "journal": (
        """
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        command text NOT NULL,
        actor text NOT NULL,
        reason text NOT NULL,
        began_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        ended_at timestamptz,
        state text NOT NULL DEFAULT 'pending',
        loser text NOT NULL,
        before jsonb NOT NULL,
        after jsonb NOT NULL,
        CONSTRAINT journal_state CHECK (state IN ('pending', 'done', 'undone'))
        """,
        "Every act that moves authority, from its intention on",
    ),
    "cascade": (
        """
        seq bigint PRIMARY KEY,
        at timestamptz NOT NULL DEFAULT now()
        """,
        "Notes of cascades in legacy that are carried over, by number",
    ),
    "debt": (
        """
        key text PRIMARY KEY,
        scope text,
        reason text NOT NULL,
        since timestamptz NOT NULL DEFAULT now(),
        row jsonb
        """,
        "Records of new that legacy cannot hold, and why; with their row once they were left behind",
    ),
}


def upgrade() -> None:
    op.execute("ALTER TABLE crossfade.dirty ADD COLUMN cascade boolean NOT NULL DEFAULT false")
    op.execute("ALTER TABLE crossfade.quarantine ADD COLUMN accepted text")
    op.execute(
        """
        ALTER TABLE crossfade.route
            ADD COLUMN guard text NOT NULL DEFAULT 'enforce',
            ADD COLUMN pins jsonb NOT NULL DEFAULT '{}',
            ADD COLUMN rollback_safe boolean NOT NULL DEFAULT true,
            ADD COLUMN automatic jsonb NOT NULL DEFAULT '[]',
            ADD CONSTRAINT route_guard CHECK (guard IN ('enforce', 'record', 'off'))
        """
    )
    op.execute("COMMENT ON TABLE crossfade.standing IS 'Always empty; its lock modes keep two kinds of work apart'")
    for name, (columns, comment) in TABLES.items():
        op.execute(f"CREATE TABLE crossfade.{name} ({columns})")
        op.execute(f"COMMENT ON TABLE crossfade.{name} IS '{comment}'")
    op.execute("CREATE UNIQUE INDEX journal_pending ON crossfade.journal (state) WHERE state = 'pending'")


def downgrade() -> None:
    # Functions first, and with them the triggers on the other system's table: they read what is dropped next. The
    # revision before has its own attached anew by prepare.
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
    op.execute(
        "COMMENT ON TABLE crossfade.standing IS 'Always empty; its lock modes keep backfill chunks and catch-up apart'"
    )
    for name in ("guard", "pins", "rollback_safe", "automatic"):
        op.execute(f"ALTER TABLE crossfade.route DROP COLUMN {name}")
    op.execute("ALTER TABLE crossfade.quarantine DROP COLUMN accepted")
    op.execute("ALTER TABLE crossfade.dirty DROP COLUMN cascade")
