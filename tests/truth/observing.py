"""What each check says of each corruption, observed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from uuid import UUID

from command import crossfade, document
from fix_postgres import Databases
from fix_stores import Migration
from sqlalchemy import text
from sqlalchemy.exc import DatabaseError

from adapters.postgres.guarding import NO_AUTHORITY
from adapters.prompts.contract import PromptRepository
from harness.records import Kind
from harness.router import Router
from harness.settings import ShadowSettings
from harness.statistics import Result
from truth.rows import Expected
from truth.texts import TEXTS
from truth.values import BESIDE, ROWS, VALUES
from truth.world import Corruption, Made, World, world

CORRUPTIONS: tuple[Corruption, ...] = (*ROWS, *TEXTS, *VALUES, *BESIDE)
EACH = 116  # rows for each of them
FEW = 8
CLEAN = 1_000
SEED = 4
SAMPLE, SAMPLE_SEED = "20%", "7"
ASKED = 3  # corruptions of each class that are asked for through the router


class Cell(StrEnum):
    """What a check makes of a class of corruptions."""

    CAUGHT = "caught"
    IN_SAMPLE = "if sampled"
    MENDED = "mended"
    REFUSED = "refused"
    NOT = "no"
    IN_PART = "in part"
    NONE = "–"


class Check(StrEnum):
    COMPARE = "compare"
    VERIFY = "verify"
    SAMPLE = "verify --sample"
    CATCHUP = "catch-up"
    GUARD = "guard"


Injected = Mapping[str, Sequence[Sequence[Expected]]]  # by class, what has to be reported of each corruption


@dataclass
class Observed:
    """``cells`` by class. ``whole`` and ``sampled``: what was reported of all rows, and of a sample, with
    ``injected`` what should have been; ``clean``: of sound rows.
    """

    cells: dict[str, dict[Check, Cell]] = field(default_factory=dict)
    injected: Injected = field(default_factory=dict)
    clean: list[Expected] = field(default_factory=list)
    whole: list[Expected] = field(default_factory=list)
    sampled: list[Expected] = field(default_factory=list)

    @property
    def corruptions(self) -> int:
        return sum(len(some) for some in self.injected.values())

    def expected(self) -> list[Expected]:
        return [each for some in self.injected.values() for one in some for each in one]


def observe(small: Databases, large: Databases, place: Path) -> Observed:
    """Make every corruption, and ask every check. ``place``: a directory for files."""
    observed = Observed({corruption.name: {} for corruption in CORRUPTIONS})
    with world(small, CORRUPTIONS, FEW, 0, SEED) as few:
        _ask_guard(few, observed)
        _ask_catchup(few, observed, place)
    with world(large, CORRUPTIONS, EACH, CLEAN, SEED) as many:
        settings = many.migration.app.settings
        observed.clean = reported(many.migration, place) + reported(many.migration, place, sample=True)
        with many.hands(past_triggers=True) as hands:
            observed.injected = {c.name: c.spoil(hands, many.rows[c.name], many.random) for c in CORRUPTIONS}
        assert many.migration.drain() == 0, settings
        observed.whole = reported(many.migration, place)
        observed.sampled = reported(many.migration, place, sample=True)
        _fill(observed, Check.VERIFY, observed.whole, Cell.CAUGHT)
        _fill(observed, Check.SAMPLE, observed.sampled, Cell.IN_SAMPLE)
        _ask_compare(many, observed)
    return observed


def reported(migration: Migration, place: Path, *, sample: bool = False) -> list[Expected]:
    """What ``crossfade verify`` reports, row by row."""
    out = place / "rows.jsonl"
    chosen = ("--sample", SAMPLE, "--seed", SAMPLE_SEED) if sample else ()
    done = crossfade(migration.app.settings, "verify", "--json", "--patience", "0", "--out", str(out), *chosen)
    assert done.returncode in {0, 3}, done.stderr
    told = document(done)
    found = [_read(json.loads(line)) for line in out.read_text(encoding="utf-8").splitlines()]
    kinds = Counter(each.kind for each in found)
    counts = {Kind.MISSING: "missing", Kind.EXTRA: "extra", Kind.DIFFERENT: "different", Kind.MISPLACED: "unaccounted"}
    assert kinds == +Counter({kind: told[name] for kind, name in counts.items()})
    verdict = "fail" if found else "sample" if sample else "pass"
    assert (told["verdict"], told["unsettled"], done.returncode) == (verdict, 0, 3 if found else 0)
    return found


def _read(line: dict[str, object]) -> Expected:
    kind = Kind(str(line["kind"]))
    if kind is Kind.MISPLACED:
        return Expected(str(line["key"]), kind)
    fields = line["fields"]
    assert isinstance(fields, list)
    scope = line["scope"]
    assert scope is None or isinstance(scope, str)
    return Expected(str(line["key"]), kind, scope, frozenset(each["field"] for each in fields))


def _fill(observed: Observed, check: Check, found: Iterable[Expected], caught: Cell) -> None:
    """By how many of each class's rows are among what was found."""
    there = set(found)
    for name, some in observed.injected.items():
        wanted = {each for one in some for each in one}
        met = len(wanted & there)
        whole = caught is Cell.IN_SAMPLE or met == len(wanted)
        observed.cells[name][check] = Cell.NOT if not met else caught if whole else Cell.IN_PART


