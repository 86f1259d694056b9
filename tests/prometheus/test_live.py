"""A real Prometheus watches a migration under way: every rule and every panel has data."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial

import pytest
from command import crossfade, environment
from fix_postgres import Databases, Server, until
from fix_stores import Migration, create_tenants, migration_between
from monitoring import Prometheus, free_port, names_in, needs_prometheus, plain, prometheus

from adapters.observability.alerts import Alert, alerting_rules
from adapters.observability.boards import boards
from adapters.observability.files import PROMETHEUS, Place, files
from adapters.observability.rules import Recorded, recording_rules
from harness.settings import Settings

pytestmark = [needs_prometheus, pytest.mark.slow]

SETTINGS = Settings()
QUERIES = {
    f"{board.uid} / {panel.title} / {query.legend}": query.expression
    for board in boards(SETTINGS)
    for panel in board.panels
    for query in panel.queries
}
# What has no data while all is well, and why. The last test seeds the faults that fill each of them.
EMPTY_IN_HEALTH = {
    "Differing fields": "a field has a series once it has differed",
    "Ignored by rule": "a rule has a series once it has excused something",
    "Alerts that fire": "none does",
}
RULE = "[[compare.rules]]\nname = 'counts-anew'\nfield = 'version'\naction = 'ignore'\nreason = 'of the test'\n"


@dataclass(frozen=True)
class Watched:
    migration: Migration
    prometheus: Prometheus


@contextmanager
def working(migration: Migration, *arguments: str) -> Iterator[None]:
    """A command under way, in a process group of its own, asked to end with the block."""
    process = subprocess.Popen(
        [sys.executable, "-m", "harness.cli", *arguments, "--json"],
        env=environment(migration.app.settings),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(30)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def watched(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """Half of the reads and of the scopes are new's; catch-up follows, a run reads and writes, Prometheus looks on."""
    with ExitStack() as stack:
        migration = stack.enter_context(migration_between(Databases(stack, server)))
        _fill(migration)
        done = crossfade(migration.app.settings, "ramp", "50", "--reason", "a test")
        assert done.returncode == 0, done.stderr
        ports = free_port(), free_port()
        folder = tmp_path_factory.mktemp("monitoring")
        for name, text in files(SETTINGS, Place(tuple(f"127.0.0.1:{port}" for port in ports), seconds=1)).items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text, encoding="utf-8")
        stack.enter_context(working(migration, "catchup", "--follow", f"--metrics-port={ports[0]}"))
        load = ("--seconds=3600", "--rate=60", "--write-ratio=0.2", f"--metrics-port={ports[1]}")
        (folder / "crossfade.toml").write_text(RULE, encoding="utf-8")
        stack.enter_context(working(migration, "run", *load, f"--config={folder / 'crossfade.toml'}"))
        yield Watched(migration, stack.enter_context(prometheus(folder / PROMETHEUS, folder / "data")))


def _fill(migration: Migration) -> None:
    """Prompts in both stores, verified."""
    with migration.stores.legacy.begin() as connection:
        create_tenants(connection)
    migration.prepare()
    migration.sql(
        "INSERT INTO dispatch_organization_acme.prompt"
        " (genai_type, genai_prompt, enabled, created_at, updated_at, project_id)"
        " SELECT t, 'text ' || t || p, true, timestamp '2024-05-05 10:00', timestamp '2024-05-06 10:00', p"
        " FROM generate_series(1, 6) p, generate_series(1, 4) t"
    )
    migration.backfill()
    assert migration.drain() == 0
    assert migration.verify().verdict == "pass"


def is_empty_in_health(name: str) -> bool:
    return name.split(" / ")[1] in EMPTY_IN_HEALTH


def test_all_that_is_scraped_is_up(watched: Watched) -> None:
    """Both processes are found at the addresses of the configuration."""
    until(lambda: len(watched.prometheus.series('up{job="crossfade"} == 1')) == 2)


