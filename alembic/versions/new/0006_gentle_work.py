"""Pauses, indexes that are built after a copy, and who accepted what in quarantine"""

from __future__ import annotations

from alembic import op
from sqlalchemy import text

from harness.errors import Refused

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

TABLES = {
    "pause": (
        """
        work text PRIMARY KEY,
        since timestamptz NOT NULL DEFAULT now(),
        actor text NOT NULL,
        reason text NOT NULL
        """,
        "Work that is to stand still until somebody resumes it",
    ),
    "deferred_index": (
        """
        name text PRIMARY KEY,
        schema text NOT NULL,
        definition text NOT NULL,
        tablespace text NOT NULL,
        comment text,
        since timestamptz NOT NULL DEFAULT now()
        """,
        "Indexes of the new store that were dropped for the copy and are to be built again, just as they were",
    ),
}
ACCEPTED = {"accepted_by": "text", "accepted_at": "timestamptz", "image": "jsonb"}


def upgrade() -> None:
    for name, (columns, comment) in TABLES.items():
        op.execute(f"CREATE TABLE crossfade.{name} ({columns})")
        op.execute(f"COMMENT ON TABLE crossfade.{name} IS '{comment}'")
    for name, kind in ACCEPTED.items():
        op.execute(f"ALTER TABLE crossfade.quarantine ADD COLUMN {name} {kind}")


def downgrade() -> None:
    left = op.get_bind().execute(text("SELECT count(*) FROM crossfade.deferred_index")).scalar_one()
    if left:
        raise Refused(
            f"new: {left} indexes of prompts are not built yet, and only the ledger knows their definitions; run "
            "crossfade backfill first, which builds them"
        )
    for name in reversed(ACCEPTED):
        op.execute(f"ALTER TABLE crossfade.quarantine DROP COLUMN {name}")
    for name in reversed(TABLES):
        op.execute(f"DROP TABLE crossfade.{name}")
