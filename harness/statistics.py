"""What a process counts about its operations: mergeable, and small enough to keep in the ledger by the minute."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any

from harness.routing import Store
from harness.sketch import Sketch


class Role(StrEnum):
    SERVED = "served"  # the caller got this answer
    SHADOWED = "shadowed"  # the answer it was compared with


class Result(StrEnum):
    MATCHED = "matched"
    IGNORED = "ignored"  # unequal, but only under declared rules; counted apart from matched
    MISMATCHED = "mismatched"  # confirmed: unequal at every look, with nothing under way
    TRANSIENT = "transient"  # unequal at first, equal at a later look
    NOT_COMPARED = "not_compared"  # a comparison was not made, or could not be settled


class Drop(StrEnum):
    """Why a comparison was not made. Each also counts once as ``Result.NOT_COMPARED``."""

    QUEUE_FULL = "queue_full"
    TIMEOUT = "timeout"
    BREAKER_OPEN = "breaker_open"
    STORE_FAILED = "store_failed"  # one of the two stores was unavailable
    UNSETTLED = "unsettled"  # unequal, but the scope never stood still for a second look
    HELD = "held"  # touches quarantine or records that one store cannot hold
    UNDER_WAY = "under_way"  # read from its authority, because a write of this process is still on its way
    STOPPED = "stopped"  # the process ended before it


class Failure(StrEnum):
    """A part of the harness that failed. No caller notices, so it is counted here."""

    ROUTE = "route"  # the route could not be read; the last known one stays
    CARRY = "carry"  # writes could not be carried over; they are tried again
    COMPARE = "compare"  # two answers could not be told apart field by field
    PUBLISH = "publish"  # metrics were refused by the publisher
    SAMPLE = "sample"  # a mismatch's sample could not be kept
    ROLL_UP = "roll_up"  # statistics could not be handed on; they are kept and tried again
    GAUGES = "gauges"  # lag and quarantine could not be read from a store; their gauges stand still
    WORKER = "worker"  # a comparison ended in an error of ours


class Paired(StrEnum):
    """What came of an operation that both stores were asked. Each such pair is one of these."""

    ANSWERED = "answered"  # by both; refusals are answers
    SLOW = "slow"  # by both, and new was much slower than legacy
    LEGACY_SLOW = "legacy_slow"  # by both, and legacy was as much slower than new
    NEW_FAILED = "new_failed"  # where legacy answered
    LEGACY_FAILED = "legacy_failed"  # where new answered
    BOTH_FAILED = "both_failed"


class Apply(StrEnum):
    """What came of carrying over what had changed in a scope."""

    CARRIED = "carried"  # what had been refused before does not count again
    REJECTED = "rejected"  # the first time; further attempts do not count


OperationKey = tuple[str, Store, Role]


def merged(parts: Iterable[Statistics]) -> Statistics:
    """All of them together, as one of their own."""
    whole = Statistics()
    for part in parts:
        whole.merge(part)
    return whole


class Statistics:
    """Counts and latencies by operation. Written by one thread; ``merge`` adds another's.

    A latency stands for each call of a store: answered, refused or failed. An operation that fell back has two
    served calls, and a write one for each store that was asked in turn, so the operations that callers asked for are
    the served calls less the fallbacks and the rerouted ones, and the unrecorded ones on top. Rehearsals of refused
    writes are compared, and not timed.

    ``pairs`` and ``paired`` are of reads that both stores were asked, each for the same; ``paired`` are the latencies
    of those that both answered.
    """

    def __init__(self) -> None:
        self.latencies: dict[OperationKey, Sketch] = defaultdict(Sketch)
        self.errors: Counter[OperationKey] = Counter()  # StoreUnavailable and unknown errors, no refusals
        self.comparisons: Counter[tuple[str, Result]] = Counter()
        self.fields: Counter[tuple[str, str]] = Counter()  # (operation, field) of confirmed mismatches
        self.rules: Counter[tuple[str, str]] = Counter()  # (operation, rule) of ignored ones; one may need several
        self.drops: Counter[Drop] = Counter()
        self.fallbacks: Counter[str] = Counter()  # reads that the other store answered, by operation
        self.rerouted: Counter[str] = Counter()  # calls of a write beyond its first: the authority was elsewhere
        self.unrecorded: Counter[str] = Counter()  # calls whose latency was lost because a buffer was full
        self.failures: Counter[Failure] = Counter()
        self.pairs: Counter[tuple[str, Paired]] = Counter()
        self.paired: dict[tuple[str, Store], Sketch] = defaultdict(Sketch)
        self.applies: Counter[Apply] = Counter()

    def merge(self, other: Statistics) -> None:
        for key, sketch in other.latencies.items():
            self.latencies[key].merge(sketch)
        self.errors.update(other.errors)
        self.comparisons.update(other.comparisons)
        self.fields.update(other.fields)
        self.rules.update(other.rules)
        self.drops.update(other.drops)
        self.fallbacks.update(other.fallbacks)
        self.rerouted.update(other.rerouted)
        self.unrecorded.update(other.unrecorded)
        self.failures.update(other.failures)
        self.pairs.update(other.pairs)
        for of_store, sketch in other.paired.items():
            self.paired[of_store].merge(sketch)
        self.applies.update(other.applies)

    @property
    def empty(self) -> bool:
        """Whether nothing at all was counted."""
        counted = (self.latencies, self.comparisons, self.drops, self.failures, self.pairs, self.applies)
        return not any((*counted, self.fallbacks, self.rerouted, self.unrecorded))

    @property
    def asked_for(self) -> int:
        """How many operations callers asked for."""
        calls = sum(sketch.count for (_, _, role), sketch in self.latencies.items() if role is Role.SERVED)
        return calls - self.fallbacks.total() - self.rerouted.total() + self.unrecorded.total()

    def latency(self, store: Store, role: Role | None = None, operation: str | None = None) -> Sketch:
        """All latencies of a store, of one role and one operation if asked, as one sketch."""
        whole = Sketch()
        for (name, of_store, of_role), sketch in self.latencies.items():
            if of_store is store and role in (None, of_role) and operation in (None, name):
                whole.merge(sketch)
        return whole

    def results(self, operation: str | None = None) -> Counter[Result]:
        """Comparisons by result, of one operation or of all."""
        counted: Counter[Result] = Counter()
        for (name, result), n in self.comparisons.items():
            if operation in (None, name):
                counted[result] += n
        return counted

    def pairs_of(self, operation: str) -> Counter[Paired]:
        """What came of the operation where both stores were asked."""
        return Counter({each: n for (name, each), n in self.pairs.items() if name == operation})

    def pair_latency(self, operation: str, store: Store) -> Sketch:
        """A store's latencies of the operation, where both stores answered the same."""
        return self.paired.get((operation, store)) or Sketch()

    @property
    def operations(self) -> list[str]:
        return sorted({name for name, _, _ in self.latencies} | {name for name, _ in self.comparisons})

    def dump(self) -> dict[str, Any]:
        """A JSON object that ``load`` reads."""
        return {
            "latencies": [[*key, sketch.dump()] for key, sketch in self.latencies.items()],
            "errors": [[*key, n] for key, n in self.errors.items()],
            "comparisons": [[*key, n] for key, n in self.comparisons.items()],
            "fields": [[*key, n] for key, n in self.fields.items()],
            "rules": [[*key, n] for key, n in self.rules.items()],
            "drops": [[reason, n] for reason, n in self.drops.items()],
            "fallbacks": [[name, n] for name, n in self.fallbacks.items()],
            "rerouted": [[name, n] for name, n in self.rerouted.items()],
            "unrecorded": [[name, n] for name, n in self.unrecorded.items()],
            "failures": [[part, n] for part, n in self.failures.items()],
            "pairs": [[*key, n] for key, n in self.pairs.items()],
            "paired": [[*key, sketch.dump()] for key, sketch in self.paired.items()],
            "applies": [[result, n] for result, n in self.applies.items()],
        }

    @classmethod
    def load(cls, dumped: Mapping[str, Any]) -> Statistics:
        found = cls()
        for name, store, role, sketch in dumped["latencies"]:
            found.latencies[name, Store(store), Role(role)] = Sketch.load(sketch)
        for name, store, role, n in dumped["errors"]:
            found.errors[name, Store(store), Role(role)] = n
        for name, result, n in dumped["comparisons"]:
            found.comparisons[name, Result(result)] = n
        found.fields.update({(name, field): n for name, field, n in dumped["fields"]})
        found.rules.update({(name, rule): n for name, rule, n in dumped.get("rules", ())})  # older dumps have none
        found.drops.update({Drop(reason): n for reason, n in dumped["drops"]})
        found.fallbacks.update(dict(dumped["fallbacks"]))
        found.rerouted.update(dict(dumped.get("rerouted", ())))  # older dumps have none
        found.unrecorded.update(dict(dumped["unrecorded"]))
        found.failures.update({Failure(part): n for part, n in dumped["failures"]})
        found.pairs.update({(name, Paired(result)): n for name, result, n in dumped.get("pairs", ())})
        for name, store, sketch in dumped.get("paired", ()):
            found.paired[name, Store(store)] = Sketch.load(sketch)
        found.applies.update({Apply(result): n for result, n in dumped.get("applies", ())})
        return found
