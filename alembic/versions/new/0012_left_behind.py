"""Rows that a rollback left behind are kept apart from debt: the same record may be owed again"""

from __future__ import annotations

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE crossfade.left_behind (
            id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            at timestamptz NOT NULL DEFAULT now(),
            key text NOT NULL,
            scope text,
            reason text NOT NULL,
            row jsonb NOT NULL
        )
        """
    )
    op.execute(
        "COMMENT ON TABLE crossfade.left_behind IS"
        " 'Records of new that a rollback left behind, why, and their rows as they were'"
    )
    op.execute(
        """
        INSERT INTO crossfade.left_behind (at, key, scope, reason, row)
        SELECT since, key, scope, reason, row FROM crossfade.debt WHERE row IS NOT NULL ORDER BY since, key
        """
    )
    op.execute("DELETE FROM crossfade.debt WHERE row IS NOT NULL")
    op.execute("ALTER TABLE crossfade.debt DROP COLUMN row")
    op.execute("COMMENT ON TABLE crossfade.debt IS 'Records of new that legacy cannot hold, and why'")


def downgrade() -> None:
    op.execute("ALTER TABLE crossfade.debt ADD COLUMN row jsonb")
    op.execute(
        "COMMENT ON TABLE crossfade.debt IS"
        " 'Records of new that legacy cannot hold, and why; with their row once they were left behind'"
    )
    # No record has two places there. Where one was left behind twice, or is owed again, this fails: nothing is lost.
    op.execute(
        """
        INSERT INTO crossfade.debt (key, scope, reason, since, row)
        SELECT key, scope, reason, at, row FROM crossfade.left_behind
        """
    )
    op.execute("DROP TABLE crossfade.left_behind")
