"""Alerts: when somebody should look, why, and where it says what to do.

The limits are those of the gates: an alert says early what the gate will say.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from adapters.metrics.definitions import (
    DIRTY_KEYS,
    ENFORCING,
    FAILURES,
    FALLBACKS,
    GATES,
    NOTES_CARRIED,
    OPERATIONS,
    PHASE_NOW,
    QUARANTINED,
    REJECTED,
    ROGUE,
    UNFINISHED,
    VERIFIED,
)
from adapters.observability.rules import DROPPED, LONGEST_LAG, MOST_DIRTY, P99, SHORT, SLOWDOWN, excess, mismatches
from harness.settings import Settings
from harness.words import share

Severity = Literal["critical", "warning", "info"]

DROPPED_SHARE = 0.05  # of the comparisons; more than this and what is left may no longer stand for the traffic
TAIL_CALLS = 100  # within the short window; the 99th percentile of fewer says little

# Speed of use of what the gate allows, over a long and a short window. Site Reliability Workbook, chapter 5,
# "Multiwindow, Multi-Burn-Rate Alerts".
_BURNS: tuple[tuple[str, float, str, str, Severity], ...] = (
    ("Fast", 14.4, "1h", SHORT, "critical"),
    ("Medium", 6.0, "6h", "30m", "critical"),
    ("Slow", 1.0, "3d", "6h", "warning"),
)
_COPIED = f"max by (job) ({PHASE_NOW(phase='~BACKFILLED|SHADOWING|RAMPING|CUT_OVER|ROLLED_BACK')}) == 1"


@dataclass(frozen=True, slots=True)
class Alert:
    """One alerting rule. ``hold``: how long its expression must hold. ``runbook``: a page of docs/ and its heading."""

    name: str
    expression: str
    hold: str
    severity: Severity
    summary: str
    description: str
    runbook: str


def alerting_rules(settings: Settings) -> tuple[Alert, ...]:
    """All of them, with the limits of the settings."""
    return (*_rates(settings), *_carrying(settings), *_guarding(), *_comparing(settings), *_standing(settings))


def _rates(settings: Settings) -> tuple[Alert, ...]:
    gates = settings.gates
    differing = "{{ $value | humanizePercentage }} of the settled comparisons were confirmed mismatches"
    failing = "{{ $value | humanizePercentage }} of new's calls failed, beyond legacy's share on the same operations,"
    return (
        *_burning("CrossfadeMismatches", mismatches, gates.max_mismatch_rate, "Answers differ", differing, _MISMATCH),
        *_burning("CrossfadeNewErrors", excess, gates.max_error_rate, "New fails more than legacy", failing, _AWAY),
    )


_MISMATCH = "runbook.md#a-confirmed-mismatch"
_AWAY = "runbook.md#new-is-away"


def _burning(
    name: str, ratio: Callable[[str], str], limit: float, summary: str, what: str, runbook: str
) -> list[Alert]:
    found = []
    for speed, factor, long, short, severity in _BURNS:
        # A generous limit times a large factor would never be exceeded: half of everything always is too much.
        bound = min(factor * limit, max(limit, 0.5))
        found.append(
            Alert(
                f"{name}{speed}",
                f"{ratio(long)} > {bound:.6g}\n  and {ratio(short)} > {bound:.6g}",
                "1m",
                severity,
                f"{summary}: more than {share(bound)} within {long}",
                f"{what} within {long}, and more than {share(bound)} within {short} too; the gate allows "
                f"{share(limit)}. Step back (crossfade ramp --reads 0), then look.",
                runbook,
            )
        )
    return found


def _carrying(settings: Settings) -> tuple[Alert, ...]:
    limit, many = settings.gates.max_lag_seconds, 2 * settings.catchup.batch_notes
    waiting = f"sum by (job) (min_over_time({DIRTY_KEYS}[{SHORT}])) > 0"
    return (
        Alert(
            "CrossfadeLag",
            f"{LONGEST_LAG} > {limit:g}",
            "1m",
            "warning",
            "Changes in {{ $labels.store }} are carried over late",
            "The oldest change in {{ $labels.store }} has waited for {{ $value | humanizeDuration }}; the gate allows "
            f"{limit:g} s. Look at the catch-up workers, and at rejected scopes in crossfade status.",
            "runbook.md#changes-are-not-carried-over",
        ),
        Alert(
            "CrossfadeDirtyKeysGrowing",
            f"{MOST_DIRTY} > {many}\n  and deriv({MOST_DIRTY}[10m]) > 0",
            "10m",
            "warning",
            "Catch-up does not keep up with {{ $labels.store }}'s writers",
            "{{ $value | humanize }} changes wait in {{ $labels.store }}, and they become more. More workers, or fewer "
            "writers for a while; an act that moves authority gives up meanwhile.",
            "runbook.md#changes-are-not-carried-over",
        ),
        Alert(
            "CrossfadeCatchupStopped",
            f"{waiting}\n  unless sum by (job) (rate({NOTES_CARRIED}[{SHORT}])) > 0\n"
            f"  unless max by (job) ({REJECTED}) > 0\n  and {_COPIED}",
            "1m",
            "critical",
            "Changes wait, and nobody carries them over",
            "{{ $value | humanize }} changes have waited for five minutes, and catch-up settled none. Is crossfade "
            "catchup --follow running, and can it reach both stores?",
            "runbook.md#changes-are-not-carried-over",
        ),
        Alert(
            "CrossfadeScopeRejected",
            f"max by (job) ({REJECTED}) > 0",
            "5m",
            "warning",
            "A scope cannot be carried over",
            "{{ $value | humanize }} scopes are refused by the other store; crossfade status says which, and why.",
            "runbook.md#a-rejected-scope",
        ),
    )


def _guarding() -> tuple[Alert, ...]:
    return (
        Alert(
            "CrossfadeRogueWrites",
            f"max by (job, store) ({ROGUE} - min_over_time({ROGUE}[1h])) > 0",
            "0s",
            "critical",
            "{{ $labels.store }} took writes without authority",
            "{{ $value | humanize }} within the last hour. They do not last: catch-up makes the store equal to the "
            "authority again. crossfade rogue lists them.",
            "runbook.md#rogue-writes",
        ),
        Alert(
            "CrossfadeGuardOff",
            f"min by (job, store) ({ENFORCING}) == 0",
            "5m",
            "warning",
            "The guard of {{ $labels.store }} does not enforce",
            "Both stores may accept writes to the same scope. Set guard.mode to enforce, and run crossfade prepare.",
            "runbook.md#rogue-writes",
        ),
        Alert(
            "CrossfadeActUnfinished",
            f"max by (job) ({UNFINISHED}) == 1",
            "2m",
            "critical",
            "A move of authority is half done",
            "Writers of the moving scopes may be refused by both stores. crossfade resume finishes or undoes it.",
            "runbook.md#a-command-died",
        ),
    )


def _comparing(settings: Settings) -> tuple[Alert, ...]:
    slower, matters = settings.gates.max_slowdown, settings.gates.slowdown_seconds
    later = f'sum without (store) ({P99}{{store="new"}}) - sum without (store) ({P99}{{store="legacy"}})'
    enough = f"sum by (job, operation) (increase({OPERATIONS(store='new')}[{SHORT}])) >= {TAIL_CALLS}"
    return (
        Alert(
            "CrossfadeNewSlow",
            f"{SLOWDOWN} > {slower:g}\n  and {later} >= {matters:g}\n  and {enough}",
            "15m",
            "warning",
            "New is slow at {{ $labels.operation }}",
            "New's 99th percentile is {{ $value | humanize }} times legacy's; "
            f"the gate allows {slower:g}. Look at new's plans and indexes before its share grows.",
            "runbook.md#reads-move",
        ),
        Alert(
            "CrossfadeComparisonsDropped",
            f"{DROPPED} > {DROPPED_SHARE:g}",
            "10m",
            "warning",
            "Comparisons are dropped",
            "{{ $value | humanizePercentage }} of the comparisons are not made, because the queue is full or a store "
            "does not answer. What is not compared proves nothing.",
            "troubleshooting.md#numbers-that-surprise",
        ),
        Alert(
            "CrossfadeFallbacks",
            f"sum by (job) (increase({FALLBACKS}[{SHORT}])) > 0",
            "1m",
            "warning",
            "Reads fall back to the other store",
            "{{ $value | humanize }} reads within five minutes were answered by the other store, because the one that "
            "should have was away.",
            _AWAY,
        ),
        Alert(
            "CrossfadePartFails",
            f"sum by (job, part) (increase({FAILURES(part='!gauges')}[15m])) > 0",
            "5m",
            "info",
            "A part of Crossfade fails: {{ $labels.part }}",
            "{{ $value | humanize }} times within a quarter of an hour. No caller notices; what the part does for the "
            "evidence may be missing.",
            "troubleshooting.md#numbers-that-surprise",
        ),
    )


def _standing(settings: Settings) -> tuple[Alert, ...]:
    hours = settings.gates.verify_hours
    filled = f"max by (job) (max_over_time({PHASE_NOW(phase='~IDLE|PREPARED')}[1h])) == 0"
    return (
        Alert(
            "CrossfadeQuarantineGrown",
            f"max by (job) ({QUARANTINED} - min_over_time({QUARANTINED}[1h])) > 0\n  and {filled}",
            "5m",
            "warning",
            "Rows went into quarantine",
            "{{ $value | humanize }} more than an hour ago. Each is somebody's decision, and none of them is in new.",
            "runbook.md#rows-in-quarantine",
        ),
        Alert(
            "CrossfadeVerificationOld",
            f"time() - max by (job) ({VERIFIED}) > {hours * 3600:g}\n  and {_COPIED}",
            "10m",
            "warning",
            "The stores have not been verified for long",
            f"The last verification that counts is older than {hours:g} hours, or there was none.",
            "runbook.md#verify",
        ),
        Alert(
            "CrossfadeGateFails",
            f"min by (job, gate) ({GATES}) == 0",
            "15m",
            "info",
            "The gate {{ $labels.gate }} fails",
            "crossfade report says on which evidence, and what to do.",
            "runbook.md#the-report",
        ),
        Alert(
            "CrossfadeBlind",
            f"sum by (job) (increase({FAILURES(part='gauges')}[{SHORT}])) > 0",
            "2m",
            "warning",
            "Crossfade cannot read its stores",
            "Lag, quarantine, authority and gates stand still as they were read last.",
            _AWAY,
        ),
        Alert(
            "CrossfadeSilent",
            f"absent({DIRTY_KEYS})",
            "5m",
            "critical",
            "No process of Crossfade is seen",
            "Nothing that Prometheus scrapes shows a dirty queue: catch-up has ended, or its port cannot be reached.",
            "runbook.md#a-process-dies",
        ),
    )
