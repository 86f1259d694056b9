"""Which rows of new are the migration's: the quick answer says of no scope anything else than the pattern."""

from __future__ import annotations

import random
from typing import Any

import pytest
from sqlalchemy import ARRAY, Engine, Text, cast, func, literal, select

from adapters.prompts.canonical import parse_scope
from adapters.prompts.prompt_manager import migrating

ORGANIZATIONS = ["acme", "um-bra", "o1", "a.b"]
NUMBERS = [
    *("0", "1", "01", "9", "123456789", "1234567890", "2147483647", "2147483648", "-1", "-2147483648", "-2147483649"),
    *("", "1-2", "1a", "１", "٣", "12 ", "99", "1.5", "-"),
]
SLUGS = ["incident-summary", "tag-recommendation", "type-7", "type-1", "type--3", "type-0", "x", "", "Incident-summary"]


def scopes(seed: int = 5) -> list[str]:
    draw = random.Random(seed)
    usual = [f"{name}/project-{n}/{slug}" for name in ORGANIZATIONS for n in NUMBERS for slug in SLUGS]
    odd = [
        draw.choice([*ORGANIZATIONS, "x", "", "acme "])
        + "/"
        + draw.choice(["project-", "project", "project--", "Project-", "-project-"])
        + draw.choice(NUMBERS)
        + draw.choice(["/", "//", ""])
        + draw.choice(SLUGS)
        + draw.choice(["", "", "/", "/x", "\n", " "])
        for _ in range(3_000)
    ]
    return sorted({*usual, *odd, *(text.rpartition("/")[0] for text in usual)})


@pytest.mark.parametrize("with_type", [True, False])
def test_a_row_is_the_migrations_if_its_scope_can_be_read(legacy_engine: Engine, *, with_type: bool) -> None:
    """SQL and Python say the same of thousands of scopes, usual and odd, and of none at all."""
    given = func.unnest(cast(literal(scopes()), ARRAY(Text))).table_valued("project_id", name="given")
    rows = given.render_derived(name="given")
    with legacy_engine.connect() as connection:
        chosen = select(
            rows.c.project_id, migrating(ORGANIZATIONS, with_type=with_type, rows=_Typed(rows.c.project_id))
        )
        told = {row[0]: bool(row[1]) for row in connection.execute(chosen)}
        nothing = migrating(ORGANIZATIONS, with_type=with_type, rows=_Typed(literal(None, Text)))
        assert connection.execute(select(nothing)).scalar_one() is False
    expected = {}
    for scope in scopes():
        place = parse_scope(scope, with_type=with_type)
        expected[scope] = place is not None and place.organization in ORGANIZATIONS
    assert told == expected
    assert 20 < sum(told.values()) < len(told)


class _Typed:
    """Rows of the table's shape, as far as it matters here."""

    def __init__(self, scope: Any) -> None:
        self.project_id = cast(scope, Text)
