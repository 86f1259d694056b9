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
        SELECT since, split_part(key, ' #', 1), scope, reason, row FROM crossfade.debt
        WHERE row IS NOT NULL ORDER BY since, key
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
    # A record has one place there. Of one that was left behind again, or is owed again, the row gets a number as well.
    op.execute(
        """
        INSERT INTO crossfade.debt (key, scope, reason, since, row)
        SELECT CASE WHEN EXISTS (SELECT FROM crossfade.left_behind later WHERE later.key = l.key AND later.id > l.id)
                      OR EXISTS (SELECT FROM crossfade.debt d WHERE d.key = l.key)
                    THEN l.key || ' #' || l.id ELSE l.key END,
               l.scope, l.reason, l.at, l.row
        FROM crossfade.left_behind l
        """
    )
    op.execute("DROP TABLE crossfade.left_behind")
