"""The live page in a browser: one small HTML page that loads nothing but itself, with the document beside it as JSON.

The page renews itself by a script that fetches it again; without scripts, by a refresh.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from harness.gates import GATES
from harness.records import Verdict
from harness.watched import MARKS, told

_TEMPLATES = Path(__file__).parent / "templates"
_SIZE = (120.0, 24.0)  # of a curve, in units of its own
SECONDS = 2.0  # between two looks of the page
# What anybody who reaches the port may see: no reasons that people wrote, no errors, no names of scopes and accounts.
PUBLIC = (
    *("at", "phase", "epoch", "reads_percent", "writes_percent", "shadow_percent", "next", "away"),
    *("operations_per_second", "compared_per_second", "latency_seconds", "errors_lately", "lately_seconds"),
    *("dirty", "lag_seconds", "mismatch", "mismatches_confirmed", "history", "quarantined", "quarantined_undecided"),
    *("rogue_writes", "rollback_debt", "last_verification", "gates", "verdict", "gates_age_seconds", "judging_failed"),
    "look_age_seconds",
)
_NAMING = frozenset({"phase", "rejections"})
HEADERS = (
    ("Cache-Control", "no-store"),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    (
        "Content-Security-Policy",
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
)

StartResponse = Callable[[str, list[tuple[str, str]]], object]
Application = Callable[[dict[str, Any], StartResponse], Sequence[bytes]]


def public(document: Mapping[str, Any]) -> dict[str, Any]:
    """The live document without what is nobody else's business."""
    found = {name: document[name] for name in PUBLIC if name in document}
    course, act = document["automatic_ramp"], document["unfinished"]
    found["automatic_ramp"] = course and {**course, "reason": ""}
    found["unfinished"] = act and {"command": act["command"], "actor": "somebody"}
    found["rejected"] = [{"scope": None, "error": ""} for _ in document["rejected"]]
    found["gates"] = [gate | {"evidence": _evidence(gate)} for gate in document["gates"]]
    return found


def _evidence(gate: Mapping[str, str]) -> str:
    """Numbers are everybody's; a gate that does not pass may name scopes, tenants, or what Prometheus knows."""
    names = gate["name"] in _NAMING or gate["name"] not in GATES
    return "see crossfade report" if names and gate["verdict"] != Verdict.PASS else gate["evidence"]


def page(document: Mapping[str, Any]) -> str:
    """The document as HTML."""
    return _template().render(told=told(document), marks=MARKS, curve=curve, size=_SIZE, seconds=SECONDS)


def curve(points: Sequence[float | None]) -> list[str]:
    """Polylines from nothing at the bottom to the greatest point at the top; gaps where nothing is known."""
    width, height = _SIZE
    most = max((point for point in points if point is not None), default=0.0) or 1.0
    lines: list[list[str]] = [[]]
    for n, point in enumerate(points):
        if point is None:
            lines.append([])
            continue
        x, y = width * n / max(1, len(points) - 1), height - 1 - (height - 2) * point / most
        lines[-1].append(f"{x:.1f},{y:.1f}")
    return [" ".join(line if len(line) > 1 else [*line, *line]) for line in lines if line]


def beside(metrics: Application, document: Callable[[], Mapping[str, Any]]) -> Application:
    """A WSGI application: the page at ``/``, its JSON at ``/status.json``, and everything else as it was."""
    pages: dict[str, tuple[str, Callable[[Mapping[str, Any]], str]]] = {
        "/": ("text/html; charset=utf-8", page),
        "/status.json": ("application/json; charset=utf-8", lambda found: json.dumps(found, ensure_ascii=False)),
    }

    def serve(environment: dict[str, Any], respond: StartResponse) -> Sequence[bytes]:
        found = pages.get(environment["PATH_INFO"] or "/")
        if found is None or environment["REQUEST_METHOD"] not in {"GET", "HEAD"}:
            return metrics(environment, respond)
        kind, rendered = found
        try:
            status, body = HTTPStatus.OK, rendered(public(document())).encode()
        except Exception:  # noqa: BLE001 - a page that fails says nothing of why to strangers, and breaks no metrics
            kind, status, body = "text/plain; charset=utf-8", HTTPStatus.INTERNAL_SERVER_ERROR, b"no page now\n"
        respond(
            f"{status.value} {status.phrase}",
            [("Content-Type", kind), ("Content-Length", str(len(body))), *HEADERS],
        )
        return [] if environment["REQUEST_METHOD"] == "HEAD" else [body]

    return serve


@cache
def _template() -> Template:
    loader = FileSystemLoader(_TEMPLATES)
    made = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return made.get_template("live.html")
