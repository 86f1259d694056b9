"""A store that is away or hangs: callers are served, what was not done is counted, and afterwards all is equal."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import psycopg
import pytest
from command import environment
from fix_postgres import Databases, until
from fix_stores import Migration, create_tenants, migration_between

from adapters.postgres.embedded import EmbeddedServer, StopMode
from adapters.postgres.ledger.evidence import EvidenceBook
from adapters.prompts.contract import PromptRepository
from adapters.prompts.prompt import Prompt, PromptFilter
from harness.cli.standing import status_of
from harness.errors import StoreUnavailable
from harness.router import Router
from harness.routing import Store
from harness.settings import ShadowSettings
from harness.statistics import Drop, Result, Role

ACME = "dispatch_organization_acme"
SHADOW = ShadowSettings(timeout_seconds=0.3, breaker_seconds=0.2, look_seconds=0.05)


@dataclass(frozen=True)
class Servers:
    """A server for each store, so that one can go away without the other."""

    legacy: EmbeddedServer
    new: EmbeddedServer

    def of(self, store: Store) -> EmbeddedServer:
        return self.legacy if store is Store.LEGACY else self.new


@dataclass(frozen=True)
class Addresses:
    legacy_url: str
    new_url: str


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    with EmbeddedServer() as legacy, EmbeddedServer() as new:
        yield Servers(legacy, new)


@pytest.fixture
def filled(servers: Servers) -> Iterator[Migration]:
    """Twenty-four prompts, all in new too, and reads at 0 %."""
    name = f"test_{uuid4().hex}"
    addresses = Addresses(servers.legacy.create_database(name), servers.new.create_database(name))
    with migration_between(cast(Databases, addresses), shadow=SHADOW) as migration:
        with migration.stores.legacy.begin() as connection:
            create_tenants(connection)
        migration.sql(
            f"INSERT INTO {ACME}.prompt (genai_type, genai_prompt, enabled, created_at, updated_at, project_id)"
            " SELECT t, 'text ' || t || p, true, timestamp '2024-05-05 10:00', timestamp '2024-05-05 10:00', p"
            " FROM generate_series(1, 6) p, generate_series(1, 4) t"
        )
        migration.prepare()
        migration.backfill()
        assert migration.drain() == 0
        yield migration


@contextmanager
def away(server: EmbeddedServer, mode: StopMode = "immediate") -> Iterator[None]:
    """The server crashes, or is stopped in order, and is started again at the end."""
    server.stop(mode)
    try:
        yield
    finally:
        server.start()


class Caller:
    """An application: it reads everything again and again, changes a prompt now and then, and counts its calls."""

    def __init__(self, router: Router[PromptRepository]) -> None:
        self._repository, self.reads, self.writes = router.repository, 0, 0
        self.known = {prompt.id: prompt for prompt in self._repository.find_all(PromptFilter(limit=100)).items}
        self.reads += 1

    def read_all(self) -> None:
        """Each answer is what this caller knows to be there: its own writes included."""
        for prompt in self.known.values():
            assert self._repository.find_by_id(prompt.id) == prompt
            assert prompt.project_id is not None
            assert self._repository.find_enabled_by_project(prompt.project_id) == prompt
            self.reads += 2

    def write(self, number: int) -> Prompt:
        prompt = sorted(self.known.values(), key=lambda each: each.id)[number]
        stored = self._repository.update(prompt.with_content(f"changed for the {self.writes}th time"))
        self.known[stored.id] = stored
        self.writes += 1
        return stored


def matched(router: Router[PromptRepository]) -> int:
    return router.statistics().results()[Result.MATCHED]


def assert_compares_again(router: Router[PromptRepository], caller: Caller) -> None:
    """After an outage, reads are compared as before, and found equal."""
    before = matched(router)

    def compared() -> bool:
        caller.read_all()
        return matched(router) > before

    until(compared)
    router.settle(10)
    assert router.statistics().results()[Result.MISMATCHED] == 0


def assert_every_call_counted(router: Router[PromptRepository], caller: Caller) -> None:
    """Calls of the stores, less the fallbacks, are what the caller asked for; each read was compared, or is a drop."""
    statistics = router.statistics()
    served = sum(statistics.latency(store, Role.SERVED).count for store in Store)
    assert served - statistics.fallbacks.total() - statistics.rerouted.total() == caller.reads + caller.writes
    assert sum(statistics.results().values()) == caller.reads
    assert statistics.results()[Result.NOT_COMPARED] == statistics.drops.total()


@pytest.mark.parametrize("share", [0.0, 50.0])
def test_new_goes_away_and_comes_back(servers: Servers, filled: Migration, share: float) -> None:
    """While new's server is down every read is answered rightly and every write is taken; all else is counted."""
    stores = filled.stores
    stores.routes.change(reads_percent=share, actor="test", reason="a test")
    with stores.router() as router:
        caller = Caller(router)
        caller.read_all()
        with away(servers.new):
            caller.read_all()
            for number in range(10):
                caller.write(number)
                caller.read_all()
            filled.prompt(project=1, genai_type=5)
            until(lambda: router.statistics().drops.total() > 0)
            counted = router.statistics()
        assert {Drop.STORE_FAILED, Drop.BREAKER_OPEN, Drop.UNDER_WAY} & set(counted.drops)
        assert all(counted.latency(Store.NEW, Role.SERVED, name).count == 0 for name in ("save", "update"))
        failed = {(store, role) for _, store, role in counted.errors}
        if share:
            assert counted.fallbacks.total() > 0
            assert (Store.NEW, Role.SERVED) in failed
        else:
            assert counted.fallbacks.total() == 0
            assert failed == {(Store.NEW, Role.SHADOWED)}
        until(lambda: _answers(filled))
        # What the caller wrote arrives without anybody else's help; what Dispatch wrote is catch-up's.
        until(lambda: len(filled.notes()) == 1)
        assert_compares_again(router, caller)
        assert_every_call_counted(router, caller)
    assert filled.drain() == 0
    assert filled.verify().verdict == "pass"


