"""The real Dispatch: its schema, its data, its traffic, replayed by psql as its own service sent it."""

from __future__ import annotations

import gzip
import re
import shutil
import subprocess
import tempfile
import threading
from pathlib import Path

import pytest
from command import crossfade, document
from fix_postgres import Databases, Server
from fix_stores import Migration, migration_between

from adapters.prompts.canonical import Reading
from adapters.prompts.dispatch_rows import scope_name
from harness.cli.shares import ramp_shares
from harness.records import Verdict
from harness.routing import Store

pytestmark = pytest.mark.real

BY_DESIGN = {"23505", "23503"}  # the recordings hold statements that Dispatch's own rules refuse
AFTER_TRAFFIC = {
    "default": ("2e6008a1c668c2e49bdc444f082fc24b", 128),
    "acme_security": ("870d57363e4c1e65ba7fa83a8c6357b6", 66),
}


@pytest.fixture
def psql(server: Server) -> str:
    found = str(server.embedded.bin_path / "psql") if server.embedded else shutil.which("psql")
    assert found, "psql is not on PATH"
    return found


def load(psql: str, url: str, *files: Path) -> None:
    for file in files:
        subprocess.run([psql, "-qX", "-v", "ON_ERROR_STOP=1", "-f", file, url], check=True, stdout=subprocess.DEVNULL)


def replay(psql: str, url: str, statements: bytes) -> None:
    """Send the statements as Dispatch did; some of them fail by design."""
    subprocess.run([psql, "-qX", url], input=statements, check=True, capture_output=True)


def sums(migration: Migration) -> dict[str, tuple[str, int]]:
    """What the recordings' own description calls the state after the traffic."""
    found = {}
    for tenant in AFTER_TRAFFIC:
        table = f"dispatch_organization_{tenant}.prompt"
        [row] = migration.sql(f"SELECT md5(string_agg(t::text, '|' ORDER BY id)), count(*) FROM {table} t")
        found[tenant] = (row[0], row[1])
    return found


def test_migration_under_real_traffic(databases: Databases, recordings: Path, psql: str) -> None:
    """Backfill while Dispatch's own statements run, drain, verify: nothing missing, extra or different.

    Legacy itself ends in exactly the state that it has without us.
    """
    load(psql, databases.legacy_url, recordings / "schema.sql", recordings / "base.sql")
    with migration_between(databases) as migration:
        settings = migration.app.settings
        assert crossfade(settings, "prepare").returncode == 0
        traffic = gzip.decompress((recordings / "traffic.sql.gz").read_bytes())
        replaying = threading.Thread(target=replay, args=(psql, databases.legacy_url, traffic))
        replaying.start()
        copied = crossfade(settings, "backfill", "--chunk-rows", "10", "--rows-per-second", "200", "--json")
        replaying.join()
        assert copied.returncode == 0, copied.stderr
        assert document(copied)["finished"]
        drained = crossfade(settings, "catchup", "--json")
        assert drained.returncode == 0, drained.stderr
        verified = crossfade(settings, "verify", "--json")
        assert verified.returncode == 0, verified.stdout + verified.stderr
        found = document(verified)
        assert (found["missing"], found["extra"], found["different"], found["quarantined"]) == (0, 0, 0, 0)
        assert found["compared"] == sum(count for _, count in AFTER_TRAFFIC.values())
        assert sums(migration) == AFTER_TRAFFIC


