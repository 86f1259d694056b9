"""The world of a run: two servers, each behind its proxy, a migration between them, and the processes at work."""

from __future__ import annotations

import json
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from random import Random
from signal import SIGTERM
from typing import Any, NamedTuple, cast

import psycopg
from fix_postgres import Databases
from fix_stores import Migration, create_tenants, migration_between

from adapters.postgres.embedded import EmbeddedServer
from chaos import children, witness
from chaos.checker import Held, Run
from chaos.children import Surroundings
from chaos.clients import Task
from chaos.history import read_histories
from chaos.proxy import Proxy
from harness.records import Verdict
from harness.routing import Store

TENANTS = ("acme", "umbra")
PROJECTS = 2
COMMAND_SECONDS = 90.0
_SETTINGS = """
[pool]
connect_seconds = 2.0
statement_seconds = 15.0

[gates]
min_comparisons = 1
"""


Servers = Mapping[Store, EmbeddedServer]


class Addresses(NamedTuple):
    legacy_url: str
    new_url: str


@dataclass(frozen=True, slots=True)
class Ended:
    """A command that has ended; ``code`` is negative for a signal."""

    arguments: tuple[str, ...]
    code: int
    output: str

    @property
    def document(self) -> dict[str, Any]:
        """The JSON document among what it said."""
        for line in self.output.splitlines():
            if line.startswith("{"):
                found: dict[str, Any] = json.loads(line)
                return found
        return {}


@dataclass(frozen=True, slots=True)
class Role:
    """What is to be at work all the time; started again whenever it has died."""

    name: str
    begin: Callable[[str], BaseProcess]  # from the incarnation's name


@dataclass
class World:
    """Servers and processes. Roles are revived by whoever calls ``revive``; commands run one per calling thread."""

    directory: Path
    servers: Servers
    proxies: dict[Store, Proxy]
    migration: Migration  # past the proxies
    random: Random
    scopes: Sequence[str]
    initial: Sequence[Held] = ()
    alive: dict[str, BaseProcess] = field(default_factory=dict)
    incarnations: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def url(self, store: Store) -> str:
        """The store's address past the proxy."""
        settings = self.migration.app.settings
        return settings.legacy.url if store is Store.LEGACY else settings.new.url

    def connect(self, store: Store) -> psycopg.Connection:
        return psycopg.connect(self.url(store), autocommit=True, application_name="chaos")

    def surroundings(self, name: str, **more: str) -> Surroundings:
        given = {f"CROSSFADE_{store.name}_URL": proxy.url for store, proxy in self.proxies.items()}
        given |= {"CROSSFADE_ACTOR": "chaos", "CROSSFADE_DEBUG": "1"}  # an unexpected error is to say where
        return Surroundings(self.directory, given | more, self.directory / f"{name}.out")

    def name(self, role: str) -> str:
        with self._lock:
            self.incarnations += 1
            return f"{role}.{self.incarnations}"

    # Processes

    def roles(self, routers: int, carriers: int, failing: Callable[[], str]) -> list[Role]:
        """Clients and catch-up workers; ``failing`` draws a worker's failpoints, mostly none."""

        def client(work: Callable[[Task], None]) -> Callable[[str], BaseProcess]:
            def begin(name: str) -> BaseProcess:
                task = Task(self.histories / f"{name}.jsonl", self.random.getrandbits(64), self.scopes)
                return children.start(self.surroundings(name), work, task)

            return begin

        def carrier(name: str) -> BaseProcess:
            given = self.surroundings(name, CROSSFADE_FAILPOINTS=failing())
            return children.start(given, children.command, ["catchup", "--follow", "--workers", "1", "--json"])

        return [
            *(Role(f"router-{n}", client(children.application)) for n in range(routers)),
            Role("dispatch", client(children.dispatch)),
            Role("typescript", client(children.typescript)),
            *(Role(f"catchup-{n}", carrier) for n in range(carriers)),
        ]

    @property
    def histories(self) -> Path:
        return self.directory / "histories"

    def revive(self, roles: Sequence[Role], died: Callable[[Role, int], None] = lambda *_: None) -> None:
        """Start what is not at work; ``died`` hears of what had ended by itself, and how."""
        for role in roles:
            process = self.alive.get(role.name)
            if process is not None and not children.ends(process, 0):
                continue
            if process is not None:
                died(role, process.exitcode or 0)
            self.alive[role.name] = role.begin(self.name(role.name))

    def stop_all(self, seconds: float = 30.0) -> list[str]:
        """Ask all processes to end; the names of those that had to be killed."""
        stubborn = []
        for process in self.alive.values():
            children.kill(process, SIGTERM)
        until = time.monotonic() + seconds
        for name, process in self.alive.items():
            if not children.ends(process, max(0.0, until - time.monotonic())):
                children.kill(process)
                stubborn.append(name)
                children.ends(process)
        self.alive.clear()
        return stubborn

    def begin(self, *arguments: str, **environment: str) -> tuple[BaseProcess, Path]:
        """Start a crossfade command; its process, and the file it speaks into."""
        given = self.surroundings(self.name(f"command-{arguments[0]}"), **environment)
        given.output.touch()  # it may be killed before it says a word
        return children.start(given, children.command, arguments), given.output

    def command(self, *arguments: str, **environment: str) -> Ended:
        """Run a crossfade command to its end, which must come within ``COMMAND_SECONDS``."""
        process, output = self.begin(*arguments, **environment)
        if not children.ends(process, COMMAND_SECONDS):
            children.kill(process)
            children.ends(process)
            raise TimeoutError(f"crossfade {' '.join(arguments)} ran for more than {COMMAND_SECONDS:.0f} s")
        return Ended(arguments, process.exitcode or 0, output.read_text(encoding="utf-8"))

    # Evidence

    def evidence(self) -> Run:
        """Histories, witnesses and final states, when nothing is at work any more."""
        with self.connect(Store.LEGACY) as legacy, self.connect(Store.NEW) as new:
            return Run(
                read_histories(self.histories),
                [*witness.witnessed(legacy, Store.LEGACY), *witness.witnessed(new, Store.NEW)],
                self.initial,
                {Store.LEGACY: witness.held_in_legacy(legacy, TENANTS), Store.NEW: witness.held_in_new(new)},
            )

    def acts(self) -> Counter[str]:
        """How many acts of authority are in the journal, by what became of them."""
        with self.connect(Store.NEW) as new:
            return Counter(state for (state,) in new.execute("SELECT state FROM crossfade.journal"))

    def settle(self) -> list[str]:
        """Finish what is half done, carry over what is left, verify; what went wrong, in words."""
        wrong = []
        for arguments in (("resume", "--json"), ("catchup", "--json"), ("verify", "--json")):
            ended = self.command(*arguments)
            if ended.code != 0:
                wrong.append(f"crossfade {' '.join(arguments)} ended with {ended.code}: {ended.output[-2000:]}")
        ended = self.command("status", "--json")
        if ended.document.get("unfinished") is not None:
            wrong.append(f"an act is unfinished after resume: {ended.document['unfinished']}")
        return wrong


