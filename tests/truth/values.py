"""Corruptions of whole rows, of values that are no texts, and of what Crossfade keeps beside the rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID

from sqlalchemy import delete, func, insert, select, tuple_, update

from adapters.postgres.ledger.tables import quarantine
from adapters.postgres.schema import dirty
from adapters.prompts.canonical import CONTENT_LIMIT, Reason
from adapters.prompts.dispatch_rows import SidecarRow
from adapters.prompts.prompt import Prompt, PromptType
from truth.rows import TENANTS, Expected, Row, different, extra, misplaced, missing, nasty_text, own_id
from truth.texts import edit
from truth.world import Corruption, Hands, Made, Spoil

Found = list[list[Expected]]


# --- Whole rows --------------------------------------------------------------------------------------------------


def _lose(hands: Hands, rows: Sequence[Row], random: Random) -> Found:
    hands.remove([row.record for row in rows])
    return [[missing(row.record)] for row in rows]


def _invent(hands: Hands, rows: Sequence[Row], random: Random) -> Found:
    invented = [
        replace(row.record, id=own_id(random), content=nasty_text(random), project_id=_elsewhere(row.record))
        for row in rows
    ]
    hands.add(invented)
    return [[extra(record)] for record in invented]


def _double(hands: Hands, rows: Sequence[Row], random: Random) -> Found:
    doubles = [replace(row.record, id=own_id(random), enabled=False) for row in rows]
    hands.add(doubles)
    return [[extra(record)] for record in doubles]


def _deleted_before(hands: Hands, rows: Sequence[Row]) -> Sequence[Row]:
    hands.delete(rows)
    return rows


def _return(hands: Hands, rows: Sequence[Row], random: Random) -> Found:
    hands.add([row.record for row in rows])
    return [[extra(row.record)] for row in rows]


def _renew(hands: Hands, rows: Sequence[Row], random: Random) -> Found:
    ids = {row.record: own_id(random) for row in rows}
    hands.change({record: {"id": id} for record, id in ids.items()})
    return [[missing(record), extra(replace(record, id=id))] for record, id in ids.items()]


def _written_before(hands: Hands, rows: Sequence[Row]) -> Sequence[Row]:
    written = [_newer(row) for row in rows]
    hands.rewrite(written)
    return written


def _newer(row: Row) -> Row:
    stamp = row.legacy.updated_at
    assert stamp is not None
    return row.with_legacy(genai_prompt=row.legacy.genai_prompt + " (newer)", updated_at=stamp + timedelta(days=1))


def _grow_stale(hands: Hands, rows: Sequence[Row], random: Random) -> Found:
    def older(record: Prompt) -> dict[str, Any]:
        return {
            "content": record.content.removesuffix(" (newer)"),
            "updated_at": record.updated_at - timedelta(days=1),
        }

    return _told(hands, {row.record: older(row.record) for row in rows}, each=1)


# --- Two rows ----------------------------------------------------------------------------------------------------


def _told(hands: Hands, changes: Mapping[Prompt, Mapping[str, Any]], each: int) -> Found:
    """Change the rows; so many of them are one corruption."""
    hands.change(changes)
    told = [different(record, replace(record, **values)) for record, values in changes.items()]
    return [told[start : start + each] for start in range(0, len(told), each)]


def _pairs(rows: Sequence[Row]) -> list[tuple[Prompt, Prompt]]:
    records = [row.record for row in rows]
    return list(zip(records[::2], records[1::2], strict=False))


def _swap(field: str) -> Spoil:
    def spoil(hands: Hands, rows: Sequence[Row], random: Random) -> Found:
        changes: dict[Prompt, Mapping[str, Any]] = {}
        for one, other in _pairs(rows):
            changes |= {one: {field: getattr(other, field)}, other: {field: getattr(one, field)}}
        return _told(hands, changes, each=2)

    return spoil


def _swap_ids(hands: Hands, rows: Sequence[Row], random: Random) -> Found:
    found = []
    for one, other in _pairs(rows):
        between = replace(one, id=own_id(random))
        hands.change({one: {"id": between.id}})
        hands.change({other: {"id": one.id}})
        hands.change({between: {"id": other.id}})
        found.append([different(one, replace(other, id=one.id)), different(other, replace(one, id=other.id))])
    return found


def _overwrite(hands: Hands, rows: Sequence[Row], random: Random) -> Found:
    return _told(hands, {one: {"content": other.content} for one, other in _pairs(rows)}, each=1)


# --- Values ------------------------------------------------------------------------------------------------------


def _elsewhere(record: Prompt) -> str:
    """A scope of the record's tenant and type, of a project that no row here has."""
    assert record.project_id is not None
    tenant, _, slug = record.project_id.split("/")
    return f"{tenant}/project-{2_000_000 + record.id.int % 1_000_000_000}/{slug}"


