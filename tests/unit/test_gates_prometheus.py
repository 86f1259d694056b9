"""Gates on PromQL: what Prometheus answered against limits, and what is no answer. The server here is a stand-in."""

from __future__ import annotations

import base64
import json
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar
from urllib.parse import parse_qs

import pytest
from report_example import good

from adapters.metrics.asking import ask
from harness.config import load
from harness.deciding import GateSettings
from harness.errors import ConfigError
from harness.evidence import Answer, Sample
from harness.gates import GATES, Gate, decide, evaluate, names_of
from harness.promql import PrometheusSettings
from harness.records import Verdict
from harness.settings import Settings
from reports.report import build

PASS, FAIL, INCONCLUSIVE = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE
LOAD = PrometheusSettings("load", "load", max=2.0)
NAN, INFINITY = float("nan"), float("inf")


def judged(*values: float, asked: PrometheusSettings = LOAD, problem: str = "") -> Gate:
    answer = Answer("load", tuple(Sample({"a": str(n)}, value) for n, value in enumerate(values)), problem, problem)
    evidence = replace(good(), prometheus=(Answer("another"), answer))
    (gate,) = evaluate(evidence, GateSettings(prometheus_url="http://p", prometheus=(asked,)), only={asked.gate})
    return gate


@pytest.mark.parametrize(
    ("least", "most", "values", "verdict"),
    [
        (None, 2.0, [2.0], PASS),
        (None, 2.0, [1.0, 0.0], PASS),
        (None, 2.0, [1.0, 2.1], FAIL),
        (1.0, None, [1.0], PASS),
        (1.0, None, [5.0, 0.9], FAIL),
        (1.0, 2.0, [1.5], PASS),
        (1.0, 2.0, [0.5], FAIL),
        (0.0, 0.0, [0.0], PASS),
        (None, 2.0, [INFINITY], FAIL),
        (1.0, None, [INFINITY], INCONCLUSIVE),
        (None, 2.0, [-INFINITY], INCONCLUSIVE),
        (None, 2.0, [NAN], INCONCLUSIVE),
        (None, 2.0, [1.0, NAN], INCONCLUSIVE),
        (None, 2.0, [NAN, 3.0], FAIL),
        (None, 2.0, [], INCONCLUSIVE),
    ],
)
def test_every_value_keeps_the_limits(
    least: float | None, most: float | None, values: list[float], verdict: Verdict
) -> None:
    """One value beyond a limit fails; what is no number, or nothing at all, is neither beyond nor within."""
    found = judged(*values, asked=PrometheusSettings("load", "load", max=most, min=least))
    assert found.verdict is verdict
    assert bool(found.next_step) is (verdict is not PASS)
    json.dumps(dict(found.figures), allow_nan=False)


def test_what_fails_is_named() -> None:
    """The evidence has the labels and the value of what is beyond, and of nothing else; the question has the query."""
    found = judged(1.0, 7.5)
    assert found.evidence == '1 of 2 values beyond the limit, at most 2: {a="1"} 7.5'
    assert found.question == "Is load at most 2?"
    assert found.figures["samples"][0] == {"labels": {"a": "1"}, "value": 7.5}
    assert (found.figures["n"], found.figures["max"], found.figures["min"]) == (2, 2.0, None)


def test_many_values_are_not_all_shown() -> None:
    """Of a thousand series some are named and counted, those beyond first; the figures keep twenty."""
    found = judged(*[1.0] * 500, *[3.0] * 500)
    assert "500 of 1,000 values" in found.evidence
    assert "494 more" in found.evidence
    assert [each["value"] for each in found.figures["samples"]] == [3.0] * 20


def test_a_problem_is_no_pass() -> None:
    """Values within the limits that came with a warning are inconclusive; one beyond them fails all the same."""
    assert judged(1.0, problem="half of it is away").verdict is INCONCLUSIVE
    assert judged(1.0, problem="half of it is away").evidence == "half of it is away"
    assert judged(3.0, problem="half of it is away").verdict is FAIL


def test_they_stand_beside_the_others() -> None:
    """A gate on PromQL comes after the table's; not asked, it leaves the whole inconclusive."""
    settings = GateSettings(prometheus_url="http://p", prometheus=(LOAD,))
    gates = evaluate(good(), settings)
    assert [each.name for each in gates] == [*GATES, "prometheus:load"] == list(names_of(settings))
    assert gates[-1].evidence == "Prometheus was not asked"
    assert decide(gates[:-1]) is PASS
    assert decide(gates) is INCONCLUSIVE


