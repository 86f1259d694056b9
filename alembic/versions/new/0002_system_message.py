"""A column for the system message, and an updated_at that can be carried over

Both are of no consequence to Prompt Manager: it names its columns, and sessions that carry nothing over never set
crossfade.applying.
"""

from __future__ import annotations

import re

from alembic import op
from sqlalchemy import Connection, text

from harness.errors import StoreUnavailable

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

STAND_ASIDE = "COALESCE(current_setting('crossfade.applying', true), '') <> 'on'"
COLUMN = "column system_message"
TRIGGER = "trigger update_prompts_updated_at"


def upgrade() -> None:
    bind = op.get_bind()
    kind = bind.execute(
        text(
            "SELECT format_type(atttypid, atttypmod) || CASE WHEN attnotnull THEN ' NOT NULL' ELSE '' END"
            " FROM pg_attribute WHERE attrelid = to_regclass('prompts') AND attname = 'system_message'"
            " AND NOT attisdropped"
        )
    ).scalar()
    if kind is None:
        op.execute("ALTER TABLE prompts ADD COLUMN system_message text")
    elif kind != "text":
        raise StoreUnavailable(
            f"new: prompts has a column system_message of its own, {kind} instead of text. Nothing was changed; "
            "rename the column, or make it text"
        )
    note = text("INSERT INTO crossfade.adoption (object, origin) VALUES (:object, :origin)")
    bind.execute(note, {"object": COLUMN, "origin": "created" if kind is None else "adopted"})

    before = _definition(bind)
    keep = text("UPDATE crossfade.adoption SET definition = :definition WHERE object = :object")
    bind.execute(keep, {"definition": before, "object": TRIGGER})
    _replace(bind, _standing_aside(before))


def downgrade() -> None:
    bind = op.get_bind()
    rows = bind.execute(text("SELECT object, coalesce(definition, origin) AS said FROM crossfade.adoption"))
    noted: dict[str, str] = {row.object: row.said for row in rows}
    _replace(bind, noted[TRIGGER])
    if noted[COLUMN] == "created":
        op.execute("ALTER TABLE prompts DROP COLUMN system_message")
    bind.execute(text("UPDATE crossfade.adoption SET definition = NULL WHERE object = :object"), {"object": TRIGGER})
    bind.execute(text("DELETE FROM crossfade.adoption WHERE object = :object"), {"object": COLUMN})


def _definition(bind: Connection) -> str:
    statement = text(
        "SELECT pg_get_triggerdef(oid) FROM pg_trigger"
        " WHERE tgrelid = to_regclass('prompts') AND tgname = 'update_prompts_updated_at'"
    )
    return str(bind.execute(statement).scalar_one())


def _standing_aside(definition: str) -> str:
    """The trigger's definition, with our condition added to its own, if it has one."""
    head, execute, function = definition.rpartition(" EXECUTE ")
    own = re.search(r" WHEN \((.*)\)\Z", head, re.DOTALL)
    if own:
        return f"{head[: own.start()]} WHEN (({own[1]}) AND {STAND_ASIDE}){execute}{function}"
    return f"{head} WHEN ({STAND_ASIDE}){execute}{function}"


def _replace(bind: Connection, definition: str) -> None:
    bind.execute(text("DROP TRIGGER update_prompts_updated_at ON prompts"))
    bind.exec_driver_sql(definition.replace("%", "%%"))
