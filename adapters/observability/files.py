"""The files for Prometheus, Alertmanager and Grafana, as texts by their paths below one folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from adapters.observability import yaml
from adapters.observability.alerts import Alert, alerting_rules
from adapters.observability.boards import boards
from adapters.observability.panels import as_json
from adapters.observability.rules import Recorded, recording_rules
from harness.settings import Settings

RULES = "prometheus/rules/crossfade.yml"
PROMETHEUS = "prometheus/prometheus.yml"
ALERTMANAGER = "alertmanager/alertmanager.yml"
DATASOURCES = "grafana/provisioning/datasources/crossfade.yml"
PROVIDERS = "grafana/provisioning/dashboards/crossfade.yml"
BOARDS = "grafana/dashboards"

_MADE = "# Made by crossfade boards; run it again rather than editing this.\n"


@dataclass(frozen=True, slots=True)
class Place:
    """Where everything is. ``scraped``: addresses of Crossfade's metrics ports, as HOST:PORT.

    ``boards``: the folder where Grafana finds the boards. ``documents``: what runbook links begin with.
    ``seconds``: between two scrapes.
    """

    scraped: tuple[str, ...] = ("localhost:9108",)
    job: str = "crossfade"
    seconds: int = 15
    prometheus: str = "http://localhost:9090"
    alertmanager: str = "localhost:9093"
    boards: str = "/var/lib/grafana/dashboards/crossfade"
    documents: str = "docs"


def files(settings: Settings, place: Place) -> dict[str, str]:
    """Every file's text by its path, in order of paths. The same settings make the same texts."""
    all_boards = boards(settings)
    found = {
        RULES: _MADE + yaml.dump(rules(settings, place)),
        PROMETHEUS: _MADE + yaml.dump(_prometheus(place)),
        ALERTMANAGER: _MADE + _RECEIVE + yaml.dump(_ALERTMANAGER),
        DATASOURCES: _MADE + yaml.dump(_datasources(place)),
        PROVIDERS: _MADE + yaml.dump(_providers(place)),
    }
    for board in all_boards:
        text = json.dumps(as_json(board, all_boards), indent=2, sort_keys=True, ensure_ascii=False)
        found[f"{BOARDS}/{board.uid}.json"] = text + "\n"
    return dict(sorted(found.items()))


def rules(settings: Settings, place: Place) -> dict[str, yaml.Value]:
    """Recording and alerting rules as Prometheus reads them.

    One group, whose rules are evaluated one after the other: an alert judges the ratios of its own moment.
    """
    recorded = [_recorded(rule) for rule in recording_rules()]
    alerts = [_alert(alert, place) for alert in alerting_rules(settings)]
    return {"groups": [{"name": "crossfade", "rules": [*recorded, *alerts]}]}


def _recorded(rule: Recorded) -> Mapping[str, yaml.Value]:
    return {"record": rule.name, "expr": rule.expression}


def _alert(alert: Alert, place: Place) -> Mapping[str, yaml.Value]:
    return {
        "alert": alert.name,
        "expr": alert.expression,
        "for": alert.hold,
        "labels": {"severity": alert.severity},
        "annotations": {
            "summary": alert.summary,
            "description": alert.description,
            "runbook_url": f"{place.documents.rstrip('/')}/{alert.runbook}",
        },
    }


def _prometheus(place: Place) -> dict[str, yaml.Value]:
    every = f"{place.seconds}s"
    return {
        "global": {"scrape_interval": every, "evaluation_interval": every},
        "rule_files": ["rules/*.yml"],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [place.alertmanager]}]}]},
        "scrape_configs": [{"job_name": place.job, "static_configs": [{"targets": list(place.scraped)}]}],
    }


_RECEIVE = "# Alerts are shown and sent nowhere: give the receiver its webhook, mail or pager.\n"
_ALERTMANAGER: dict[str, yaml.Value] = {
    "route": {
        "receiver": "operators",
        "group_by": ["job"],
        "group_wait": "30s",
        "group_interval": "5m",
        "repeat_interval": "4h",
    },
    "receivers": [{"name": "operators"}],
    "inhibit_rules": [
        # Of one ratio's alerts the fastest speaks for the slower ones.
        {
            "source_matchers": [f'alertname="{name}Fast"'],
            "target_matchers": [f'alertname=~"{name}(Medium|Slow)"'],
            "equal": ["job"],
        }
        for name in ("CrossfadeMismatches", "CrossfadeNewErrors")
    ],
}


def _datasources(place: Place) -> dict[str, yaml.Value]:
    return {
        "apiVersion": 1,
        "datasources": [
            {
                "name": "Prometheus",
                "uid": "crossfade-prometheus",
                "type": "prometheus",
                "access": "proxy",
                "url": place.prometheus,
                "isDefault": True,
                "editable": False,
                "jsonData": {"httpMethod": "POST", "timeInterval": f"{place.seconds}s"},
            }
        ],
    }


def _providers(place: Place) -> dict[str, yaml.Value]:
    return {
        "apiVersion": 1,
        "providers": [
            {
                "name": "crossfade",
                "folder": "Crossfade",
                "type": "file",
                "disableDeletion": True,
                "allowUiUpdates": False,
                "options": {"path": place.boards},
            }
        ],
    }
