"""Notes of cascades that are carried over already, by number.

Any other note may be carried over again and changes nothing: it brings the authority's state. A cascade deletes what
the store that takes it has authority over; repeated by a crash, or by a slow worker, it would delete what was saved
there since. So its number is kept in the transaction that deletes, for longer than any worker lives on its notes.
"""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import ARRAY, BigInteger, Connection, Text, any_, delete, func, literal_column, select
from sqlalchemy.dialects.postgresql import insert

from adapters.postgres.ledger.tables import cascade
from adapters.postgres.prepared import Prepared, parameter

_KEPT = literal_column("interval '1 day'", Text)
_FIND = Prepared(select(cascade.c.seq).where(cascade.c.seq == any_(parameter("numbers", ARRAY(BigInteger)))))


def carried_cascades(connection: Connection, numbers: Collection[int]) -> frozenset[int]:
    """Those of the numbers that were carried before; the others count as carried when the transaction commits."""
    if not numbers:
        return frozenset()
    before = frozenset(_FIND.execute(connection, numbers=sorted(numbers)).scalars())
    if new := [{"seq": number} for number in numbers if number not in before]:
        connection.execute(insert(cascade).on_conflict_do_nothing(), new)
        connection.execute(delete(cascade).where(cascade.c.at < func.now() - _KEPT))
    return before
