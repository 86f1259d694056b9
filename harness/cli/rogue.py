"""``crossfade rogue``: show writes that went to a store without authority."""

from __future__ import annotations

from typing import Any

import click
from rich.console import Console
from rich.table import Table

from adapters.postgres.rogue import Rogue, kept
from adapters.prompts.migration import opened
from harness.cli.app import App, command
from harness.phases import Phase
from harness.routing import Store


@command("crossfade rogue --show-values")
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, show_default=True, help="So many of each store.")
@click.option("--show-values", is_flag=True, help="Show the rows as they were and as they became.")
def rogue(app: App, limit: int, show_values: bool) -> None:
    """Show writes that a store took without authority, under guard mode "record".

    They are kept with their rows, for catch-up makes the store equal to the scope's authority again.
    """
    with opened(app.settings) as stores:
        stores.require(Phase.PREPARED)
        found = [each for store in Store for each in kept(stores.engine(store), store, limit)]
        total = stores.rogue_writes()
    found.sort(key=lambda each: each.at, reverse=True)
    document = {
        "total": {store.value: number for store, number in total.items()},
        "writes": [_plain(each, show_values) for each in found],
    }
    app.result(document, lambda out: _show(out, document))


def _plain(each: Rogue, show_values: bool) -> dict[str, Any]:
    told: dict[str, Any] = {
        "at": each.at.isoformat(),
        "store": each.store.value,
        "operation": each.operation,
        "scope": each.scope,
        "role": each.role,
        "application": each.application,
        "changed": sorted(
            name
            for name in {*(each.before or {}), *(each.after or {})}
            if (each.before or {}).get(name) != (each.after or {}).get(name)
        ),
    }
    return told | {"before": each.before, "after": each.after} if show_values else told


def _show(out: Console, document: dict[str, Any]) -> None:
    if not document["writes"]:
        out.print("no rogue writes", highlight=False)
        return
    table = Table("at", "store", "operation", "scope", "by", "changed", box=None)
    for each in document["writes"]:
        by = f"{each['role']} ({each['application']})" if each["application"] else each["role"]
        row = (each["at"], each["store"], each["operation"], each["scope"] or "–", by, ", ".join(each["changed"]))
        table.add_row(*(text.replace("[", "\\[") for text in row))
        for name in ("before", "after"):
            if each.get(name) is not None:
                table.add_row("", "", name, str(each[name]).replace("[", "\\["), "", "")
    out.print(table)
