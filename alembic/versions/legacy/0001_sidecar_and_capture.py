"""The sidecar and the dirty queue"""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE crossfade.sidecar (
            organization text NOT NULL,
            legacy_id integer NOT NULL,
            id uuid NOT NULL,
            name varchar(255),
            description text,
            type varchar(50),
            version integer,
            PRIMARY KEY (organization, legacy_id),
            UNIQUE (id),
            CONSTRAINT sidecar_name_length CHECK (char_length(name) BETWEEN 1 AND 255),
            CONSTRAINT sidecar_version_positive CHECK (version > 0)
        )
        """
    )
    op.execute(
        """
        CREATE TABLE crossfade.dirty (
            seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            part text NOT NULL,
            scope text,
            key text,
            local text,
            noted_at timestamptz NOT NULL DEFAULT clock_timestamp()
        ) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000)
        """
    )
    op.execute("CREATE INDEX dirty_scope ON crossfade.dirty (scope)")
    op.execute(
        "COMMENT ON TABLE crossfade.dirty IS 'Which record of which scope changed here and is not yet carried over'"
    )


def downgrade() -> None:
    # Functions first: with them go the triggers on the other system's tables, which write to what is dropped next.
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
            FOR found IN
                SELECT c.oid::regclass::text FROM pg_class c
                WHERE c.relkind IN ('i', 'I') AND left(c.relname, 10) = 'crossfade_'
                  AND c.relnamespace <> 'crossfade'::regnamespace
            LOOP
                EXECUTE 'DROP INDEX ' || found;
            END LOOP;
        END $$
        """
    )
    op.execute("DROP TABLE crossfade.dirty")
    op.execute("DROP TABLE crossfade.sidecar")
