"""Settings of what decides: the gates, and the automatic ramp that asks them."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from harness.promql import PrometheusSettings, check_gates

_STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)


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
