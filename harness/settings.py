"""Every setting, its default and its meaning.

docs/configuration.md is generated from these descriptions, and a test holds the two together.
"""

from __future__ import annotations

import hashlib
import json
from typing import Literal

from pydantic import ConfigDict, Field, TypeAdapter
from pydantic.dataclasses import dataclass

from harness.deciding import GateSettings, RampSettings

_STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)
THREADS = "threads"
EXECUTORS = rf"{THREADS}|dask://[^\s/:@]+:\d+"


@dataclass(frozen=True, slots=True, config=_STRICT)
class LegacySettings:
    url: str = Field(
        default="", repr=False, description="Where Dispatch's database is. Better given as CROSSFADE_LEGACY_URL."
    )
    time_zone: str = Field(
        default="UTC",
        description="The zone that legacy's zone-less stamps were written in (its database sessions' TimeZone).",
    )


@dataclass(frozen=True, slots=True, config=_STRICT)
class NewSettings:
    url: str = Field(
        default="", repr=False, description="Where Prompt Manager's database is. Better given as CROSSFADE_NEW_URL."
    )


@dataclass(frozen=True, slots=True, config=_STRICT)
class PoolSettings:
    max_connections: int = Field(
        default=20, ge=1, le=1000, description="Connections to one store from one process, at most. Commands want 8."
    )
    idle_seconds: float = Field(default=30.0, gt=0, description="An idle connection is closed after so long.")
    connect_seconds: float = Field(default=2.0, gt=0, description="How long a caller waits for a connection, at most.")
    statement_seconds: float = Field(
        default=30.0, gt=0, description="A statement of a served or shadowed operation is cancelled after so long."
    )


@dataclass(frozen=True, slots=True, config=_STRICT)
class MigrationSettings:
    scope_policy: Literal["type", "project"] = Field(
        default="type", description="What one new project_id stands for: a type within a project, or a whole project."
    )
    keep: Literal["undecided", "newest", "oldest"] = Field(
        default="undecided",
        description='Under scope_policy "project": which of several enabled prompts is carried over. '
        "Undecided ones are quarantined.",
    )
    rollback_safe: bool = Field(
        default=True,
        description="Whether new refuses writes that legacy could not hold, from the first scope that moves until "
        "crossfade complete. If not, they are counted as rollback debt.",
    )


@dataclass(frozen=True, slots=True, config=_STRICT)
class GuardSettings:
    mode: Literal["enforce", "record", "off"] = Field(
        default="enforce",
        description="What happens to a write in the store without authority: refused, let through and kept as a rogue "
        "write, or nothing at all. Takes effect with crossfade prepare.",
    )


@dataclass(frozen=True, slots=True, config=_STRICT)
class MoveSettings:
    fence_seconds: float = Field(
        default=0.5, gt=0, le=30, description="How long one attempt to move authority may hold writers back, at most."
    )
    attempts: int = Field(default=20, ge=1, le=1000, description="Attempts before a move is given up.")
    pause_seconds: float = Field(
        default=0.25, gt=0, description="Pause after a failed attempt; it grows with each, up to two seconds."
    )
    drain_seconds: float = Field(
        default=60.0, gt=0, description="How long the drain before the fence may take, writers going on."
    )
    long_transaction_seconds: float = Field(
        default=5.0, gt=0, description="A writing transaction open for longer than this stands in the way of a move."
    )
    settled_notes: int = Field(
        default=200, ge=0, description="Notes that may be left when the fence goes up; they are carried inside."
    )


@dataclass(frozen=True, slots=True, config=_STRICT)
class ShadowSettings:
    queue: int = Field(
        default=1000, ge=1, description="Comparisons that may wait; beyond it they are dropped and counted."
    )
    roll_up_seconds: float = Field(
        default=5.0, gt=0, le=60, description="How often a process writes what it has counted into the ledger."
    )
    workers: int = Field(default=2, ge=1, le=64, description="Threads that ask the shadow store.")
    timeout_seconds: float = Field(
        default=2.0, gt=0, description="A shadow answer later than this is dropped and counted."
    )
    breaker_failures: int = Field(default=5, ge=1, description="Failures in a row that open the breaker.")
    breaker_seconds: float = Field(
        default=5.0, gt=0, description="How long an open breaker waits before it tries once more."
    )
    second_looks: int = Field(
        default=5, ge=2, description="How often an unequal pair is looked at again before it is given up."
    )
    look_seconds: float = Field(default=0.25, gt=0, description="Pause between two looks at an unequal pair.")
    slow_factor: float = Field(
        default=2.0,
        ge=1,
        description="An answer counts as slow if it took more than so many times as long as the other store's to the "
        "same call …",
    )
    slow_seconds: float = Field(default=0.005, ge=0, description="… and so much longer at least.")
    fallback: bool = Field(
        default=True,
        description="A read that the served store fails is answered by the other one, and counted; never by legacy "
        "once it was let go of (`complete`).",
    )


