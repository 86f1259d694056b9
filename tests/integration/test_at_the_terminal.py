"""What meets an operator at a terminal: readers that go, full disks, Ctrl-C at a question, narrow windows."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from threading import Event

import pytest
from click.testing import CliRunner, Result
from command import crossfade, document, environment
from fix_stores import Migration
from sqlalchemy import text

from adapters.postgres.errors import speaking_for
from adapters.prompts.workload import default_mix
from harness.cli.main import main
from harness.cli.run_processes import run_processes
from harness.cli.run_worker import Share
from harness.cli.standing import NOTHING_YET, next_step
from harness.errors import ConfigError, StoreUnavailable
from harness.routing import Store
from harness.settings import LegacySettings, NewSettings, Settings

NARROW = {"COLUMNS": "80"}


def invoke(migration: Migration, *arguments: str) -> Result:
    settings = migration.app.settings
    variables = {"CROSSFADE_LEGACY_URL": settings.legacy.url, "CROSSFADE_NEW_URL": settings.new.url, **NARROW}
    return CliRunner().invoke(main, arguments, env=variables)


@pytest.fixture
def differing(carried_migration: Migration) -> Migration:
    """Of one row new holds nothing."""
    carried_migration.prompt(enabled=True)
    assert carried_migration.drain() == 0
    carried_migration.behind("DELETE FROM prompts")
    return carried_migration


@pytest.mark.parametrize("more", [(), ("--json",)])
def test_a_reader_that_goes_changes_no_exit_code(differing: Migration, more: tuple[str, ...]) -> None:
    """``crossfade verify | true`` ends as without the pipe, with the exit code of its verdict."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "harness.cli", "verify", "--patience", "0", *more],
            env=environment(differing.app.settings),
            stdout=writing,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=60,
        )
    finally:
        os.close(writing)
    assert done.returncode == 3, done.stderr
    assert done.stderr.startswith("crossfade: of 1 rows 1 missing in new")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("more", [(), ("--json",)])
def test_a_result_that_cannot_be_written_is_said_to_be_lost(
    carried_migration: Migration, more: tuple[str, ...]
) -> None:
    """On a full disk the message says what is missing, and why; no traceback, no complaint of Python's own."""
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "harness.cli", "status", *more],
            env=environment(carried_migration.app.settings),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=60,
        )
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert "standard output: No space left on device" in done.stderr


def test_ctrl_c_at_a_question_is_a_no(differing: Migration) -> None:
    """The first Ctrl-C ends the question, and nothing is changed."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "harness.cli", "repair"],
        env=environment(differing.app.settings, TERM="dumb"),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    said = b""
    try:
        while b"[y/N]" not in said:
            said += os.read(ours, 65_536)
        _interrupt(process)
    finally:
        process.kill()
        process.wait()
        said += _rest(ours)
        os.close(ours)
    assert process.returncode == 4, said
    assert b"nothing was changed" in said
    assert differing.new_sql("SELECT 1 FROM prompts") == []


def _interrupt(process: subprocess.Popen[bytes]) -> None:
    """Ctrl-C until it is heard: Python loses one that comes when it is just about to read."""
    for _ in range(15):
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(2)
            return


def _rest(descriptor: int) -> bytes:
    said = b""
    try:
        while more := os.read(descriptor, 65_536):
            said += more
    except OSError:  # the other end is closed
        pass
    return said


def test_init_needs_no_settings_that_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside a settings file that is no TOML, init writes a fresh one to compare it with."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "crossfade.toml").write_text("[shadow")
    done = CliRunner().invoke(main, ["init", "--file", "other.toml"])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "other.toml").exists()


@pytest.mark.parametrize("other", ["--auto", "--resume", "--stop"])
def test_one_thing_at_a_time_for_the_automatic_ramp(carried_migration: Migration, other: str) -> None:
    """Two of its options are a usage error: of ``--pause --auto`` the last one would else begin a ramp."""
    done = invoke(carried_migration, "ramp", "--pause", other)
    assert done.exit_code == 2
    assert "give it alone" in done.stderr


def test_settings_to_copy_can_be_copied(migration: Migration) -> None:
    """At 80 columns no line of the settings that assess proposes is broken."""
    migration.prompt()
    told = invoke(migration, "assess").stdout
    assert "\n# The databases' addresses belong into CROSSFADE_LEGACY_URL and CROSSFADE_NEW_URL.\n" in told


def test_what_is_to_be_typed_again_is_whole_at_80_columns(carried_migration: Migration) -> None:
    """Keys, reasons, scopes, obstacles and the rows of rogue writes are shown whole, whatever the window's width."""
    carried_migration.prompt(genai_prompt="x" * 10_001)
    assert carried_migration.drain() == 0
    listed = invoke(carried_migration, "quarantine", "list").stdout
    [held] = document(crossfade(carried_migration.app.settings, "quarantine", "list", "--json"))["rows"]
    for name in ("key", "reason", "scope"):
        assert held[name] in listed

    carried_migration.route(100.0)
    for store in (carried_migration.sql, carried_migration.new_sql):
        store("UPDATE crossfade.route SET guard = 'record'")
    kept = "What somebody meant to keep, and has to write once more to the store with authority over the scope"
    carried_migration.prompt(project=2, genai_prompt=kept)
    rogue = invoke(carried_migration, "rogue", "--show-values").stdout
    assert kept in rogue
    assert "acme/project-2/" in rogue

    planned = invoke(carried_migration, "ramp", "--writes", "0", "--dry-run")
    assert planned.exit_code == 4
    assert "in the way: guard: " in planned.stdout


