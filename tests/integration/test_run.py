"""The parallel run: counts that add up, nothing touched but scopes of its own, a route that is followed live."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from command import crossfade, document, environment
from fix_postgres import until
from fix_stores import Migration
from picture import picture
from prometheus_client.parser import text_string_to_metric_families

from adapters.prompts.contract import PromptRepository
from adapters.prompts.discover import OWN_PROJECT
from adapters.prompts.prompt import PromptFilter
from adapters.prompts.trace_codec import PromptCodec
from harness.routing import Store
from harness.statistics import Role, Statistics
from harness.trace import Recorder

ACME = "dispatch_organization_acme"
LEGACY_SCHEMAS = (ACME, "dispatch_organization_umbra", "dispatch_core")


@pytest.fixture
def filled(prepared_migration: Migration) -> Migration:
    """Forty-eight prompts of two tenants, each in new too, and a passed verification."""
    prepared_migration.forty_eight_prompts()
    prepared_migration.backfill()
    assert prepared_migration.drain() == 0
    assert prepared_migration.verify().verdict == "pass"
    return prepared_migration


def run(migration: Migration, *arguments: str) -> dict[str, Any]:
    """A run that ends well; its document."""
    done = crossfade(migration.app.settings, "run", "--json", *arguments)
    assert done.returncode == 0, done.stderr
    return document(done)


@contextmanager
def running(migration: Migration, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A run under way, in a process group of its own, none of which outlives the block."""
    process = subprocess.Popen(
        [sys.executable, "-m", "harness.cli", "run", "--json", *arguments],
        env=environment(migration.app.settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        _end_group(process)
        process.communicate()


def _end_group(process: subprocess.Popen[str]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return  # all of it has ended by itself


def ended(process: subprocess.Popen[str]) -> dict[str, Any]:
    """The document of a run that was asked to stop."""
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    found: dict[str, Any] = json.loads(out)
    return found


def own_projects(migration: Migration) -> list[int]:
    rows = migration.sql(f"SELECT id FROM {ACME}.project WHERE starts_with(name, :own)", own=OWN_PROJECT)
    return [row.id for row in rows]


def sessions(migration: Migration) -> int:
    """Connections that a run has to legacy."""
    [row] = migration.sql(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'crossfade run'"
        " AND datname = current_database()"
    )
    return int(row[0])


def assert_adds_up(done: dict[str, Any]) -> None:
    assert (
        done["operations"] == sum(done["served"].values()) - done["fallbacks"] - done["rerouted"] + done["unrecorded"]
    )
    assert done["compared"] == done["matched"] + done["ignored"] + done["mismatched"] + done["transient"]
    assert done["dropped"] <= done["not_compared"] == sum(done["drops"].values())
    by_operation = done["by_operation"].values()
    for name in ("matched", "mismatched", "transient", "not_compared"):
        assert done[name] == sum(operation[name] for operation in by_operation)
    for store in ("legacy", "new"):
        assert done["served"][store] == sum(operation["served"][store] for operation in by_operation)
        quantiles = done["latency_seconds"][store]
        assert set(quantiles) == {"p50", "p95", "p99"}
        assert 0 < quantiles["p50"] <= quantiles["p95"] <= quantiles["p99"]


def test_a_default_run_reads_only_and_its_counts_add_up(filled: Migration, tmp_path: Path) -> None:
    """Every call is a read, served by legacy, compared and found equal; no table of either side has changed."""
    settings = filled.app.settings
    legacy, new = picture(settings.legacy.url), picture(settings.new.url, "public")
    done = run(filled, "--seconds", "2", "--rate", "100")
    assert_adds_up(done)
    assert 0 < done["operations"] <= 200
    assert done["served"] == {"legacy": done["operations"], "new": 0}
    assert done["compared"] + done["not_compared"] == done["operations"]
    assert done["matched"] > 0
    assert (done["mismatched"], done["errors"], done["refused"]) == (0, 0, 0)
    assert set(done["by_operation"]) == {"find_by_id", "find_by_name", "find_all", "find_enabled_by_project"}
    assert picture(settings.legacy.url) == legacy
    assert picture(settings.new.url, "public") == new
    # The report has the same run, with the same numbers.
    told = crossfade(settings, "report", "--output", str(tmp_path / "report.json"))
    assert told.returncode == 0, told.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    for name in ("compared", "matched", "mismatched", "transient", "not_compared", "served"):
        assert report["operations"]["all"][name] == done[name]
    assert {row["operation"] for row in report["operations"]["rows"]} == set(done["by_operation"])
    assert report["runs"]["total"] == 1
    assert report["runs"]["rows"][0]["operations"] == done["operations"]


def test_writes_touch_only_scopes_of_the_runs_own(filled: Migration) -> None:
    """Two processes that write leave legacy as it was, nothing of theirs in either store, and both stores equal."""
    legacy = picture(filled.app.settings.legacy.url, *LEGACY_SCHEMAS)
    new = picture(filled.app.settings.new.url, "public")
    done = run(filled, "--seconds", "3", "--rate", "100", "--processes", "2", "--write-ratio", "0.3")
    assert_adds_up(done)
    assert done["errors"] == 0
    assert {"save", "update", "delete"} <= set(done["by_operation"])
    assert all(done["by_operation"][name]["served"]["new"] == 0 for name in ("save", "update", "delete"))
    assert own_projects(filled) == []
    assert picture(filled.app.settings.legacy.url, *LEGACY_SCHEMAS) == legacy
    assert filled.sql("SELECT 1 FROM crossfade.sidecar") == []
    assert filled.notes() == []
    assert picture(filled.app.settings.new.url, "public") == new
    assert filled.verify().verdict == "pass"
    assert done["mismatched"] == 0


def test_the_next_run_removes_what_a_killed_one_left(filled: Migration) -> None:
    """kill -9 of a run that writes, all its processes at once: its project and prompts go with the next such run."""
    legacy = picture(filled.app.settings.legacy.url, *LEGACY_SCHEMAS)
    with running(filled, "--seconds", "300", "--processes", "2", "--write-ratio", "0.5") as doomed:
        until(lambda: _written_in_own(filled) > 1)
        _end_group(doomed)
    until(lambda: sessions(filled) == 0)
    assert len(own_projects(filled)) == 2
    run(filled, "--seconds", "1", "--write-ratio", "0.3")
    assert own_projects(filled) == []
    assert picture(filled.app.settings.legacy.url, *LEGACY_SCHEMAS) == legacy
    assert filled.notes() == []
    assert filled.verify().verdict == "pass"


def _written_in_own(migration: Migration) -> int:
    """In how many projects of runs there are prompts."""
    [row] = migration.sql(
        f"SELECT count(DISTINCT project_id) FROM {ACME}.prompt WHERE project_id = ANY(:own)",
        own=own_projects(migration),
    )
    return int(row[0])


def test_processes_end_when_their_parent_was_killed(filled: Migration) -> None:
    """kill -9 of the command alone: its processes notice, remove what they wrote, and end."""
    with running(filled, "--seconds", "300", "--processes", "2", "--write-ratio", "0.5") as doomed:
        until(lambda: _written_in_own(filled) > 1)
        doomed.kill()
        until(lambda: sessions(filled) == 0)
    assert own_projects(filled) == []
    assert filled.drain() == 0
    assert filled.verify().verdict == "pass"


def _served_by_process(migration: Migration, store: Store) -> dict[str, int]:
    """How many calls each process has had served by the store, as far as the ledger knows."""
    served: dict[str, int] = {}
    for row in migration.new_sql("SELECT process, body FROM crossfade.statistics"):
        counted = Statistics.load(row.body).latency(store, Role.SERVED).count
        served[str(row.process)] = served.get(str(row.process), 0) + counted
    return served


def test_every_process_follows_a_ramp(filled: Migration) -> None:
    """While two processes run, ramp moves the reads of both; asked to stop, the run tells its totals."""
    settings = filled.app.settings
    with running(filled, "--seconds", "300", "--rate", "200", "--processes", "2") as going:
        until(lambda: sum(n > 0 for n in _served_by_process(filled, Store.LEGACY).values()) == 2)
        assert set(_served_by_process(filled, Store.NEW).values()) == {0}
        assert crossfade(settings, "ramp", "--reads", "100", "--reason", "a test").returncode == 0
        until(lambda: all(n > 0 for n in _served_by_process(filled, Store.NEW).values()))
        # From here on nothing more is served by legacy: a second look finds its counts unchanged.
        legacy, new = _served_by_process(filled, Store.LEGACY), _served_by_process(filled, Store.NEW)
        until(lambda: all(n > new[name] for name, n in _served_by_process(filled, Store.NEW).items()))
        assert _served_by_process(filled, Store.LEGACY) == legacy
        done = ended(going)
    assert_adds_up(done)
    assert min(done["served"].values()) > 0
    assert (done["mismatched"], done["errors"]) == (0, 0)


def test_the_route_decides_who_serves(filled: Migration) -> None:
    """At 100 % every read is served by new and compared with legacy; without a shadow share nothing is compared."""
    settings = filled.app.settings
    assert crossfade(settings, "ramp", "--reads", "100").returncode == 0
    done = run(filled, "--seconds", "1", "--rate", "50")
    assert done["served"] == {"legacy": 0, "new": done["operations"]}
    assert done["compared"] + done["not_compared"] == done["operations"] > 0
    assert crossfade(settings, "ramp", "--reads", "0", "--shadow", "0").returncode == 0
    done = run(filled, "--seconds", "1", "--rate", "50")
    assert done["served"] == {"legacy": done["operations"], "new": 0}
    assert (done["compared"], done["not_compared"]) == (0, 0)
    assert done["latency_seconds"]["new"] == {"p50": None, "p95": None, "p99": None}


def test_a_seeded_fault_is_found(filled: Migration) -> None:
    """Rows edited behind everybody's back are mismatches, confirmed by later looks, and in the ledger."""
    filled.behind("UPDATE prompts SET content = content || ' (edited)'")
    done = run(filled, "--seconds", "2", "--rate", "50", "--mix", "find_by_id=1")
    assert_adds_up(done)
    assert done["mismatched"] > 0
    assert (done["matched"], done["transient"]) == (0, 0)
    samples = filled.new_sql("SELECT * FROM crossfade.mismatch")
    assert samples


def test_a_recorded_trace_is_replayed(filled: Migration, tmp_path: Path) -> None:
    """Each recorded call is made once, in order and at once with --speed 0, through the router."""
    keys = filled.new_sql("SELECT id, name, project_id FROM prompts ORDER BY id")
    trace = tmp_path / "calls.jsonl"
    with Recorder(PromptRepository, filled.stores.legacy_repository, PromptCodec(), trace, time.monotonic) as recorder:
        for row in keys:
            recorder.find_by_id(row.id)
            recorder.find_by_name(row.name, row.project_id)
        recorder.find_all(PromptFilter(organization_id="acme", limit=10))
    done = run(filled, "--trace", str(trace), "--speed", "0")
    assert_adds_up(done)
    assert done["operations"] == 2 * len(keys) + 1 == len(trace.read_text().splitlines())
    served = {name: counted["served"]["legacy"] for name, counted in done["by_operation"].items()}
    assert served == {"find_by_id": len(keys), "find_by_name": len(keys), "find_all": 1}
    assert (done["mismatched"], done["errors"], done["refused"]) == (0, 0, 0)


def test_a_trace_that_writes_needs_leave(filled: Migration, tmp_path: Path) -> None:
    """A trace with a write in it is refused as a whole, before its first call."""
    trace = tmp_path / "calls.jsonl"
    [row] = filled.new_sql("SELECT id FROM prompts LIMIT 1")
    for name in ("find_by_id", "delete"):
        with trace.open("a") as lines:
            lines.write(json.dumps({"at": 0, "operation": name, "arguments": {"id": str(row.id)}}) + "\n")
    done = crossfade(filled.app.settings, "run", "--json", "--trace", str(trace))
    assert (done.returncode, done.stdout) == (4, "")
    assert "line 2" in done.stderr
    assert "remove such lines" in done.stderr
    assert filled.verify().verdict == "pass"


def test_one_port_shows_all_processes(filled: Migration) -> None:
    """--metrics-port serves the sum of all processes' calls, and the stores' gauges, while the run goes on."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with running(filled, "--seconds=300", "--rate=50", "--processes=2", f"--metrics-port={port}") as going:
        until(lambda: sum(n > 0 for n in _served_by_process(filled, Store.LEGACY).values()) == 2)
        # What a process has handed to the ledger it has published before.
        in_ledger = sum(_served_by_process(filled, Store.LEGACY).values())
        assert _metric(port, "crossfade_operations_total", role="served") >= in_ledger
        assert _metric(port, "crossfade_route_percent", kind="shadow") == 100
        assert _names(port) >= {"crossfade_lag_seconds", "crossfade_dirty_keys", "crossfade_quarantined_rows"}
        assert ended(going)["operations"] >= in_ledger


def _scraped(port: int) -> list[Any]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
            return list(text_string_to_metric_families(answer.read().decode()))
    except OSError:
        return []  # it does not listen yet


def _metric(port: int, name: str, **labels: str) -> float:
    samples = [sample for family in _scraped(port) for sample in family.samples if sample.name == name]
    return float(sum(sample.value for sample in samples if labels.items() <= sample.labels.items()))


def _names(port: int) -> set[str]:
    return {sample.name for family in _scraped(port) for sample in family.samples}
