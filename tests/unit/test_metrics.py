"""Metrics: what is published arrives, is documented, and has labels from closed sets only."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import urllib.request
from pathlib import Path
from uuid import uuid4

import pytest
from fakes import InMemoryPrompts, RouteBook, prompt
from prometheus_client import CollectorRegistry, generate_latest

from adapters.metrics.multiprocess import VARIABLE, forget_process, fresh_multiprocess_directory, shared_registry
from adapters.metrics.prometheus import PrometheusPublisher, Standing, serve
from adapters.prompts.contract import PromptRepository
from harness.backfill import Copied
from harness.catchup import Carried
from harness.errors import ConfigError, StoreUnavailable
from harness.gates import GATES
from harness.operations import operations_of
from harness.phases import Phase
from harness.records import Backlog, Verdict
from harness.router import Router
from harness.routing import Store
from harness.settings import ShadowSettings
from harness.statistics import Drop, Failure, Result, Role, Statistics

DOCUMENT = Path(__file__).parents[2] / "docs" / "metrics.md"


def everything() -> CollectorRegistry:
    """A registry on which each metric, and each value of each closed set, was published once."""
    registry = CollectorRegistry()
    publisher = PrometheusPublisher(registry)
    counted = Statistics()
    counted.comparisons.update({("save", result): 1 for result in Result})
    counted.fields.update([("find_all", "content")])
    counted.rules.update([("find_all", "stamps")])
    counted.drops.update(Drop)
    counted.fallbacks.update(["find_all"])
    counted.unrecorded.update(["find_all"])
    counted.rerouted.update(["save"])
    counted.failures.update(Failure)
    publisher.counts(counted)
    for store in Store:
        publisher.backlog(store, Backlog(3, 1.5))
        for role in Role:
            for failed in (False, True):
                publisher.calls("find_all", store, role, [0.001, 0.2], failed)
    publisher.route(RouteBook.of(reads=25).view())
    publisher.authority(1, dict.fromkeys(Store, 2), unfinished=True)
    publisher.quarantined(4)
    publisher.standing(
        Standing(Phase.RAMPING, dict.fromkeys(Store, True), 1.7e9, 1, dict.fromkeys(GATES, Verdict.INCONCLUSIVE))
    )
    publisher.carried(Carried(notes=9, upserted=5, deleted=3, quarantined=1))
    publisher.copied(Copied(copied=7, already_there=2, quarantined=1, deferred=1))
    return registry


def documented() -> tuple[dict[str, set[str]], dict[str, set[str]]]:
    """The metrics with their labels, and the values by label, as docs/metrics.md has them."""
    metrics: dict[str, set[str]] = {}
    values: dict[str, set[str]] = {}
    for line in DOCUMENT.read_text(encoding="utf-8").splitlines():
        cells = [re.sub(r"\([^)]*\)", "", cell) for cell in line.split("|")[1:-1]]
        if len(cells) == 3 and "crossfade_" in cells[0]:
            metrics[cells[0].strip(" `")] = set(re.findall(r"`(\w+)`", cells[1]))
        elif len(cells) == 2 and "`" in cells[0]:
            label = re.findall(r"`(\w+)`", cells[0])[0]
            values.setdefault(label, set()).update(re.findall(r"`(\w+)`", cells[1]))
    return metrics, values


def test_the_document_lists_exactly_the_metrics_that_exist() -> None:
    """docs/metrics.md names every metric with its labels, and none that does not exist."""
    found: dict[str, set[str]] = {}
    for family in everything().collect():
        name = f"{family.name}_total" if family.type == "counter" else family.name
        found[name] = {label for sample in family.samples for label in sample.labels} - {"le"}
    assert found == documented()[0]


def test_labels_come_from_closed_sets() -> None:
    """Each label's values are those that the document lists; operations, fields and rules are named elsewhere."""
    values = documented()[1]
    operations = set(operations_of(PromptRepository))
    for family in everything().collect():
        for sample in family.samples:
            for label, value in sample.labels.items():
                if label == "operation":
                    assert value in operations
                elif label == "gate":
                    assert value in GATES
                elif label not in ("le", "field", "rule"):
                    assert value in values[label], f"{family.name}{{{label}={value!r}}}"
    assert values["reason"] == {str(reason) for reason in Drop}
    assert values["part"] == {str(part) for part in Failure}


def test_series_begin_at_zero() -> None:
    """What may be counted later is shown as 0 first: Prometheus sees no step in a series that begins with one."""
    registry = CollectorRegistry()
    publisher = PrometheusPublisher(registry)
    assert registry.get_sample_value("crossfade_comparisons_dropped_total", {"reason": "queue_full"}) == 0
    assert registry.get_sample_value("crossfade_failures_total", {"part": "gauges"}) == 0
    publisher.calls("find_all", Store.LEGACY, Role.SERVED, [0.1], False)
    mismatched = {"operation": "find_all", "result": "mismatched"}
    failed = {"operation": "find_all", "store": "new", "role": "shadowed", "outcome": "failed"}
    assert registry.get_sample_value("crossfade_comparisons_total", mismatched) == 0
    assert registry.get_sample_value("crossfade_operations_total", failed) == 0
    assert registry.get_sample_value("crossfade_fallbacks_total", {"operation": "find_all"}) == 0


