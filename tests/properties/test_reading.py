"""The mapping is written twice, in SQL and in Python; here both are held to be one."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from fix_postgres import Server, engine_for
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Connection,
    Engine,
    Integer,
    and_,
    case,
    func,
    insert,
    literal,
    literal_column,
    select,
    text,
)
from sqlalchemy.schema import CreateSchema

from adapters.prompts.canonical import COLUMNS, LEGACY_TYPES, NAMESPACE, LegacyScope, Reading, Reason, parse_scope
from adapters.prompts.dispatch import canonical_select, derived_id
from adapters.prompts.dispatch_rows import LegacyRow, SidecarRow, legacy_id, read_row, scope_name
from adapters.prompts.dispatch_tables import sidecar, sidecar_metadata, tenant_tables
from adapters.prompts.prompt import PromptType
from harness.routing import Store

ZONES = ("America/New_York", "Europe/Berlin", "Australia/Lord_Howe", "Asia/Kolkata")
INT4 = st.integers(-(2**31), 2**31 - 1)
COUNTED = st.integers(1, 2**31 - 1)
MOMENT = timedelta(microseconds=1)

letters = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
texts = st.text(letters, max_size=40)
slugs = st.one_of(
    st.sampled_from(
        ["default", "acme", "o'brien", "50%", "%s %(x)s", "back\\slash", "co:lon :x", "{brace}", "机构", "s" * 250]
    ),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0/"), min_size=1, max_size=20),
)
lengths = st.sampled_from([0, 1, 9_999, 10_000, 10_001])
contents = st.one_of(texts, st.builds(lambda letter, times: letter * times, letters, lengths))
genai_types = st.one_of(st.sampled_from([0, -5, 99, *(known.number for known in LEGACY_TYPES)]), INT4)


def moments(zone: str) -> st.SearchStrategy[datetime]:
    """Stamps as Dispatch may hold them; near clock changes more often than not, where a zone has them."""
    if zone == "UTC":
        edges = st.sampled_from([datetime.min, datetime.max, datetime(1970, 1, 1)])
        return st.one_of(st.datetimes(), edges)
    first, last = datetime(1970, 1, 1), datetime(2037, 12, 31)
    changes = [
        # Gap, then fold, of each zone that has them.
        datetime(2024, 3, 10, 2),
        datetime(2024, 11, 3, 1),
        datetime(2024, 3, 31, 2),
        datetime(2024, 10, 27, 2),
        datetime(2024, 10, 6, 2),
        datetime(2024, 4, 7, 1, 30),
    ]
    near = st.builds(
        lambda change, shift: change + shift,
        st.sampled_from(changes),
        st.timedeltas(timedelta(hours=-2), timedelta(hours=2)),
    )
    return st.one_of(st.datetimes(first, last), near)


def rows(zone: str) -> st.SearchStrategy[LegacyRow]:
    stamps = st.none() | moments(zone)
    return st.builds(
        LegacyRow,
        id=INT4,
        genai_type=genai_types,
        genai_prompt=contents,
        genai_system_message=st.none() | texts,
        enabled=st.booleans(),
        created_at=stamps,
        updated_at=stamps,
        project_id=st.none() | INT4,
    )


sides = st.none() | st.builds(
    SidecarRow,
    id=st.uuids(),
    name=st.none() | st.text(letters, min_size=1, max_size=255),
    description=st.none() | texts,
    type=st.none() | st.sampled_from([known.value for known in PromptType]),
    version=st.none() | COUNTED,
)
Batch = list[tuple[LegacyRow, SidecarRow | None]]


def stamped(zone: str, row: LegacyRow, side: SidecarRow | None) -> st.SearchStrategy[tuple[LegacyRow, Any]]:
    """With an entry that tells stamps apart: the first or second time that the clock shows them, or other ones."""
    if side is None:
        return st.just((row, None))

    def said(stamp: datetime | None) -> st.SearchStrategy[datetime | None]:
        others = st.datetimes(datetime(1970, 1, 1), datetime(2037, 12, 31), timezones=st.just(UTC))
        if stamp is None or not 1970 <= stamp.year <= 2037:
            return st.none() | others
        shown = (stamp.replace(tzinfo=ZoneInfo(zone), fold=fold) for fold in (0, 1))
        return st.sampled_from([None, *(moment.astimezone(UTC) for moment in shown)]) | others

    return st.builds(
        lambda created, updated: (row, replace(side, created_at=created, updated_at=updated)),
        said(row.created_at),
        said(row.updated_at),
    )


def batches(zone: str) -> st.SearchStrategy[Batch]:
    return st.lists(
        st.tuples(rows(zone), sides).flatmap(lambda pair: stamped(zone, *pair)),
        min_size=1,
        max_size=12,
        unique_by=(lambda pair: pair[0].id, lambda pair: pair[1].id if pair[1] else pair[0].id),
    )


quick = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@pytest.fixture(scope="module")
def engine(server: Server) -> Iterator[Engine]:
    """One tenant's prompt table, without the key to its projects, and the sidecar."""
    with server.database("reading") as url, engine_for(url, Store.LEGACY) as engine:
        project, prompt = tenant_tables("any")
        with engine.begin() as connection:
            for schema in (project.schema, sidecar.schema):
                connection.execute(CreateSchema(str(schema)))
            project.create(connection)
            prompt.create(connection)
            connection.execute(text(f"ALTER TABLE {prompt.fullname} DROP CONSTRAINT prompt_project_id_fkey"))
            sidecar_metadata.create_all(connection)
        yield engine


