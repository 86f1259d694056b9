"""Verify of a table in several pieces: resumed, sampled, limited, and with every row different."""

from __future__ import annotations

import json
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from command import crossfade, document, environment
from fix_stores import Migration

from adapters.postgres.ledger.locks import command_lock
from adapters.postgres.ledger.verifying import VerifyingBook
from harness.cli.gathering import gather
from harness.cli.main import main
from harness.cli.verify import asked_for, verify_stores
from harness.errors import CrossfadeError
from harness.gates import evaluate
from harness.records import Kind, RowDifference, Verdict, Verification
from harness.settings import VerifySettings

ROWS = 4_000
SCOPE = "acme/project-7/incident-summary"
PIECES = VerifySettings(patience_seconds=0, segment_mb=1, workers=1)


@pytest.fixture
def large(migration: Migration) -> Migration:
    """4,000 rows in one tenant, some megabytes, and a few in the other; copied, with nothing noted."""
    migration.sql(
        "INSERT INTO dispatch_organization_acme.project (name, organization_id)"
        " SELECT 'Team', 1 FROM generate_series(1, 400)"
    )
    migration.sql(
        "INSERT INTO dispatch_organization_acme.prompt"
        " (genai_type, genai_prompt, enabled, created_at, updated_at, project_id)"
        " SELECT type, 'Prompt ' || project || repeat(md5(project::text), 30), enabled,"
        " timestamp '2025-01-01' + project * interval '1 minute 0.000001 s', timestamp '2025-02-01', project"
        " FROM generate_series(1, 400) AS project, generate_series(1, 5) AS type,"
        " (VALUES (true), (false)) AS states (enabled)"
    )
    for project in range(1, 5):
        migration.prompt("umbra", project)
    migration.prepare()
    migration.backfill()
    app = replace(migration.app, settings=replace(migration.app.settings, verify=PIECES))
    return Migration(app, migration.stores)


def kept(migration: Migration) -> int:
    return int(migration.new_sql("SELECT count(*) FROM crossfade.verified_segment")[0][0])


def verify(migration: Migration, *, resume: bool = False) -> tuple[Verification, list[tuple[int, int]]]:
    """Verify as the command does; the verdict, and what the progress bar was told."""
    told: list[tuple[int, int]] = []
    book = VerifyingBook(migration.stores.new)
    found = verify_stores(
        migration.app, migration.stores, checkpoints=book, resume=resume, progress=lambda *each: told.append(each)
    )
    return found, told


def on(migration: Migration, *arguments: str) -> Result:
    """Run the command in this process."""
    return CliRunner().invoke(main, arguments, env=environment(migration.app.settings))


def said(done: Result) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@contextmanager
def settings_file(folder: Path) -> Iterator[str]:
    file = folder / "small.toml"
    file.write_text("[verify]\nsegment_mb = 1\nworkers = 1\npatience_seconds = 0\n", encoding="utf-8")
    yield str(file)


def test_pieces_are_one_whole(large: Migration) -> None:
    """Read in pieces, every row is compared once, and a difference in any piece is found."""
    found, told = verify(large)
    assert (found.verdict, found.compared, found.snapshots) == (Verdict.PASS, ROWS + 4, 1)
    assert told[-1][0] == told[-1][1] > 8
    assert kept(large) == 0
    first, last = (
        large.new_sql(f"SELECT id::text FROM prompts ORDER BY ctid {order} LIMIT 1")[0][0] for order in ("ASC", "DESC")
    )
    large.behind("UPDATE prompts SET version = 2 WHERE id::text = ANY(:ids)", ids=[first, last])
    found, _ = verify(large)
    assert {row.key for row in found.examples} == {first, last}
    assert (found.different, found.verdict) == (2, Verdict.FAIL)


def test_killed_it_goes_on(large: Migration, tmp_path: Path) -> None:
    """Killed after two segments are durable, it reads the others only; and says that it rests on two snapshots."""
    settings = large.app.settings
    with settings_file(tmp_path) as file:
        died = crossfade(settings, "verify", "--config", file, CROSSFADE_FAILPOINTS="verify.segment_kept=kill@2")
        assert died.returncode == -9
        assert kept(large) == 2
        seen_before = large.new_sql("SELECT count(*) FROM crossfade.verification")
        assert seen_before == [(0,)]
        done = crossfade(settings, "verify", "--config", file, "--resume", "--json")
    found = document(done)
    assert (done.returncode, found["verdict"], found["compared"], found["snapshots"]) == (0, "pass", ROWS + 4, 2)
    assert kept(large) == 0
    again, told = verify(large, resume=True)
    assert (told[0][0], again.snapshots) == (0, 1)  # nothing is left to go on with


