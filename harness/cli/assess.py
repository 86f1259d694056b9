"""``crossfade assess``: what will not fit, and why, before anything is written."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from adapters.prompts.assessment.assess import BLOCKS, DECIDE, NOTE, Assessment
from adapters.prompts.assessment.assess import assess as assess_stores
from adapters.prompts.migration import opened
from harness.cli.app import App, command

_COLOURS = {BLOCKS: "red", DECIDE: "yellow", NOTE: "dim"}


@command("crossfade assess")
def assess(app: App) -> None:
    """Look at both databases, and say what will not fit in the new one, how often, and what to do about it.

    Writes nothing, and needs nothing of Crossfade's to be there. Ends with 0 whatever it finds.
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
        tenants.add_row(each.tenant.replace("[", "\\["), *(f"{n:,}" for n in counts))
    out.print(tenants)
    findings = Table("", "what was found", "for example", box=None)
    for finding in found.findings:
        severity = f"[{_COLOURS[finding.severity]}]{finding.severity}[/]"
        findings.add_row(severity, finding.text.replace("[", "\\["), ", ".join(finding.examples).replace("[", "\\["))
    out.print(findings)
    out.print(f"[bold]{found.recommendation}[/]", highlight=False)
    out.print(found.settings_to_copy.replace("[", "\\["), highlight=False)
