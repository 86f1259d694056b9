"""``crossfade quarantine``: the rows of legacy that new cannot hold, and what is decided about each."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from adapters.postgres.held_rows import Field, HeldRows, image
from adapters.postgres.ledger import quarantine as book
from adapters.prompts.canonical import REASONS
from adapters.prompts.migration import Stores, opened
from harness.cli.app import App, actor, command, facts
from harness.cli.files import written_at_once
from harness.cli.retrying import retry_rows
from harness.phases import Phase
from harness.records import Quarantined

_SHOWN = 2_000  # characters of a value on a screen, at most
_BATCH = 100


@click.group()
def quarantine() -> None:
    """Look at the rows of legacy that new cannot hold, and decide about each: mend it in legacy, or accept it.

    A row that is mended is carried over by catch-up, with nothing else to do; retry does it at once and says what
    became of it. One that is accepted is left behind, and no longer stands in the way of a cutover.

    \b
    Example:
      crossfade quarantine list
    """


def _reason_option(function: Any) -> Any:
    told = "Only those of this reason, as list shows it."
    return click.option("--reason", metavar="NAME", type=click.Choice(sorted(REASONS)), help=told)(function)


@command("crossfade quarantine list --open", name="list")
@_reason_option
@click.option("--open", "undecided", is_flag=True, help="Only those that nobody has accepted.")
@click.option(
    "--limit", type=click.IntRange(1), default=50, show_default=True, help="So many of them, the oldest first."
)
def list_(app: App, reason: str | None, undecided: bool, limit: int) -> None:
    """List what is in quarantine: why, where it is in legacy, since when, and who has accepted it."""
    with opened(app.settings) as stores:
        stores.require(Phase.PREPARED)
        everything, undecided_ones = book.by_reason(stores.new), book.by_reason(stores.new, accepted=False)
        accepted = False if undecided else None
        rows = list(book.listed(stores.new, reason=reason, accepted=accepted, limit=limit))
    document = {
        "total": everything.total(),
        "accepted": everything.total() - undecided_ones.total(),
        "by_reason": dict(everything),
        "rows": [_plain(each) for each in rows],
    }
    app.result(document, lambda out: _show_list(out, document))


@command("crossfade quarantine show 8c2b5f0e-1f0a-3c57-9d7e-0c6a9d3f1b52")
@click.argument("key")
@click.option("--show-values", is_flag=True, help="Show texts themselves, not only how long they are.")
def show(app: App, key: str, show_values: bool) -> None:
    """Show one row, KEY, as legacy has it now, and what of it has changed since it was accepted."""
    with opened(app.settings) as stores:
        stores.require(Phase.PREPARED)
        [entry] = book.known(stores.new, [key])
        fields = _held(stores).fields([entry], _SHOWN).get(key)
    document = _plain(entry) | {
        "there": fields is not None,
        "row": None if fields is None else _row(fields, show_values),
        "changed_since_accepted": _changed(entry, fields),
    }
    app.result(document, lambda out: _show_one(out, document))


@command("crossfade quarantine export held.jsonl --show-values")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@_reason_option
@click.option("--show-values", is_flag=True, help="Write the rows' texts too, whole, instead of how long they are.")
def export(app: App, file: Path, reason: str | None, show_values: bool) -> None:
    """Write what is in quarantine to FILE, one JSON document in each line. The file appears when it is whole."""
    with opened(app.settings, bulk=True) as stores, written_at_once(file) as out:
        stores.require(Phase.PREPARED)
        written = 0
        for line in _lines(stores, reason, show_values):
            out.write(json.dumps(line, ensure_ascii=False) + "\n")
            written += 1
    document = {"written": str(file), "rows": written}
    app.result(document, lambda out: out.print(facts(document)))


@command("crossfade quarantine retry --all")
@click.argument("keys", nargs=-1, metavar="[KEY]...")
@click.option("--all", "everything", is_flag=True, help="All that nobody has accepted.")
def retry(app: App, keys: tuple[str, ...], everything: bool) -> None:
    """Carry rows over now, after they were mended in legacy, and say what became of each.

    Catch-up does the same by itself. What is accepted stays so; take that back first to have it tried again.
    """
    if bool(keys) == everything:
        raise click.UsageError("give KEY, several of them, or --all")
    with opened(app.settings, bulk=True) as stores:
        stores.require(Phase.BACKFILLED)
        document = retry_rows(app, stores, None if everything else keys)
    app.result(document, lambda out: _show_retried(out, document))


@command("crossfade quarantine accept 8c2b5f0e-1f0a-3c57-9d7e-0c6a9d3f1b52 --reason 'an essay, not a prompt'")
@click.argument("keys", nargs=-1, required=True, metavar="KEY...")
@click.option("--reason", required=True, help="Why; kept in the ledger with your name.")
@click.option("--take-back", is_flag=True, help="Undo it: these rows want a decision again.")
def accept(app: App, keys: tuple[str, ...], reason: str, take_back: bool) -> None:
    """Accept that rows are left behind in legacy: they no longer stand in the way of a cutover.

    It holds for the row as it is. Once somebody writes to the row in legacy, it wants a decision again.
    """
    if not reason.strip():
        raise click.UsageError("--reason must say something")
    with opened(app.settings) as stores:
        stores.require(Phase.PREPARED)
        if take_back:
            changed = book.take_back(stores.new, keys, actor=actor(), reason=reason)
        else:
            changed = accept_rows(stores, keys, reason)
        left = book.by_reason(stores.new, accepted=False).total()
    document = {"changed": sorted(changed), "undecided": left}
    app.result(document, lambda out: out.print(facts({"changed": len(changed), "undecided": left})))


for _each in (list_, show, export, retry, accept):
    quarantine.add_command(_each)


def accept_rows(stores: Stores, keys: Sequence[str], reason: str) -> frozenset[str]:
    """Accept the rows as they are now; the keys of those that were not accepted before. Refused for unknown keys."""
    if not keys:
        return frozenset()
    return book.accept(stores.new, keys, _held(stores).images, actor=actor(), reason=reason)


def lowered_rows(stores: Stores) -> list[str]:
    """Keys of accepted rows that were enabled when they were accepted, and have been disabled to make room since."""
    found: list[str] = []
    for entries in _in_batches(book.listed(stores.new, accepted=True)):
        now = _held(stores).images(entries)
        for each in entries:
            was, became = ((row or {}).get("enabled") for row in (each.image, now[each.key]))
            if (was, became) == ("true", "false"):
                found.append(each.key)
    return found


def _held(stores: Stores) -> HeldRows:
    return HeldRows(stores.legacy, stores.mapping.parts)


def _plain(entry: Quarantined) -> dict[str, Any]:
    return {
        "key": entry.key,
        "reason": entry.reason,
        "meaning": REASONS.get(entry.reason, ""),
        "part": entry.part,
        "local": entry.local,
        "scope": entry.scope,
        "since": entry.since.isoformat(),
        "accepted": entry.accepted,
        "accepted_by": entry.accepted_by,
        "accepted_at": entry.accepted_at.isoformat() if entry.accepted_at else None,
    }


def _row(fields: Sequence[Field], show_values: bool) -> dict[str, Any]:
    """The row as JSON: of texts, unless they may be shown, the length; of one that was cut, that and its beginning."""
    return {each.name: _value(each, show_values) for each in fields}


def _value(field: Field, show_values: bool) -> str | dict[str, Any] | None:
    if field.characters is None or field.text is None:
        return None
    if field.worded and not show_values:
        return {"characters": field.characters}
    if len(field.text) < field.characters:
        return {"characters": field.characters, "begins": field.text}
    return field.text


def _changed(entry: Quarantined, fields: Sequence[Field] | None) -> list[str]:
    """Columns that say something else than when the row was accepted, as far as its image tells."""
    if entry.image is None or fields is None:
        return []
    now = image(fields)
    return sorted(name for name in now if now[name] != entry.image.get(name))


def _lines(stores: Stores, reason: str | None, show_values: bool) -> Iterator[dict[str, Any]]:
    held = _held(stores)
    for entries in _in_batches(book.listed(stores.new, reason=reason)):
        by_key = {each.key: each for each in entries}
        found = held.whole(entries) if show_values else held.fields(entries, _SHOWN).items()
        for key, fields in found:
            yield _plain(by_key.pop(key)) | {"there": True, "row": _row(fields, show_values)}
        for entry in by_key.values():
            yield _plain(entry) | {"there": False, "row": None}


def _show_list(out: Console, document: Mapping[str, Any]) -> None:
    if not document["total"]:
        out.print("nothing is in quarantine", highlight=False)
        return
    # Keys, reasons and scopes are there to be copied, so they are never cut off, whatever the terminal's width.
    for row in document["rows"]:
        lines = [f"{row['key']}  {row['reason']}"]
        lines.append(f"  {row['part']} {row['local']}, scope {row['scope'] or '–'}, since {row['since'][:19]}")
        if row["accepted"] is not None:
            lines.append(f"  accepted by {row['accepted_by'] or 'unknown'}: {row['accepted']}")
        out.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)
    shown = len(document["rows"])
    more = f", {shown:,} of them here" if shown < document["total"] else ""
    out.print(f"{document['total']:,} in quarantine, {document['accepted']:,} accepted{more}", highlight=False)


def _show_one(out: Console, document: Mapping[str, Any]) -> None:
    rows = {name: document[name] for name in ("key", "reason", "meaning", "part", "local", "scope", "since")}
    if document["accepted"] is not None:
        rows["accepted"] = f"{document['accepted']} ({document['accepted_by']}, {document['accepted_at']})"
    if document["changed_since_accepted"]:
        rows["changed since"] = document["changed_since_accepted"]
    out.print(facts(rows))
    if document["row"] is None:
        out.print("legacy has no such row any more; crossfade catchup takes it out of quarantine", highlight=False)
        return
    out.print()
    out.print(facts({name: _said(value) for name, value in document["row"].items()}))


def _said(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"{value.get('begins', '')}‹{value['characters']:,} characters›"
    return "NULL" if value is None else str(value)


def _show_retried(out: Console, document: Mapping[str, Any]) -> None:
    for row in document["rows"]:
        out.print(f"{row['key']}  {row['became']}", markup=False, highlight=False, soft_wrap=True)
    out.print(facts(document["became"] or {"rows": 0}))


def _in_batches(entries: Iterator[Quarantined]) -> Iterator[list[Quarantined]]:
    while batch := list(islice(entries, _BATCH)):
        yield batch