def test_a_resumed_verdict_speaks_of_its_first_snapshot(large: Migration) -> None:
    """What changed in finished segments since is not looked at again, so the verdict's moment lies before it."""
    stop = large.app.stop

    def after_all_but_one(done: int, total: int) -> None:
        if done >= total - 1:
            stop.set()

    book = VerifyingBook(large.stores.new)
    with pytest.raises(CrossfadeError, match="--resume goes on"):
        verify_stores(large.app, large.stores, checkpoints=book, progress=after_all_but_one)
    assert large.new_sql("SELECT count(*) FROM crossfade.verification") == [(0,)]
    finished = kept(large)
    [(interrupted,)] = large.new_sql("SELECT clock_timestamp()")
    large.behind("UPDATE prompts SET version = 2 WHERE ctid = (SELECT min(ctid) FROM prompts)")
    stop.clear()
    found, told = verify(large, resume=True)
    assert told[0][0] == finished
    assert found.at < interrupted
    assert found.snapshots == 2
    assert verify(large)[0].different == 1


def test_a_table_written_anew_is_read_anew(large: Migration) -> None:
    """After VACUUM FULL the blocks hold other rows, and what was kept of them is worth nothing."""
    large.app.stop.set()
    with pytest.raises(CrossfadeError, match="interrupted"):
        verify(large)
    large.app.stop.clear()
    with large.stores.new.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("VACUUM FULL prompts")
    found, told = verify(large, resume=True)
    assert (found.verdict, found.snapshots, told[0][0]) == (Verdict.PASS, 1, 0)


def test_everything_different_is_counted_and_listed(large: Migration, tmp_path: Path) -> None:
    """All rows differ: all are counted, few are shown, and the file names each once, without what people wrote."""
    large.behind("UPDATE prompts SET content = content || ' secret'")
    out = tmp_path / "differing.jsonl"
    with settings_file(tmp_path) as file:
        done = on(large, "verify", "--config", file, "--json", "--out", str(out))
    found = said(done)
    assert (done.exit_code, found["different"], len(found["examples"])) == (3, ROWS + 4, 20)
    lines = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert {row["key"] for row in lines} == {str(row[0]) for row in large.new_sql("SELECT id FROM prompts")}
    assert len(lines) == ROWS + 4
    assert {(row["kind"], row["fields"][0]["field"]) for row in lines} == {("different", "content")}
    assert "secret" not in out.read_text(encoding="utf-8") + done.stdout + done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"differing.jsonl", "small.toml"}
    assert stat.S_IMODE(out.stat().st_mode) == 0o600


def test_no_file_without_a_verdict(large: Migration, tmp_path: Path) -> None:
    """An error of a store leaves an older file as it was; a place that cannot be written to is refused at once."""
    out = tmp_path / "differing.jsonl"
    out.write_text("older\n", encoding="utf-8")
    large.new_sql("ALTER TABLE prompts RENAME TO prompts_gone")
    failed = on(large, "verify", "--out", str(out))
    assert failed.exit_code == 5
    assert out.read_text(encoding="utf-8") == "older\n"
    assert list(tmp_path.iterdir()) == [out]
    refused = on(large, "verify", "--out", str(tmp_path / "nowhere" / "file"))
    assert refused.exit_code == 2
    assert f"cannot write {tmp_path / 'nowhere' / 'file'}: " in refused.stderr
    assert "choose another place" in refused.stderr


def test_a_sample_is_the_same_rows_for_the_same_seed(large: Migration, tmp_path: Path) -> None:
    """A sample looks at its share, finds what differs there and nothing else, and is no pass for any gate."""
    settings = large.app.settings
    clean = said(on(large, "verify", "--json", "--sample", "10%", "--seed", "7"))
    assert (clean["verdict"], clean["restriction"]) == ("sample", "sample of 10 % with seed 7")
    assert ROWS * 0.08 < clean["compared"] < ROWS * 0.12
    gates = {gate.name: gate.verdict for gate in evaluate(gather(large.stores), settings.gates)}
    assert gates["verified"] is Verdict.INCONCLUSIVE

    large.behind("UPDATE prompts SET version = 2 WHERE organization_id = 'acme'")
    keys = []
    for seed in ("7", "7", "8"):
        out = tmp_path / "out"
        done = on(large, "verify", "--sample", "10", "--seed", seed, "--patience", "0", "--out", str(out))
        assert done.exit_code == 3
        keys.append({json.loads(line)["key"] for line in out.read_text().splitlines()})
    assert keys[0] == keys[1] != keys[2]
    assert abs(len(keys[0]) - clean["compared"]) <= 4


