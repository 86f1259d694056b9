"""Chunks that are copied, in any order and by several workers, and which run of backfill may copy them"""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE crossfade.checkpoint ADD COLUMN run bigint NOT NULL DEFAULT 0")
    op.execute(
        """
        CREATE TABLE crossfade.chunk (
            part text REFERENCES crossfade.checkpoint ON DELETE CASCADE,
            low bigint,
            high bigint NOT NULL,
            copied bigint NOT NULL DEFAULT 0,
            already_there bigint NOT NULL DEFAULT 0,
            quarantined bigint NOT NULL DEFAULT 0,
            deferred bigint NOT NULL DEFAULT 0,
            at timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (part, low)
        )
        """
    )
    op.execute("COMMENT ON TABLE crossfade.chunk IS 'Ranges of keys that are copied, of parts that are not finished'")


def downgrade() -> None:
    # The revision before knows only how far the copy is from its beginning; it meets what lies beyond as already there.
    op.execute("DROP TABLE crossfade.chunk")
    op.execute("ALTER TABLE crossfade.checkpoint DROP COLUMN run")
