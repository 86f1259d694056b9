"""Every metric: its name, labels and meaning, written once.

The publisher makes its metrics of these, docs/metrics.md lists them, and rules and boards ask for them through
``Definition.__call__``, which knows the labels and their values: a query for what is not exported cannot be built.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from harness.phases import Phase
from harness.routing import Store
from harness.statistics import Drop, Failure, Result, Role

OF_EVERY_SERIES = frozenset({"job", "instance"})  # labels that Prometheus itself adds
_MATCHES = {"!~": "!~", "~": "=~", "!": "!="}


@dataclass(frozen=True, slots=True)
class Label:
    """A label and its closed set of values; ``meaning`` stands for a set that the adapter's code closes.

    ``of`` tells labels of the same name apart; ``remarks`` explain single values on the page.
    """

    name: str
    values: tuple[str, ...] = ()
    meaning: str = ""
    of: str = ""
    remarks: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Definition:
    """One metric. ``of_stores``: commands read it from the stores, so it is the same in every process."""

    kind: Literal["counter", "gauge", "histogram"]
    name: str
    what: str
    labels: tuple[Label, ...] = ()
    of_stores: bool = False

    def __call__(self, suffix: str = "", /, **wanted: str) -> str:
        """A selector of PromQL. A value may begin with ``!``, ``~`` or ``!~``, for the matching that it stands for.

        Raises LookupError for a label or a value that this metric never has.
        """
        labels = {label.name: label for label in self.labels}
        matchers = []
        for name, value in sorted(wanted.items()):
            sign = next((sign for sign in _MATCHES if value.startswith(sign)), "")
            text = value.removeprefix(sign)
            if name in labels:
                _check(self, labels[name], text)
            elif name not in OF_EVERY_SERIES:
                raise LookupError(f"{self.name} has no label {name}")
            matchers.append(f'{name}{_MATCHES.get(sign, "=")}"{text}"')
        return f"{self.name}{suffix}{{{','.join(matchers)}}}" if matchers else f"{self.name}{suffix}"

    def __str__(self) -> str:
        return self.name


def _check(metric: Definition, label: Label, text: str) -> None:
    if label.values and not text.startswith("$"):
        for value in text.split("|"):
            if value not in label.values:
                raise LookupError(f"{metric.name} has no {label.name} {value}")


def _all(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(map(str, values))


OPERATION = Label("operation", meaning="the methods of the repository contract")
STORE = Label("store", _all(Store))
ROLE = Label("role", _all(Role))
OUTCOME = Label("outcome", ("answered", "failed"))
COMPARED = Label(
    "result",
    _all(Result),
    of="of a comparison",
    remarks=(
        ("ignored", "only declared rules excuse it"),
        ("mismatched", "confirmed"),
        ("transient", "equal at a later look"),
    ),
)
COPIED = Label(
    "result",
    ("copied", "already_there", "quarantined", "deferred"),
    of="of a copied row",
    remarks=(("deferred", "left to catch-up"),),
)
FIELD = Label(
    "field",
    meaning="the field names of the contract's dataclasses, and `presence` (one answer is None), `outcome` (an error, "
    "or another error), `length` (items more or fewer), `other`",
)
RULE = Label("rule", meaning="the names of the rules in `crossfade.toml`")
REASON = Label("reason", _all(Drop))
PART = Label("part", _all(Failure))
SHARE = Label("kind", ("reads", "writes", "shadow"), of="of a percentage")
CARRIED = Label("kind", ("upserted", "deleted", "quarantined"), of="of a carried row")
PHASE = Label("phase", _all(Phase))
GATE = Label("gate", meaning="the [gates](gates.md)")

OPERATIONS = Definition(
    "counter",
    "crossfade_operations_total",
    "Calls of one store. A refusal (not found, conflict …) is an answer; `failed` is a store that was away, or an "
    "unknown error.",
    (OPERATION, STORE, ROLE, OUTCOME),
)
OPERATION_SECONDS = Definition(
    "histogram",
    "crossfade_operation_seconds",
    "Histogram of their durations, failed ones included.",
    (OPERATION, STORE, ROLE),
)
COMPARISONS = Definition(
    "counter",
    "crossfade_comparisons_total",
    "Pairs of answers, by what comparing them found.",
    (OPERATION, COMPARED),
)
FIELDS = Definition(
    "counter",
    "crossfade_mismatched_fields_total",
    "Fields that differed in confirmed mismatches, each once a mismatch.",
    (OPERATION, FIELD),
)
IGNORED = Definition(
    "counter",
    "crossfade_ignored_comparisons_total",
    "Comparisons that only rules excuse, for each rule that had a part in it.",
    (OPERATION, RULE),
)
DROPS = Definition(
    "counter",
    "crossfade_comparisons_dropped_total",
    "Comparisons that were not made or not settled. Each counts as `not_compared` above too.",
    (REASON,),
)
FALLBACKS = Definition(
    "counter",
    "crossfade_fallbacks_total",
    "Reads that the other store answered because the drawn one was away.",
    (OPERATION,),
)
REROUTED = Definition(
    "counter",
    "crossfade_writes_rerouted_total",
    "Writes offered to another store, because authority had moved or was not told.",
    (OPERATION,),
)
UNRECORDED = Definition(
    "counter",
    "crossfade_calls_unrecorded_total",
    "Calls whose duration was lost because a buffer was full.",
    (OPERATION,),
)
FAILURES = Definition(
    "counter", "crossfade_failures_total", "Failures of the harness's own parts, which no caller notices.", (PART,)
)
ROUTE_PERCENT = Definition("gauge", "crossfade_route_percent", "The route that this process follows.", (SHARE,))
ROUTE_EPOCH = Definition("gauge", "crossfade_route_epoch", "Grows with every change of the route.")
DIRTY_KEYS = Definition(
    "gauge", "crossfade_dirty_keys", "Notes of changes that are not yet carried over.", (STORE,), of_stores=True
)
LAG = Definition(
    "gauge", "crossfade_lag_seconds", "Age of the oldest such note; 0 without one.", (STORE,), of_stores=True
)
QUARANTINED = Definition("gauge", "crossfade_quarantined_rows", "Rows in quarantine.", of_stores=True)
DEBT = Definition("gauge", "crossfade_rollback_debt_rows", "Records of new that legacy cannot hold.", of_stores=True)
ROGUE = Definition(
    "gauge", "crossfade_rogue_writes", "Writes that a store took without authority.", (STORE,), of_stores=True
)
UNFINISHED = Definition(
    "gauge", "crossfade_unfinished_acts", "1 while an act of authority is pending, else 0.", of_stores=True
)
REJECTED = Definition(
    "gauge", "crossfade_rejected_scopes", "Scopes that one store refused to take from the other.", of_stores=True
)
ENFORCING = Definition(
    "gauge",
    "crossfade_guard_enforcing",
    "1 while a store's guard refuses writes that it has no authority for, else 0.",
    (STORE,),
    of_stores=True,
)
PHASE_NOW = Definition(
    "gauge", "crossfade_phase", "1 for the phase that the migration is in, 0 for the others.", (PHASE,), of_stores=True
)
VERIFIED = Definition(
    "gauge",
    "crossfade_verification_timestamp_seconds",
    "When the verification that counts was made, in seconds since 1970; 0 without one.",
    of_stores=True,
)
GATES = Definition(
    "gauge", "crossfade_gate", "Each gate's verdict: 0 fail, 1 inconclusive, 2 pass.", (GATE,), of_stores=True
)
NOTES_CARRIED = Definition("counter", "crossfade_notes_carried_total", "Notes of changes that catch-up settled.")
ROWS_CARRIED = Definition("counter", "crossfade_rows_carried_total", "Rows carried over by catch-up.", (CARRIED,))
ROWS_COPIED = Definition("counter", "crossfade_rows_copied_total", "Rows that backfill accounted for.", (COPIED,))

METRICS = (
    OPERATIONS,
    OPERATION_SECONDS,
    COMPARISONS,
    FIELDS,
    IGNORED,
    DROPS,
    FALLBACKS,
    REROUTED,
    UNRECORDED,
    FAILURES,
    ROUTE_PERCENT,
    ROUTE_EPOCH,
    DIRTY_KEYS,
    LAG,
    QUARANTINED,
    DEBT,
    ROGUE,
    UNFINISHED,
    REJECTED,
    ENFORCING,
    PHASE_NOW,
    VERIFIED,
    GATES,
    NOTES_CARRIED,
    ROWS_CARRIED,
    ROWS_COPIED,
)
