"""``crossfade status``: where the migration stands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from adapters.prompts.migration import opened
from harness.cli.app import MARKS, App, FiniteRange, command, facts
from harness.cli.standing import status_of
from harness.cli.watch import watch
from harness.errors import ConfigError
from harness.records import Verdict
from harness.routing import Store
from harness.words import count

_EVERY = 1.0


@command("crossfade status --watch")
@click.option("--watch", "watching", is_flag=True, help="Go on showing it, with rates, until q or Ctrl-C.")
@click.option("--every", type=FiniteRange(0.2, 3600), help="Seconds between two looks of --watch.  [default: 1]")
def status(app: App, watching: bool, every: float | None) -> None:
    """Show phase, route, what is on its way, what is in quarantine, the gates, and what to do next.

    With --watch it is a live page of the terminal; where there is none, a block of text for each look, and with
    --json a document in a line of its own. A store that goes away meanwhile is waited for. Ends with 0 whatever is
    shown: scripts find the gates and their verdict in the JSON.
    """
    if every is not None and not watching:
        raise ConfigError("--every is the pace of --watch; give both, or neither")
    if watching:
        watch(app, every or _EVERY)
        return
    with opened(app.settings) as stores:
        document = status_of(stores)
    app.result(document, lambda out: show(out, document))


def show(out: Console, document: dict[str, Any]) -> None:
    out.print(f"[bold]{document['phase']}[/]  epoch {document['epoch']}", highlight=False)
    table = Table("", "legacy", "new", box=None)
    table.add_row("reads served", f"{100 - document['reads_percent']:g} %", f"{document['reads_percent']:g} %")
    table.add_row("writes served", f"{100 - document['writes_percent']:g} %", f"{document['writes_percent']:g} %")
    if document["pins"]:
        table.add_row("pins to", *(count(sum(to == store for to in document["pins"].values())) for store in Store))
    for name, key, unit in (("dirty keys", "dirty", ""), ("lag", "lag_seconds", " s")):
        table.add_row(name, *(f"{document[key][store]:g}{unit}" for store in ("legacy", "new")))
    out.print(table)
    last = document["last_verification"]
    rows: dict[str, object] = {
        "quarantined": document["quarantined_by_reason"] or 0,
        "mismatches confirmed": document["mismatches_confirmed"],
        "last verification": f"{last['verdict']} at {last['at']}" if last else "none",
    }
    if document["rejected"]:
        rows["rejected scopes"] = len(document["rejected"])
    if document["uncaptured_tenants"]:
        rows["tenants without capture"] = ", ".join(document["uncaptured_tenants"])
    if document["missing_indexes"]:
        rows["indexes not built yet"] = ", ".join(document["missing_indexes"])
    if document["long_transactions"]:
        rows["a fence would wait for"] = ", ".join(document["long_transactions"])
    for name in ("new_only", "rollback_debt", "rogue_writes"):
        if document[name]:
            rows[name] = document[name]
    if document["pins"]:
        rows["pins"] = ", ".join(f"{name} to {store}" for name, store in document["pins"].items())
    if any(mode != "enforce" for mode in document["guard"].values()):
        rows["guard"] = ", ".join(f"{store} {mode}" for store, mode in document["guard"].items())
    if document["routes_differ"]:
        rows["routes differ"] = "yes: the stores' guards go by different routes"
    if document["unfinished"]:
        rows["unfinished"] = f"{document['unfinished']['command']} by {document['unfinished']['actor']}"
    if document["half_complete"]:
        rows["unfinished"] = "complete"
    if document["half_left"]:
        rows["unfinished"] = "uninstall or prepare"
    if ramp := document["automatic_ramp"]:
        rows["automatic ramp"] = f"{ramp['state']}, step {ramp['step']} of {ramp['steps']}. {ramp['reason']}".strip()
    rows["next"] = document["next"]
    out.print(facts(rows))
    if document["gates"]:
        out.print(_gates(document["gates"]))
    for each in document["rejected"]:
        told = f"rejected: {each['scope'] or 'without scope'}: {each['error']}"
        out.print(told, markup=False, highlight=False, soft_wrap=True)
    for each in document["owed"]:
        told = f"owed: {each['key']} in {each['scope'] or 'no scope'}: {each['reason']}"
        out.print(told, markup=False, highlight=False, soft_wrap=True)
    if (more := document["rollback_debt"] - len(document["owed"])) > 0:
        out.print(f"… and {more:,} more records that legacy cannot hold", highlight=False)


def _gates(gates: Sequence[dict[str, str]]) -> Table:
    """What does not pass, with its evidence; the others by name. All of it is in the report and in the JSON."""
    table = Table.grid(padding=(0, 2))
    for gate in gates:
        if (verdict := Verdict(gate["verdict"])) is not Verdict.PASS:
            table.add_row(MARKS[verdict], gate["name"], Text(gate["evidence"], "dim"))
    if passing := [gate["name"] for gate in gates if gate["verdict"] == Verdict.PASS]:
        table.add_row(MARKS[Verdict.PASS], count(len(passing)), Text(", ".join(passing), "dim"))
    return table
