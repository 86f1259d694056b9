"""The cutover report: one model, three renderings that say the same, and nothing that must not be said."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from report_example import HOSTILE, ID, NOW, OTHER_TEXT, TEXT, bad, empty, good, minute, ramping

from harness.deciding import GateSettings
from harness.errors import ConfigError
from harness.evidence import Evidence
from harness.gates import evaluate
from harness.phases import Phase
from harness.records import AuditEntry, FieldDifference, Kind, MismatchSample, Quarantined, Rejection, RowDifference
from harness.routing import Store
from harness.statistics import Statistics
from harness.words import count, duration, share
from reports import plots, ramp_plot, wording
from reports.report import Report, build

_EXAMPLES = {"good": good, "bad": bad, "empty": empty, "ramping": ramping}
_VOID = {"meta", "br", "link", "img", "hr", "input"}


class Page(HTMLParser):
    """An HTML file as a test sees it: elements, and the text outside of styles and plots."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.plot_texts: list[str] = []
        self.described: list[str] = []  # titles and descriptions of plots
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert not self._open, "elements were left open"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in _VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open, f"</{tag}> closes nothing"
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "svg" in self._open and self._open[-1] in {"title", "desc"}:
            self.described.append(data)
        elif "svg" in self._open:
            self.plot_texts.append(data)
        elif "style" not in self._open:
            self.texts.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def report(evidence: Evidence, *, redact: bool = True) -> Report:
    return build(evidence, evaluate(evidence, GateSettings()), redact=redact)


def renderings(made: Report) -> dict[str, str]:
    return {"html": made.to_html(), "markdown": made.to_markdown(), "json": made.to_json()}


def leaves(value: Any) -> Iterator[Any]:
    """All keys and values of a JSON document."""
    if isinstance(value, dict):
        yield from value
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from leaves(each)
    else:
        yield value


_NUMBER = re.compile(r"\d+(?:,\d{3})*(?:\.\d+)?")


def numbers(text: str) -> set[str]:
    return set(_NUMBER.findall(text))


def sayable(document: Any) -> set[str]:
    """Every number that a rendering may show, worded as renderings word the document's values."""
    found: set[str] = set()
    for leaf in leaves(document):
        if isinstance(leaf, str):
            found |= numbers(leaf)
            if re.match(r"\d{4}-\d\d-\d\dT", leaf):
                found |= numbers(wording.stamp(leaf))
        elif isinstance(leaf, int | float) and not isinstance(leaf, bool):
            words = (
                count(leaf) if isinstance(leaf, int) else "",
                share(leaf),
                duration(leaf),
                f"{leaf:.2f}",
                f"{leaf:g}",
            )
            found |= {number for word in words for number in numbers(word)}
    return found


@pytest.mark.parametrize("name", _EXAMPLES)
def test_every_number_is_in_the_json(name: str) -> None:
    """What HTML and Markdown say in numbers, the JSON document says too."""
    made = report(_EXAMPLES[name]())
    known = sayable(json.loads(made.to_json())) | {"50", "95", "99", "256"}  # the names p50, p95, p99 and SHA-256
    lists = {count(len(leaf)) for leaf in _lists(made.model)}  # "3 of 17 are listed"
    page = Page(made.to_html())
    for text in (" ".join(page.texts), " ".join(page.described), made.to_markdown()):
        assert numbers(text) - known - lists == set()


def _lists(value: Any) -> Iterator[list[Any]]:
    if isinstance(value, list):
        yield value
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _lists(each)


def test_a_number_that_the_model_lacks_would_be_found() -> None:
    """The test above can fail: a changed number is not among those that may be said."""
    made = report(bad())
    assert made.model["operations"]["all"]["compared"] == 12_383
    assert "12,383" in sayable(made.model)
    assert "12,384" not in sayable(made.model)


