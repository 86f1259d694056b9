"""Scopes in the dirty queue are told apart by their bytes: every write compares a dozen of them in its index"""

from __future__ import annotations

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute('ALTER TABLE crossfade.dirty ALTER COLUMN scope TYPE text COLLATE "C"')


def downgrade() -> None:
    op.execute('ALTER TABLE crossfade.dirty ALTER COLUMN scope TYPE text COLLATE "default"')
