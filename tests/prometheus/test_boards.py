"""The boards and what ``crossfade boards`` writes: the same every time, and of nothing that does not exist."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from monitoring import names_in

from adapters.metrics.definitions import COMPARISONS, METRICS, OPERATIONS, Definition
from adapters.observability import yaml as ours
from adapters.observability.alerts import alerting_rules
from adapters.observability.boards import boards
from adapters.observability.files import DATASOURCES, PROMETHEUS, PROVIDERS, RULES, Place, files, rules
from adapters.observability.panels import COLUMNS, SCHEMA_VERSION, Board
from adapters.observability.rules import recording_rules
from harness.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
SETTINGS, PLACE = Settings(), Place()
BOARDS = boards(SETTINGS)
EXPRESSIONS = {
    **{rule.name: rule.expression for rule in recording_rules()},
    **{alert.name: alert.expression for alert in alerting_rules(SETTINGS)},
    **{
        f"{board.title} / {panel.title} {number}": query.expression
        for board in BOARDS
        for panel in board.panels
        for number, query in enumerate(panel.queries)
    },
}
EXPORTED = {
    name for metric in METRICS for name in ([f"{metric.name}_bucket"] if metric.kind == "histogram" else [metric.name])
}


def boards_command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "harness.cli", "boards", *arguments], capture_output=True, text=True, check=False
    )


def read(board: Board) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(files(SETTINGS, PLACE)[f"grafana/dashboards/{board.uid}.json"])
    return found


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_expressions_read_what_is_there(name: str) -> None:
    """Every series that an expression reads is exported by the publisher, or recorded by a rule."""
    recorded = {rule.name for rule in recording_rules()}
    read = names_in(EXPRESSIONS[name])
    assert read or "ALERTS" in EXPRESSIONS[name]
    assert read <= EXPORTED | recorded


def test_every_metric_is_used() -> None:
    """No metric is exported that neither a board nor a rule shows."""
    used = set[str]().union(*map(names_in, EXPRESSIONS.values()))
    assert used >= EXPORTED


def test_a_query_for_what_is_not_exported_cannot_be_built() -> None:
    """Unknown labels and values of closed sets are refused where the query is written."""
    assert OPERATIONS(store="new", role="!served") == 'crossfade_operations_total{role!="served",store="new"}'
    assert COMPARISONS(result="~matched|ignored", job="~$job") == (
        'crossfade_comparisons_total{job=~"$job",result=~"matched|ignored"}'
    )
    for wanted in ({"scope": "x"}, {"store": "old"}, {"role": "~served|seen"}):
        with pytest.raises(LookupError):
            OPERATIONS(**wanted)
    assert str(Definition("gauge", "a_gauge", "")) == Definition("gauge", "a_gauge", "")() == "a_gauge"


def test_the_same_settings_make_the_same_files() -> None:
    """Written twice, in two processes, every byte is the same: a diff shows a change, not a day."""
    told = "import json; from adapters.observability.files import *; print(json.dumps(files(Settings(), Place())))"
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", told], env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}, capture_output=True
        )
        assert json.loads(done.stdout) == files(SETTINGS, PLACE), done.stderr


@pytest.mark.parametrize("board", BOARDS, ids=[board.uid for board in BOARDS])
def test_panels_can_be_read_and_have_room(board: Board) -> None:
    """Every panel says what it shows, in which unit, has a legend, and covers no other; ids are given once."""
    document = read(board)
    assert document["schemaVersion"] == SCHEMA_VERSION
    assert {link["url"] for link in document["links"]} == {f"/d/{each.uid}" for each in BOARDS if each != board}
    panels = document["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken = set[tuple[int, int]]()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken
        assert max(x for x, _ in cells) < COLUMNS
        taken |= cells
        if panel["type"] != "row":
            assert panel["description"].endswith(".")
            assert panel["fieldConfig"]["defaults"]["unit"]
            assert panel["fieldConfig"]["defaults"]["thresholds"]["steps"][0]["value"] is None
            assert panel["type"] in {"table", "stat"} or all(each["legendFormat"] for each in panel["targets"])


def test_variables_are_declared() -> None:
    """Every variable that a query or a datasource names is one of the board's."""
    for board in BOARDS:
        document = read(board)
        declared = {variable["name"] for variable in document["templating"]["list"]} | {"__rate_interval"}
        assert {"job", "operation", "store"} <= declared
        assert set(re.findall(r"\$\{?(\w+)", json.dumps(document["panels"]))) <= declared


