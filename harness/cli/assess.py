"""``crossfade assess``: what will not fit, and why, before anything is written."""

from __future__ import annotations

from collections.abc import Callable

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from adapters.prompts.assessment.assess import BLOCKS, DECIDE, NOTE, Assessment
from adapters.prompts.assessment.assess import assess as assess_stores
from adapters.prompts.assessment.findings import Estimate, Range
from adapters.prompts.migration import opened
from harness.cli.app import App, command, facts
from harness.words import count, counted, duration, size

_COLOURS = {BLOCKS: "red", DECIDE: "yellow", NOTE: "dim"}


@command("crossfade assess")
def assess(app: App) -> None:
    """Look at both databases, and say what will not fit in the new one, how often, and what to do about it.

    Says also how long copying and verifying may take, and how much disk they want: estimates, from a sample of rows
    that is really read. Rows are counted in the database, in one pass over each tenant's prompts and one over their
    unique index. Writes nothing, and needs nothing of Crossfade's to be there. Ends with 0 whatever it finds.
    """
    with opened(app.settings, bulk=True) as stores:
        found = assess_stores(stores.legacy, stores.new, app.settings)
    app.result(found.as_json(), lambda out: show(out, found))


def show(out: Console, found: Assessment) -> None:
    out.print(f"legacy: PostgreSQL {found.legacy_version}   new: PostgreSQL {found.new_version}", highlight=False)
    tenants = Table("tenant", box=None)
    for name in ("prompts", "enabled", "projects", "longest", "to quarantine"):
        tenants.add_column(name, justify="right")
    for each in found.tenants:
        counts = (each.rows, each.enabled, each.projects, each.longest_content, sum(each.reasons.values()))
        tenants.add_row(escape(each.tenant), *(f"{n:,}" for n in counts))
    out.print(tenants)
    out.print(estimated(found.estimate))
    findings = Table("", "what was found", "for example", box=None)
    for finding in found.findings:
        severity = f"[{_COLOURS[finding.severity]}]{finding.severity}[/]"
        findings.add_row(severity, escape(finding.text), escape(", ".join(finding.examples)))
    out.print(findings)
    out.print(f"[bold]{found.recommendation}[/]", highlight=False)
    out.print(found.settings_to_copy, markup=False, highlight=False, soft_wrap=True)  # to be copied as it stands


def estimated(found: Estimate) -> Table:
    """The estimates as people read them."""
    growth = found.growth
    return facts(
        {
            "to copy": f"{counted(found.rows, 'row')}; estimated from {count(found.sampled)} that were read and timed",
            "copy": _between(found.copy, duration),
            "verify": _between(found.verify, duration),
            "new grows by": f"{_between(growth.table, size)}, indexes {_between(growth.indexes, size)}",
            "new's log": _between(growth.wal, size),
            "free disk, new": f"{size(growth.disk)}, with a margin",
            "legacy grows by": f"{_between(growth.legacy_index, size)}, sidecar {_between(growth.sidecar, size)}",
            "free disk, legacy": f"{size(growth.legacy_disk)}, with a margin",
        }
    )


def _between(found: Range, said: Callable[[float], str]) -> str:
    return f"{said(found.low)} to {said(found.high)}"
