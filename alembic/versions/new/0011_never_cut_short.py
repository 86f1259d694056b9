"""Vacuum leaves the dirty queue as long as it is: to cut it short, it keeps all writers out for up to 50 ms"""

from __future__ import annotations

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE crossfade.dirty SET (vacuum_truncate = false)")


def downgrade() -> None:
    op.execute("ALTER TABLE crossfade.dirty RESET (vacuum_truncate)")