def test_rogue_writes_that_were_verified_since_are_no_next_step() -> None:
    """Status sends nobody to old rogue writes once their gate passes."""
    found = NOTHING_YET | {"phase": "RAMPING", "rogue_writes": 7, "gates": [{"name": "rogue", "verdict": "fail"}]}
    assert next_step(found).startswith("crossfade rogue")
    assert next_step(found | {"gates": [{"name": "rogue", "verdict": "pass"}]}).startswith("crossfade ramp")


def test_an_unknown_time_zone_is_a_mistake_in_the_settings(migration: Migration) -> None:
    """legacy.time_zone is named, instead of a value that would not fit its column."""
    with (
        pytest.raises(ConfigError, match=r"legacy\.time_zone"),
        speaking_for(Store.LEGACY),
        migration.stores.legacy.connect() as connection,
    ):
        connection.execute(text("SELECT now() AT TIME ZONE 'Mars/Base'"))


def test_processes_of_a_run_leave_the_telling_to_us(capfd: pytest.CaptureFixture[str]) -> None:
    """The driver's own warnings of a store that is away do not get through from the processes of a run."""
    nowhere = "postgresql://somebody@127.0.0.1:1/absent"
    settings = Settings(legacy=LegacySettings(url=nowhere), new=NewSettings(url=nowhere))
    share = Share(settings, 1, 1.0, 1.0, default_mix(), (), None, None, 1.0)
    with pytest.raises(StoreUnavailable):
        run_processes([share], Event(), lambda *_: None, lambda _: None)
    assert capfd.readouterr().err == ""


def test_after_uninstall_there_is_nothing_to_compare(carried_migration: Migration) -> None:
    """Once legacy was let go of and left, verify and repair say so, instead of sending anybody to prepare."""
    carried_migration.prompt(enabled=True)
    carried_migration.route(100.0)
    carried_migration.new_sql("UPDATE crossfade.phase SET phase = 'COMPLETE'")
    for command in ("complete", "uninstall"):
        assert invoke(carried_migration, command, "--yes").exit_code == 0
    for arguments in (("verify",), ("repair", "--yes")):
        done = invoke(carried_migration, *arguments)
        assert (done.exit_code, "COMPLETE" in done.stderr, "prepare" in done.stderr) == (4, True, False), done.output


def test_what_stands_in_the_way_of_completing_is_named_as_despite_wants_it(carried_migration: Migration) -> None:
    """Each obstacle has a line, its name first."""
    carried_migration.prompt(genai_prompt="")
    assert carried_migration.drain() == 0
    carried_migration.route(100.0)
    carried_migration.new_sql("UPDATE crossfade.phase SET phase = 'CUT_OVER'")
    done = invoke(carried_migration, "complete", "--dry-run")
    assert done.exit_code == 4
    assert "\nin the way: quarantine: 1 rows in quarantine are nobody's decision yet" in done.stdout
    assert "--despite" not in done.stderr
    done = invoke(carried_migration, "complete", "--dry-run", "--despite", "quarantine", "--despite", "latency")
    assert "in the way: quarantine" not in done.stdout
    said = [line for line in done.stderr.splitlines() if "--despite" in line]
    assert said == ["crossfade: --despite latency: nothing of that name stands in the way"]
    done = invoke(carried_migration, "complete", "--dry-run", "--despite", "verifyed")
    assert (done.exit_code, "nothing is called that; there are" in done.stderr) == (2, True)


def test_despite_what_does_not_stand_in_the_way(carried_migration: Migration) -> None:
    """A name that overrules nothing here is told; what is overruled is in the plan."""
    arguments = ("ramp", "10", "--dry-run", "--json", "--despite", "verified", "--despite", "tenants")
    done = invoke(carried_migration, *arguments)
    document = json.loads(done.stdout)
    assert ("verified" in document["overruled"]) != ("verified" in done.stderr)
    assert "--despite tenants: nothing of that name stands in the way" in done.stderr
