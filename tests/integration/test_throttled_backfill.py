"""The backfill under its throttle: paused and resumed from elsewhere, ended at a time of day, held up by replicas."""

from __future__ import annotations

import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from command import crossfade, document, environment
from fix_postgres import until
from fix_stores import Migration

from harness.cli.backfill import backfill_stores
from harness.cli.standing import status_of
from harness.cli.throttling import set_pause, throttle_of
from harness.errors import Refused
from harness.phases import Phase
from harness.records import Verdict
from harness.throttle import Lag


def fill(migration: Migration, rows: int = 400) -> None:
    migration.sql(
        "INSERT INTO dispatch_organization_acme.prompt (id, genai_type, genai_prompt, enabled, project_id)"
        " SELECT n, 1000 + n, 'text ' || n, true, 1 FROM generate_series(1, :rows) n",
        rows=rows,
    )


def copied(migration: Migration) -> int:
    return int(migration.new_sql("SELECT count(*) FROM prompts")[0][0])


def test_paused_from_another_terminal_and_resumed(prepared_migration: Migration) -> None:
    """A run under way stands still within seconds, says who asked for it, and goes on to the end when resumed."""
    migration = prepared_migration
    fill(migration)
    settings = migration.app.settings
    slow = ("backfill", "--chunk-rows", "1", "--rows-per-second", "40", "--json")
    with subprocess.Popen(
        [sys.executable, "-m", "harness.cli", *slow],
        env=environment(settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        assert running.stderr is not None
        until(lambda: running.poll() is not None or copied(migration) > 5)
        assert running.poll() is None, running.stderr.read()
        told = document(
            crossfade(settings, "backfill", "--pause", "--reason", "backups", "--json", CROSSFADE_ACTOR="ann")
        )
        assert (told["paused"], told["changed"], told["running"]) == (True, True, True)
        line = running.stderr.readline()
        assert line.startswith("paused by ann since")
        assert "(backups)" in line
        assert migration.stores.phase is Phase.PREPARED
        again = document(crossfade(settings, "backfill", "--pause", "--json"))
        assert again["changed"] is False
        stood = copied(migration)
        assert status_of(migration.stores)["backfill_paused"] is True
        assert copied(migration) == stood
        assert migration.stores.pauses.present().actor == "ann"  # type: ignore[union-attr] # it is there
        assert document(crossfade(settings, "backfill", "--resume", "--json"))["changed"] is True
        assert running.stderr.readline().startswith("resumed")
        running.terminate()  # what is left would take ten seconds at this rate
        out, _ = running.communicate(timeout=60)
    assert running.returncode == 0
    assert '"finished": false' in out
    assert migration.backfill()["finished"]
    assert copied(migration) == 400


def test_a_later_run_obeys_the_pause(prepared_migration: Migration) -> None:
    """Begun while paused it copies nothing, says why, and ends when stopped; the pause outlives it."""
    migration = prepared_migration
    fill(migration, 10)
    told = set_pause(migration.stores, paused=True, reason="")
    assert (told["running"], told["next"]) == (False, "crossfade backfill --resume")
    assert status_of(migration.stores)["backfill_paused"] is True
    assert status_of(migration.stores)["next"].startswith("crossfade backfill --resume")
    found: list[dict[str, Any]] = []
    running = threading.Thread(target=lambda: found.append(migration.backfill()))
    running.start()
    said = migration.app.log.file
    until(lambda: "paused by" in said.getvalue())  # type: ignore[attr-defined] # the fixture's is a StringIO
    migration.app.stop.set()
    running.join(60)
    migration.app.stop.clear()
    assert (found[0]["copied"], found[0]["finished"]) == (0, False)
    assert set_pause(migration.stores, paused=False, reason="")["next"] == "crossfade backfill"
    assert set_pause(migration.stores, paused=False, reason="")["changed"] is False
    assert migration.backfill()["finished"]


def test_a_pause_needs_a_ledger_and_one_wish(migration: Migration) -> None:
    """Before prepare there is nothing to pause; both wishes at once are none."""
    with pytest.raises(Refused, match="PREPARED"):
        set_pause(migration.stores, paused=True, reason="")
    assert crossfade(migration.app.settings, "backfill", "--pause", "--resume").returncode == 2


def test_until_ends_it_well(prepared_migration: Migration) -> None:
    """At the moment it ends well and says how to go on; what was copied stays; a moment that is past admits none."""
    migration = prepared_migration
    fill(migration)
    soon = datetime.now(UTC) + timedelta(seconds=1.5)
    found = backfill_stores(migration.app, migration.stores, 1, 10.0, until=soon)
    assert not found["finished"]
    assert found["copied"] < 400  # which would take forty seconds
    assert found["next"].startswith("crossfade backfill goes on")
    assert migration.stores.phase is Phase.PREPARED
    assert backfill_stores(migration.app, migration.stores, until=soon)["copied"] == 0
    assert migration.backfill()["finished"]
    assert migration.drain() == 0
    assert migration.verify().verdict is Verdict.PASS


def test_until_is_a_time_of_day(migration: Migration) -> None:
    """Anything else is a usage error that says what to write."""
    for wrong in ("25:00", "tomorrow", "06:30 Nowhere"):
        done = crossfade(migration.app.settings, "backfill", "--until", wrong)
        assert done.returncode == 2
        assert "give" in done.stderr


def test_replicas_of_both_stores_are_looked_at(prepared_migration: Migration, monkeypatch: pytest.MonkeyPatch) -> None:
    """A standby of either store that is behind holds the copy up until it has caught up."""
    migration = prepared_migration
    fill(migration, 10)
    asked: list[str] = []
    behind = {"legacy": 60.0, "new": 0.0}

    def lags(self: Any) -> list[Lag]:
        name = str(self._store)
        asked.append(name)
        seconds, behind[name] = behind[name], 0.0
        return [Lag(seconds, 0, f"standby of {name}")]

    monkeypatch.setattr("adapters.postgres.pressure.ReplicaPressure.lags", lags)
    assert migration.backfill()["finished"]
    assert set(asked) == {"legacy", "new"}
    said = migration.app.log.file.getvalue()  # type: ignore[attr-defined] # the fixture's is a StringIO
    assert "standby of legacy by 60 s" in said
    assert "caught up" in said


def test_the_size_of_chunks_is_fixed_by_the_option_alone(prepared_migration: Migration) -> None:
    """So many rows, if the command says so; else they follow the time that chunks take."""
    fixed = throttle_of(prepared_migration.app, prepared_migration.stores, chunk_rows=7)
    adapted = throttle_of(prepared_migration.app, prepared_migration.stores)
    for made in (fixed, adapted):
        made.done(made.chunk_rows(), 100.0)
    assert fixed.chunk_rows() == 7
    assert adapted.chunk_rows() < prepared_migration.app.settings.backfill.chunk_rows