def _of_another_type(record: Prompt) -> str:
    place, _, slug = _elsewhere(record).rpartition("/")
    return f"{place}/{'signal-analysis' if slug == 'incident-summary' else 'incident-summary'}"


def _other_tenant(record: Prompt) -> str:
    [other] = set(TENANTS) - {record.organization_id}
    return other


def _value(name: str, change: Callable[[Prompt, Random], Mapping[str, Any]], **shape: Any) -> Corruption:
    return Corruption(name, "Values", edit(change), lambda random: shape)


def _stamps(name: str, change: Callable[[Prompt, Random], Mapping[str, Any]], **shape: Any) -> Corruption:
    return Corruption(name, "Stamps", edit(change), lambda random: shape)


def _zone(record: Prompt, random: Random) -> Mapping[str, Any]:
    shift = timedelta(minutes=15 * random.choice([n for n in range(-48, 57) if n]))
    return {"created_at": record.created_at + shift, "updated_at": record.updated_at + shift}


# --- The sidecar -------------------------------------------------------------------------------------------------


def _named(id: UUID) -> SidecarRow:
    return SidecarRow(id, name="A name of its own", description="Said of it", version=3)


def _seeded(random: Random) -> Callable[[UUID], SidecarRow]:
    id = own_id(random)
    return lambda derived: SidecarRow(id)


def _forget(hands: Hands, rows: Sequence[Row], random: Random) -> Found:
    hands.forget_sides(rows)
    return [
        [different(row.derived, row.record)]
        if row.derived.id == row.record.id
        else [missing(row.derived), extra(row.record)]
        for row in rows
    ]


def _say_otherwise(hands: Hands, rows: Sequence[Row], random: Random) -> Found:
    found = []
    for row in rows:
        assert row.side is not None
        hands.change_side(row, name="Another name", version=4)
        said = replace(row, side=replace(row.side, name="Another name", version=4))
        found.append([different(said.record, row.record)])
    return found


def _point_elsewhere(hands: Hands, rows: Sequence[Row], random: Random) -> Found:
    """The entry of one row goes to another, which then has the first one's id."""
    found = []
    for tenant in TENANTS:
        of_tenant = [row for row in rows if row.organization == tenant]
        having, lacking = ([row for row in of_tenant if (row.side is None) is without] for without in (False, True))
        for one, other in zip(having, lacking, strict=False):
            hands.change_side(one, legacy_id=other.legacy.id)
            moved = replace(other, side=one.side)
            found.append([missing(one.derived), extra(other.record), different(moved.record, one.record)])
    return found


def _rename(hands: Hands, rows: Sequence[Row], random: Random) -> Found:
    found = []
    for row in rows:
        assert row.side is not None
        renamed = replace(row, side=replace(row.side, id=own_id(random)))
        hands.change_side(row, id=renamed.record.id)
        found.append([missing(renamed.record), extra(row.record)])
    return found


# --- Past capture ------------------------------------------------------------------------------------------------


def _write_unseen(hands: Hands, rows: Sequence[Row], random: Random) -> Found:
    written = [_newer(row) for row in rows]
    hands.rewrite(written)
    return [[different(now.record, row.record)] for now, row in zip(written, rows, strict=True)]