@dataclass(frozen=True, slots=True, config=_STRICT)
class RuleSettings:
    name: str = Field(
        pattern=r"^[a-z0-9][a-z0-9_.-]{0,62}$",
        description="What the rule is called: comparisons that it excuses are counted under this name.",
    )
    field: str = Field(description="The field the rule is about; items of lists count by their field's name.")
    action: Literal["ignore", "tolerance", "unordered"] = Field(
        description="What the rule does with a difference there."
    )
    reason: str = Field(min_length=1, description="Why the difference does not matter; shown in every report.")
    operation: str = Field(default="*", min_length=1, description='The operation that it applies to; "*" for all.')
    tolerance: float = Field(
        default=0.0,
        ge=0,
        description='For action "tolerance": the greatest difference, in seconds for stamps.',
    )

    def __post_init__(self) -> None:
        if (self.action == "tolerance") != (self.tolerance > 0):
            raise ValueError(f'rule {self.name}: a tolerance above 0 goes with action "tolerance", and with no other')


@dataclass(frozen=True, slots=True, config=_STRICT)
class CompareSettings:
    rules: tuple[RuleSettings, ...] = Field(default=(), description="Declared differences, each with its reason.")
    samples: int = Field(default=200, ge=0, description="Confirmed mismatches kept as samples in the ledger, at most.")

    def __post_init__(self) -> None:
        names = [rule.name for rule in self.rules]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"compare.rules: there are two rules called {', '.join(twice)}; give each its own name")


@dataclass(frozen=True, slots=True, config=_STRICT)
class BackfillSettings:
    chunk_rows: int = Field(default=5000, ge=1, le=1_000_000, description="Rows copied and checkpointed at once.")
    rows_per_second: float = Field(default=0.0, ge=0, description="The greatest rate, 0 for none.")
    workers: int = Field(
        default=2, ge=1, le=256, description="Chunks copied at once; each takes one connection to either store."
    )
    executor: str = Field(
        default=THREADS,
        pattern=f"^({EXECUTORS})$",
        description='Who copies them: "threads" of the command itself, or a Dask cluster, "dask://HOST:PORT" of its '
        "scheduler.",
    )
    chunk_seconds: float = Field(
        default=1.0,
        ge=0,
        description="What a chunk should take: the number of its rows follows, beginning with chunk_rows. 0 leaves it "
        "at chunk_rows.",
    )
    max_chunk_rows: int = Field(default=50_000, ge=1, le=1_000_000, description="Rows of a chunk, at most.")
    max_lag_seconds: float = Field(
        default=30.0, ge=0, description="Wait while a replica of either store is further behind; 0 never waits."
    )
    max_lag_bytes: int = Field(
        default=0, ge=0, description="The same in bytes, slots without a replica included; 0 never waits."
    )
    index_workers: int = Field(
        default=2, ge=1, le=16, description="Indexes built at once after --defer-indexes, each on its own connection."
    )
    index_memory_mb: int = Field(
        default=256, ge=1, le=65_536, description="maintenance_work_mem of each of these connections, in megabytes."
    )
    index_parallel: int = Field(
        default=2, ge=0, le=64, description="max_parallel_maintenance_workers of each of these connections."
    )


@dataclass(frozen=True, slots=True, config=_STRICT)
class CatchupSettings:
    batch_notes: int = Field(
        default=2000,
        ge=1,
        le=50_000,
        description="Dirty notes carried over in one transaction, at most. Fewer where rows are large: a worker holds "
        "them in memory.",
    )
    poll_seconds: float = Field(
        default=0.05,
        gt=0,
        description="Longest pause of --follow while the queue is empty; it begins with 2 ms and doubles.",
    )
    retry_seconds: float = Field(
        default=5.0,
        gt=0,
        description="A scope that could not be carried over is left alone for so long; where there are hundreds of "
        "them, for as many times longer.",
    )


@dataclass(frozen=True, slots=True, config=_STRICT)
class VerifySettings:
    patience_seconds: float = Field(
        default=10.0, ge=0, description="How long the second look waits for differing rows to be carried over."
    )
    examples: int = Field(default=20, ge=0, description="Differing rows shown with their fields, at most.")
    workers: int = Field(default=2, ge=1, le=64, description="Connections to each store that compute digests at once.")
    segment_mb: int = Field(
        default=64, ge=1, le=65_536, description="How much of a table is read, and kept as finished, at once."
    )


@dataclass(frozen=True, slots=True, config=_STRICT)
class Settings:
    legacy: LegacySettings = LegacySettings()
    new: NewSettings = NewSettings()
    pool: PoolSettings = PoolSettings()
    migration: MigrationSettings = MigrationSettings()
    guard: GuardSettings = GuardSettings()
    move: MoveSettings = MoveSettings()
    shadow: ShadowSettings = ShadowSettings()
    compare: CompareSettings = CompareSettings()
    backfill: BackfillSettings = BackfillSettings()
    catchup: CatchupSettings = CatchupSettings()
    verify: VerifySettings = VerifySettings()
    gates: GateSettings = GateSettings()
    ramp: RampSettings = RampSettings()

    def fingerprint(self) -> str:
        """Twelve hexadecimal digits that change with any setting but the addresses."""
        plain = TypeAdapter(Settings).dump_python(self, mode="json")
        plain["legacy"].pop("url")
        plain["new"].pop("url")
        plain["gates"].pop("prometheus_url")
        for query in plain["gates"]["prometheus"]:
            query.pop("url")
        return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:12]
