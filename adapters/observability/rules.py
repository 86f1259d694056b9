"""Recording rules: the ratios that alerts and boards share, over several windows."""

from __future__ import annotations

from dataclasses import dataclass

from adapters.metrics.definitions import COMPARISONS, DIRTY_KEYS, DROPS, LAG, OPERATION_SECONDS, OPERATIONS

SHORT = "5m"
WINDOWS = (SHORT, "30m", "1h", "6h", "3d")
UNDER_LOAD = "~queue_full|timeout|breaker_open|store_failed"  # drops that say something of the harness or of new

FAILED = "job_operation_store:crossfade_failed:ratio_rate"
P99 = "job_operation_store:crossfade_operation_seconds:p99_rate5m"
SLOWDOWN = "job_operation:crossfade_slowdown:p99_rate5m"
DROPPED = "job:crossfade_dropped:ratio_rate5m"
LONGEST_LAG = "job_store:crossfade_lag_seconds:max"
MOST_DIRTY = "job_store:crossfade_dirty_keys:max"


@dataclass(frozen=True, slots=True)
class Recorded:
    """One recording rule."""

    name: str
    expression: str


def mismatches(window: str) -> str:
    """The name of: confirmed mismatches per settled comparison."""
    return f"job:crossfade_mismatches:ratio_rate{window}"


def excess(window: str) -> str:
    """The name of: calls that new failed beyond legacy's share on the same operation, per call of new."""
    return f"job:crossfade_new_failures_excess:ratio_rate{window}"


def recording_rules() -> tuple[Recorded, ...]:
    """All of them, each after those that it rests on."""
    ratios = [rule for window in WINDOWS for rule in (_mismatches(window), _failed(window), _excess(window))]
    by_store = "sum by (job, operation, store, le)"
    return (
        *ratios,
        Recorded(
            P99,
            f"histogram_quantile(0.99,\n  {by_store} (rate({OPERATION_SECONDS('_bucket')}[{SHORT}]))\n)",
        ),
        Recorded(
            SLOWDOWN, f'sum without (store) ({P99}{{store="new"}})\n  / sum without (store) ({P99}{{store="legacy"}})'
        ),
        Recorded(
            DROPPED,
            f"sum by (job) (rate({DROPS(reason=UNDER_LOAD)}[{SHORT}]))\n"
            f"  / sum by (job) (rate({COMPARISONS}[{SHORT}]))",
        ),
        # Every process that looks reports the same; one that cannot reach a store any more reports what it saw last.
        Recorded(LONGEST_LAG, f"max by (job, store) ({LAG})"),
        Recorded(MOST_DIRTY, f"max by (job, store) ({DIRTY_KEYS})"),
    )


def _mismatches(window: str) -> Recorded:
    return Recorded(
        mismatches(window),
        f"sum by (job) (rate({COMPARISONS(result='mismatched')}[{window}]))\n"
        f"  / sum by (job) (rate({COMPARISONS(result='!not_compared')}[{window}]))",
    )


def _failed(window: str) -> Recorded:
    return Recorded(
        FAILED + window,
        f"sum by (job, operation, store) (rate({OPERATIONS(outcome='failed')}[{window}]))\n"
        f"  / (sum by (job, operation, store) (rate({OPERATIONS}[{window}])) > 0)",
    )


def _excess(window: str) -> Recorded:
    """By operation, so that legacy's failed writes do not excuse new's failed reads."""
    new, legacy = (f'sum without (store) ({FAILED}{window}{{store="{store}"}})' for store in ("new", "legacy"))
    calls = f"rate({OPERATIONS(store='new')}[{window}])"
    return Recorded(
        excess(window),
        f"sum by (job) (\n  clamp_min({new}\n    - ({legacy}\n      or 0 * {new}), 0)\n"
        f"  * sum by (job, operation) ({calls})\n) / sum by (job) ({calls})",
    )