def _delete_unseen(hands: Hands, rows: Sequence[Row], random: Random) -> Found:
    hands.delete(rows)
    return [[extra(row.record)] for row in rows]


def _insert_unseen(hands: Hands, rows: Sequence[Row], random: Random) -> Found:
    hands.insert(rows)
    return [[missing(row.record)] for row in rows]


def _lose_notes(hands: Hands, rows: Sequence[Row], random: Random) -> Found:
    hands.legacy.execute(select(func.set_config("crossfade.applying", "off", True)))  # they are noted, and then not
    found = _write_unseen(hands, rows, random)
    named = tuple_(dirty.c.part, dirty.c.local).in_([(row.organization, str(row.legacy.id)) for row in rows])
    assert hands.legacy.execute(delete(dirty).where(named)).rowcount == len(rows)
    return found


# --- Quarantine --------------------------------------------------------------------------------------------------


def _release(hands: Hands, rows: Sequence[Row], random: Random) -> Found:
    hands.new.execute(delete(quarantine).where(quarantine.c.key.in_([str(row.record.id) for row in rows])))
    return [[misplaced(row.record)] for row in rows]


def _lock_away(hands: Hands, rows: Sequence[Row], random: Random) -> Found:
    entries = [
        {
            "key": str(row.record.id),
            "part": row.organization,
            "local": str(row.legacy.id),
            "scope": row.record.project_id,
            "reason": Reason.EMPTY_CONTENT,
        }
        for row in rows
    ]
    hands.new.execute(insert(quarantine), entries)
    return [[misplaced(row.record)] for row in rows]


def _say_another_reason(hands: Hands, rows: Sequence[Row], random: Random) -> Found:
    keys = quarantine.c.key.in_([str(row.record.id) for row in rows])
    hands.new.execute(update(quarantine).where(keys).values(reason=Reason.SCOPE_TOO_LONG))
    return [[misplaced(row.record)] for row in rows]


def _cut_to_fit(hands: Hands, rows: Sequence[Row], random: Random) -> Found:
    cut = [replace(row.record, content=row.record.content[:CONTENT_LIMIT]) for row in rows]
    hands.add(cut)
    return [[extra(record)] for record in cut]


def _unfit(random: Random) -> Mapping[str, Any]:
    return random.choice(({"genai_prompt": ""}, {"genai_prompt": "x" * (CONTENT_LIMIT + 1)}, {"project_id": None}))


_ROWS, _PAIRS, _SIDECAR, _CAPTURE, _QUARANTINE = "Rows", "Two rows", "Sidecar", "Past capture", "Quarantine"
_JULY = datetime(2022, 7, 14, 10, 30, 0, 250)

VALUES: tuple[Corruption, ...] = (
    _value("Disabled", lambda r, random: {"enabled": False}, enabled=True),
    _value("Enabled", lambda r, random: {"enabled": True}, enabled=False),
    _value("Version counted on", lambda r, random: {"version": r.version + 1}),
    _value("Wrong type", lambda r, random: {"type": random.choice([t for t in PromptType if t != r.type])}),
    _value("Wrong organization", lambda r, random: {"organization_id": _other_tenant(r)}),
    _value("No organization", lambda r, random: {"organization_id": None}),
    _value("Scope of another project", lambda r, random: {"project_id": _elsewhere(r)}),
    _value("Scope that is new's own", lambda r, random: {"project_id": "project-123", "enabled": False}),
    _value("No scope", lambda r, random: {"project_id": None}),
    _value("Scope of another type", lambda r, random: {"project_id": _of_another_type(r)}),
    _value("Name in another case", lambda r, random: {"name": r.name.swapcase()}),
    _value("Name of another type", lambda r, random: {"name": f"{r.name} (1)"}),
    _stamps("One microsecond later", lambda r, random: {"created_at": r.created_at + timedelta(microseconds=1)}),
    _stamps(
        "Cut to milliseconds",
        lambda r, random: {"created_at": r.created_at - timedelta(microseconds=250)},
        created_at=_JULY,
    ),
    _stamps("Read in another time zone", _zone),
    _stamps(
        "An hour off, in summer", lambda r, random: {"created_at": r.created_at - timedelta(hours=1)}, created_at=_JULY
    ),
    _stamps(
        "Day and month changed places",
        lambda r, random: {"created_at": datetime(2022, 4, 3, tzinfo=UTC)},
        created_at=datetime(2022, 3, 4),
    ),
    _stamps("Both stamps changed places", lambda r, random: {"created_at": r.updated_at, "updated_at": r.created_at}),
    _stamps("Stamped anew", lambda r, random: {"updated_at": datetime(2026, 1, 1, tzinfo=UTC)}),
    _stamps(
        "A missing stamp filled in otherwise",
        lambda r, random: {"created_at": datetime(1970, 1, 1, tzinfo=UTC)},
        created_at=None,
    ),
)

