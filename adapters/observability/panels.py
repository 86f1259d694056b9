"""Grafana's boards as values, and their JSON: panels flow into rows of 24 columns, and nothing depends on the day."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from adapters.metrics.definitions import DIRTY_KEYS, OPERATIONS, ROUTE_EPOCH

SCHEMA_VERSION = 39  # Grafana 11.0; later ones read it and bring it to their own
COLUMNS = 24
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
_STORES = {"legacy": "blue", "new": "orange"}  # the same colour on every panel

Kind = Literal["timeseries", "stat", "state-timeline", "table"]
Step = tuple[float | None, str]  # from this value on, this colour; the first has None


@dataclass(frozen=True, slots=True)
class Query:
    """``at_once``: the value now, not its history."""

    expression: str
    legend: str
    at_once: bool = False


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel. ``says`` gives values names and colours; ``whole`` shows the series as parts of it."""

    title: str
    description: str
    queries: tuple[Query, ...]
    kind: Kind = "timeseries"
    unit: str = "short"
    steps: tuple[Step, ...] = ((None, "green"),)
    says: tuple[tuple[float, str, str], ...] = ()
    width: int = 12
    height: int = 8
    whole: bool = False
    named: bool = False
    decimals: int | None = None


@dataclass(frozen=True, slots=True)
class Row:
    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True)
class Board:
    uid: str
    title: str
    description: str
    rows: tuple[Row, ...]

    @property
    def panels(self) -> list[Panel]:
        return [panel for row in self.rows for panel in row.panels]


def as_json(board: Board, boards: Sequence[Board]) -> dict[str, Any]:
    """The board as Grafana reads it, with links to the others."""
    return {
        "annotations": {"list": [_epochs()]},
        "description": board.description,
        "editable": True,
        "graphTooltip": 1,
        "id": None,
        "links": [_link(other) for other in boards if other is not board],
        "panels": list(_placed(board)),
        "refresh": "10s",
        "schemaVersion": SCHEMA_VERSION,
        "tags": ["crossfade"],
        "templating": {"list": _variables()},
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "title": board.title,
        "uid": board.uid,
        "version": 1,
    }


def _placed(board: Board) -> Iterator[dict[str, Any]]:
    number = top = 0
    for row in board.rows:
        number += 1
        place = {"h": 1, "w": COLUMNS, "x": 0, "y": top}
        yield {"collapsed": False, "gridPos": place, "id": number, "panels": [], "title": row.title, "type": "row"}
        top, left, tallest = top + 1, 0, 0
        for panel in row.panels:
            if left + panel.width > COLUMNS:
                top, left, tallest = top + tallest, 0, 0
            number += 1
            yield _panel(panel, number, {"h": panel.height, "w": panel.width, "x": left, "y": top})
            left, tallest = left + panel.width, max(tallest, panel.height)
        top += tallest


def _panel(panel: Panel, number: int, place: dict[str, int]) -> dict[str, Any]:
    return {
        "datasource": DATASOURCE,
        "description": panel.description,
        "fieldConfig": {"defaults": _defaults(panel), "overrides": _overrides(panel)},
        "gridPos": place,
        "id": number,
        "options": _OPTIONS[panel.kind] | ({"textMode": "name"} if panel.named else {}),
        "targets": [_query(query, chr(ord("A") + n), panel.kind) for n, query in enumerate(panel.queries)],
        "title": panel.title,
        "type": panel.kind,
    }


def _query(query: Query, letter: str, kind: Kind) -> dict[str, Any]:
    return {
        "datasource": DATASOURCE,
        "editorMode": "code",
        "expr": query.expression,
        "format": "table" if kind == "table" else "time_series",
        "instant": query.at_once,
        "legendFormat": query.legend,
        "range": not query.at_once,
        "refId": letter,
    }


