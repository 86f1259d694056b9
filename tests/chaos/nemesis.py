"""The nemesis: draws faults from a seed, injects them, and mends them a little later."""

from __future__ import annotations

import heapq
import itertools
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from random import Random

import psycopg

from adapters.prompts.dispatch_tables import tenant_schema
from chaos.children import kill, runs
from chaos.operating import Operator
from chaos.world import TENANTS, Role, World
from harness.failpoints import NAMES
from harness.routing import Store

_HELD_SECONDS = 1.5  # the longest that a transaction is held, a process frozen, a server down, or bytes held back
_CARRIED = sorted(name for name in NAMES if name.startswith("catchup."))

Fault = Callable[[], bool]  # injects one; False when there was nothing to do it to


class Nemesis:
    """What it draws follows from the seed; which process that hits, from the run. ``injected`` counts by kind."""

    def __init__(self, world: World, operators: Sequence[Operator], seed: int) -> None:
        self._world, self._operators, self._random = world, operators, Random(seed)
        self._due: list[tuple[float, int, Callable[[], object]]] = []
        self._numbers = itertools.count()
        self._down: set[Store] = set()
        self._failing: dict[str, str] = {}
        self.injected: Counter[str] = Counter()
        self.faults: dict[str, tuple[int, Fault]] = {
            "application killed": (3, lambda: self._kill("router")),
            "Dispatch killed": (2, lambda: self._kill("dispatch")),
            "TypeScript service killed": (2, lambda: self._kill("typescript")),
            "catch-up killed": (4, lambda: self._kill("catchup")),
            "catch-up frozen": (2, self._freeze_carrier),
            "operator killed": (6, lambda: self._on_operator(signal.SIGKILL)),
            "operator frozen": (4, lambda: self._on_operator(signal.SIGSTOP)),
            "legacy crashed": (1, lambda: self._crash(Store.LEGACY)),
            "new crashed": (1, lambda: self._crash(Store.NEW)),
            "connections to legacy cut": (6, lambda: self._cut(Store.LEGACY)),
            "connections to new cut": (6, lambda: self._cut(Store.NEW)),
            "network to legacy stalled": (3, lambda: self._stall(Store.LEGACY)),
            "network to new stalled": (3, lambda: self._stall(Store.NEW)),
            "long transaction in legacy": (4, lambda: self._hold(Store.LEGACY)),
            "long transaction in new": (4, lambda: self._hold(Store.NEW)),
        }

    @property
    def moves(self) -> int:
        """How often the operators have moved authority."""
        return sum(operator.moves for operator in self._operators)

    def schedule(self, count: int) -> list[str]:
        """Kinds of faults, each at least once where there is room for it, the rest by weight."""
        kinds, weights = list(self.faults), [weight for weight, _ in self.faults.values()]
        drawn = kinds + self._random.choices(kinds, weights, k=max(0, count - len(kinds)))
        self._random.shuffle(drawn)
        return drawn

    def inject(self, kind: str) -> bool:
        if not self.faults[kind][1]():
            return False
        self.injected[kind] += 1
        return True

    def mend(self, *, everything: bool = False) -> None:
        """Undo what has lasted long enough, or everything."""
        while self._due and (everything or self._due[0][0] <= time.monotonic()):
            heapq.heappop(self._due)[2]()

    def failing(self) -> str:
        """A failpoint for a new catch-up worker, most of the time none."""
        if self._random.random() < 0.7:
            return ""
        return f"{self._random.choice(_CARRIED)}=kill@{self._random.randint(1, 40)}"

    def died(self, role: Role, code: int) -> None:
        """A process has ended by itself: at a failpoint if it was killed and not by us."""
        killed = code == -signal.SIGKILL
        if killed and self._failing.pop(role.name, None) is None and role.name.startswith("catchup"):
            self.injected["catch-up killed at a failpoint"] += 1

    def _later(self, act: Callable[[], object]) -> None:
        when = time.monotonic() + self._random.uniform(0.1, _HELD_SECONDS)
        heapq.heappush(self._due, (when, next(self._numbers), act))

    def _one_of(self, role: str) -> str | None:
        names = [name for name, process in self._world.alive.items() if name.startswith(role) and runs(process)]
        return self._random.choice(names) if names else None

    def _kill(self, role: str) -> bool:
        name = self._one_of(role)
        if name is None or not kill(self._world.alive[name]):
            return False
        self._failing[name] = "killed"
        return True

    def _freeze_carrier(self) -> bool:
        name = self._one_of("catchup")
        if name is None:
            return False
        process = self._world.alive[name]
        self._later(lambda: kill(process, signal.SIGCONT))
        return kill(process, signal.SIGSTOP)

    def _on_operator(self, number: signal.Signals) -> bool:
        process = self._random.choice(self._operators).present
        if process is None:
            return False
        if number is signal.SIGSTOP:
            self._later(lambda: kill(process, signal.SIGCONT))
        return kill(process, number)

    def _crash(self, store: Store) -> bool:
        if store in self._down:
            return False
        server = self._world.servers[store]
        server.stop("immediate")
        self._down.add(store)

        def start() -> None:
            server.start()
            self._down.discard(store)

        self._later(start)
        return True

    def _cut(self, store: Store) -> bool:
        if store in self._down:
            return False
        self._world.proxies[store].cut()
        return True

    def _stall(self, store: Store) -> bool:
        proxy = self._world.proxies[store]
        proxy.stall()
        self._later(proxy.flow)
        return True

    def _hold(self, store: Store) -> bool:
        """A transaction that has met the guard, and so keeps authority from moving, without changing a row."""
        connection = None
        try:
            connection = psycopg.connect(self._world.url(store), application_name="chaos-long-transaction")
            if store is Store.LEGACY:
                table = f"{tenant_schema(self._random.choice(TENANTS))}.prompt"
                connection.execute(f"UPDATE {table} SET enabled = enabled WHERE id < 0")
            else:
                connection.execute("UPDATE prompts SET enabled = enabled WHERE false")
        except psycopg.Error:
            if connection is not None:
                _release(connection)
            return False
        self._later(lambda: _release(connection))
        return True


def _release(connection: psycopg.Connection) -> None:
    with suppress(psycopg.Error):
        connection.close()
