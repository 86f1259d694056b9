"""Instants that a local stamp cannot tell from another, in the sidecar"""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE crossfade.sidecar ADD COLUMN created_at timestamptz, ADD COLUMN updated_at timestamptz")


def downgrade() -> None:
    op.execute("ALTER TABLE crossfade.sidecar DROP COLUMN created_at, DROP COLUMN updated_at")
