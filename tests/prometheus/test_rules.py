"""Each alert fires when it should, and is silent when it should: Prometheus's own unit tests say so."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from monitoring import needs_prometheus

from adapters.observability.alerts import alerting_rules
from adapters.observability.files import ALERTMANAGER, PROMETHEUS, RULES, Place, files
from harness.deciding import GateSettings
from harness.settings import Settings

SETTINGS, PLACE = Settings(), Place()
ALERTS = {alert.name: alert for alert in alerting_rules(SETTINGS)}
Series = Mapping[str, str]


def series(name: str, values: str, **labels: str) -> dict[str, str]:
    told = ",".join(f'{label}="{value}"' for label, value in ({"job": "crossfade"} | labels).items())
    return {f"crossfade_{name}{{{told}}}": values}


def compared(mismatched: str, matched: str) -> dict[str, str]:
    return {
        **series("comparisons_total", mismatched, operation="find_by_id", result="mismatched"),
        **series("comparisons_total", matched, operation="find_by_id", result="matched"),
        # Of no weight: what was not compared says nothing.
        **series("comparisons_total", "0+5000x6000", operation="find_by_id", result="not_compared"),
    }


def called(store: str, answered: str, failed: str, operation: str = "find_by_id") -> dict[str, str]:
    labels = {"operation": operation, "store": store, "role": "served"}
    return {
        **series("operations_total", answered, **labels, outcome="answered"),
        **series("operations_total", failed, **labels, outcome="failed"),
    }


def timed(store: str, per_minute: int, upper: str) -> dict[str, str]:
    """Calls that take between the bucket below ``upper`` and ``upper``."""
    bounds = ("0.0005", "0.005", "0.05", "+Inf")
    labels = {"operation": "find_all", "store": store, "role": "served"}
    found = series("operations_total", f"0+{per_minute}x60", **labels, outcome="answered")
    for bound in bounds:
        below = float(bound.replace("+", "")) < float(upper)
        found |= series("operation_seconds_bucket", "0+0x60" if below else f"0+{per_minute}x60", **labels, le=bound)
    return found


def phase(now: str, *, since: int = 0, before: str = "PREPARED") -> dict[str, str]:
    """The migration is in a phase from a minute on."""
    found = series("phase", f"0+0x{since} 1+0x3000", phase=now)
    if since:
        found |= series("phase", f"1+0x{since} 0+0x3000", phase=before)
    return found


def failures(part: str, per_minute: int) -> dict[str, str]:
    return series("failures_total", f"0+{per_minute}x60", part=part)


@dataclass(frozen=True)
class Case:
    """At a minute an alert fires (``count`` times) or is silent (0)."""

    alert: str
    what: str
    series: Series
    minute: int
    count: int = 1
    settings: Settings = field(default=SETTINGS)


def silent(alert: str, what: str, of: Series, minute: int) -> Case:
    return Case(alert, what, of, minute, count=0)


def stuck(notes: str = "100+0x60", rejected: str = "0+0x60") -> dict[str, str]:
    return {
        **series("dirty_keys", "5+0x60", store="legacy"),
        **series("notes_carried_total", notes),
        **series("rejected_scopes", rejected),
    }


_LONG = 100  # minutes
_MANY_NOTES = 2 * SETTINGS.catchup.batch_notes
GROWING, SHRINKING = f"{_MANY_NOTES - 100}+50x40", f"{2 * _MANY_NOTES}-10x40"
FEW, MANY = "0+2x6000", "0+1000x6000"
HEALTHY = {**called("legacy", MANY, "0+0x6000"), **called("new", MANY, "0+0x6000")}
CASES = [
    Case("CrossfadeMismatchesFast", "2 % for over an hour", compared("0+20x80", MANY), 75),
    silent("CrossfadeMismatchesFast", "it was 2 %, and is over", compared("0+20x70 1400+0x20", MANY), 85),
    silent("CrossfadeMismatchesFast", "1 % is for the slower ones", compared("0+10x80", MANY), 75),
    Case("CrossfadeMismatchesMedium", "0.8 % for over six hours", compared("0+8x400", MANY), 380),
    silent("CrossfadeMismatchesMedium", "it was 0.8 %, and is over", compared("0+8x360 2880+0x60", MANY), 400),
    Case("CrossfadeMismatchesSlow", "0.2 % for half a day", compared(FEW, MANY), 720),
    silent("CrossfadeMismatchesSlow", "0.05 % is within the limit", compared("0+1x6000", "0+2000x6000"), 720),
    Case(
        "CrossfadeNewErrorsFast",
        "new fails 2 %, legacy nothing",
        {**called("legacy", MANY, "0+0x80"), **called("new", MANY, "0+20x80")},
        75,
    ),
    silent(
        "CrossfadeNewErrorsFast",
        "legacy fails as often on the same operation",
        {**called("legacy", MANY, "0+20x80"), **called("new", MANY, "0+20x80")},
        75,
    ),
    Case(
        "CrossfadeNewErrorsFast",
        "legacy is not asked any more",
        called("new", MANY, "0+20x80"),
        75,
    ),
    Case(
        "CrossfadeNewErrorsMedium",
        "legacy's failures of another operation excuse nothing",
        {
            **called("legacy", MANY, "0+0x400"),
            **called("new", MANY, "0+16x400"),
            **called("legacy", MANY, "0+500x400", "save"),
            **called("new", MANY, "0+0x400", "save"),
        },
        380,
    ),
    silent("CrossfadeNewErrorsMedium", "nothing fails", HEALTHY, 380),
    Case(
        "CrossfadeNewErrorsSlow",
        "0.2 % for half a day",
        {**called("legacy", MANY, "0+0x6000"), **called("new", MANY, FEW)},
        720,
    ),
    silent("CrossfadeNewErrorsSlow", "nothing fails", HEALTHY, 720),
    Case("CrossfadeLag", "six seconds for minutes", series("lag_seconds", "6+0x10", store="legacy"), 5),
    silent("CrossfadeLag", "just below the limit", series("lag_seconds", "4.9+0x10", store="legacy"), 5),
    silent("CrossfadeLag", "over within a minute", series("lag_seconds", "0 0 6 0 0 0 0", store="new"), 3),
    Case("CrossfadeDirtyKeysGrowing", "many, and more", series("dirty_keys", GROWING, store="legacy"), 30),
    silent("CrossfadeDirtyKeysGrowing", "many, but fewer", series("dirty_keys", SHRINKING, store="legacy"), 30),
    silent("CrossfadeDirtyKeysGrowing", "more, but few", series("dirty_keys", "0+10x40", store="legacy"), 30),
    Case("CrossfadeCatchupStopped", "changes wait, none is carried", stuck() | phase("RAMPING"), 15),
    silent("CrossfadeCatchupStopped", "others are carried", stuck("0+60x60") | phase("RAMPING"), 15),
    silent("CrossfadeCatchupStopped", "what waits is rejected", stuck(rejected="1+0x60") | phase("RAMPING"), 15),
    silent("CrossfadeCatchupStopped", "the copy goes first", stuck() | phase("PREPARED"), 15),
    Case("CrossfadeScopeRejected", "for ten minutes", series("rejected_scopes", "0+0x5 1+0x15"), 15),
    silent("CrossfadeScopeRejected", "it followed after three", series("rejected_scopes", "1+0x3 0+0x15"), 10),
    Case("CrossfadeRogueWrites", "two, just now", series("rogue_writes", "3+0x10 5+0x10", store="new"), 12),
    silent("CrossfadeRogueWrites", "two, long ago", series("rogue_writes", "2+0x120", store="new"), 100),
    Case("CrossfadeGuardOff", "one store's", series("guard_enforcing", "0+0x20", store="new"), 10),
    silent("CrossfadeGuardOff", "for three minutes", series("guard_enforcing", "0+0x3 1+0x20", store="new"), 10),
    Case("CrossfadeActUnfinished", "for minutes", series("unfinished_acts", "0 1+0x10"), 5),
    silent("CrossfadeActUnfinished", "it was under way", series("unfinished_acts", "0 1 0+0x10"), 5),
    Case("CrossfadeNewSlow", "ten times", timed("legacy", 100, "0.005") | timed("new", 100, "0.05"), 30),
    silent("CrossfadeNewSlow", "on few calls", timed("legacy", 100, "0.005") | timed("new", 5, "0.05"), 30),
    silent("CrossfadeNewSlow", "as fast", timed("legacy", 100, "0.05") | timed("new", 100, "0.05"), 30),
    Case(
        "CrossfadeComparisonsDropped",
        "a tenth, for want of room",
        compared("0+0x60", MANY) | series("comparisons_dropped_total", "0+700x60", reason="queue_full"),
        20,
    ),
    silent(
        "CrossfadeComparisonsDropped",
        "many, but for quarantine",
        compared("0+0x60", MANY) | series("comparisons_dropped_total", "0+700x60", reason="held"),
        20,
    ),
    Case("CrossfadeFallbacks", "one a minute", series("fallbacks_total", "0+1x60", operation="find_all"), 10),
    silent("CrossfadeFallbacks", "none any more", series("fallbacks_total", "9+0x60", operation="find_all"), 10),
    Case("CrossfadePartFails", "samples are lost", failures("sample", 1), 20),
    silent("CrossfadePartFails", "gauges have an alert of their own", failures("gauges", 1), 20),
    Case("CrossfadeBlind", "gauges cannot be read", failures("gauges", 6), 10),
    silent("CrossfadeBlind", "all are read", failures("gauges", 0), 10),
    Case(
        "CrossfadeQuarantineGrown",
        "two more",
        series("quarantined_rows", "4+0x70 6+0x30") | phase("RAMPING") | series("phase", "0+0x100", phase="PREPARED"),
        80,
    ),
    silent(
        "CrossfadeQuarantineGrown",
        "the copy put them there",
        series("quarantined_rows", "0+0x70 6+0x30") | phase("BACKFILLED", since=72),
        80,
    ),
    silent(
        "CrossfadeQuarantineGrown",
        "as many as ever",
        series("quarantined_rows", "6+0x100") | phase("RAMPING") | series("phase", "0+0x100", phase="PREPARED"),
        80,
    ),
    Case(
        "CrossfadeVerificationOld",
        "25 hours",
        series("verification_timestamp_seconds", "60+0x1600") | phase("SHADOWING"),
        1550,
    ),
    Case(
        "CrossfadeVerificationOld",
        "none at all",
        series("verification_timestamp_seconds", "0+0x1600") | phase("SHADOWING"),
        1550,
    ),
    silent(
        "CrossfadeVerificationOld",
        "verified five hours ago",
        series("verification_timestamp_seconds", "60+0x1200 72000+0x400") | phase("SHADOWING"),
        1550,
    ),
    silent(
        "CrossfadeVerificationOld",
        "there is nothing to verify yet",
        series("verification_timestamp_seconds", "0+0x1600") | phase("PREPARED"),
        1550,
    ),
    Case("CrossfadeGateFails", "for twenty minutes", series("gate", "0+0x30", gate="lag"), 20),
    silent("CrossfadeGateFails", "inconclusive is no failure", series("gate", "1+0x30", gate="lag"), 20),
    Case("CrossfadeSilent", "nothing is scraped", series("route_epoch", "1+0x30"), 10),
    silent("CrossfadeSilent", "an empty queue is seen", series("dirty_keys", "0+0x30", store="new"), 10),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What crossfade boards writes."""
    return written(tmp_path, SETTINGS)