@pytest.mark.parametrize(
    ("name", "word"), [("good", "GO"), ("bad", "NO-GO"), ("empty", "NOT YET"), ("ramping", "NO-GO")]
)
def test_the_verdict_comes_first(name: str, word: str) -> None:
    """GO, NO-GO or NOT YET is the first heading, with the reason in the same sentence."""
    made = report(_EXAMPLES[name]())
    sentence = made.model["verdict"]["sentence"]
    assert made.to_markdown().startswith(f"# {word}: {sentence}")
    heading = re.search(r"<h1>(.*?)</h1>", made.to_html(), re.DOTALL)
    assert heading is not None
    assert re.sub(r"<.*?>", "", heading[1]) == f"{word} {sentence}"


def test_noise_is_told_beside_the_mismatches() -> None:
    """What differs by itself stands with the differing fields, excused by a rule or not; without a baseline, that."""
    excused, bare, never = (build(evidence, ()) for evidence in (good(), bad(), empty()))
    for text in (excused.to_html(), excused.to_markdown()):
        assert "viewed_at" in text
        assert "1 field covered by stamps-of-reading" in text
    assert "noise" not in {risk["name"] for risk in excused.model["risks"]}
    assert "noise" in {risk["name"] for risk in bare.model["risks"]}
    assert "NOT covered by a rule: find_by_id.viewed_at" in bare.to_markdown()
    assert never.model["baseline"] is None
    for text in (never.to_html(), never.to_markdown()):
        assert "No noise baseline was taken" in text


def test_a_report_on_nothing_says_so() -> None:
    """With an empty ledger the report renders, and nowhere says that there is no mismatch."""
    made = report(empty())
    assert "nothing was compared" in made.model["verdict"]["sentence"]
    for text in renderings(made).values():
        assert "NOT YET" in text
        assert "o confirmed mismatch" not in text
        assert "No row is in quarantine" not in text
    assert made.model["operations"]["all"]["mismatch_rate"] is None
    assert "<svg" not in made.to_html()


def test_traffic_that_was_never_compared_is_no_agreement() -> None:
    """Served, but not compared: still nothing is said of mismatches."""
    counted = minute(1)
    counted.comparisons.clear()
    made = report(replace(good(), statistics=counted, by_minute=()))
    assert made.model["verdict"]["word"] == "NOT YET"
    for text in (made.to_html(), made.to_markdown()):
        assert "o confirmed mismatch" not in text
        assert "Nothing was compared" in text


def test_redaction_leaves_no_text() -> None:
    """No part of a compared text, nor of a call's arguments, is in any rendering; lengths, scopes and ids are."""
    for text in renderings(report(bad())).values():
        for word in ("Ruritanian", "summarize", "night shift", "briefly", "query="):
            assert word not in text
        assert f"{len(TEXT)} characters, differs from character 33 on" in text
        assert "project-1" in text
        assert ID in text
    assert TEXT[:32] == OTHER_TEXT[:32]
    assert TEXT[32] != OTHER_TEXT[32]


def test_texts_are_shown_when_asked_for() -> None:
    """redact=False shows the values themselves in all three renderings, and the model says so."""
    made = report(bad(), redact=False)
    assert made.model["redacted"] is False
    for text in renderings(made).values():
        unmarked = re.sub("</?mark>", "", text)
        assert TEXT in unmarked
        assert OTHER_TEXT in unmarked


@pytest.mark.parametrize(
    ("legacy", "new", "said"),
    [
        ("abcd", "abXd", ("‹4 characters, differs from character 3 on›",) * 2),
        ("a", "b", ("‹1 character, differs from character 1 on›",) * 2),
        ("abc", "abcdef", ("‹3 characters, and the other goes on›", "‹6 characters, differs from character 4 on›")),
        (None, "abc", ("absent or NULL", "‹3 characters›")),
        ("", "abc", ("‹empty›", "‹3 characters›")),
        ("5", "5", ("‹1 character, alike as text›",) * 2),
        ("an answer", "NotFound", ("an answer", "NotFound")),
        ("an answer", "my secret", ("‹9 characters, differs from character 1 on›",) * 2),
        ("…" + "x" * 200, "…" + "y" * 200, ("‹an excerpt of 201 characters, differs from character 2 on›",) * 2),
    ],
)
def test_what_is_said_of_a_redacted_pair(legacy: str | None, new: str | None, said: tuple[str, str]) -> None:
    """Lengths in characters and the first differing one; absent is not empty; an excerpt is called one."""
    sample = MismatchSample(NOW, "find", Store.LEGACY, None, "", (FieldDifference("f", legacy, new),))
    (field,) = report(replace(empty(), mismatches=(sample,))).model["mismatches"]["fields"]
    assert (field["examples"][0]["legacy"], field["examples"][0]["new"]) == said


