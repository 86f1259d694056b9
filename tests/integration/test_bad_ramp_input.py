"""What cannot be a ramp or a report: said clearly, with the documented exit code, before anything is changed."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from fix_stores import Migration
from test_cli import NOWHERE, assert_refused, elsewhere, invoke, on, unchanged

__all__ = ["elsewhere", "unchanged"]  # the fixtures

AUTO = ("ramp", "--auto", "--config", "ramp.toml")


def settings(place: Path, text: str) -> None:
    (place / "ramp.toml").write_text(text)


@pytest.mark.parametrize("command", [AUTO, ("report", "--config", "ramp.toml")], ids=["ramp", "report"])
@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[ramp]\nreads = [10, 5]", "ramp.reads must rise"),
        ("[ramp]\nreads = [10, 10]", "ramp.reads must rise"),
        ("[ramp]\nwrites = [50, 150]", "ramp.writes must rise"),
        ("[ramp]\nreads = []\nwrites = []", "no step to go to"),
        ("[ramp]\nlook_seconds = 0", "ramp.look_seconds"),
        ("[gates]\nalpha = 0", "gates.alpha"),
        ("[gates]\nalpha = 2", "gates.alpha"),
        ("[gates]\nalpha = nan", "gates.alpha"),
    ],
)
def test_unfit_settings(elsewhere: Path, command: tuple[str, ...], text: str, named: str) -> None:
    """Falling steps and an alpha that is no probability: exit code 2, by file and key, before a store is asked."""
    settings(elsewhere, text)
    assert_refused(invoke(*command, legacy=NOWHERE, new=NOWHERE), 2, "ramp.toml", named)


def test_a_gate_that_there_is_not(carried_migration: Migration, unchanged: Callable[[], None], elsewhere: Path) -> None:
    """A plan that waits for an unknown gate would wait for ever: it is named, beside those that there are."""
    settings(elsewhere, "[ramp]\ngates = ['mismatches', 'lateness']")
    unchanged()
    assert_refused(on(carried_migration.app.settings, *AUTO), 2, "lateness", "latency")


@pytest.mark.parametrize("arguments", [("--auto",), ("--pause",), ("--stop",)], ids=lambda given: given[0])
def test_an_empty_ledger(migration: Migration, unchanged: Callable[[], None], arguments: tuple[str, ...]) -> None:
    """Before prepare there is nothing to ramp, to pause or to stop: 4, and what to run next."""
    unchanged()
    assert_refused(on(migration.app.settings, "ramp", *arguments), 4, "crossfade prepare")


def test_a_ramp_before_the_backfill(prepared_migration: Migration, unchanged: Callable[[], None]) -> None:
    """Nothing was copied, so nothing can be served by new: 4, and what to run next."""
    unchanged()
    assert_refused(on(prepared_migration.app.settings, "ramp", "--auto"), 4, "crossfade backfill")


def test_nothing_to_stop(carried_migration: Migration, unchanged: Callable[[], None]) -> None:
    """No automatic ramp was begun."""
    unchanged()
    assert_refused(on(carried_migration.app.settings, "ramp", "--stop"), 4, "no automatic ramp is under way")


def test_a_report_before_any_run(prepared_migration: Migration, elsewhere: Path) -> None:
    """Prepared and no more, it is written, and says of every gate that it is not known: never that it passes."""
    done = on(prepared_migration.app.settings, "report", "--output", "report.json", "--json")
    assert done.exit_code == 0, done.stderr
    assert '"verdict": "inconclusive"' in done.stdout
    assert "no answers were compared" in done.stdout
    assert (elsewhere / "report.json").exists()


def test_an_unreachable_prometheus(carried_migration: Migration, elsewhere: Path) -> None:
    """It is no failure of new: the report is written, and the gate says that it is not known."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    settings(
        elsewhere,
        f"[gates]\nprometheus_url = 'http://127.0.0.1:{port}'\n"
        "[[gates.prometheus]]\nname = 'load'\nquery = 'up'\nmax = 1\n",
    )
    done = on(carried_migration.app.settings, "report", "--json", "--config", "ramp.toml")
    assert done.exit_code == 0, done.stderr
    [gate] = [each for each in json.loads(done.stdout)["gates"] if each["name"] == "prometheus:load"]
    assert gate["verdict"] == "inconclusive"
    assert f"Prometheus at http://127.0.0.1:{port} cannot be reached" in gate["evidence"]
