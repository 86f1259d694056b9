"""The route's copy, rogue writes, and what a cascade took"""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE crossfade.dirty ADD COLUMN cascade boolean NOT NULL DEFAULT false")
    op.execute(
        """
        CREATE TABLE crossfade.route (
            single boolean PRIMARY KEY DEFAULT true,
            epoch bigint NOT NULL,
            writes_percent numeric(5, 2) NOT NULL DEFAULT 0,
            salt text NOT NULL,
            guard text NOT NULL DEFAULT 'enforce',
            pins jsonb NOT NULL DEFAULT '{}',
            CONSTRAINT route_single CHECK (single),
            CONSTRAINT route_writes_percent CHECK (writes_percent BETWEEN 0 AND 100),
            CONSTRAINT route_guard CHECK (guard IN ('enforce', 'record', 'off'))
        )
        """
    )
    op.execute(
        "COMMENT ON TABLE crossfade.route IS 'Which scopes this store has authority over, as the guard reads it'"
    )
    op.execute(
        """
        CREATE TABLE crossfade.rogue (
            id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            at timestamptz NOT NULL DEFAULT clock_timestamp(),
            part text NOT NULL,
            operation text NOT NULL,
            scope text,
            before jsonb,
            after jsonb,
            role text NOT NULL,
            application text NOT NULL
        )
        """
    )
    op.execute("COMMENT ON TABLE crossfade.rogue IS 'Writes that this store had no authority for, with their rows'")

    op.execute("CREATE TABLE crossfade.standing (nothing boolean)")
    op.execute("COMMENT ON TABLE crossfade.standing IS 'Always empty; its lock modes keep two kinds of work apart'")


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
    op.execute("DROP TABLE crossfade.standing")
    op.execute("DROP TABLE crossfade.rogue")
    op.execute("DROP TABLE crossfade.route")
    op.execute("ALTER TABLE crossfade.dirty DROP COLUMN cascade")