def in_sql(engine: Engine, organization: str, batch: Batch, reading: Reading) -> dict[int, dict[str, Any]]:
    """What the canonical SELECT makes of the rows, by their number. Nothing stays in the table."""
    with engine.connect() as connection:
        _insert(connection, organization, batch)
        _, prompt = tenant_tables("any")
        beside = any(side for _, side in batch)
        chosen = canonical_select(organization, prompt, reading, with_sidecar=beside)
        answer = connection.execute(_pythonic(chosen.add_columns(prompt.c.id.label("number"))))
        found = {row.number: row._asdict() for row in answer}
        connection.rollback()
    return found


def _insert(connection: Connection, organization: str, batch: Batch) -> None:
    _, prompt = tenant_tables("any")
    names = [column.name for column in prompt.columns if not column.system]
    connection.execute(insert(prompt), [{name: getattr(row, name) for name in names} for row, _ in batch])
    entries = [
        {name: getattr(side, name) for name in SidecarRow.__slots__}
        | {"organization": organization, "legacy_id": row.id}
        for row, side in batch
        if side
    ]
    if entries:
        connection.execute(insert(sidecar), entries)


def _pythonic(chosen: Any) -> Any:
    """With NULL for stamps that Python's datetime cannot hold."""
    inner = chosen.subquery()
    first: ColumnElement[Any] = literal_column("TIMESTAMPTZ '0001-01-01 00:00:00+00'")
    after: ColumnElement[Any] = literal_column("TIMESTAMPTZ '10000-01-01 00:00:00+00'")
    stamps = {"created_at", "updated_at"}
    return select(
        *(
            case((and_(column >= first, column < after), column)).label(column.name)
            if column.name in stamps
            else column
            for column in inner.c
        )
    )


def agree(engine: Engine, organization: str, batch: Batch, reading: Reading) -> None:
    found = in_sql(engine, organization, batch, reading)
    assert found.keys() == {row.id for row, _ in batch}
    for row, side in batch:
        answer = found[row.id]
        prompt, reason = read_row(organization, row, reading, side)
        assert answer["reason"] == reason
        if prompt is None:
            assert answer["created_at"] is None or answer["updated_at"] is None
            continue
        assert {name: answer[name] for name in COLUMNS} == {name: getattr(prompt, name) for name in COLUMNS}


@quick
@given(organization=slugs, batch=batches("UTC"), policy=st.sampled_from(["type", "project"]))
@example(
    organization="acme",
    batch=[
        (LegacyRow(1, 2, "x", None, False, None, None, 3), None),
        (LegacyRow(-1, -5, "", "", True, None, None, None), None),
    ],
    policy="type",
)
def test_both_readings_agree_in_utc(engine: Engine, organization: str, batch: Batch, policy: str) -> None:
    """Whatever Dispatch may hold, of years 1 to 9999: same columns, same reason, with and without the sidecar."""
    if policy == "project":  # there, enabled rows stand in each other's way, which is no matter of one row
        batch = [(replace(row, enabled=False), side) for row, side in batch]
    agree(engine, organization, batch, Reading("UTC", policy))


@quick
@given(data=st.data(), zone=st.sampled_from(ZONES))
def test_both_readings_agree_in_other_zones(engine: Engine, data: st.DataObject, zone: str) -> None:
    """Clock changes included: a stamp that never was, or was twice, is the same instant in both readings."""
    agree(engine, "acme", data.draw(batches(zone)), Reading(zone))


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("year", [1975, 2024])
def test_every_half_hour_of_a_year_is_the_same_instant(engine: Engine, zone: str, year: int) -> None:
    """No clock change of these years is read otherwise in SQL than in Python."""
    halves = 366 * 24 * 2
    stamps = [datetime(year, 1, 1) + n * timedelta(minutes=30) for n in range(halves)]
    with engine.connect() as connection:
        read = connection.execute(
            text(
                "SELECT timezone(:zone, make_timestamp(:year, 1, 1, 0, 0, 0) + n * interval '30 minutes')"
                " FROM generate_series(0, :last) AS n ORDER BY n"
            ),
            {"zone": zone, "year": year, "last": halves - 1},
        ).scalars()
        row = LegacyRow(1, 1, "x", None, False, None, None, 1)
        for stamp, instant in zip(stamps, read, strict=True):
            prompt, _ = read_row("acme", replace(row, created_at=stamp), Reading(zone))
            assert prompt is not None
            assert prompt.created_at == instant