def test_legacy_goes_away_while_new_serves(servers: Servers, filled: Migration) -> None:
    """At 100 % reads do not need legacy; what was not compared is counted, and compared again afterwards."""
    stores = filled.stores
    stores.routes.change(reads_percent=100, actor="test", reason="a test")
    with stores.router() as router:
        caller = Caller(router)
        with away(servers.legacy):
            for _ in range(3):
                caller.read_all()
            until(lambda: router.statistics().drops.total() > 0)
            counted = router.statistics()
        until(lambda: _answers(filled))
        assert counted.fallbacks.total() == 0
        assert {store for _, store, _ in counted.errors} == {Store.LEGACY}
        assert_compares_again(router, caller)
        assert_every_call_counted(router, caller)
    assert filled.verify().verdict == "pass"


def test_new_hangs(filled: Migration) -> None:
    """While every statement on new's table waits for a lock, callers are served as ever; comparisons time out."""
    with filled.stores.router() as router:
        caller = Caller(router)
        caller.read_all()
        assert router.settle(10)
        healthy = matched(router)
        assert healthy == caller.reads
        with psycopg.connect(filled.app.settings.new.url) as holder:
            holder.execute("LOCK TABLE prompts IN ACCESS EXCLUSIVE MODE")
            # All of this happens while the lock is held: a caller that waited for new would never come to its end.
            for number in range(10):
                caller.read_all()
                caller.write(number)
            until(lambda: router.statistics().drops[Drop.TIMEOUT] > 0)
            caller.read_all()
            until(lambda: router.statistics().drops[Drop.BREAKER_OPEN] > 0)
            assert caller.reads > 500
            assert len(filled.notes()) == 10
            counted = router.statistics()
            holder.rollback()
        assert counted.fallbacks.total() == 0
        assert {(store, role) for _, store, role in counted.errors} == {(Store.NEW, Role.SHADOWED)}
        until(lambda: filled.notes() == [])
        assert_compares_again(router, caller)
        assert_every_call_counted(router, caller)
    assert filled.verify().verdict == "pass"