def test_more_differing_rows_than_one_look_takes(large: Migration, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are looked at in turns, while both lists are being read; and only as many are read whole as are shown."""
    monkeypatch.setattr("harness.verify._MOST_LOOKED_AT", 700)
    large.behind("UPDATE prompts SET version = 2")
    found = verify_stores(large.app, large.stores)
    assert (found.different, len(found.examples)) == (ROWS + 4, 20)


def test_a_scope_or_an_organization_alone(large: Migration) -> None:
    """Only the rows asked for are compared; equal, they are no pass, and different, they outweigh an earlier pass."""
    assert on(large, "verify").exit_code == 0
    large.behind("UPDATE prompts SET version = 2 WHERE project_id = :scope", scope=SCOPE)

    def run(*arguments: str) -> tuple[int, str, int, int]:
        done = on(large, "verify", "--patience", "0", "--json", *arguments)
        found = said(done)
        return done.exit_code, found["verdict"], found["compared"], found["different"]

    assert run("--organization", "umbra") == (0, "partial", 4, 0)
    assert run("--scope", "acme/project-8/incident-summary") == (0, "partial", 2, 0)
    unknown = on(large, "verify", "--scope", "acme/project-888/incident-summary")
    assert (unknown.exit_code, "nothing was compared" in unknown.stdout) == (0, True)
    latest = said(on(large, "status", "--json"))["last_verification"]
    assert latest["verdict"] == "pass"
    assert run("--scope", SCOPE) == (3, "fail", 2, 2)
    assert run("--organization", "acme")[1:] == ("fail", ROWS, 2)
    latest = said(on(large, "status", "--json"))["last_verification"]
    assert latest["verdict"] == "fail"
    assert said(on(large, "ramp", "--reads", "1", "--dry-run", "--json"))["obstacles"].keys() == {"verified"}


def test_a_row_that_left_its_scope_is_found_from_either(large: Migration) -> None:
    """A record that stands in another scope in new is different in the one it left, and in the one it came to."""
    [(key,)] = large.new_sql("SELECT id::text FROM prompts WHERE project_id = :scope AND NOT enabled", scope=SCOPE)
    elsewhere = "acme/project-8/incident-summary"
    large.behind("UPDATE prompts SET project_id = :there WHERE id::text = :key", there=elsewhere, key=key)
    for scope in (SCOPE, elsewhere):
        done = on(large, "verify", "--patience", "0", "--json", "--scope", scope)
        assert [(row["key"], row["kind"]) for row in said(done)["examples"]] == [(key, "different")]


@pytest.mark.parametrize(
    "arguments",
    [
        ("--sample", "0"),
        ("--sample", "100%"),
        ("--sample", "much"),
        ("--seed", "7"),
        ("--resume", "--sample", "1"),
        ("--scope", "nowhere"),
        ("--organization", "nowhere"),
        ("--scope", SCOPE, "--organization", "acme"),
    ],
)
def test_what_cannot_be_asked_for(carried_migration: Migration, arguments: tuple[str, ...]) -> None:
    """Ends with 2, and no verdict is kept."""
    assert on(carried_migration, "verify", *arguments).exit_code == 2
    assert carried_migration.new_sql("SELECT count(*) FROM crossfade.verification") == [(0,)]


def test_one_verification_at_a_time(large: Migration) -> None:
    """A second verification of everything would overwrite what the first has kept: it ends with 6."""
    with command_lock(large.stores.new, "verify"):
        assert on(large, "verify").exit_code == 6
        assert on(large, "verify", "--scope", SCOPE).exit_code == 0


def test_live_writes_are_no_differences(large: Migration) -> None:
    """While writers go on and changes are carried over, nothing is reported, in any of many rounds."""
    stop, errors = threading.Event(), list[Exception]()

    def write() -> None:
        n = 0
        try:
            while not stop.is_set():
                n += 1
                large.sql(
                    "UPDATE dispatch_organization_acme.prompt SET genai_prompt = :text, updated_at = now()"
                    " WHERE project_id % 100 = :n",
                    text=f"version {n} " * 20,
                    n=n % 100,
                )
                large.sql("DELETE FROM dispatch_organization_umbra.prompt WHERE project_id = 6")
                large.prompt("umbra", 6)
        except Exception as error:  # noqa: BLE001 - the test's own thread tells the test
            errors.append(error)

    def carry() -> None:
        try:
            while not stop.is_set():
                large.drain()
        except Exception as error:  # noqa: BLE001 - as above
            errors.append(error)

    threads = [threading.Thread(target=each) for each in (write, carry)]
    for thread in threads:
        thread.start()
    try:
        found = [verify_stores(large.app, large.stores, patience=20) for _ in range(3)]
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert errors == []
    assert [(each.missing, each.extra, each.different, each.unaccounted) for each in found] == [(0, 0, 0, 0)] * 3
    assert large.drain() == 0
    assert verify_stores(large.app, large.stores).verdict is Verdict.PASS


def test_misplaced_rows_are_told_by_key(large: Migration) -> None:
    """A row that quarantine knows nothing of, and one it knows wrongly, are named, and repair is told of them."""
    large.sql("UPDATE dispatch_organization_acme.prompt SET genai_prompt = '' WHERE id IN (1, 2)")
    assert large.drain() == 0
    assert verify_stores(large.app, large.stores).quarantined == 2
    [(lost,)] = large.new_sql("DELETE FROM crossfade.quarantine WHERE local = '1' RETURNING key")
    large.new_sql("UPDATE crossfade.quarantine SET reason = 'no_project'")
    told: list[RowDifference] = []
    found = verify_stores(large.app, large.stores, found=told.append)
    assert (found.verdict, found.unaccounted) == (Verdict.FAIL, 2)
    assert {row.kind for row in told} == {Kind.MISPLACED}
    assert lost in {row.key for row in told}


def test_asked_for_in_words() -> None:
    """Each verdict says what alone was compared; a drawn seed is said, so that it can be asked for again."""
    assert asked_for(None, None, None, None).restriction == ""
    assert asked_for(10_000, 3, "a/b", None).restriction == "sample of 1 % with seed 3, scope a/b"
    drawn = asked_for(500, None, None, "acme")
    assert drawn.restriction == f"sample of 0.05 % with seed {drawn.seed}, organization acme"


def test_rows_too_large_or_too_odd_to_carry(large: Migration) -> None:
    """Megabytes of text and stamps beyond Python's are compared as what they are: carried, or in quarantine."""
    table = "dispatch_organization_umbra.prompt"
    large.sql(f"UPDATE {table} SET genai_system_message = repeat('long ', 1000000) WHERE id = 1")
    large.sql(f"UPDATE {table} SET genai_prompt = repeat('long ', 1000000) WHERE id = 2")
    large.sql(f"UPDATE {table} SET created_at = 'infinity', updated_at = '-infinity' WHERE id = 3")
    large.sql(f"UPDATE {table} SET updated_at = '294276-12-31 23:59:59.999999' WHERE id = 4")
    assert large.drain() == 0
    found = verify_stores(large.app, large.stores)
    assert (found.verdict, found.compared, found.quarantined) == (Verdict.PASS, ROWS + 1, 3)
    large.behind("UPDATE prompts SET system_message = system_message || ' ' WHERE organization_id = 'umbra'")
    large.new_sql("UPDATE crossfade.quarantine SET reason = 'no_project' WHERE reason = 'stamp_out_of_range'")
    found = verify_stores(large.app, large.stores)
    assert (found.different, found.unaccounted) == (1, 2)


def test_a_reading_of_two_rows_as_one_record_is_found(large: Migration) -> None:
    """A sidecar that gives a row the id of another one leaves two rows of one id: they are equal to no row."""
    key, other = (
        row[0]
        for row in large.new_sql("SELECT id::text FROM prompts WHERE organization_id = 'umbra' ORDER BY 1 LIMIT 2")
    )
    [(number,)] = large.sql(
        "SELECT id FROM dispatch_organization_umbra.prompt"
        " WHERE overlay(overlay(md5('crossfade-legacyumbra/' || id) placing '3' from 13) placing"
        " translate(substr(md5('crossfade-legacyumbra/' || id), 17, 1), '0123456789abcdef', '89ab89ab89ab89ab')"
        " from 17)::uuid::text = :key",
        key=key,
    )
    large.sql(
        "INSERT INTO crossfade.sidecar (organization, legacy_id, id) VALUES ('umbra', :number, CAST(:other AS uuid))",
        number=number,
        other=other,
    )
    found = verify_stores(large.app, large.stores)
    assert {(row.key, row.kind) for row in found.examples} == {(key, Kind.EXTRA), (other, Kind.DIFFERENT)}