@pytest.mark.parametrize("rule", recording_rules(), ids=lambda rule: rule.name)
def test_recording_rules_find_data(watched: Watched, rule: Recorded) -> None:
    """Each ratio is recorded, and its expression has a value now."""
    until(lambda: watched.prometheus.has(rule.name) and watched.prometheus.has(rule.expression))


@pytest.mark.parametrize("alert", alerting_rules(SETTINGS), ids=lambda alert: alert.name)
def test_alerts_look_at_data(watched: Watched, alert: Alert) -> None:
    """Each alert's expression can be evaluated, and every series that it reads is there."""
    watched.prometheus.series(alert.expression)
    for name in names_in(alert.expression):
        until(partial(watched.prometheus.has, name))


@pytest.mark.parametrize("name", [name for name in QUERIES if not is_empty_in_health(name)])
def test_panels_find_data(watched: Watched, name: str) -> None:
    """Each query of each board, with its variables at All, has data of the migration under way."""
    until(lambda: watched.prometheus.has(plain(QUERIES[name])))


def test_prometheus_is_content_with_every_rule(watched: Watched) -> None:
    """No rule has failed since the start, and every board's variable has values."""
    groups = watched.prometheus.get("rules")["groups"]
    found = [rule for group in groups for rule in group["rules"]]
    assert len(found) == len(recording_rules()) + len(alerting_rules(SETTINGS))
    assert [rule["name"] for rule in found if rule["health"] == "err"] == []
    for label, wanted in (("job", {"crossfade"}), ("store", {"legacy", "new"}), ("operation", {"find_by_id", "save"})):
        assert wanted <= set(watched.prometheus.get(f"label/{label}/values"))


def test_seeded_faults_show(watched: Watched) -> None:
    """Rows edited behind everybody's back and a write past the guard: the mismatch's alert is on its way, the rogue
    write's fires with its texts filled in, and the panels that were empty have data.
    """
    migration, server = watched.migration, watched.prometheus
    quiet = [name for name in QUERIES if is_empty_in_health(name)]
    assert {name.split(" / ")[1] for name in quiet} == set(EMPTY_IN_HEALTH)
    for name in quiet:
        assert not server.has(plain(QUERIES[name])), f"{name} is not empty in health"
    until(lambda: server.has("crossfade_rogue_writes"))
    migration.new_sql("UPDATE crossfade.route SET guard = 'record'")
    migration.new_sql(
        "INSERT INTO prompts (name, content, type, project_id, organization_id, enabled)"
        " SELECT 'stray', 'stray', type, project_id, organization_id, false FROM prompts"
        " WHERE id = ANY(:legacy_has)",
        legacy_has=_of_legacy(migration),
    )
    migration.behind("UPDATE prompts SET version = version + 1")
    until(lambda: server.has('crossfade_ignored_comparisons_total{rule="counts-anew"}'))
    migration.behind("UPDATE prompts SET content = content || ' (edited)'")
    until(lambda: server.has('ALERTS{alertname="CrossfadeRogueWrites",alertstate="firing"}'))
    until(lambda: server.has('ALERTS{alertname="CrossfadeMismatchesFast"}'))
    for name in quiet:
        until(partial(server.has, plain(QUERIES[name])))
    [rogue] = [each for each in server.get("alerts")["alerts"] if each["labels"]["alertname"] == "CrossfadeRogueWrites"]
    assert rogue["annotations"]["summary"] == "new took writes without authority"
    assert rogue["annotations"]["description"].startswith("1 within the last hour.")
    until(lambda: server.has('crossfade_guard_enforcing{store="new"} == 0'))


def _of_legacy(migration: Migration) -> list[object]:
    """One prompt whose scope legacy has authority over, with no disabled one beside it."""
    route = migration.stores.routes.view().route
    rows = migration.new_sql("SELECT id, project_id FROM prompts WHERE organization_id = 'acme' ORDER BY id")
    return [row.id for row in rows if route.authority(row.project_id).value == "legacy"][:1]
