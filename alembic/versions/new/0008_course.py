"""The automatic ramp's course"""

from __future__ import annotations

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE crossfade.course (
            single boolean PRIMARY KEY DEFAULT true CONSTRAINT course_single CHECK (single),
            plan jsonb NOT NULL,
            step integer NOT NULL,
            towards integer,
            state text NOT NULL,
            since timestamptz NOT NULL DEFAULT clock_timestamp(),
            actor text NOT NULL,
            reason text NOT NULL,
            revision bigint NOT NULL
        )
        """
    )
    op.execute("COMMENT ON TABLE crossfade.course IS 'How far an automatic ramp has come'")


def downgrade() -> None:
    op.execute("DROP TABLE crossfade.course")