def written(folder: Path, settings: Settings) -> Path:
    for name, text in files(settings, PLACE).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def promtool(*arguments: str | Path) -> str:
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def as_test(case: Case) -> dict[str, Any]:
    fires = f'count(ALERTS{{alertname="{case.alert}",alertstate="firing"}}) or vector(0)'
    return {
        "name": f"{case.alert}: {case.what}",
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in case.series.items()],
        "promql_expr_test": [
            {"expr": fires, "eval_time": f"{case.minute}m", "exp_samples": [{"labels": "{}", "value": case.count}]}
        ],
    }


def run_cases(folder: Path, cases: list[Case]) -> None:
    """Try the cases. Of long ones the rules are evaluated every ten minutes only, for that takes a while."""
    for every, chosen in (
        ("1m", [case for case in cases if case.minute <= _LONG]),
        ("10m", [case for case in cases if case.minute > _LONG]),
    ):
        tests = {
            "rule_files": [str(folder / RULES)],
            "evaluation_interval": every,
            "tests": [as_test(case) for case in chosen],
        }
        (folder / "tests.yml").write_text(yaml.safe_dump(tests, sort_keys=False), encoding="utf-8")
        promtool("test", "rules", folder / "tests.yml")


@needs_prometheus
def test_prometheus_accepts_configuration_and_rules(folder: Path) -> None:
    """promtool finds nothing wrong with the configuration, nor with any rule, template or annotation."""
    assert "SUCCESS" in promtool("check", "config", folder / PROMETHEUS)
    assert "SUCCESS" in promtool("check", "rules", folder / RULES)