def test_a_router_closes_while_new_hangs(filled: Migration) -> None:
    """A process can end though its shadow does not answer: what was left is counted as stopped."""
    with psycopg.connect(filled.app.settings.new.url) as holder:
        with filled.stores.router() as router:
            caller = Caller(router)
            assert router.settle(10)
            holder.execute("LOCK TABLE prompts IN ACCESS EXCLUSIVE MODE")
            caller.read_all()
        assert_every_call_counted(router, caller)
        holder.rollback()
    assert filled.verify().verdict == "pass"


@pytest.mark.parametrize("store", list(Store))
def test_a_verification_without_a_store_is_none(servers: Servers, filled: Migration, store: Store) -> None:
    """A store that is away is an error, neither a pass nor a failure, and leaves no verdict in the ledger."""
    with away(servers.of(store)), pytest.raises(StoreUnavailable, match=store):
        filled.verify()
    until(lambda: _answers(filled))
    assert EvidenceBook(filled.stores.new).verifications(1) == []
    assert filled.verify().verdict == "pass"


def _answers(migration: Migration) -> bool:
    """Whether both stores are back: for a second after the last failure none is asked anew."""
    try:
        status_of(migration.stores)
    except StoreUnavailable:
        return False
    return True


@contextmanager
def following(migration: Migration, log: Path) -> Iterator[subprocess.Popen[str]]:
    """``crossfade catchup --follow``, which tells the log what it waits for; killed at the end unless it has ended."""
    with log.open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "harness.cli", "catchup", "--follow", "--workers", "2", "--json"],
            env=environment(migration.app.settings),
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def left_when_stopped(process: subprocess.Popen[str]) -> dict[str, Any]:
    """What a follower says that is asked to end."""
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    return cast("dict[str, Any]", json.loads(out))


@pytest.mark.parametrize("mode", ["fast", "immediate"])
@pytest.mark.parametrize("store", list(Store))
def test_catchup_waits_for_a_store_that_is_away(
    servers: Servers, filled: Migration, store: Store, mode: StopMode, tmp_path: Path
) -> None:
    """``catchup --follow`` says that it waits, goes on by itself when the store is back, and ends when asked to."""
    log = tmp_path / "log"
    with following(filled, log) as process:
        filled.prompt(project=1, genai_type=5)
        until(lambda: filled.notes() == [])
        if store is Store.NEW:
            with away(servers.new, mode):
                filled.sql(f"UPDATE {ACME}.prompt SET genai_prompt = 'meanwhile'")
                until(lambda: "waiting for it" in log.read_text())
        else:
            filled.sql(f"UPDATE {ACME}.prompt SET genai_prompt = 'just before'")
            with away(servers.legacy, mode):
                until(lambda: "waiting for it" in log.read_text())
        until(lambda: _answers(filled))
        filled.sql(f"UPDATE {ACME}.prompt SET genai_prompt = 'afterwards'")
        until(lambda: filled.notes() == [])
        done = left_when_stopped(process)
    assert done["left"] == 0
    assert done["carried"] >= 26
    lines, back = log.read_text().splitlines(), "crossfade: both stores answer again; carrying on"
    assert [line for line in lines if line != back and not line.startswith(f"crossfade: {store}")] == []
    assert lines[-1] == back
    assert filled.verify().verdict == "pass"


def test_catchup_ends_when_asked_to_while_a_store_is_away(servers: Servers, filled: Migration, tmp_path: Path) -> None:
    """A follower that is stopped during an outage ends well; how many notes are left it cannot say."""
    log = tmp_path / "log"
    with following(filled, log) as process:
        filled.prompt(project=1, genai_type=5)
        until(lambda: filled.notes() == [])
        with away(servers.legacy):
            until(lambda: "waiting for it" in log.read_text())
            assert left_when_stopped(process)["left"] is None
