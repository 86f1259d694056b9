"""The live page of the metrics port: what the terminal shows, for anybody, and nothing that is not anybody's."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from html.parser import HTMLParser
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Gauge
from watched_example import live_document

from adapters.metrics.live_page import curve, page, public
from adapters.metrics.prometheus import serve
from harness.watched import told

SECRET = "hunter2-acme/project-1"  # noqa: S105 - what must not be shown
VOID = {"meta", "link", "polyline"}


class Tags(HTMLParser):
    """Which elements are open at the end, and what is loaded from where."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loaded: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.loaded += [value or "" for name, value in attrs if name in {"src", "href", "action"}]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in VOID

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def parsed(document: Mapping[str, Any]) -> Tags:
    found = Tags()
    found.feed(page(document))
    assert found.open == []
    return found


def test_the_page_says_what_the_terminal_says() -> None:
    """Each figure, gate and line; it is well formed and loads nothing from elsewhere."""
    document = live_document()
    found = parsed(document)
    text, shown = " ".join(" ".join(found.text).split()), told(document)
    for expected in (
        *(shown.phase, shown.at, shown.ramp, shown.judged, shown.next_step),
        *(cell for row in shown.rows for cell in (row.name, row.legacy, row.new)),
        *(cell for line in shown.lines for cell in (line.name, line.text)),
        *(cell for gate in shown.gates for cell in (gate.name, gate.verdict.value, gate.evidence)),
    ):
        assert expected in text
    assert set(found.loaded) == {"data:,", "status.json", "metrics"}
    assert '<noscript><meta http-equiv="refresh"' in page(document)


def test_texts_are_no_markup() -> None:
    """Whatever a gate's evidence says."""
    gates = [{"name": "lag", "verdict": "fail", "evidence": "<script>alert(1)</script>"}]
    assert "<script>alert" not in page(live_document(gates=gates))


def test_strangers_see_numbers_and_no_names() -> None:
    """Reasons, actors, errors, scopes and what Prometheus answered stay out of page and JSON."""
    gates = [
        {"name": name, "verdict": "fail", "evidence": SECRET} for name in ("rejections", "phase", "prometheus:mine")
    ]
    document = live_document(
        automatic_ramp={"state": "stopped", "step": 1, "steps": 2, "reason": SECRET, "paused": True},
        unfinished={"command": "ramp", "actor": SECRET, "reason": SECRET, "loser": "legacy", "after": {"pins": SECRET}},
        rejected=[{"scope": SECRET, "error": SECRET}],
        pins={SECRET: "new"},
        long_transactions=[SECRET],
        uncaptured_tenants=[SECRET],
        gates=[*gates, {"name": "lag", "verdict": "fail", "evidence": "legacy 9 s"}],
    )
    found = public(document)
    assert SECRET not in json.dumps(found)
    assert SECRET not in page(found)
    assert "legacy 9 s" in page(found)
    assert "rejected 1" in page(found)


def test_curves_have_gaps_where_nothing_is_known() -> None:
    """A line for each stretch that is known, from the bottom (nothing) to the top (the greatest)."""
    assert curve([None, 1.0, None, 0.0, 2.0]) == ["30.0,12.0 30.0,12.0", "90.0,23.0 120.0,1.0"]
    assert curve([None, None]) == []
    assert curve([0.0, 0.0]) == ["0.0,23.0 120.0,23.0"]


def fetch(port: int, path: str, method: str = "GET") -> tuple[int, str, str]:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", method=method)
    try:
        with urllib.request.urlopen(request) as answer:  # noqa: S310 - our own server
            return answer.status, answer.headers["Content-Type"], answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers["Content-Type"], error.read().decode()


@pytest.fixture
def registry() -> CollectorRegistry:
    found = CollectorRegistry()
    Gauge("some_figure", "Of a test", registry=found).set(3)
    return found


def test_page_json_and_metrics_on_one_port(registry: CollectorRegistry) -> None:
    """The page at /, its JSON beside it; every other path shows the metrics, as it always did."""
    document: Callable[[], dict[str, Any]] = live_document
    with serve(0, registry, document) as port:
        status, kind, body = fetch(port, "/")
        assert (status, kind) == (200, "text/html; charset=utf-8")
        assert "RAMPING" in body
        assert fetch(port, "/", "HEAD")[2] == ""
        assert json.loads(fetch(port, "/status.json")[2]) == json.loads(json.dumps(public(live_document())))
        for path in ("/metrics", "/metrics?name[]=some_figure", "/anything"):
            assert "some_figure 3.0" in fetch(port, path)[2]
        assert fetch(port, "/", "POST")[0] == 405


def test_a_page_that_fails_breaks_no_metrics(registry: CollectorRegistry) -> None:
    """It says so with a status and without a reason; the metrics are served on."""

    def broken() -> dict[str, Any]:
        raise RuntimeError(SECRET)

    with serve(0, registry, broken) as port:
        for path in ("/", "/status.json"):
            assert fetch(port, path) == (500, "text/plain; charset=utf-8", "no page now\n")
        assert "some_figure 3.0" in fetch(port, "/metrics")[2]