ROWS: tuple[Corruption, ...] = (
    Corruption("Lost row", _ROWS, _lose),
    Corruption("Extra row", _ROWS, _invent),
    Corruption("Zombie: deleted in legacy, back in new", _ROWS, _return, before=_deleted_before),
    Corruption("Stale row: an older state came back", _ROWS, _grow_stale, before=_written_before),
    Corruption("The same content under another id", _ROWS, _double),
    Corruption("Row under another id", _ROWS, _renew),
    Corruption("Swapped contents", _PAIRS, _swap("content")),
    Corruption("Swapped ids", _PAIRS, _swap_ids),
    Corruption("Swapped stamps", _PAIRS, _swap("created_at")),
    Corruption("Overwritten with another row's content", _PAIRS, _overwrite),
)

BESIDE: tuple[Corruption, ...] = (
    Corruption(
        "Entry lost: name, description, version",
        _SIDECAR,
        _forget,
        lambda random: {"side": _named},
        made=Made.IN_OUR_TABLES,
    ),
    Corruption(
        "Entry lost: an id of its own",
        _SIDECAR,
        _forget,
        lambda random: {"side": _seeded(random)},
        made=Made.IN_OUR_TABLES,
    ),
    Corruption(
        "Entry says something else", _SIDECAR, _say_otherwise, lambda random: {"side": _named}, made=Made.IN_OUR_TABLES
    ),
    Corruption(
        "Entry points to another row",
        _SIDECAR,
        _point_elsewhere,
        lambda random: {"side": _seeded(random)} if random.random() < 0.5 else {},
        made=Made.IN_OUR_TABLES,
    ),
    Corruption(
        "Entry has another id", _SIDECAR, _rename, lambda random: {"side": _seeded(random)}, made=Made.IN_OUR_TABLES
    ),
    Corruption("Changed in legacy, unseen", _CAPTURE, _write_unseen, made=Made.PAST_TRIGGERS),
    Corruption("Deleted in legacy, unseen", _CAPTURE, _delete_unseen, made=Made.PAST_TRIGGERS),
    Corruption("Added in legacy, unseen", _CAPTURE, _insert_unseen, before=_deleted_before, made=Made.PAST_TRIGGERS),
    Corruption("Changed in legacy, the note lost", _CAPTURE, _lose_notes, made=Made.IN_OUR_TABLES),
    Corruption("Entry lost", _QUARANTINE, _release, _unfit, made=Made.IN_OUR_TABLES),
    Corruption("Entry of a row that fits", _QUARANTINE, _lock_away, made=Made.IN_OUR_TABLES),
    Corruption("Entry with another reason", _QUARANTINE, _say_another_reason, _unfit, made=Made.IN_OUR_TABLES),
    Corruption(
        "Row cut to fit, and copied",
        _QUARANTINE,
        _cut_to_fit,
        lambda random: {"genai_prompt": nasty_text(random).ljust(CONTENT_LIMIT + 1, "x")},
    ),
)
