"""A campaign: so many faults against everything at work, then peace, then the checker."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field

from chaos.checker import Violation, check
from chaos.history import Kind, Outcome
from chaos.nemesis import Nemesis
from chaos.operating import Operator
from chaos.world import COMMAND_SECONDS, Role, World, two_servers, world

ROUTERS = 2
CARRIERS = 2
OPERATORS = 2
TICK_SECONDS = 0.05
FAULTS_PER_MOVE = 8  # then nothing more until authority has moved: faults that nothing moves under prove little
RESPITE_SECONDS = 60.0  # the longest wait for that


@dataclass(frozen=True, slots=True)
class Plan:
    """``gap`` seconds between two faults on average; no new fault after ``seconds``. Failpoints come on top."""

    seed: int
    faults: int
    gap: float = 0.6
    seconds: float = float("inf")


@dataclass(frozen=True, slots=True)
class Result:
    faults: Counter[str]
    commands: Counter[tuple[str, int]]
    operations: Counter[tuple[Kind, Outcome]]
    accepted: Counter[str]
    acts: Counter[str]
    violations: list[Violation] = field(default_factory=list)
    seconds: float = 0.0

    def __str__(self) -> str:
        lines = [f"{sum(self.faults.values())} faults in {self.seconds:.0f} s:"]
        lines += [f"  {count:5} {kind}" for kind, count in sorted(self.faults.items())]
        lines.append(f"{sum(self.operations.values())} operations checked:")
        lines += [f"  {count:5} {kind} {outcome}" for (kind, outcome), count in sorted(self.operations.items())]
        lines.append(f"accepted: {', '.join(f'{count} by {store}' for store, count in sorted(self.accepted.items()))}")
        lines.append(f"moves of authority: {', '.join(f'{n} {state}' for state, n in sorted(self.acts.items()))}")
        lines.append("commands of the operators:")
        lines += [f"  {count:5} {name} ended with {code}" for (name, code), count in sorted(self.commands.items())]
        lines.append(f"{len(self.violations)} violations" if self.violations else "nothing lost")
        return "\n".join([*lines, *map(str, self.violations)])


def campaign(plan: Plan, progress: Callable[[str], None] = lambda _: None) -> Result:
    """Run the plan in a world of its own."""
    began = time.monotonic()
    with two_servers() as servers, world(plan.seed, servers) as made:
        operators = [Operator(made, f"operator-{n}", plan.seed * 10 + n) for n in range(OPERATORS)]
        nemesis = Nemesis(made, operators, plan.seed)
        roles = made.roles(ROUTERS, CARRIERS, nemesis.failing)
        made.revive(roles)
        _await_work(made, roles)
        first = made.command("ramp", "--writes", "50", "--reason", "the first move", "--json")
        assert first.code == 0, first.output
        with ExitStack() as at_work:
            for operator in operators:
                operator.start()
                at_work.callback(operator.stop)
            # Mended before the operators are stopped: a frozen command would not end.
            at_work.callback(lambda: nemesis.mend(everything=True))
            _rage(plan, made, nemesis, roles, progress)
        wrong = [f"{name} did not end when asked to" for name in made.stop_all()]
        wrong += made.settle()
        for operator in operators:
            nemesis.injected.update({f"operator killed at {point}": n for point, n in operator.died_at.items()})
            wrong += operator.wrong
        run = made.evidence()
        return Result(
            nemesis.injected,
            sum((operator.ended for operator in operators), Counter()),
            Counter((op.kind, op.outcome) for op in run.operations),
            Counter(each.store.value for each in run.witnessed),
            made.acts(),
            [*(Violation("command", told) for told in wrong), *check(run)],
            time.monotonic() - began,
        )


def _await_work(made: World, roles: list[Role]) -> None:
    """Wait until every client has written a line of its history."""
    wanted = {role.name for role in roles if not role.name.startswith("catchup")}
    tick, until = threading.Event(), time.monotonic() + COMMAND_SECONDS
    while wanted - {path.stem.partition(".")[0] for path in made.histories.iterdir() if path.stat().st_size}:
        assert time.monotonic() < until, "the clients do not begin"
        tick.wait(TICK_SECONDS)


def _rage(plan: Plan, made: World, nemesis: Nemesis, roles: list[Role], progress: Callable[[str], None]) -> None:
    """Inject the faults one after the other, mending and reviving meanwhile."""
    tick, began, due = threading.Event(), time.monotonic(), 0.0
    waiting, injected, moves = nemesis.schedule(plan.faults), 0, nemesis.moves
    while waiting and (now := time.monotonic() - began) < plan.seconds:
        nemesis.mend()
        made.revive(roles, nemesis.died)
        if nemesis.moves > moves or now > due + RESPITE_SECONDS:
            injected, moves = 0, nemesis.moves
        if now >= due and injected < FAULTS_PER_MOVE:
            # A fault that finds nobody to do it to (no command under way) is put off, not left out.
            kind = waiting.pop()
            if nemesis.inject(kind):
                due, injected = now + made.random.expovariate(1 / plan.gap), injected + 1
            else:
                waiting.insert(made.random.randrange(len(waiting) + 1), kind)
        progress(f"{sum(nemesis.injected.values())} faults of {plan.faults} and more, {moves} moves, {now:.0f} s")
        tick.wait(TICK_SECONDS)