def test_the_report_has_them(tmp_path: Path) -> None:
    """Labels that look like markup are text in the report, in whatever form it is written."""
    evidence = replace(good(), prometheus=(Answer("load", (Sample({"a": "<b>|x"}, 3.0),)),))
    gates = evaluate(evidence, GateSettings(prometheus_url="http://p", prometheus=(LOAD,)))
    files = {file.suffix: file.read_text(encoding="utf-8") for file in build(evidence, gates).write(tmp_path)}
    assert "prometheus:load" in files[".md"]
    assert "&lt;b&gt;|x" in files[".html"]
    assert "<b>" not in files[".html"]
    assert "prometheus:load" in {each["name"] for each in json.loads(files[".json"])["gates"]}


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("name = 'a'\nquery = 'up'", "no limit"),
        ("name = 'a'\nquery = 'up'\nmax = 1\nmin = 2", "min 2 is above max 1"),
        ("name = 'a'\nquery = 'up'\nmax = nan", "gates.prometheus.0.max"),
        ("name = 'a'\nquery = 'up'\nmax = inf", "gates.prometheus.0.max"),
        ("name = 'a'\nquery = ' '\nmax = 1", "gates.prometheus.0.query"),
        ("name = 'a b'\nquery = 'up'\nmax = 1", "gates.prometheus.0.name"),
        ("query = 'up'\nmax = 1", "gates.prometheus.0.name"),
        ("name = 'a'\nquery = 'up'\nmaximum = 1", "unknown setting gates.prometheus.0.maximum"),
        ("name = 'a'\nquery = 'up'\nmax = 1\ntimeout_seconds = 0", "gates.prometheus.0.timeout_seconds"),
        ("name = 'a'\nquery = 'up'\nmax = 1\nurl = 'ftp://u:hidden@h'", "address of Prometheus"),
        ("name = 'a'\nquery = 'up'\nmax = 1\nurl = 'file:///hidden'", "address of Prometheus"),
        ("name = 'a'\nquery = 'up'\nmax = 1\nurl = 'http://u:hidden@'", "address of Prometheus"),
        ("name = 'a'\nquery = 'up'\nmax = 1\nurl = 'http://h:hidden'", "address of Prometheus"),
        ("name = 'a'\nquery = 'up'\nmax = 1\nurl = 'http://h/?token=hidden'", "address of Prometheus"),
        ("name = 'a'\nquery = 'up'\nmax = 1\nurl = 'http://[h'", "address of Prometheus"),
        ("name = 'a'\nquery = 'up'\nmax = 1", "CROSSFADE_PROMETHEUS_URL"),
        (
            "name = 'a'\nquery = 'up'\nmax = 1\nurl = 'http://h'\n"
            "[[gates.prometheus]]\nname = 'a'\nquery = 'up'\nmax = 2\nurl = 'http://h'",
            "more than one gate is called a",
        ),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, named: str) -> None:
    """A gate without a limit, a name or an address is refused when the settings are read, and no address is shown."""
    file = tmp_path / "crossfade.toml"
    file.write_text(f"[[gates.prometheus]]\n{text}")
    with pytest.raises(ConfigError, match=named) as refused:
        load(file, {})
    assert "hidden" not in str(refused.value)


def test_the_address_comes_from_the_environment(tmp_path: Path) -> None:
    """CROSSFADE_PROMETHEUS_URL wins over the file; neither shows in the settings' text nor moves their fingerprint."""
    file = tmp_path / "crossfade.toml"
    gate = "\n[[gates.prometheus]]\nname = 'a'\nquery = 'up'\nmin = 1"
    file.write_text(f"[gates]\nprometheus_url = 'http://file'{gate}")
    there = load(file, {})
    here = load(file, {"CROSSFADE_PROMETHEUS_URL": "http://u:hidden@here"})
    assert (there.gates.prometheus_url, here.gates.prometheus_url) == ("http://file", "http://u:hidden@here")
    file.write_text(f"{gate}\nurl = 'http://u:hidden@own'")
    own = load(file, {})
    assert "hidden" not in repr(here) + repr(own)
    assert there.fingerprint() == here.fingerprint() == own.fingerprint() != Settings().fingerprint()


