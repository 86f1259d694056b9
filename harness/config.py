"""Settings: ``crossfade.toml`` overlaid by the environment.

Unknown keys are errors. Every setting's meaning stands beside it here; docs/configuration.md is generated from
these descriptions, and a test holds the two together.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from harness.errors import ConfigError
from harness.promql import PrometheusSettings, check_gates

_STRICT = ConfigDict(extra="forbid")
DEFAULT_FILE = "crossfade.toml"
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
        default=20, ge=1, le=1000, description="Connections to one store from one process, at most."
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
        default=True, description="A read that the served store fails is answered by the other one, and counted."
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
        allow_inf_nan=False,
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
    poll_seconds: float = Field(default=0.05, gt=0, description="Pause of --follow when the queue is empty.")
    retry_seconds: float = Field(
        default=5.0, gt=0, description="A scope that could not be carried over is left alone for so long."
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
class GateSettings:
    alpha: float = Field(
        default=0.05,
        gt=0,
        lt=1,
        description="How likely a rate beyond its limit may pass, and how likely any gate of rates or latency may fail "
        "although all keep their limits, at most, however often one looks.",
    )
    min_comparisons: int = Field(
        default=1000, ge=1, description="Fewer settled comparisons, or pairs of calls, than this are inconclusive."
    )
    max_mismatch_rate: float = Field(
        default=0.001, ge=0, le=1, description="Confirmed mismatches per settled comparison, at most."
    )
    max_error_rate: float = Field(
        default=0.001,
        ge=0,
        le=1,
        description="Share of the calls that new fails where legacy answers the same, at most; of writes, of failures "
        "beyond legacy's share.",
    )
    max_slow_rate: float = Field(
        default=0.05,
        ge=0,
        le=1,
        description="Share of new's answers that are slow (shadow.slow_factor, shadow.slow_seconds), beyond legacy's "
        "share, at most.",
    )
    max_rejected_rate: float = Field(
        default=0.1, ge=0, le=1, description="Share of the changes carried over that are refused at first, at most."
    )
    max_slowdown: float = Field(
        default=1.5, gt=0, description="New's p50, p95 and p99 over legacy's, per operation, at most …"
    )
    slowdown_seconds: float = Field(
        default=0.002, ge=0, description="… but differences of less than this do not matter."
    )
    max_lag_seconds: float = Field(default=5.0, gt=0, description="Oldest dirty note's age, at most.")
    max_dirty_keys: int = Field(
        default=10_000, ge=0, description="Notes of either store not yet carried over, at most."
    )
    verify_hours: float = Field(default=24.0, gt=0, description="A verification older than this is inconclusive.")
    max_rollback_debt: int = Field(
        default=0,
        ge=0,
        description="Records of new that legacy cannot hold and a rollback would leave behind, at most.",
    )
    rehearse_rollback: bool = Field(default=False, description="Whether a rollback must have been carried out before.")
    prometheus_url: str = Field(
        default="",
        repr=False,
        description="The Prometheus that [[gates.prometheus]] asks. With a password, better given as "
        "CROSSFADE_PROMETHEUS_URL.",
    )
    prometheus: tuple[PrometheusSettings, ...] = Field(
        default=(), description="Gates on PromQL, each a query with limits."
    )

    def __post_init__(self) -> None:
        check_gates(self.prometheus, self.prometheus_url)


@dataclass(frozen=True, slots=True, config=_STRICT)
class RampSettings:
    reads: tuple[float, ...] = Field(
        default=(1.0, 5.0, 25.0, 50.0, 100.0),
        description="Steps of an automatic ramp: percent of reads, each more than the one before.",
    )
    writes: tuple[float, ...] = Field(
        default=(1.0, 10.0, 50.0, 100.0),
        description="Its steps after the reads': percent of scopes whose writes move. Empty: only reads are ramped.",
    )
    step_seconds: float = Field(default=3600.0, ge=0, description="How long a step lasts, at least.")
    look_seconds: float = Field(default=5.0, gt=0, le=300, description="Pause between two looks at the gates.")
    retreat: Literal["zero", "step"] = Field(
        default="zero", description="Where a failed gate leads: to nothing at all, or to the step before."
    )
    gates: tuple[str, ...] = Field(
        default=(
            "verified",
            "mismatches",
            "errors",
            "slow",
            "latency",
            "rejections",
            "lag",
            "dirty",
            "rogue",
        ),
        min_length=1,
        description="Gates that an automatic ramp asks, each time on what was counted since its step began.",
    )

    def __post_init__(self) -> None:
        for name in ("reads", "writes"):
            steps = getattr(self, name)
            if not all(0 < step <= 100 for step in steps) or any(b <= a for a, b in pairwise(steps)):
                raise ValueError(f"ramp.{name} must rise from step to step, within 0 and 100: {list(steps)}")
        if not self.reads and not self.writes:
            raise ValueError("ramp.reads and ramp.writes are both empty: there is no step to go to")


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


def load(path: Path | None, environment: Mapping[str, str]) -> Settings:
    """Settings from a file and the environment; the environment wins.

    ``path`` None means ``crossfade.toml`` in the working directory if there is one. Raises ConfigError naming the
    file and the key for a file that is missing, is no TOML, or holds an unknown key or an unfit value.
    """
    document = _read(path)
    for section, name, url in (
        ("legacy", "url", _legacy_url(environment)),
        ("new", "url", _new_url(environment)),
        ("gates", "prometheus_url", environment.get("CROSSFADE_PROMETHEUS_URL")),
    ):
        if url and isinstance(document.setdefault(section, {}), dict):
            document[section][name] = url
    try:
        return TypeAdapter(Settings).validate_python(document)
    except ValidationError as error:
        raise ConfigError(_explain(error, path)) from None  # the error's input may hold a password


def _read(path: Path | None) -> dict[str, Any]:
    chosen = path or Path(DEFAULT_FILE)
    if path is None and not chosen.exists():
        return {}
    try:
        return tomllib.loads(chosen.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the settings in {chosen}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{chosen} is not valid TOML: {error}") from error


def _explain(error: ValidationError, path: Path | None) -> str:
    lines = []
    for problem in error.errors(include_input=False, include_url=False):
        key = ".".join(str(part) for part in problem["loc"])
        unknown = problem["type"] in {"unexpected_keyword_argument", "extra_forbidden"}
        lines.append(f"unknown setting {key}" if unknown else f"{key}: {problem['msg']}")
    return f"{path or DEFAULT_FILE}: " + "; ".join(lines) + ". See docs/configuration.md"


def _legacy_url(environment: Mapping[str, str]) -> str:
    """CROSSFADE_LEGACY_URL, else built from Dispatch's own variables."""
    if url := environment.get("CROSSFADE_LEGACY_URL"):
        return url
    if not (host := environment.get("DATABASE_HOSTNAME")):
        return ""
    user, _, password = environment.get("DATABASE_CREDENTIALS", "").partition(":")
    return _url(
        user,
        password,
        host,
        environment.get("DATABASE_PORT", "5432"),
        environment.get("DATABASE_NAME", "dispatch"),
    )


def _new_url(environment: Mapping[str, str]) -> str:
    """CROSSFADE_NEW_URL, else built from Prompt Manager's own variables."""
    if url := environment.get("CROSSFADE_NEW_URL"):
        return url
    if not (host := environment.get("POSTGRES_HOST")):
        return ""
    return _url(
        environment.get("POSTGRES_USER", "postgres"),
        environment.get("POSTGRES_PASSWORD", ""),
        host,
        environment.get("POSTGRES_PORT", "5432"),
        environment.get("POSTGRES_DB", "postgres"),
    )


def _url(user: str, password: str, host: str, port: str, database: str) -> str:
    account = quote(user, safe="") + (f":{quote(password, safe='')}" if password else "")
    return f"postgresql://{account}{'@' if account else ''}{host}:{port}/{quote(database, safe='')}"
