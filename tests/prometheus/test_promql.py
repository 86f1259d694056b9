"""Gates on PromQL against a real Prometheus: in the report, before a cutover, and in the hands of a ramp."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from command import crossfade, document
from fix_postgres import Databases, until
from fix_stores import Migration, create_tenants, migration_between
from monitoring import Prometheus, free_port, needs_prometheus, prometheus
from rich.console import Console

from adapters.metrics.asking import ask
from harness.cli.autoramp import ramp_by_itself, steer
from harness.cli.gathering import gather
from harness.cli.shares import ramp_shares
from harness.deciding import GateSettings, RampSettings
from harness.errors import ConfigError, MismatchFound
from harness.evidence import Evidence
from harness.gates import Gate, evaluate
from harness.gates.prometheus import gate_of
from harness.phases import Phase
from harness.promql import PrometheusSettings
from harness.records import PhaseState, Verdict
from harness.routing import Route

pytestmark = [needs_prometheus, pytest.mark.slow]

PASS, FAIL, INCONCLUSIVE = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A Prometheus that scrapes a port where nobody listens, and knows so."""
    folder = tmp_path_factory.mktemp("gates")
    configuration = folder / "prometheus.yml"
    configuration.write_text(
        "global: {scrape_interval: 1s}\nscrape_configs:\n- job_name: nobody\n"
        f"  static_configs: [{{targets: ['127.0.0.1:{free_port()}'], labels: {{room: attic}}}}]\n"
    )
    with prometheus(configuration, folder / "data") as server:
        until(lambda: server.has("up"))
        yield server


@pytest.fixture
def verified(databases: Databases) -> Iterator[Callable[..., Migration]]:
    """A copied and verified migration, made with these gates on PromQL; a ramp of two steps that asks them alone."""
    with migration_between(databases) as made:
        with made.stores.legacy.begin() as connection:
            create_tenants(connection)
        made.prepare()
        made.prompt(project=1, enabled=True)
        made.backfill()
        assert made.drain() == 0
        assert made.verify().verdict is PASS

        def with_gates(url: str, *gates: PrometheusSettings) -> Migration:
            settings = replace(
                made.app.settings,
                gates=GateSettings(prometheus_url=url, prometheus=gates),
                ramp=RampSettings(
                    reads=(10.0,), writes=(), step_seconds=0.0, look_seconds=0.05, gates=tuple(g.gate for g in gates)
                ),
            )
            app = replace(made.app, settings=settings)
            return Migration(app, replace(made.stores, settings=settings))

        yield with_gates


def address(server: Prometheus) -> str:
    return f"http://127.0.0.1:{server.port}"


def judged(server: Prometheus, query: str, least: float | None = None, most: float | None = None) -> Gate:
    """The gate's verdict on what the server answers now, without a migration."""
    asked = PrometheusSettings("asked", query, max=most, min=least)
    now = datetime.now(UTC)
    evidence = Evidence(
        now, PhaseState(Phase.IDLE, 1, now, "a test", ""), Route(), "", prometheus=ask([asked], address(server))
    )
    return gate_of(asked, evidence)


@pytest.mark.parametrize(
    ("query", "least", "most", "verdict", "said"),
    [
        ("up", None, 1.0, PASS, "1 value, 0; limit at most 1"),
        ("up", 1.0, None, FAIL, 'job="nobody", room="attic"} 0'),
        ("scalar(up)", None, 0.0, PASS, "1 value, 0"),
        ("vector(1) / 0", None, 1.0, FAIL, "beyond the limit, at most 1: inf"),
        ("vector(0) / 0", None, 1.0, INCONCLUSIVE, "no number"),
        ("no_such_series", None, 1.0, INCONCLUSIVE, "nothing was measured"),
        ("no_such_series or vector(0)", None, 1.0, PASS, "1 value, 0"),
        ("up[1m]", None, 1.0, INCONCLUSIVE, "a matrix; an instant vector"),
        ('"text"', None, 1.0, INCONCLUSIVE, "a string; an instant vector"),
        ("sum(", None, 1.0, INCONCLUSIVE, "refuses the query"),
        ("up == bool on(room) group_left up or", None, 1.0, INCONCLUSIVE, "refuses the query"),
    ],
)
def test_what_prometheus_answers_is_judged(
    real: Prometheus, query: str, least: float | None, most: float | None, verdict: Verdict, said: str
) -> None:
    """Series, scalars, nothing, what is no number, and queries that are none: each as the real server answers it."""
    found = judged(real, query, least, most)
    assert found.verdict is verdict, found.evidence
    assert said in found.evidence


