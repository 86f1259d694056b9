"""Vacuum leaves queue and sidecar as long as they are: to cut them short, it keeps all writers out for up to 50 ms"""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_TABLES = ("dirty", "sidecar")


def upgrade() -> None:
    for table in _TABLES:
        op.execute(f"ALTER TABLE crossfade.{table} SET (vacuum_truncate = false)")


def downgrade() -> None:
    for table in _TABLES:
        op.execute(f"ALTER TABLE crossfade.{table} RESET (vacuum_truncate)")
