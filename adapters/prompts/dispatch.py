"""Netflix Dispatch's prompts: how its tables are read as canonical columns, in SQL.

Every tenant (organization) has its own schema with its own ``project`` and ``prompt`` tables and sequences. What
Dispatch has no column for is kept in the sidecar, ``crossfade.sidecar`` in the same database.
"""

from __future__ import annotations

import uuid
from typing import Any

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    DateTime,
    FromClause,
    Integer,
    Select,
    Table,
    Text,
    Uuid,
    and_,
    case,
    cast,
    collate,
    exists,
    func,
    literal,
    literal_column,
    null,
    or_,
    select,
    true,
    tuple_,
    type_coerce,
)
from sqlalchemy.dialects.postgresql import TIMESTAMP

from adapters.postgres.part import REASON
from adapters.prompts.canonical import (
    COLUMNS,
    CONTENT_LIMIT,
    LEGACY_TYPES,
    NAMESPACE,
    TEXT_LIMIT,
    Reading,
    Reason,
)
from adapters.prompts.dispatch_tables import sidecar
from adapters.prompts.prompt import PromptType


def derived_id(organization: str, legacy_id: ColumnElement[Any]) -> ColumnElement[uuid.UUID]:
    """The UUIDv3 of ``<organization>/<id>``: md5 with six bits set for version and variant (RFC 4122, 4.3)."""
    digest = func.decode(_digest(organization, legacy_id), word("hex"))
    for bit, value in ((55, 0), (54, 0), (53, 1), (52, 1), (71, 1), (70, 0)):  # version 3, variant 10
        digest = func.set_bit(digest, _number(bit), _number(value))
    return cast(func.encode(digest, word("hex")), Uuid)


def derived_prefix(organization: str, legacy_id: ColumnElement[Any]) -> ColumnElement[str]:
    """The first eight digits of ``derived_id``, enough to look it up by.

    Every UPDATE copies what an index computes: of the whole id, that costs a writer four times as much.
    """
    return collate(func.substr(_digest(organization, legacy_id), _number(1), _number(8)), "C")


def prefixes(ids: ColumnElement[Any]) -> ColumnElement[Any]:
    """The first eight digits of each id of an array of UUIDs, as an array of text."""
    given = func.unnest(ids).column_valued("given")
    return func.array(select(collate(func.left(cast(given, Text), _number(8)), "C")).scalar_subquery())


def _digest(organization: str, legacy_id: ColumnElement[Any]) -> ColumnElement[str]:
    name = literal(f"{NAMESPACE.bytes.decode()}{organization}/", literal_execute=True) + cast(legacy_id, Text)
    return func.md5(name, type_=Text())


def word(text: str) -> ColumnElement[str]:
    """A text that stands in the statement itself."""
    return literal(text, literal_execute=True)


def _number(number: int) -> ColumnElement[int]:
    return literal_column(str(number), Integer)


def _by_type(genai_type: ColumnElement[int], known: dict[int, str], other: ColumnElement[str]) -> ColumnElement[str]:
    return case(*((genai_type == _number(n), word(text)) for n, text in known.items()), else_=other)


def scope_of(organization: str, rows: Any, reading: Reading) -> ColumnElement[str]:
    """The scope of rows of the prompt table's shape; NULL without a project."""
    project = word(f"{organization}/project-") + cast(rows.project_id, Text)
    if not reading.by_type:
        return project
    # An array and no CASE, which every writer would have to set up for each of the types; NULL where it has none.
    slugs = {known.number: f"/{known.slug}" for known in LEGACY_TYPES}
    listed = ",".join(slugs.get(number, "NULL") for number in range(1, max(slugs) + 1))
    slug = literal_column(f"('{{{listed}}}'::text[])", ARRAY(Text))[rows.genai_type]
    return project + func.coalesce(slug, word("/type-") + cast(rows.genai_type, Text))


EPOCH: ColumnElement[Any] = literal_column("TIMESTAMPTZ '1970-01-01 00:00:00+00'", TIMESTAMP(timezone=True))


def _told(stamp: Any, said: Any, zone: str) -> ColumnElement[Any]:
    """The instant that the sidecar says of a stamp, as long as the stamp still shows it; else as the stamp reads."""
    return case((local_stamp(said, zone) == stamp, said), else_=instant(stamp, zone))


def local_stamp(moment: Any, zone: str) -> ColumnElement[Any]:
    """What legacy's clock shows at an instant."""
    return func.timezone(word(zone), moment)


def instant(stamp: Any, zone: str) -> ColumnElement[Any]:
    """The stamp in its zone. Far beyond what can be carried, infinite: timezone() raises at PostgreSQL's own limits."""
    late: ColumnElement[Any] = literal_column("TIMESTAMP '10001-01-01'")
    early: ColumnElement[Any] = literal_column("TIMESTAMP '0002-01-01 BC'")
    forever: ColumnElement[Any] = literal_column("TIMESTAMP 'infinity'")
    never: ColumnElement[Any] = literal_column("TIMESTAMP '-infinity'")
    return func.timezone(word(zone), case((stamp > late, forever), (stamp < early, never), else_=stamp))


def _conflict(prompt: Table, reading: Reading) -> ColumnElement[bool]:
    """Under policy ``project``: whether another enabled prompt of the project stands before this one."""
    rival = prompt.alias("rival")

    def age(row: Any) -> Any:
        return tuple_(
            func.coalesce(row.c.updated_at, row.c.created_at, literal_column("'-infinity'::timestamp")),
            row.c.id,
        )

    before = {
        "newest": age(rival) > age(prompt),
        "oldest": age(rival) < age(prompt),
        "undecided": rival.c.id != prompt.c.id,
    }[reading.keep]
    return and_(
        prompt.c.enabled,
        exists().where(rival.c.project_id == prompt.c.project_id, rival.c.enabled, before).correlate(prompt),
    )


