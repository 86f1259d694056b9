"""Gates on PromQL: what somebody else measures, held against limits. What was answered is in the evidence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from harness.evidence import Answer, Evidence, Sample
from harness.gates.finding import Finding, Gate, failed, inconclusive, passed
from harness.promql import PrometheusSettings
from harness.words import count, counted, named

_SHOWN = 20  # samples among the figures, at most: those beyond the limits first
_TEXT = 200  # characters of a label's value, at most


def gate_of(asked: PrometheusSettings, evidence: Evidence) -> Gate:
    """The verdict on what Prometheus answered."""
    answer = next((each for each in evidence.prometheus if each.name == asked.name), None)
    found = _judged(asked, answer)
    question = f"Is {' '.join(asked.query.split())} {asked.limits}?"
    return Gate(asked.gate, question, found.verdict, found.evidence, found.next_step, found.figures)


def _judged(asked: PrometheusSettings, answer: Answer | None) -> Finding:
    if answer is None:
        return inconclusive("Prometheus was not asked", "crossfade report")
    figures = _figures(asked, answer)
    beyond = [each for each in answer.samples if _beyond(asked, each.value)]
    total = counted(len(answer.samples), "value")
    if beyond:  # a warning, or another value that is no number, makes these none the better
        text = f"{count(len(beyond))} of {total} beyond the limit, {asked.limits}: {_told(beyond)}"
        return failed(text, "find out what drives it; within its limits again, it passes", **figures)
    if answer.problem:
        return inconclusive(answer.problem, answer.next_step, **figures)
    if not answer.samples:
        return inconclusive(
            "no series answers the query: nothing was measured",
            'see that Prometheus scrapes what it asks for; "or vector(0)" says that nothing means 0',
            **figures,
        )
    if unusable := [each for each in answer.samples if not math.isfinite(each.value)]:
        return inconclusive(
            f"{count(len(unusable))} of {total} no number: {_told(unusable)}",
            "mostly a ratio of nothing to nothing: wait for traffic, or leave such series out of the query",
            **figures,
        )
    values = [each.value for each in answer.samples]
    span = f"{min(values):g}" if min(values) == max(values) else f"from {min(values):g} to {max(values):g}"
    return passed(f"{total}, {span}; limit {asked.limits}", **figures)


def _beyond(asked: PrometheusSettings, value: float) -> bool:
    """NaN is beyond no limit, and within none."""
    return (asked.max is not None and value > asked.max) or (asked.min is not None and value < asked.min)


def _told(samples: Sequence[Sample]) -> str:
    return named([f"{_labels(each)} {each.value:g}".strip() for each in samples])


def _labels(sample: Sample) -> str:
    """As PromQL writes them: ``up{instance="a:1"}``; empty where there are none."""
    rest = ", ".join(f'{key}="{value[:_TEXT]}"' for key, value in sorted(sample.labels.items()) if key != "__name__")
    return sample.labels.get("__name__", "") + (f"{{{rest}}}" if rest else "")


def _figures(asked: PrometheusSettings, answer: Answer) -> dict[str, Any]:
    """Plain JSON values; what is no finite number is written as Prometheus does."""
    shown = sorted(answer.samples, key=lambda each: not _beyond(asked, each.value))[:_SHOWN]
    return {
        "query": asked.query,
        "min": asked.min,
        "max": asked.max,
        "n": len(answer.samples),
        "samples": [{"labels": dict(each.labels), "value": _plain(each.value)} for each in shown],
    }


def _plain(value: float) -> float | str:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"