def test_unrepresentable_rows_are_quarantined_and_no_others(databases: Databases, recordings: Path, psql: str) -> None:
    """Of the odd rows that Dispatch lets in, exactly those that new cannot hold are held, each with its reason."""
    load(psql, databases.legacy_url, recordings / "schema.sql", recordings / "quirks.sql")
    with migration_between(databases) as migration:
        expected = set()
        rows = 0
        for tenant in AFTER_TRAFFIC:
            rows += migration.sql(f"SELECT count(*) FROM dispatch_organization_{tenant}.prompt")[0][0]
            for number, reason in migration.sql(
                "SELECT id, CASE WHEN project_id IS NULL THEN 'no_project' WHEN genai_prompt = '' THEN 'empty_content'"
                f" ELSE 'content_too_long' END FROM dispatch_organization_{tenant}.prompt"
                " WHERE project_id IS NULL OR genai_prompt = '' OR char_length(genai_prompt) > 10000"
            ):
                expected.add((tenant, str(number), reason))
        assert expected
        migration.prepare()
        migration.backfill(chunk_rows=5)
        assert migration.drain() == 0
        held = {tuple(row) for row in migration.new_sql("SELECT part, local, reason FROM crossfade.quarantine")}
        assert held == expected
        found = migration.verify()
        assert (found.verdict, found.compared) == (Verdict.PASS, rows - len(expected))


def test_hot_read_answers_as_dispatch_does(databases: Databases, recordings: Path, psql: str) -> None:
    """For every project and type, both stores answer with the prompt that Dispatch's get_by_type would."""
    load(psql, databases.legacy_url, recordings / "schema.sql", recordings / "base.sql")
    with migration_between(databases) as migration:
        migration.prepare()
        migration.backfill()
        for tenant in AFTER_TRAFFIC:
            enabled = {
                (row[0], row[1]): row[2]
                for row in migration.sql(
                    "SELECT project_id, genai_type, genai_prompt"
                    f" FROM dispatch_organization_{tenant}.prompt WHERE enabled"
                )
            }
            projects = migration.sql(f"SELECT id FROM dispatch_organization_{tenant}.project")
            for project in (row[0] for row in projects):
                for number in range(1, 6):
                    scope = scope_name(tenant, project, number, Reading())
                    ours = migration.stores.legacy_repository.find_enabled_by_project(scope)
                    theirs = migration.stores.new_repository.find_enabled_by_project(scope)
                    assert ours == theirs
                    assert (ours.content if ours else None) == enabled.get((project, number))


def test_a_ramp_in_the_middle_of_real_traffic(databases: Databases, recordings: Path, psql: str) -> None:
    """Half of the scopes move while Dispatch writes: they are refused there, all else passes, and verify is clean."""
    load(psql, databases.legacy_url, recordings / "schema.sql", recordings / "base.sql")
    traffic = gzip.decompress((recordings / "traffic.sql.gz").read_bytes())
    with migration_between(databases) as migration:
        migration.prepare()
        migration.backfill()
        assert migration.drain() == 0
        assert migration.verify().verdict is Verdict.PASS
        # The last third waits until the scopes have moved: the traffic goes on before, during and after it.
        last = traffic.index(b"COMMIT;\n", 2 * len(traffic) // 3) + len(b"COMMIT;\n")
        command = [psql, "-qX", "-v", "VERBOSITY=verbose", databases.legacy_url]
        with (
            tempfile.TemporaryFile() as told,
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=told) as dispatch,
        ):
            assert dispatch.stdin is not None
            feeding = threading.Thread(target=dispatch.stdin.write, args=(traffic[:last],))
            feeding.start()
            while not migration.notes():
                assert dispatch.poll() is None
            ramp_shares(migration.app, migration.stores, None, 50.0, "in the middle of it")
            feeding.join()
            dispatch.stdin.write(traffic[last:])
            dispatch.stdin.close()
            assert dispatch.wait() == 0
            told.seek(0)
            said = told.read().decode()
        route = migration.stores.routes.view().route
        refused = re.findall(r"ERROR:  XF001: legacy does not accept writes to scope (\S+): new has authority", said)
        assert refused
        assert {route.authority(scope) for scope in refused} == {Store.NEW}
        # 25P02: what follows a refusal in its transaction; the others fail without us too.
        assert set(re.findall(r"ERROR:  (\w{5}):", said)) <= {"XF001", "25P02", *BY_DESIGN}
        assert migration.drain() == 0
        assert migration.verify().verdict is Verdict.PASS
