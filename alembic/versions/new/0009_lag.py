"""Lag by the minute"""

from __future__ import annotations

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE crossfade.lag (
            minute timestamptz NOT NULL,
            store text NOT NULL,
            seconds double precision NOT NULL,
            PRIMARY KEY (minute, store)
        )
        """
    )
    op.execute("COMMENT ON TABLE crossfade.lag IS 'Each store''s greatest lag in each minute that somebody looked'")


def downgrade() -> None:
    op.execute("DROP TABLE crossfade.lag")