class StandIn(BaseHTTPRequestHandler):
    """Answers each query with what ``answers`` has for it: a status, headers and a body."""

    answers: ClassVar[Mapping[str, tuple[int, Mapping[str, str], bytes]]] = {}
    seen: ClassVar[list[tuple[str, str | None]]] = []

    def do_POST(self) -> None:
        asked = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        self.seen.append((self.path, self.headers["Authorization"]))
        status, headers, body = self.answers[asked["query"][0]]
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST  # a redirect that is followed comes as one

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@contextmanager
def standing_in(**answers: tuple[int, Mapping[str, str], bytes]) -> Iterator[tuple[str, list[tuple[str, str | None]]]]:
    """HOST:PORT of a server with these answers, and what it was asked."""
    handler = type("Handler", (StandIn,), {"answers": answers, "seen": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}", handler.seen  # type: ignore[attr-defined] # made two lines above
        finally:
            server.shutdown()
            thread.join()


def of(data: object, **more: object) -> tuple[int, Mapping[str, str], bytes]:
    return 200, {}, json.dumps({"status": "success", "data": data} | more).encode()


def asked_of(at: str, query: str = "q", seconds: float = 5.0) -> Answer:
    (answer,) = ask([PrometheusSettings("load", query, max=1.0, timeout_seconds=seconds)], at)
    return answer


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ((302, {"Location": "http://u:hidden@127.0.0.1:1/"}, b""), "redirect (302), which is not followed"),
        ((307, {"Location": "http://u:hidden@127.0.0.1:1/"}, b""), "redirect (307)"),
        ((401, {}, b"hidden"), "refuses the account (401)"),
        ((502, {}, b"<html>hidden"), "status 502"),
        ((400, {}, b'{"status": "error", "error": "parse\\n error"}'), "refuses the query: parse error"),
        ((200, {}, b"<html>hidden"), "does not answer as Prometheus does"),
        ((200, {}, b"[" * 100_000), "does not answer as Prometheus does"),
        ((200, {}, b"[]"), "does not answer as Prometheus does"),
        ((200, {}, b" " * 5_000_000), "too many series"),
        (of({}), "does not answer as Prometheus does"),
        (of({"resultType": "vector", "result": [{"metric": {}, "value": [1, "one"]}]}), "as Prometheus does"),
        (of({"resultType": "vector", "result": [{"metric": {}, "histogram": [1, {}]}]}), "histograms"),
        (of({"resultType": "matrix", "result": []}), "a matrix; an instant vector or a scalar is wanted"),
    ],
)
def test_what_is_no_answer_says_why(answer: tuple[int, Mapping[str, str], bytes], problem: str) -> None:
    """Redirects, refusals and bodies of something else are a problem with a next step, and nothing secret shows."""
    with standing_in(q=answer) as (at, seen):
        found = asked_of(f"http://user:hidden@{at}/prom/")
    assert found.samples == ()
    assert problem in found.problem
    assert found.problem.startswith(f"Prometheus at http://{at}/prom ")
    assert found.next_step
    assert "hidden" not in repr(found)
    assert seen == [("/prom/api/v1/query", f"Basic {base64.b64encode(b'user:hidden').decode()}")]


def test_answers_are_read() -> None:
    """Vectors and scalars are values, what is no number included; a warning comes along."""
    vector = {
        "resultType": "vector",
        "result": [{"metric": {"a": "b"}, "value": [1, "+Inf"]}, {"metric": {}, "value": [1, "0.5"]}],
    }
    with standing_in(
        v=of(vector), s=of({"resultType": "scalar", "result": [1, "3"]}), w=of(vector, warnings=["half is away"])
    ) as (at, seen):
        url = f"http://{at}"
        assert asked_of(url, "v") == Answer("load", (Sample({"a": "b"}, INFINITY), Sample({}, 0.5)))
        assert asked_of(url, "s") == Answer("load", (Sample({}, 3.0),))
        warned = asked_of(url, "w")
    assert len(warned.samples) == 2
    assert warned.problem == f"Prometheus at {url} warns: half is away"
    assert {authorization for _, authorization in seen} == {None}


def test_each_gate_may_have_its_own() -> None:
    """A gate's own address is asked in place of the default one, without the default one's account."""
    with (
        standing_in(q=of({"resultType": "scalar", "result": [1, "1"]})) as (one, seen_one),
        standing_in(q=of({"resultType": "scalar", "result": [1, "2"]})) as (two, seen_two),
    ):
        gates = [
            PrometheusSettings("one", "q", max=1.0),
            PrometheusSettings("two", "q", max=1.0, url=f"http://{two}"),
        ]
        answers = ask(gates, f"http://u:p@{one}")
    assert [(each.name, each.samples[0].value) for each in answers] == [("one", 1.0), ("two", 2.0)]
    assert len(seen_one) == 1
    assert seen_two == [("/api/v1/query", None)]


def test_a_server_that_says_nothing_is_not_waited_for() -> None:
    """A connection that is accepted and never answered ends with the gate's own timeout."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        found = asked_of(f"http://127.0.0.1:{silent.getsockname()[1]}", seconds=0.1)
    assert "did not answer within 0.1 s" in found.problem


def test_an_unreachable_one_is_named() -> None:
    """A port where nobody listens, a host that is none, and a server of something else each say so."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert (
        f"Prometheus at http://127.0.0.1:{port} cannot be reached: Connection refused"
        in asked_of(f"http://u:hidden@127.0.0.1:{port}").problem
    )
    assert "cannot be reached" in asked_of(f"http://{'x' * 70}.invalid").problem