def test_our_yaml_is_yaml() -> None:
    """What is written reads back as it was, odd texts included."""
    odd: dict[str, ours.Value] = {
        "texts": ["yes", "1.5", "a: b", "- x", "", "{{ $value }}", "two  blanks", "é", 'a "quoted" one', "null", "x "],
        "lines": "a\n  b\n\nc",
        "empty": {"list": [], "mapping": {}},
        "numbers": [1, 0.25, True, False],
        "nested": [{"a": [{"b": 1}, {"c": [2, 3]}]}, [["x"]]],
    }
    assert yaml.safe_load(ours.dump(odd)) == odd
    written = files(SETTINGS, PLACE)
    assert yaml.safe_load(written[RULES]) == rules(SETTINGS, PLACE)


def test_the_files_know_each_other(tmp_path: Path) -> None:
    """The command's options arrive in the files, which all can read, and its document names them."""
    done = boards_command(
        str(tmp_path / "deep" / "monitoring"),
        "--json",
        *("--scrape", "one:9108", "--scrape", "[::1]:9109", "--job", "prompts", "--interval", "5"),
        *("--prometheus", "http://prometheus:9090", "--alertmanager", "alertmanager:9093"),
        *("--boards-at", "/boards", "--docs-url", "https://example.org/docs/"),
    )
    assert done.returncode == 0, done.stderr
    place = tmp_path / "deep" / "monitoring"
    written = {Path(name) for name in json.loads(done.stdout)["written"]}
    assert written == {path for path in place.rglob("*") if path.is_file()}
    assert {path.stat().st_mode & 0o777 for path in written} == {0o644}
    configuration = yaml.safe_load((place / PROMETHEUS).read_text())
    assert configuration["global"]["scrape_interval"] == "5s"
    [scraped] = configuration["scrape_configs"]
    assert (scraped["job_name"], scraped["static_configs"]) == ("prompts", [{"targets": ["one:9108", "[::1]:9109"]}])
    [alertmanager] = configuration["alerting"]["alertmanagers"]
    assert alertmanager["static_configs"] == [{"targets": ["alertmanager:9093"]}]
    [datasource] = yaml.safe_load((place / DATASOURCES).read_text())["datasources"]
    assert (datasource["url"], datasource["jsonData"]["timeInterval"]) == ("http://prometheus:9090", "5s")
    [provider] = yaml.safe_load((place / PROVIDERS).read_text())["providers"]
    assert provider["options"]["path"] == "/boards"
    assert '"https://example.org/docs/runbook.md#rogue-writes"' in (place / RULES).read_text()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--scrape", "http://localhost:9108"], "is not HOST:PORT"),
        (["--alertmanager", "localhost"], "is not HOST:PORT"),
        (["--job", "a b"], "is no name for a job"),
    ],
)
def test_bad_places_are_refused(arguments: list[str], told: str, tmp_path: Path) -> None:
    """What would make a configuration that Prometheus refuses ends with 2, and nothing is written."""
    done = boards_command(str(tmp_path / "monitoring"), *arguments)
    assert done.returncode == 2
    assert told in done.stderr
    assert not (tmp_path / "monitoring").exists()


def test_a_folder_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    """A file where the folder should be ends with 2 and names it."""
    (tmp_path / "file").write_text("mine")
    done = boards_command(str(tmp_path / "file"))
    assert done.returncode == 2
    assert "cannot write" in done.stderr
    assert (tmp_path / "file").read_text() == "mine"


def test_runbook_links_lead_to_headings() -> None:
    """Every alert's runbook_url names a page of docs/ and a heading that is there."""
    for alert in alerting_rules(SETTINGS):
        page, _, anchor = alert.runbook.partition("#")
        headings = re.findall(r"^#+ (.+)$", (ROOT / "docs" / page).read_text(encoding="utf-8"), re.MULTILINE)
        assert anchor in {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}, alert.name