@pytest.mark.parametrize("zone", ["UTC", *ZONES])
@pytest.mark.parametrize(
    "stamp",
    [
        "infinity",
        "-infinity",
        "0002-12-31 23:59:59 BC",
        "4713-11-24 00:00:00 BC",
        "10000-01-02 00:00:00",
        "294276-12-31 23:59:59.999999",
    ],
)
@pytest.mark.parametrize("column", ["created_at", "updated_at"])
def test_stamps_beyond_python_are_out_of_range(engine: Engine, zone: str, stamp: str, column: str) -> None:
    """Any stamp that PostgreSQL holds and Python does not is a reason for quarantine, never an error."""
    with engine.connect() as connection:
        _, prompt = tenant_tables("any")
        connection.execute(
            text(
                f"INSERT INTO {prompt.fullname} (id, genai_type, genai_prompt, enabled, project_id, {column})"
                " VALUES (1, 1, 'x', false, 1, CAST(:stamp AS timestamp))"
            ),
            {"stamp": stamp},
        )
        chosen = _pythonic(canonical_select("acme", prompt, Reading(zone), with_sidecar=False))
        assert connection.execute(chosen).one().reason == Reason.STAMP_OUT_OF_RANGE
        connection.rollback()


@pytest.mark.parametrize(("keep", "conflicting"), [("undecided", {1, 2, 3}), ("newest", {1, 3}), ("oldest", {1, 2})])
def test_under_policy_project_all_enabled_but_one_are_in_conflict(
    engine: Engine, keep: str, conflicting: set[int]
) -> None:
    """Undecided holds all of them back; otherwise one is kept: by stamp, NULL stamps being the oldest, then by id."""
    day = datetime(2024, 5, 1)
    batch: Batch = [
        (LegacyRow(1, 1, "x", None, True, day, day, 7), None),
        (LegacyRow(2, 2, "x", None, True, day, day + MOMENT, 7), None),
        (LegacyRow(3, 3, "x", None, True, None, None, 7), None),
        (LegacyRow(4, 4, "x", None, False, day, day, 7), None),
        (LegacyRow(5, 5, "x", None, True, day, day, 8), None),
    ]
    found = in_sql(engine, "acme", batch, Reading("UTC", "project", keep))
    assert {n for n, row in found.items() if row["reason"] == Reason.ENABLED_CONFLICT} == conflicting


@quick
@given(organization=slugs, numbers=st.lists(INT4, min_size=1, max_size=20, unique=True))
def test_derived_ids_are_uuid3(engine: Engine, organization: str, numbers: list[int]) -> None:
    """The id computed in SQL, the one computed here, and the standard library's UUIDv3 are one."""
    rows = select(func.unnest(literal(numbers, ARRAY(Integer))).label("number")).subquery()
    with engine.connect() as connection:
        answer = connection.execute(
            select(rows.c.number, derived_id(organization, rows.c.number)), {"numbers": numbers}
        ).all()
    for number, computed in answer:
        assert computed == legacy_id(organization, number) == uuid.uuid3(NAMESPACE, f"{organization}/{number}")
    assert len(answer) == len(numbers)


@given(
    organization=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0/"), min_size=1),
    project=st.integers(0, 2**31 - 1),
    genai_type=genai_types,
    by_type=st.booleans(),
)
def test_parse_scope_inverts_scope_name(organization: str, project: int, genai_type: int, by_type: bool) -> None:
    """A scope's name says organization, project and type without loss, and reads under its own policy only."""
    name = scope_name(organization, project, genai_type, Reading(scope_policy="type" if by_type else "project"))
    place = LegacyScope(organization, project, genai_type if by_type else None)
    assert parse_scope(name, with_type=by_type) == place
    assert parse_scope(name, with_type=not by_type) is None


near_scopes = st.builds(
    lambda organization, project, rest: f"{organization}/project-{project}{rest}",
    st.sampled_from(["acme", "", "a/b", "机构"]),
    st.one_of(st.integers(-3, 2**33).map(str), st.sampled_from(["007", "+1", "1_0", "٣", "1 ", ""])),
    st.one_of(
        st.sampled_from(["", "/", "\n", "/incident-summary", "/INCIDENT-SUMMARY", "/type-2", "/type-007", "/type--0"]),
        st.integers(-(2**33), 2**33).map(lambda number: f"/type-{number}"),
    ),
)


@given(st.text(max_size=60) | near_scopes)
def test_what_parse_scope_accepts_is_a_scope_name(scope: str) -> None:
    """No two texts stand for the same place: what parses is spelt exactly as we would spell it."""
    for by_type in (True, False):
        place = parse_scope(scope, with_type=by_type)
        if place is not None:
            reading = Reading(scope_policy="type" if by_type else "project")
            assert scope_name(place.organization, place.project, place.type or 0, reading) == scope
