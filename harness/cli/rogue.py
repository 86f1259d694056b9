"""``crossfade rogue``: show writes that went to a store without authority."""

from __future__ import annotations

import json
from typing import Any

import click
from rich.console import Console

from adapters.postgres.rogue import Rogue, kept
from adapters.prompts.migration import opened
from harness.cli.app import App, command
from harness.phases import Phase


@command("crossfade rogue --show-values")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="So many of each store.")
@click.option("--all", "everything", is_flag=True, help="All of them, whatever --limit says.")
@click.option("--show-values", is_flag=True, help="Show the rows as they were and as they became.")
def rogue(app: App, limit: int, everything: bool, show_values: bool) -> None:
    """Show writes that a store took without authority, under guard mode "record".

    They are kept with their rows, for catch-up makes the store equal to the scope's authority again.
    """
    with opened(app.settings) as stores:
        stores.require(Phase.PREPARED)
        most = None if everything else limit
        found = [each for store in stores.left for each in kept(stores.engine(store), store, most)]
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
    # What was lost is there to be written once more, so nothing is cut off, whatever the terminal's width.
    for each in document["writes"]:
        by = f"{each['role']} ({each['application']})" if each["application"] else each["role"]
        lines = [f"{each['at'][:19]}  {each['store']}  {each['operation']}  {each['scope'] or '–'}"]
        lines.append(f"  by {by}; changed: {', '.join(each['changed'])}")
        for name in ("before", "after"):
            if each.get(name) is not None:
                lines.append(f"  {name}: {json.dumps(each[name], ensure_ascii=False)}")
        out.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)
    if (left := sum(document["total"].values()) - len(document["writes"])) > 0:
        out.print(f"… and {left:,} earlier ones; --limit shows more, --all shows all", highlight=False)
