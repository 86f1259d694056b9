"""The SQL of digests and buckets: what any two PostgreSQL servers compute alike of a row and of its key."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Integer, String, Text, cast, collate, func, literal_column
from sqlalchemy.dialects.postgresql import BIT

from harness.narrowing import MILLION, Cells, Plan


def record_of(columns: Iterable[ColumnElement[Any]]) -> ColumnElement[Any]:
    """The columns in binary form. Types must be the same on both sides: text is text, however long it may be."""
    return func.record_send(func.row(*(cast(c, Text) if isinstance(c.type, String) else c for c in columns)))


def named_record(key: ColumnElement[Any], scope: ColumnElement[Any], reason: ColumnElement[Any]) -> ColumnElement[Any]:
    """What is said of a row that cannot be represented."""
    return record_of([key, cast(scope, Text), reason])


def hash_of(key: ColumnElement[Any], plan: Plan) -> ColumnElement[int]:
    """Where a row belongs. On servers of another byte order another place: slow then, and still right."""
    return func.hashtextextended(collate(key, "C"), cast(plan.seed, BigInteger), type_=BigInteger)


def place_of(key: ColumnElement[Any], plan: Plan) -> ColumnElement[Any]:
    """The row's bucket."""
    return hash_of(key, plan).op("&")(plan.buckets - 1)


def looked_at(key: ColumnElement[Any], plan: Plan) -> ColumnElement[bool]:
    """Whether the row belongs to the share that is looked at."""
    if plan.in_million == MILLION:
        return literal_column("true")
    # Other bits than those that choose the bucket.
    bits = hash_of(key, plan).op(">>")(literal_column("32", Integer)).op("&")(literal_column("2147483647", BigInteger))
    return bits.op("%")(literal_column(str(MILLION), BigInteger)) < plan.in_million


def within_cells(cells: Cells | None, key: ColumnElement[Any], plan: Plan) -> ColumnElement[bool]:
    """Whether the row's bucket is one of these; None for all."""
    if cells is None:
        return literal_column("true")
    bits = func.decode(bytes(cells.bits).hex(), "hex")
    return func.get_bit(bits, cast(place_of(key, plan), Integer)) == 1


def number_of(record: ColumnElement[Any], plan: Plan) -> ColumnElement[int]:
    """Eight bytes of a digest as a number that can be summed.

    The quick one hashes the record's bytes: the hash of a record of one value is that of the value. Its order of bytes
    is the server's, so two servers of another kind find all buckets unequal; rows and looks go by md5, and settle it.
    """
    if plan.quick:
        return func.hash_record_extended(func.row(record), cast(1, BigInteger), type_=BigInteger)
    bits = literal_column("'x'", Text) + func.substr(func.md5(record), 1, 16)
    return cast(cast(bits, BIT(64)), BigInteger)