def _of(seen: Sequence[bool], good: Cell) -> Cell:
    assert seen, "nothing was tried"
    return good if all(seen) else Cell.IN_PART if any(seen) else Cell.NOT


# --- Guard and catch-up ------------------------------------------------------------------------------------------


def _ask_guard(world: World, observed: Observed) -> None:
    """Try the write that makes each corruption as anybody would, and take it back."""
    for corruption in CORRUPTIONS:
        cell = Cell.NONE
        if corruption.made is not Made.PAST_TRIGGERS:
            cell = Cell.REFUSED if _is_refused(world, corruption) else Cell.NOT
        observed.cells[corruption.name][Check.GUARD] = cell


class _TakeBack(Exception):
    pass


def _is_refused(world: World, corruption: Corruption) -> bool:
    try:
        with world.hands(past_triggers=False) as hands:
            corruption.spoil(hands, world.rows[corruption.name], world.random)
            raise _TakeBack
    except _TakeBack:
        return False
    except DatabaseError as error:
        if getattr(error.orig, "sqlstate", None) != NO_AUTHORITY:
            raise
        return True


def _ask_catchup(world: World, observed: Observed, place: Path) -> None:
    """Corrupt as anybody would while the guard only takes notice, carry over what was noted, and see what is left."""
    _set_guard(world, "record")
    injected: dict[str, list[Expected]] = {}
    for corruption in CORRUPTIONS:
        with world.hands(past_triggers=corruption.made is Made.PAST_TRIGGERS) as hands:
            found = corruption.spoil(hands, world.rows[corruption.name], world.random)
        injected[corruption.name] = [each for one in found for each in one]
    # A scope that was refused because another one of the record was not carried yet is settled at the next attempt.
    assert world.migration.drain() == 0 or world.migration.drain() == 0
    left = {each.key for each in reported(world.migration, place)}
    for name, wanted in injected.items():
        observed.cells[name][Check.CATCHUP] = _of([each.key not in left for each in wanted], Cell.MENDED)


def _set_guard(world: World, mode: str) -> None:
    for engine in (world.migration.stores.legacy, world.migration.stores.new):
        with engine.begin() as connection:
            connection.execute(text("UPDATE crossfade.route SET guard = :mode"), {"mode": mode})


# --- Compare -----------------------------------------------------------------------------------------------------


def _ask_compare(world: World, observed: Observed) -> None:
    """Read some corrupted records, by their ids, through a router."""
    stores = world.migration.stores
    router = Router[PromptRepository](
        PromptRepository,
        legacy=stores.legacy_repository,
        new=stores.new_repository,
        routes=stores.routes,
        carrier=stores.new_carrier(),
        settings=ShadowSettings(look_seconds=0.001),
        key_of=UUID,
    )
    with router:
        before = 0
        for name, some in observed.injected.items():
            asked = [each for corruption in some[:ASKED] for each in corruption]
            for each in asked:
                router.repository.find_by_id(UUID(each.key))
            assert router.settle(30)
            statistics = router.statistics()
            assert not statistics.failures, statistics.failures
            told = statistics.results()[Result.MISMATCHED] - before
            before += told
            observed.cells[name][Check.COMPARE] = _of([n < told for n in range(len(asked))], Cell.CAUGHT)
