"""Asks a Prometheus, or what speaks as one does, through its HTTP API. Whatever goes wrong is an answer, too."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException, HTTPResponse
from typing import Any
from urllib.error import HTTPError
from urllib.parse import SplitResult, unquote, urlencode, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from harness.evidence import Answer, Sample
from harness.promql import PrometheusSettings

_AT_ONCE = 8  # queries; so a Prometheus that is away costs its timeout once, not once for each gate
_MOST_BYTES = 4_000_000
_MOST_TEXT = 200  # characters of a reason that Prometheus gives
_LOOK = "see that Prometheus runs and that gates.prometheus_url leads to it"
_MEND = "try the query in Prometheus' own page, and mend it in crossfade.toml"


class _NoAnswer(Exception):
    """Why there is no usable answer, in words that hold no password."""

    def __init__(self, problem: str, next_step: str = _LOOK) -> None:
        super().__init__(problem)
        self.problem, self.next_step = problem, next_step


class _StayHere(HTTPRedirectHandler):
    """Follows no redirect: a password would go wherever it leads."""

    def redirect_request(self, *_: Any) -> None:
        return None


def ask(gates: Sequence[PrometheusSettings], url: str) -> tuple[Answer, ...]:
    """An answer to each gate's query as things are now; ``url`` is asked by those that name no other address.

    Takes about as long as the longest ``timeout_seconds``. Raises nothing for a Prometheus that is away or refuses.
    """
    if not gates:
        return ()
    with ThreadPoolExecutor(min(_AT_ONCE, len(gates)), "crossfade-asking") as pool:
        return tuple(pool.map(lambda gate: _answer(gate, gate.url or url), gates))


def _answer(gate: PrometheusSettings, url: str) -> Answer:
    address = urlsplit(url)
    shown = f"Prometheus at {_without_account(address)}"
    try:
        document = _fetched(gate, address)
        samples = _samples(document)
    except _NoAnswer as none:
        return Answer(gate.name, (), f"{shown} {none.problem}", none.next_step)
    if warnings := document.get("warnings"):  # part of what it was asked may be missing
        return Answer(gate.name, samples, f"{shown} warns: {_brief(warnings)}", _MEND)
    return Answer(gate.name, samples)


def _fetched(gate: PrometheusSettings, address: SplitResult) -> Mapping[str, Any]:
    """The document of a query that succeeded. Raises _NoAnswer."""
    seconds = gate.timeout_seconds
    asked = {"query": gate.query, "timeout": f"{max(1, round(seconds * 1000))}ms"}
    url = f"{_without_account(address)}/api/v1/query"
    request = Request(url, urlencode(asked).encode(), _headers(address))  # noqa: S310 - settings allow http(s) only
    deadline = time.monotonic() + seconds
    try:
        with build_opener(_StayHere()).open(request, timeout=seconds) as response:
            body = _read(response, deadline)
    except HTTPError as error:
        with error:
            raise _refused(error, deadline) from None  # its text may say where a redirect leads
    except TimeoutError:
        raise _NoAnswer(f"did not answer within {seconds:g} s") from None
    except HTTPException as error:
        raise _NoAnswer(f"does not answer as a web server does ({type(error).__name__})") from None
    except (OSError, UnicodeError) as error:  # the latter of a host's name that is none
        reason = getattr(error, "reason", error)
        if isinstance(reason, TimeoutError):
            raise _NoAnswer(f"did not answer within {seconds:g} s") from None
        said = getattr(reason, "strerror", None) or type(reason).__name__
        raise _NoAnswer(f"cannot be reached: {said}") from None
    return _document(body)


def _read(response: HTTPResponse | HTTPError, deadline: float) -> bytes:
    """The body, which neither its size nor a server that answers drop by drop makes endless."""
    body = bytearray()
    while chunk := response.read1(65_536):
        body += chunk
        if len(body) > _MOST_BYTES:
            raise _NoAnswer("answers with too many series", "aggregate in the query: sum, max or topk")
        if time.monotonic() > deadline:
            raise TimeoutError
    return bytes(body)


def _refused(error: HTTPError, deadline: float) -> _NoAnswer:
    """What a status other than 200 means. Prometheus explains a bad query in its body."""
    if 300 <= error.code < 400:
        return _NoAnswer(
            f"answers with a redirect ({error.code}), which is not followed", "give the address it leads to"
        )
    if error.code in (401, 403):
        return _NoAnswer(f"refuses the account ({error.code})", "give USER:PASSWORD in CROSSFADE_PROMETHEUS_URL")
    try:
        _document(_read(error, deadline))
    except _NoAnswer as none:
        if none.next_step == _MEND:
            return none
    except (OSError, HTTPException):
        pass  # the status says enough
    return _NoAnswer(f"answers with status {error.code}")


def _document(body: bytes) -> Mapping[str, Any]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict) or document.get("status") not in ("success", "error"):
        raise _NoAnswer("does not answer as Prometheus does")
    if document["status"] == "error":
        raise _NoAnswer(f"refuses the query: {_brief(document.get('error'))}", _MEND)
    return document


def _samples(document: Mapping[str, Any]) -> tuple[Sample, ...]:
    """The values of an instant vector or of a scalar. Raises _NoAnswer for all else."""
    try:
        kind, result = document["data"]["resultType"], document["data"]["result"]
        if kind == "scalar":
            return (Sample({}, float(result[1])),)
        if kind != "vector":
            raise _NoAnswer(f"answers with a {_brief(kind)}; an instant vector or a scalar is wanted", _MEND)
        if any("value" not in each for each in result):
            raise _NoAnswer("answers with histograms; a number of each series is wanted", _MEND)
        return tuple(Sample({str(k): str(v) for k, v in each["metric"].items()}, _number(each)) for each in result)
    except (LookupError, TypeError, ValueError, AttributeError):
        raise _NoAnswer("does not answer as Prometheus does") from None


def _number(series: Mapping[str, Any]) -> float:
    return float(series["value"][1])  # "NaN", "+Inf" and "-Inf" are understood


def _headers(address: SplitResult) -> dict[str, str]:
    headers = {"Accept": "application/json", "Content-Type": "application/x-www-form-urlencoded"}
    if address.username is not None:
        account = f"{unquote(address.username)}:{unquote(address.password or '')}"
        headers["Authorization"] = f"Basic {base64.b64encode(account.encode()).decode()}"
    return headers


def _without_account(address: SplitResult) -> str:
    host = address.netloc.rpartition("@")[2]
    return f"{address.scheme}://{host}{address.path.rstrip('/')}"


def _brief(said: object) -> str:
    """A text of Prometheus' in one line, cut."""
    text = "; ".join(map(str, said)) if isinstance(said, list) else str(said)
    line = " ".join("".join(each if each.isprintable() else " " for each in text).split())
    return line if len(line) <= _MOST_TEXT else f"{line[:_MOST_TEXT]}…"
