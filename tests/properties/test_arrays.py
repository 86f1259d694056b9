"""Lists that we write as arrays ourselves arrive as they were."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from fix_postgres import Server, engine_for
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import ARRAY, BigInteger, Boolean, DateTime, Engine, Numeric, Text, Uuid, select

from adapters.postgres.arrays import array_text
from adapters.postgres.prepared import Prepared, parameter
from harness.routing import Store

letters = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
hostile = st.sampled_from(["", "NULL", "null", "{}", '"', "\\", ",", " x ", '\\"', "\n", "%s %(x)s"])
zones = st.sampled_from([UTC, timezone(timedelta(hours=-9, minutes=-30)), timezone(timedelta(hours=14))])
KINDS: dict[str, tuple[Any, st.SearchStrategy[Any]]] = {
    "text": (Text(), st.one_of(st.text(letters), hostile)),
    "bigint": (BigInteger(), st.integers(-(2**63), 2**63 - 1)),
    "boolean": (Boolean(), st.booleans()),
    "uuid": (Uuid(), st.uuids()),
    "moment": (DateTime(timezone=True), st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 29), timezones=zones)),
    "stamp": (DateTime(), st.datetimes()),
}


@pytest.fixture(scope="module")
def engine(server: Server) -> Iterator[Engine]:
    with server.database("arrays") as url, engine_for(url, Store.NEW) as engine:
        yield engine


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_what_is_sent_comes_back(engine: Engine, kind: str, data: st.DataObject) -> None:
    type_, values = KINDS[kind]
    sent = data.draw(st.lists(st.one_of(values, st.none()), max_size=8))
    assert array_text(sent) is not None
    with engine.connect() as connection:
        back = Prepared(select(parameter("sent", ARRAY(type_)))).execute(connection, sent=sent)
        assert back.scalar_one() == sent


def test_other_types_are_left_to_the_driver(engine: Engine) -> None:
    sent = [Decimal("1.50"), None]
    assert array_text(sent) is None
    assert array_text(["a", 1]) is None
    assert array_text([True, 1]) is None
    with engine.connect() as connection:
        back = Prepared(select(parameter("sent", ARRAY(Numeric())))).execute(connection, sent=sent)
        assert back.scalar_one() == sent


def test_a_text_with_a_nul_is_the_drivers_own_error() -> None:
    with pytest.raises(psycopg.DataError, match="NUL"):
        array_text(["a\0b"])