def test_report_and_cutover_show_them(real: Prometheus, verified: Callable[..., Migration], tmp_path: Path) -> None:
    """The commands ask the server: the report has the gate with its figures, a cutover is refused by its name."""
    migration = verified(address(real), PrometheusSettings("attic", "up", min=1.0))
    file = tmp_path / "crossfade.toml"
    file.write_text("[[gates.prometheus]]\nname = 'attic'\nquery = 'up'\nmin = 1\n")
    more = {"CROSSFADE_PROMETHEUS_URL": address(real)}
    done = crossfade(
        migration.app.settings, "report", "--json", "--config", str(file), "--output", str(tmp_path / "out"), **more
    )
    (shown,) = [each for each in document(done)["gates"] if each["name"] == "prometheus:attic"]
    assert shown["verdict"] == "fail"
    assert shown["figures"]["samples"][0]["value"] == 0.0
    kept = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert "prometheus:attic" in {each["name"] for each in kept["gates"]}
    ramp_shares(migration.app, migration.stores, 100.0, 0.0, "a test")
    refused = crossfade(migration.app.settings, "cutover", "--yes", "--config", str(file), "--reason", "a test", **more)
    assert refused.returncode == 4
    assert "prometheus:attic" in refused.stderr


def test_a_ramp_follows_them(real: Prometheus, verified: Callable[..., Migration]) -> None:
    """A ramp that asks a gate on PromQL alone goes up while it passes."""
    migration = verified(address(real), PrometheusSettings("calm", "vector(1)", max=1.0))
    done = ramp_by_itself(migration.app, migration.stores, "a test")
    assert (done["state"], done["reads_percent"]) == ("done", 10.0)


def test_a_ramp_retreats_from_one_that_fails(real: Prometheus, verified: Callable[..., Migration]) -> None:
    """The retreat names the gate, the labels and the value."""
    migration = verified(address(real), PrometheusSettings("attic", "up", min=1.0))
    ramp_shares(migration.app, migration.stores, 10.0, 0.0, "a test")
    with pytest.raises(MismatchFound, match=r'prometheus:attic: 1 of 1 value .*room="attic"} 0'):
        ramp_by_itself(migration.app, migration.stores, "a test")
    assert migration.stores.routes.view().route.reads_percent == 0.0


def test_a_ramp_holds_while_prometheus_is_away(verified: Callable[..., Migration]) -> None:
    """Nobody listens there: the ramp neither advances nor retreats until it is stopped."""
    migration = verified(f"http://127.0.0.1:{free_port()}", PrometheusSettings("calm", "vector(1)", max=1.0))
    (gate,) = evaluate(
        gather(migration.stores), migration.stores.settings.gates, only=migration.stores.settings.ramp.gates
    )
    assert gate.verdict is INCONCLUSIVE
    assert "cannot be reached" in gate.evidence
    log = io.StringIO()
    app = replace(migration.app, log=Console(file=log))
    running = threading.Thread(target=lambda: ramp_by_itself(app, migration.stores, "a test"))
    running.start()
    try:
        until(lambda: "prometheus:calm inconclusive" in log.getvalue())
        assert migration.stores.routes.view().route.reads_percent == 0.0
    finally:
        stopped = steer(migration.stores, "stop", "enough")
        running.join()
    assert (stopped["state"], stopped["step"]) == ("stopped", 0)


def test_a_ramp_knows_their_names(verified: Callable[..., Migration]) -> None:
    """A gate on PromQL that is not there is refused before anything is done, and those there are are listed."""
    migration = verified("http://localhost:1", PrometheusSettings("calm", "vector(1)", max=1.0))
    settings = replace(migration.stores.settings, ramp=RampSettings(gates=("prometheus:storm",)))
    with pytest.raises(ConfigError, match=r"no gate prometheus:storm; there are .*, prometheus:calm"):
        ramp_by_itself(migration.app, replace(migration.stores, settings=settings), "a test")
