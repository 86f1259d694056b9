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
    # Of indexes only our own, on each tenant's prompts, also a tenant's that is no organization any more: what else has
    # such a name is somebody else's.
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
                SELECT i.oid::regclass::text
                FROM pg_index x
                JOIN pg_class i ON i.oid = x.indexrelid
                JOIN pg_class t ON t.oid = x.indrelid
                JOIN pg_namespace n ON n.oid = t.relnamespace
                WHERE i.relname IN ('crossfade_key', 'crossfade_identity') AND x.indexprs IS NOT NULL
                  AND t.relname = 'prompt' AND left(n.nspname, 22) = 'dispatch_organization_'
            LOOP
                EXECUTE 'DROP INDEX ' || found;
            END LOOP;
        END $$
        """
    )
    op.execute("DROP TABLE crossfade.dirty")
    op.execute("DROP TABLE crossfade.sidecar")