@pytest.mark.skipif(
    shutil.which("amtool") is None, reason="amtool is not on PATH; Debian's package prometheus-alertmanager has it"
)
def test_alertmanager_accepts_its_configuration(folder: Path) -> None:
    """amtool reads the configuration, with its route, receiver and inhibitions."""
    done = subprocess.run(
        ["amtool", "check-config", folder / ALERTMANAGER], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_tried_both_ways() -> None:
    """No alert is without a case in which it fires and one in which it does not."""
    for count in (0, 1):
        assert {case.alert for case in CASES if bool(case.count) == bool(count)} == set(ALERTS)


@needs_prometheus
def test_alerts_fire_and_are_silent(folder: Path) -> None:
    """Every case above holds, by Prometheus's own evaluation of the series."""
    run_cases(folder, CASES)


@needs_prometheus
def test_a_wrong_expectation_fails(folder: Path) -> None:
    """The cases can fail: one turned round does."""
    turned = replace(CASES[0], count=0)
    with pytest.raises(AssertionError, match="CrossfadeMismatchesFast"):
        run_cases(folder, [turned])


@needs_prometheus
def test_limits_follow_the_settings(tmp_path: Path) -> None:
    """Another limit of a gate is another limit of its alerts; a generous one can still be exceeded."""
    settings = Settings(gates=GateSettings(max_lag_seconds=60, max_mismatch_rate=0.2))
    folder = written(tmp_path, settings)
    lag = series("lag_seconds", "59+0x10", store="legacy")
    run_cases(
        folder,
        [
            silent("CrossfadeLag", "below the new limit", lag, 5),
            Case("CrossfadeMismatchesFast", "nearly everything", compared("0+800x80", "0+200x80"), 75),
            silent("CrossfadeMismatchesFast", "two fifths", compared("0+400x80", "0+600x80"), 75),
            silent("CrossfadeMismatchesSlow", "a tenth", compared("0+100x6000", "0+900x6000"), 720),
        ],
    )


@needs_prometheus
def test_annotations_are_filled_in(folder: Path) -> None:
    """An alert's texts carry its labels and its value, and a link to the page that says what to do."""
    annotations = {
        "summary": "new took writes without authority",
        "description": "2 within the last hour. They do not last: catch-up makes the store equal to the authority "
        "again. crossfade rogue lists them.",
        "runbook_url": "docs/runbook.md#rogue-writes",
    }
    labels = {"severity": "critical", "job": "crossfade", "store": "new"}
    tests = {
        "rule_files": [str(folder / RULES)],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [
                    {"series": name, "values": values}
                    for name, values in series("rogue_writes", "3+0x10 5+0x10", store="new").items()
                ],
                "alert_rule_test": [
                    {
                        "alertname": "CrossfadeRogueWrites",
                        "eval_time": "12m",
                        "exp_alerts": [{"exp_labels": labels, "exp_annotations": annotations}],
                    }
                ],
            }
        ],
    }
    (folder / "tests.yml").write_text(yaml.safe_dump(tests), encoding="utf-8")
    promtool("test", "rules", folder / "tests.yml")