@pytest.mark.parametrize("redact", [True, False])
def test_hostile_texts_stay_texts(redact: bool) -> None:
    """Markup in actors, reasons, scopes, names and values is shown, never obeyed."""
    difference = FieldDifference(HOSTILE, HOSTILE, HOSTILE + "x")
    evidence = replace(
        bad(),
        settings_fingerprint=HOSTILE,
        versions={HOSTILE: HOSTILE},
        mismatches=(MismatchSample(NOW, HOSTILE, Store.NEW, HOSTILE, HOSTILE, (difference,)),),
        quarantined=(Quarantined(HOSTILE, HOSTILE, HOSTILE, HOSTILE, HOSTILE, NOW),),
        rejections=(Rejection(HOSTILE, HOSTILE, 1, NOW, NOW),),
        phase=replace(bad().phase, actor=HOSTILE, reason=HOSTILE),
    )
    key, store, role = next(iter(evidence.statistics.latencies))
    evidence.statistics.latencies[HOSTILE, store, role].merge(evidence.statistics.latencies[key, store, role])
    made = report(evidence, redact=redact)
    page = Page(made.to_html())
    assert page.all("script") == []
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    assert HOSTILE in page.plot_texts
    assert any(HOSTILE in text for text in page.texts)
    markdown = made.to_markdown()
    assert "<script" not in markdown
    for line in markdown.splitlines():
        assert not line.startswith("# head")
        assert not re.search(r"(?<!\\)\]\(", line)
    for table in re.findall(r"(?:^\|.*\n)+", markdown, re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()}) == 1
    assert json.loads(made.to_json())["settings_fingerprint"].startswith("<script>")


def test_control_characters_are_shown_not_obeyed() -> None:
    """A character that turns the direction of text, or ends it, cannot disguise what a report says."""
    entry = AuditEntry(NOW, "ada\u202e\0", "ramp", "reason", {})
    for text in renderings(report(replace(good(), audit=(entry,)))).values():
        assert "\u202e" not in text
        assert "\0" not in text
        assert "ada" in text


