"""Prepare and ramp, killed anywhere, are finished by running them again; and prepare twice changes nothing more."""

from __future__ import annotations

import signal

import pytest
from command import crossfade, document
from fix_stores import Migration
from picture import picture

from harness.phases import Phase
from harness.records import Verdict


@pytest.mark.parametrize("point", ["prepare.legacy_upgraded", "prepare.capture_attached"])
def test_killed_anywhere_it_is_finished_by_running_it_again(migration: Migration, point: str) -> None:
    """kill -9 between two steps of prepare, then the same command: prepared, and every write is noted once."""
    settings = migration.app.settings
    killed = crossfade(settings, "prepare", CROSSFADE_FAILPOINTS=f"{point}=kill")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    done = crossfade(settings, "prepare", "--json", "--reason", "again")
    assert done.returncode == 0, done.stderr
    assert document(done)["phase"] == "PREPARED"
    migration.prompt()
    assert len(migration.notes()) == 1


def test_running_it_again_changes_nothing(prepared_migration: Migration) -> None:
    """A second prepare finds everything in place: no relation, trigger, function or row is another afterwards."""
    settings = prepared_migration.app.settings
    schemas = ("crossfade", "public", "dispatch_organization_acme", "dispatch_organization_umbra")
    before = [picture(url, *schemas) for url in (settings.legacy.url, settings.new.url)]
    assert crossfade(settings, "prepare").returncode == 0
    assert [picture(url, *schemas) for url in (settings.legacy.url, settings.new.url)] == before


def test_ramp_killed_between_phase_and_route_is_finished_by_running_it_again(carried_migration: Migration) -> None:
    """kill -9 after the phase moved: legacy still serves every read; the same command then moves the route."""
    settings = carried_migration.app.settings
    assert carried_migration.verify().verdict is Verdict.PASS
    ramp = ("ramp", "--reads", "10", "--reason", "a test")
    killed = crossfade(settings, *ramp, CROSSFADE_FAILPOINTS="ramp.phase_moved=kill")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert carried_migration.stores.routes.view().route.reads_percent == 0
    done = crossfade(settings, *ramp)
    assert done.returncode == 0, done.stderr
    assert carried_migration.stores.routes.view().route.reads_percent == 10
    assert carried_migration.stores.phase is Phase.RAMPING
