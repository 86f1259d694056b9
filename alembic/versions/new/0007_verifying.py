"""Verify: what an interrupted verification goes on with"""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

TABLES = {
    "verifying": (
        """
        single boolean PRIMARY KEY DEFAULT true,
        fingerprint text NOT NULL,
        at timestamptz NOT NULL,
        sittings integer NOT NULL,
        plan jsonb NOT NULL,
        CONSTRAINT verifying_single CHECK (single)
        """,
        "The verification that has not come to its end, and what it goes by",
    ),
    "verified_segment": (
        """
        store text NOT NULL,
        number integer NOT NULL,
        at timestamptz NOT NULL DEFAULT now(),
        sums bytea NOT NULL,
        CONSTRAINT verified_segment_pkey PRIMARY KEY (store, number)
        """,
        "Finished segments of that verification: rows and digests, summed up by bucket",
    ),
}


def upgrade() -> None:
    for name, (columns, comment) in TABLES.items():
        op.execute(f"CREATE TABLE crossfade.{name} ({columns})")
        op.execute(f"COMMENT ON TABLE crossfade.{name} IS '{comment}'")


def downgrade() -> None:
    for name in reversed(TABLES):
        op.execute(f"DROP TABLE crossfade.{name}")