def test_the_standing_arrives() -> None:
    """Phase, guards, verification, rejected scopes and gates are gauges; the least verdict is that of all gates."""
    registry = everything()
    assert registry.get_sample_value("crossfade_phase", {"phase": "RAMPING"}) == 1
    assert registry.get_sample_value("crossfade_phase", {"phase": "IDLE"}) == 0
    assert registry.get_sample_value("crossfade_guard_enforcing", {"store": "new"}) == 1
    assert registry.get_sample_value("crossfade_verification_timestamp_seconds") == 1.7e9
    assert registry.get_sample_value("crossfade_rejected_scopes") == 1
    publisher = PrometheusPublisher(other := CollectorRegistry())
    for verdict, value in ((Verdict.FAIL, 0), (Verdict.INCONCLUSIVE, 1), (Verdict.PASS, 2)):
        publisher.standing(Standing(Phase.IDLE, {}, 0.0, 0, {"lag": verdict}))
        assert other.get_sample_value("crossfade_gate", {"gate": "lag"}) == value


def test_what_a_router_does_arrives() -> None:
    """Operations, latencies, comparisons, fields, drops and the route of a running router are published."""
    row = prompt()
    registry = CollectorRegistry()
    legacy, new = InMemoryPrompts(row), InMemoryPrompts()
    with Router[PromptRepository](
        PromptRepository,
        legacy=legacy,
        new=new,
        routes=RouteBook.of(shadow=100),
        publisher=PrometheusPublisher(registry),
        settings=ShadowSettings(look_seconds=0.01),
    ) as router:
        router.repository.find_by_id(row.id)
        router.repository.find_by_id(uuid4())
        assert router.settle(5)

        def away(name: str) -> None:
            raise StoreUnavailable("new is away")

        new.before = away
        router.repository.find_by_id(row.id)
        assert router.settle(5)

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(name, labels)

    served = {"operation": "find_by_id", "store": "legacy", "role": "served"}
    shadowed = {"operation": "find_by_id", "store": "new", "role": "shadowed"}
    assert value("crossfade_operations_total", **served, outcome="answered") == 3
    assert value("crossfade_operations_total", **shadowed, outcome="failed") == 1
    assert value("crossfade_operation_seconds_count", **served) == 3
    assert value("crossfade_comparisons_total", operation="find_by_id", result="mismatched") == 1
    assert value("crossfade_comparisons_total", operation="find_by_id", result="matched") == 1
    assert value("crossfade_comparisons_total", operation="find_by_id", result="not_compared") == 1
    assert value("crossfade_mismatched_fields_total", operation="find_by_id", field="presence") == 1
    assert value("crossfade_comparisons_dropped_total", reason="store_failed") == 1
    assert value("crossfade_route_percent", kind="shadow") == 100
    assert value("crossfade_route_epoch") == 1


def test_metrics_are_served_and_the_port_is_given_back() -> None:
    """Within the block the port answers with the metrics; a taken port is one clear ConfigError."""
    registry = everything()
    with serve(0, registry) as port:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
            text = answer.read().decode()
        assert "crossfade_quarantined_rows 4.0" in text
        with pytest.raises(ConfigError, match=f"port {port}"), serve(port, registry):
            pass
    with serve(port, registry) as again:
        assert again == port


PROCESS = """
from prometheus_client import CollectorRegistry
from adapters.metrics.prometheus import PrometheusPublisher
from harness.routing import Route, RouteView, Store
from harness.statistics import Role
import os
publisher = PrometheusPublisher(CollectorRegistry())
publisher.calls("find", Store.NEW, Role.SERVED, [0.5, 0.5], False)
publisher.route(RouteView(Route(reads_percent=10)))
print(os.getpid())
"""


def test_many_processes_are_served_as_one() -> None:
    """Counters of all processes add up, gauges of one that ended are forgotten, and the directory goes at the end."""
    before = os.environ.get(VARIABLE)
    with fresh_multiprocess_directory() as directory:
        pids = [
            int(subprocess.run([sys.executable, "-c", PROCESS], check=True, capture_output=True, text=True).stdout)
            for _ in range(3)
        ]
        registry = shared_registry(directory)
        labels = {"operation": "find", "store": "new", "role": "served"}
        assert registry.get_sample_value("crossfade_operations_total", {**labels, "outcome": "answered"}) == 6
        assert registry.get_sample_value("crossfade_operation_seconds_count", labels) == 6
        assert registry.get_sample_value("crossfade_route_percent", {"kind": "reads"}) == 10
        for pid in pids:
            forget_process(pid, directory)
        assert b"crossfade_route_percent{" not in generate_latest(registry)
        assert registry.get_sample_value("crossfade_operations_total", {**labels, "outcome": "answered"}) == 6
    assert not directory.exists()
    assert os.environ.get(VARIABLE) == before