def _defaults(panel: Panel) -> dict[str, Any]:
    found: dict[str, Any] = {
        "color": {"mode": "palette-classic" if panel.kind == "timeseries" else "thresholds"},
        "custom": _CUSTOM[panel.kind] | (_lines(panel) if panel.kind == "timeseries" else {}),
        "mappings": [_mapping(panel)] if panel.says else [],
        "thresholds": {
            "mode": "absolute",
            "steps": [{"color": colour, "value": value} for value, colour in panel.steps],
        },
        "unit": panel.unit,
    }
    if panel.kind in ("timeseries", "stat"):
        found["min"] = 0
    if panel.decimals is not None:
        found["decimals"] = panel.decimals
    return found


def _lines(panel: Panel) -> dict[str, Any]:
    return {
        "fillOpacity": 30 if panel.whole else 0,
        "stacking": {"group": "A", "mode": "normal" if panel.whole else "none"},
        "thresholdsStyle": {"mode": "line" if len(panel.steps) > 1 else "off"},
    }


def _mapping(panel: Panel) -> dict[str, Any]:
    told = enumerate(panel.says)
    return {
        "options": {f"{value:g}": {"color": colour, "index": n, "text": text} for n, (value, text, colour) in told},
        "type": "value",
    }


def _overrides(panel: Panel) -> list[dict[str, Any]]:
    if panel.kind != "timeseries":
        return []
    return [
        {
            "matcher": {"id": "byRegexp", "options": f"/\\b{store}\\b/"},
            "properties": [{"id": "color", "value": {"fixedColor": colour, "mode": "shades"}}],
        }
        for store, colour in _STORES.items()
    ]


_LEGEND = {"calcs": ["lastNotNull", "max"], "displayMode": "table", "placement": "bottom", "showLegend": True}
_TOOLTIP = {"mode": "multi", "sort": "desc"}
_OPTIONS: dict[Kind, dict[str, Any]] = {
    "timeseries": {"legend": _LEGEND, "tooltip": _TOOLTIP},
    "stat": {
        "colorMode": "background",
        "graphMode": "none",
        "justifyMode": "center",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "textMode": "auto",
    },
    "state-timeline": {
        "alignValue": "center",
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": False},
        "mergeValues": True,
        "rowHeight": 0.8,
        "showValue": "auto",
        "tooltip": _TOOLTIP,
    },
    "table": {"cellHeight": "sm", "showHeader": True},
}
_CUSTOM: dict[Kind, dict[str, Any]] = {
    "timeseries": {"drawStyle": "line", "lineWidth": 2, "showPoints": "never", "spanNulls": False},
    "stat": {},
    "state-timeline": {"fillOpacity": 80, "lineWidth": 0},
    "table": {"align": "auto", "filterable": True},
}


def _epochs() -> dict[str, Any]:
    """A mark wherever the route changed."""
    return {
        "datasource": DATASOURCE,
        "enable": True,
        "expr": f"changes(max by (job) ({ROUTE_EPOCH(job='~$job')})[1m:15s]) > 0",
        "iconColor": "purple",
        "name": "Route changed",
        "step": "15s",
        "titleFormat": "The route changed",
    }


def _link(other: Board) -> dict[str, Any]:
    return {
        "keepTime": True,
        "includeVars": True,
        "title": other.title,
        "type": "link",
        "url": f"/d/{other.uid}",
    }


def _variables() -> list[dict[str, Any]]:
    datasource = {"label": "Prometheus", "name": "datasource", "query": "prometheus", "type": "datasource"}
    within = OPERATIONS(job="~$job")
    return [
        datasource,
        _variable("job", "Migration", f"label_values({DIRTY_KEYS}, job)"),
        _variable("operation", "Operation", f"label_values({within}, operation)"),
        _variable("store", "Store", f"label_values({within}, store)"),
    ]


def _variable(name: str, label: str, query: str) -> dict[str, Any]:
    return {
        "allValue": ".*",
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        "datasource": DATASOURCE,
        "definition": query,
        "includeAll": True,
        "label": label,
        "multi": True,
        "name": name,
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "sort": 1,
        "type": "query",
    }
