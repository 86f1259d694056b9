"""docs/truth-table.md, written from what was observed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from truth.observing import CLEAN, CORRUPTIONS, SAMPLE, Cell, Check, Observed

PAGE = Path(__file__).resolve().parents[2] / "docs" / "truth-table.md"

_HEAD = """\
# The truth table

Which corruption does each check catch? `make truth` makes them all, in a migration of its own and in rows full of odd
texts, asks every check, and writes this page. A test does the same, and fails when it finds anything else than what
stands here.

{classes} classes, {corruptions:,} corruptions of {rows:,} rows, all at once, beside {clean:,} sound rows. `crossfade verify` reported
each corrupted row once, with the right key, scope, kind and fields, and none of the sound ones. Before anything was
corrupted it reported nothing.

| check | what is done | what is said |
| --- | --- | --- |
| compare | a router reads the record by its id from both stores | *caught*: a confirmed mismatch. It sees what callers ask for, when they ask for it, and nothing else |
| verify | `crossfade verify` | *caught*: each row is reported, as the row and with the fields that it is |
| sample | `crossfade verify --sample {sample}` | *if sampled*: reported, of those rows that the sample holds. A sample without a finding is no pass |
| catch-up | the write is made by an ordinary session while the guard only takes notice (mode `record`), then catch-up runs | *mended*: the record is again as authority has it. What the triggers do not see it never mends; verify finds it, and `crossfade repair` mends it |
| guard | the write is made by an ordinary session | *refused*: it does not come about |

Legacy has authority. Where nothing else is said the row of new is corrupted; for compare, verify and sample past the
triggers, as a restored backup or a failing disk would do it. There catch-up mended nothing, of no class.

"""  # noqa: E501 - a table's row is one line

_USUAL = {
    Check.COMPARE: Cell.CAUGHT,
    Check.VERIFY: Cell.CAUGHT,
    Check.SAMPLE: Cell.IN_SAMPLE,
    Check.CATCHUP: Cell.MENDED,
    Check.GUARD: Cell.REFUSED,
}

# Why a cell is not what is usual in its column, by the group of the corruption.
_OUR_TABLES = "Crossfade's own tables have no guard; no role but Crossfade's own has a right on them"
_WHY: dict[tuple[Check, str], str] = {
    (Check.COMPARE, "Quarantine"): "Reads of what is in quarantine stay with legacy and are not compared",
    (Check.CATCHUP, "Sidecar"): "No trigger stands on the sidecar, so nothing is noted",
    (Check.CATCHUP, "Past capture"): "Nothing is noted, or no longer",
    (Check.CATCHUP, "Quarantine"): "An entry is settled when its row is noted; this row was not",
    (Check.GUARD, "Sidecar"): _OUR_TABLES,
    (Check.GUARD, "Quarantine"): _OUR_TABLES,
    (
        Check.GUARD,
        "Past capture",
    ): "A write that meets no trigger is refused by none; on the table of notes there is none",
}


def page(observed: Observed) -> str:
    """The whole page. Raises KeyError for an unusual cell that nothing explains."""
    assert not observed.clean
    assert Counter(observed.whole) == Counter(observed.expected()), "the page says otherwise"
    notes: list[str] = []
    rows = list(_rows(observed, notes))
    head = _HEAD.format(
        classes=len(CORRUPTIONS),
        corruptions=observed.corruptions,
        rows=len(observed.expected()),
        clean=CLEAN,
        sample=SAMPLE,
    )
    told = [f"{number}. {note}." for number, note in enumerate(notes, 1)]
    return head + "\n".join([*rows, "", *told]) + "\n"


def unused(observed: Observed) -> set[str]:
    """Explanations of what was not observed."""
    notes: list[str] = []
    list(_rows(observed, notes))
    return set(_WHY.values()) - set(notes)


def _rows(observed: Observed, notes: list[str]) -> Iterator[str]:
    """The table; ``notes`` receives the explanations that it refers to."""
    yield f"| | {' | '.join('sample' if check is Check.SAMPLE else check for check in Check)} |"
    yield "| --- |" + " --- |" * len(Check)
    for group, corruptions in groupby(CORRUPTIONS, lambda each: each.group):
        yield f"| **{group}** |" + " |" * len(Check)
        for corruption in corruptions:
            cells = observed.cells[corruption.name]
            name = corruption.name.replace("|", r"\|")
            yield f"| {name} | {' | '.join(_said(check, cells[check], group, notes) for check in Check)} |"


def _said(check: Check, cell: Cell, group: str, notes: list[str]) -> str:
    if cell is _USUAL[check]:
        return cell
    why = _WHY[check, group]
    if why not in notes:
        notes.append(why)
    return f"**{cell}** ({notes.index(why) + 1})"