@contextmanager
def two_servers() -> Iterator[Servers]:
    """One for each store, so that they die independently."""
    with EmbeddedServer() as legacy, EmbeddedServer() as new:
        yield {Store.LEGACY: legacy, Store.NEW: new}


@contextmanager
def world(seed: int, servers: Servers) -> Iterator[World]:
    """A migration that is prepared, backfilled, verified and witnessed, with nobody at work yet."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chaos-")))
        (directory / "histories").mkdir()
        (directory / "crossfade.toml").write_text(_SETTINGS, encoding="utf-8")
        urls = {store: server.create_database(directory.name) for store, server in servers.items()}
        proxies = {store: stack.enter_context(Proxy(urls[store])) for store in Store}
        addresses = Addresses(urls[Store.LEGACY], urls[Store.NEW])
        migration = stack.enter_context(migration_between(cast(Databases, addresses)))
        made = World(directory, servers, proxies, migration, Random(seed), _scopes())
        try:
            _populate(made)
            yield made
        finally:
            made.stop_all(5)


def _scopes() -> list[str]:
    slugs = ("tag-recommendation", "incident-summary", "signal-analysis", "conversation-summary")
    return [
        f"{tenant}/project-{project}/{slug}"
        for tenant in TENANTS
        for project in range(1, 1 + PROJECTS)
        for slug in slugs
    ]


def _populate(made: World) -> None:
    """A prompt in each scope of the first tenant, carried over and verified; the second tenant is empty."""
    migration = made.migration
    with migration.stores.legacy.begin() as connection:
        create_tenants(connection, TENANTS, PROJECTS)
    for number, scope in enumerate(scope for scope in made.scopes if scope.startswith(f"{TENANTS[0]}/")):
        project, genai_type = number // 4 + 1, number % 4 + 1
        text = f"seed:{number} seed:{number}"
        migration.prompt(TENANTS[0], project, genai_type, genai_prompt=text, enabled=True)
        made.initial = [*made.initial, Held(scope, text)]
    migration.prepare()
    migration.backfill()
    assert migration.drain() == 0
    assert migration.verify().verdict is Verdict.PASS
    with made.connect(Store.LEGACY) as legacy, made.connect(Store.NEW) as new:
        witness.install_in_legacy(legacy, TENANTS)
        witness.install_in_new(new)