@pytest.mark.parametrize("name", _EXAMPLES)
def test_the_html_loads_nothing(name: str) -> None:
    """One file: no script, no address, no import, and a policy that would forbid them."""
    html = report(_EXAMPLES[name]()).to_html()
    page = Page(html)
    assert not re.search(r"https?:|//[a-z]|url\(|@import|data:", html)
    assert {tag for tag, _ in page.elements}.isdisjoint(
        {"script", "link", "img", "iframe", "object", "embed", "base", "form", "video", "audio"}
    )
    for _, attributes in page.elements:
        assert "src" not in attributes
        assert (attributes.get("href") or "#").startswith("#")
    policies = [meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'"]


@pytest.mark.parametrize("name", _EXAMPLES)
def test_the_html_can_be_read_without_eyes(name: str) -> None:
    """Landmarks, a caption for each table, a scope for each heading cell, a text for each plot, and links that lead."""
    html = report(_EXAMPLES[name]()).to_html()
    page = Page(html)
    for landmark in ("header", "nav", "main", "footer", "h1"):
        assert len(page.all(landmark)) == 1
    assert len(page.all("caption")) == len(page.all("table"))
    assert all(cell.get("scope") for cell in page.all("th"))
    plots_ = [svg for svg in page.all("svg") if svg.get("aria-hidden") != "true"]
    assert all(svg.get("role") == "img" for svg in plots_)
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert all(below - above <= 1 for above, below in pairwise(levels)), "a level of headings is left out"
    assert page.all("html")[0].get("lang") == "en"
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {(link["href"] or "")[1:] for link in page.all("a")} <= set(ids)
    named = {svg.get(key) for svg in plots_ for key in ("aria-labelledby", "aria-describedby")}
    assert named <= set(ids)
    assert all(section.get("aria-labelledby") in ids for section in page.all("section"))


def test_hundreds_of_rows_are_bounded_and_counted() -> None:
    """Long lists are cut, and the whole number stands beside them; the file stays small."""
    long = "x" * 5000
    held = tuple(Quarantined(f"k{n}", f"part{n % 40}", str(n), long, f"reason {n % 3}", NOW) for n in range(900))
    differing = tuple(RowDifference(f"key {n}", long, Kind.DIFFERENT, _fields(n)) for n in range(400))
    latest = good().verification
    assert latest is not None
    evidence = replace(
        good(),
        quarantined=held,
        quarantined_total=2000,
        verification=replace(latest, examples=differing),
        rejections=tuple(Rejection(f"scope {n}", long, n, NOW, NOW) for n in range(300)),
        audit=tuple(AuditEntry(NOW, "ada", "ramp", long, {"n": n}) for n in range(700)),
        mismatches=tuple(
            MismatchSample(NOW, f"operation {n}", Store.NEW, long, long, _fields(n)[:1]) for n in range(500)
        ),
    )
    made = report(evidence, redact=False)
    model = made.model
    assert (model["quarantine"]["total"], model["quarantine"]["listed"]) == (2000, 900)
    assert [(each["count"], len(each["examples"])) for each in model["quarantine"]["reasons"]] == [(300, 50)] * 3
    assert (model["verification"]["examples_total"], len(model["verification"]["examples"])) == (400, 50)
    assert (model["rejections"]["total"], len(model["rejections"]["rows"])) == (300, 50)
    assert (model["timeline"]["total"], len(model["timeline"]["entries"])) == (700, 100)
    assert (model["mismatches"]["fields_total"], len(model["mismatches"]["fields"])) == (500, 20)
    for text in renderings(made).values():
        assert len(text) < 1_000_000
        assert "5,000 characters in all" in text
    Page(made.to_html())


def _fields(n: int) -> tuple[FieldDifference, ...]:
    return (FieldDifference("content", f"{n} " * 3000, f"{n} " * 2000 + "else"), FieldDifference("name", "a", None))


def test_a_long_text_is_shown_where_it_differs() -> None:
    """Unredacted, of a long value the part around the first difference is shown, and its place is said."""
    sample = MismatchSample(
        NOW, "find", Store.LEGACY, None, "", (FieldDifference("f", "a" * 1000 + "b" * 900, "a" * 1000 + "c" * 900),)
    )
    (field,) = report(replace(empty(), mismatches=(sample,)), redact=False).model["mismatches"]["fields"]
    example = field["examples"][0]
    assert example["legacy"].startswith("…" + "a" * 40 + "b")
    assert example["new"].startswith("…" + "a" * 40 + "c")
    assert "from character 961 of 1,900" in example["legacy"]


def test_a_field_without_counts_is_listed_by_its_samples() -> None:
    """A process that died before its counts were kept has still shown what differs; counts win where they exist."""
    evidence = bad()
    found = {
        (each["operation"], each["field"]): each["count"] for each in report(evidence).model["mismatches"]["fields"]
    }
    assert found["find_by_id", "content"] == evidence.statistics.fields["find_by_id", "content"] == 41
    assert found["find_all", "description"] == 1


def test_weeks_of_minutes_become_few_points() -> None:
    """However long the run: at most 240 points, no comparison lost, and idle times left empty."""
    days = [NOW + timedelta(minutes=7 * n) for n in range(3000)]
    one = minute(1, 1)
    evidence = replace(good(), by_minute=tuple((at, one) for at in days), lag_by_minute=((days[0], {Store.NEW: 3.0}),))
    over = report(evidence).model["over_time"]
    assert 200 < len(over["points"]) <= 240
    assert (
        sum(point["compared"] for point in over["points"])
        == 3000 * report(replace(evidence, by_minute=((NOW, one),))).model["over_time"]["points"][0]["compared"]
    )
    assert over["points"][0]["lag"] == {"new": 3.0}
    gap = ((NOW, one), (NOW + timedelta(days=10), one))
    assert len(report(replace(evidence, by_minute=gap, lag_by_minute=())).model["over_time"]["points"]) == 2


def test_plots_stay_within_their_frame() -> None:
    """Every place is a percentage from 0 to 100, in whatever order of size the latencies are."""
    model = report(bad()).model
    drawn = [plots.latency(model["latency"]), ramp_plot.ramp(model["over_time"], model["ramp"])]
    for svg in [*drawn, *(each["svg"] for each in plots.distributions(model["latency"]))]:
        places = [float(place) for place in re.findall(r'(?:x|cx|x1|x2)="([-\d.]+)%"', svg)]
        assert places
        assert all(0 <= place <= 100.01 for place in places)
        assert not any(float(height) < 0 for height in re.findall(r'height="([-\d.]+)"', svg))


def test_one_latency_alone_can_be_drawn() -> None:
    """A single value has no range to scale by, and is drawn all the same."""
    step = {"seconds": 0.001, "share": 1.0}
    one = {"calls": 1, "p50": 0.001, "p95": 0.001, "p99": 0.001, "distribution": [step]}
    none: dict[str, Any] = {"calls": 0, "p50": None, "p95": None, "p99": None, "distribution": []}
    svg = plots.latency([{"operation": "find", "legacy": one, "new": none, "p99_ratio": None}])
    assert "not asked of new" in svg
    assert 'cx="' not in svg
    assert plots.latency([{"operation": "find", "legacy": none, "new": none, "p99_ratio": None}]) == ""
    [drawn] = plots.distributions([{"operation": "find", "legacy": one, "new": none}])
    assert 'class="curve legacy"' in drawn["svg"]
    assert plots.distributions([{"operation": "find", "legacy": none, "new": none}]) == []


def test_nothing_counted_draws_nothing() -> None:
    """A minute in which nothing was compared has no comparisons, no rate, no latency and no lag to draw."""
    model = report(replace(good(), by_minute=((NOW, Statistics()),), lag_by_minute=())).model
    svg = ramp_plot.ramp(model["over_time"], model["ramp"])
    assert re.findall(r'class="label"[^>]*>([^<]*)<', svg) == ["share on new"]
    assert ramp_plot.ramp(report(empty()).model["over_time"], model["ramp"]) == ""


def test_a_directory_gets_all_three(tmp_path: Path) -> None:
    """A directory is made, and each rendering written into it; a second report replaces the first."""
    place = tmp_path / "deep" / "reports"
    report(empty()).write(place)
    made = report(good())
    written = made.write(place)
    assert [file.name for file in written] == ["report.html", "report.md", "report.json"]
    assert sorted(file.name for file in place.iterdir()) == ["report.html", "report.json", "report.md"]
    assert json.loads((place / "report.json").read_text(encoding="utf-8")) == made.model
    assert (place / "report.md").read_text(encoding="utf-8") == made.to_markdown()


@pytest.mark.parametrize("name", ["out.html", "out.md", "out.json"])
def test_a_file_gets_what_its_name_says(name: str, tmp_path: Path) -> None:
    """The ending chooses the rendering, and nothing else is written."""
    made = report(good())
    assert made.write(tmp_path / name) == (tmp_path / name,)
    assert [file.name for file in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text(encoding="utf-8") in renderings(made).values()


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """A file where a directory should be: one error of ours that names the place."""
    (tmp_path / "taken").write_text("")
    with pytest.raises(ConfigError, match=r"taken.*choose another place"):
        report(empty()).write(tmp_path / "taken" / "report.html")


def test_two_that_write_at_once_leave_a_whole_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another report is written to the same place between a file's draft and its name: both end well."""
    made, other, replacing = report(good()), report(bad()), Path.replace

    def overtaken(draft: Path, to: Path) -> Path:
        monkeypatch.setattr(Path, "replace", replacing)
        other.write(tmp_path)
        return replacing(draft, to)

    monkeypatch.setattr(Path, "replace", overtaken)
    made.write(tmp_path)
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == made.to_html()
    assert {file.name for file in tmp_path.iterdir()} == {"report.html", "report.md", "report.json"}


def test_before_the_copy_no_row_is_said_to_be_in_quarantine() -> None:
    """What was not copied was not looked at, in Markdown as in HTML."""
    for text in renderings(report(replace(empty(), phase=replace(empty().phase, phase=Phase.PREPARED)))).values():
        assert "0 rows in quarantine" not in text
    told = report(empty()).to_markdown()
    assert "Nothing was copied yet, so nothing can be said of quarantine." in told
    assert "Nothing was copied yet" not in report(good()).to_markdown()


def test_the_same_evidence_makes_the_same_report() -> None:
    """Nothing but the evidence decides what a report says."""
    assert renderings(report(bad())) == renderings(report(bad()))


def test_unpaired_surrogates_can_be_written(tmp_path: Path) -> None:
    """A text that is no valid Unicode costs its odd character, not the report."""
    entry = AuditEntry(NOW, "ada\udc80", "ramp", "", {})
    report(replace(good(), audit=(entry,))).write(tmp_path)
    assert "ada" in (tmp_path / "report.md").read_text(encoding="utf-8")
    assert json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["timeline"]["total"] == 1


def _told(action: str, detail: dict[str, Any]) -> str:
    evidence = replace(good(), audit=(AuditEntry(NOW, "ada", action, "reason", detail),))
    (entry,) = report(evidence).model["timeline"]["entries"]
    return str(entry["detail"])


@pytest.mark.parametrize(
    ("detail", "told"),
    [
        ({"from": "SHADOWING", "to": "RAMPING"}, "SHADOWING → RAMPING"),
        ({"reads_percent": {"from": 0.0, "to": 1.0}}, "reads_percent 0 → 1"),
        (
            {"from": {"writes_percent": 0, "pins": {}}, "to": {"writes_percent": 10, "pins": {}}},
            "writes_percent 0 → 10",
        ),
        ({"from": {"pins": {}}, "to": {"pins": {"acme": "new"}}}, "pins (acme none → new)"),
        ({"from": {"writes_percent": 1}, "to": {"writes_percent": 1}}, "no change"),
        ({"to": {"writes_percent": 50, "pins": {}}}, "to (writes_percent 50, pins none)"),
    ],
)
def test_the_timeline_says_what_an_act_changed(detail: dict[str, Any], told: str) -> None:
    """Of a route before and after only the differences; of an act that was undone, what it was to be."""
    assert _told("ramp", detail) == told


def test_pins_are_listed_and_counted() -> None:
    """Who is pinned where is in all three renderings; of hundreds the first are shown, and the whole number."""
    for text in renderings(report(bad())).values():
        assert "umbra" in text
    many = {f"acme/project-{n}/incident-summary": Store.LEGACY for n in range(300)}
    pins = report(replace(good(), route=replace(good().route, pins=many))).model["route"]["pins"]
    assert (pins["total"], len(pins["rows"])) == (300, 50)


def test_rerouted_writes_are_told() -> None:
    """Writes that met a move of authority are counted in words, where there were any."""
    assert "6 writes met a move of authority" in report(bad()).to_markdown()
    assert "6 writes met a move of authority" in report(bad()).to_html()
    assert "met a move of authority" not in report(good()).to_html()


def test_what_stands_in_the_way_of_authority_is_told() -> None:
    """A half-done act, rogue writes, rollback debt and rows left behind: all renderings say them if there are any."""
    told = ("ramp of ada", "acme/project-9/incident-summary", "second_disabled", "ccepted")
    for name, text in renderings(report(bad())).items():
        for word in told:
            assert word in text, f"{word} is not in {name}"
    assert "without authority" in report(bad()).to_markdown()
    assert "without authority" in report(bad()).to_html()
    assert "without authority" not in report(good()).to_html()