def canonical_select(
    organization: str,
    prompt: Table,
    reading: Reading,
    *,
    with_sidecar: bool = True,
    with_conflicts: bool = True,
    few: bool = False,
) -> Select[Any]:
    """The tenant's prompts as canonical columns and ``reason``. The one place where SQL reads Dispatch.

    Without the sidecar it runs on a database that Crossfade has never touched. Without conflicts each row is read for
    itself alone: ``reason`` never says enabled_conflict, which has to be asked of other rows.

    ``few``: each row looks up its own entry in the sidecar. The planner would do so by itself, if it knew how many
    entries there are; it takes a table that was never analyzed for nearly empty, and reads all of it for each row.
    """
    columns = prompt.c
    side: Any = sidecar.c if with_sidecar else _NoSidecar
    joined: FromClause = prompt
    if with_sidecar and few:
        entry = select(*(column for column in sidecar.c if not column.system)).where(beside(organization, columns.id))
        looked_up = entry.offset(literal_column("0")).lateral("entry")
        side, joined = looked_up.c, prompt.outerjoin(looked_up, true())
    elif with_sidecar:
        joined = prompt.outerjoin(sidecar, beside(organization, columns.id))
    scope = scope_of(organization, columns, reading)
    names = {known.number: known.display for known in LEGACY_TYPES}
    types = {known.number: known.type.value for known in LEGACY_TYPES}
    unknown = word("Unknown Type (") + cast(columns.genai_type, Text) + word(")")
    own_created = _told(columns.created_at, side.created_at, reading.time_zone)
    own_updated = _told(columns.updated_at, side.updated_at, reading.time_zone)
    created = func.coalesce(own_created, own_updated, EPOCH)
    updated = func.coalesce(own_updated, own_created, EPOCH)
    whens: list[Any] = [
        (columns.project_id.is_(None), word(Reason.NO_PROJECT)),
        (columns.genai_prompt == word(""), word(Reason.EMPTY_CONTENT)),
        (_longer(columns.genai_prompt, CONTENT_LIMIT), word(Reason.CONTENT_TOO_LONG)),
        *([(_longer(scope, TEXT_LIMIT), word(Reason.SCOPE_TOO_LONG))] if len(organization) > _SURELY_FITS else []),
        (
            and_(
                or_(_near_the_limits(columns.created_at), _near_the_limits(columns.updated_at)),
                or_(out_of_range(created), out_of_range(updated)),
            ),
            word(Reason.STAMP_OUT_OF_RANGE),
        ),
    ]
    if with_conflicts and not reading.by_type:
        whens.append((_conflict(prompt, reading), word(Reason.ENABLED_CONFLICT)))
    described = {
        "id": func.coalesce(side.id, derived_id(organization, columns.id)),
        "name": func.coalesce(cast(side.name, Text), _by_type(columns.genai_type, names, unknown)),
        "description": cast(side.description, Text),
        "content": cast(columns.genai_prompt, Text),
        "system_message": cast(columns.genai_system_message, Text),
        "type": func.coalesce(
            cast(side.type, Text), _by_type(columns.genai_type, types, word(PromptType.CUSTOM.value))
        ),
        "project_id": scope,
        "organization_id": cast(word(organization), Text),
        "enabled": columns.enabled,
        "version": func.coalesce(side.version, _number(1)),
        "created_at": created,
        "updated_at": updated,
    }
    chosen = [described[name].label(name) for name in COLUMNS]
    chosen.append(cast(case(*whens, else_=null()), Text).label(REASON))
    return select(*chosen).select_from(joined)


_SURELY_FITS = TEXT_LIMIT - 100  # an organization's name, whatever project and type come after it


def _longer(value: Any, limit: int) -> ColumnElement[bool]:
    """Whether a text has more characters; bytes first, which need no counting and are no fewer."""
    return and_(func.octet_length(value) > _number(limit), func.char_length(value) > _number(limit))


def _near_the_limits(stamp: Any) -> ColumnElement[bool]:
    """Whether a stamp may be out of range in some zone: what can be told without computing any instant."""
    early: ColumnElement[Any] = literal_column("TIMESTAMP '0001-01-03'")
    late: ColumnElement[Any] = literal_column("TIMESTAMP '9999-12-29'")
    return or_(stamp < early, stamp > late)


class _NoSidecar:
    """The sidecar's columns on a database that has none yet."""

    id = type_coerce(literal_column("NULL::uuid"), Uuid)
    name = description = type = type_coerce(literal_column("NULL::text"), Text)
    version = type_coerce(literal_column("NULL::integer"), Integer)
    created_at = updated_at = type_coerce(literal_column("NULL::timestamptz"), DateTime(timezone=True))


def beside(organization: str, legacy_id: Any) -> ColumnElement[bool]:
    """Whether an entry of the sidecar is of the row with that number."""
    return and_(sidecar.c.organization == word(organization), sidecar.c.legacy_id == legacy_id)


def out_of_range(stamp: ColumnElement[Any]) -> ColumnElement[bool]:
    """Whether an instant is infinite or outside the years 1 to 9999."""
    first: ColumnElement[Any] = literal_column("TIMESTAMPTZ '0001-01-01 00:00:00+00'")
    after: ColumnElement[Any] = literal_column("TIMESTAMPTZ '10000-01-01 00:00:00+00'")
    return or_(stamp < first, stamp >= after)
