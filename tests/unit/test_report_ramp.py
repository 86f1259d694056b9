"""The report's newer parts: the reason in one sentence, the ramp, open risks, the way back, and the checksum."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from report_example import NOW, bad, empty, good, minute, ramping, verification

from harness.cli.main import main
from harness.deciding import GateSettings
from harness.errors import ConfigError, MismatchFound
from harness.evidence import Evidence, WayBack, moved, settled
from harness.gates import Gate, evaluate
from harness.phases import Phase
from harness.records import AuditEntry, Backlog, Debt, FieldDifference, MismatchSample, Verdict
from harness.routing import Route, Store
from harness.sequences import bounds
from harness.statistics import Result, Statistics
from reports import ramp_plot
from reports.checksum import checked
from reports.report import Report, build
from reports.verdict import verdict


def report(evidence: Evidence, *, redact: bool = True) -> Report:
    return build(evidence, evaluate(evidence, GateSettings()), redact=redact)


def model(evidence: Evidence, *, redact: bool = True) -> dict[str, Any]:
    return report(evidence, redact=redact).model


# The verdict


def test_a_go_says_on_how_much_it_rests() -> None:
    """The sentence of a GO names the gates, the answers compared and the rows verified."""
    sentence = model(good())["verdict"]["sentence"]
    assert re.fullmatch(r"all 15 gates pass \([\d,]+ answers compared and 52,310 rows verified\)\.", sentence)


def test_a_no_go_names_the_gate_and_the_figure_that_decides() -> None:
    """Slow answers: the operation and the quantile that is certainly the worst, in both stores' figures."""
    found = model(ramping())
    assert re.fullmatch(
        r"new answers more slowly than legacy \(latency: p\d\d of find_all \d+ ms against [\d.]+ ms\)\.",
        found["verdict"]["sentence"],
    )
    told = next(gate for gate in found["gates"] if gate["name"] == "latency")["figures"]["operations"]["find_all"]
    assert told["p99"]["new"] > 0.2


def test_a_no_go_counts_the_other_gates_that_fail() -> None:
    """The first failing gate has its evidence; the others are named, in the same sentence."""
    sentence = model(bad())["verdict"]["sentence"]
    assert sentence.startswith("the stored data differs (verified: ")
    assert sentence.endswith(" also fail.")
    assert sentence.count(".") == 1
    assert "mismatches" in sentence


def test_a_rate_that_fails_names_the_worst_operation() -> None:
    """Mismatches: hits among trials of all, and of the operation that is certainly the worst."""
    counted = minute(1, 20, mismatched=60)
    counted.fields["find_by_id", "content"] += 1
    sentence = model(replace(good(), statistics=counted, by_minute=((NOW, counted),)))["verdict"]["sentence"]
    compared = settled(counted.results())
    of_one = settled(counted.results("find_by_id"))
    assert f"(mismatches: 60 in {compared:,}; of find_by_id 60 in {of_one:,})" in sentence


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (Verdict.FAIL, "the gate saturation fails (saturation: 1 of 1 value beyond the limit)"),
        (Verdict.INCONCLUSIVE, "the gate saturation cannot be told (saturation: 1 of 1 value beyond the limit)"),
    ],
)
def test_a_gate_of_somebody_elses_is_named_too(found: Verdict, said: str) -> None:
    """A gate on PromQL has no phrase of ours: its name and its evidence stand for it."""
    gate = Gate("saturation", "Is up?", found, "1 of 1 value beyond the limit; more")
    assert verdict(good(), [gate])["sentence"] == f"{said}."


def test_long_evidence_is_cut_in_the_sentence() -> None:
    """However long an evidence is, the sentence is one that can be read."""
    gate = Gate("quarantine", "?", Verdict.FAIL, "x" * 5000)
    assert len(verdict(good(), [gate])["sentence"]) < 300


def test_without_gates_nothing_is_decided() -> None:
    """No gate at all is NOT YET."""
    found = verdict(good(), [])
    assert (found["word"], found["sentence"]) == ("NOT YET", "no gate was evaluated.")


# The ramp


def test_the_steps_say_who_moved_what_when_and_why() -> None:
    """Each change of the shares is a step that lasts until the next, with the gates on which it was taken."""
    told = model(ramping())["ramp"]
    shares = [(step["reads_percent"], step["writes_percent"]) for step in told["steps"]]
    assert shares == [(1, 0), (10, 0), (50, 0), (100, 0), (100, 10), (0, 0)]
    assert told["began_with"] == {"reads_percent": 0, "writes_percent": 0}
    assert [step["number"] for step in told["steps"]] == [1, 2, 3, 4, 5, 6]
    for step, following in zip(told["steps"], told["steps"][1:], strict=False):
        assert step["until"] == following["at"]
    last = told["steps"][-1]
    assert [(gate["name"], gate["verdict"]) for gate in last["gates"]] == [("mismatches", "pass"), ("latency", "fail")]
    assert last["actor"] == "ada"
    assert "retreat" in last["reason"]


def test_a_step_by_hand_rests_on_no_gate() -> None:
    """What somebody did by hand after an automatic step does not borrow its evidence."""
    evidence = ramping()
    by_hand = AuditEntry(NOW, "grace", "ramp", "by hand", {"reads_percent": {"from": 0.0, "to": 5.0}})
    told = model(replace(evidence, acts=(*evidence.acts, by_hand), audit=(by_hand, *evidence.audit)))["ramp"]
    assert told["steps"][-1]["gates"] == []
    assert told["steps"][-1]["reads_percent"] == 5
    assert told["steps"][-1]["writes_percent"] == 0


def test_a_step_by_hand_rests_on_no_gate_though_an_automatic_one_was_begun() -> None:
    """A ramp that was refused its step leaves its gates behind; who takes it by hand does not rest on them."""
    evidence = ramping()
    passing = [{"name": "mismatches", "verdict": "pass", "evidence": "as it should be"}]
    begun = AuditEntry(
        NOW - timedelta(seconds=9), "ada", "auto advance begun", "", {"stands": "", "gates": passing, "towards": 1}
    )
    by_hand = AuditEntry(NOW, "grace", "ramp", "despite all", {"reads_percent": {"from": 0.0, "to": 1.0}})
    told = model(replace(evidence, acts=(*evidence.acts, by_hand), audit=(by_hand, begun, *evidence.audit)))["ramp"]
    assert told["steps"][-1]["actor"] == "grace"
    assert told["steps"][-1]["gates"] == []


@pytest.mark.parametrize(
    ("detail", "shares"),
    [
        ({"reads_percent": {"from": 0.0, "to": 1.0}}, {"reads_percent": (0.0, 1.0)}),
        ({"shadow_percent": {"from": 0.0, "to": 1.0}}, {}),
        ({"from": {"writes_percent": 0, "reads_percent": 5}, "to": {"writes_percent": 9, "reads_percent": 5}},
         {"writes_percent": (0.0, 9.0)}),
        ({"from": "SHADOWING", "to": "RAMPING"}, {}),
        ({"to": {"writes_percent": 50}}, {}),
        ({"reads_percent": 5, "writes_percent": {"from": None, "to": "x"}}, {}),
    ],
)  # fmt: skip
def test_what_moved_shares_is_told_from_what_did_not(detail: dict[str, Any], shares: dict[str, Any]) -> None:
    """Acts and changes of shares count; phases, acts that were undone, and what cannot be read do not."""
    assert moved(AuditEntry(NOW, "ada", "ramp", "", detail)) == shares


def test_every_step_within_the_axis_is_numbered_in_the_plot() -> None:
    """The bands bear their steps' numbers, and one axis of time stands under all five panels."""
    made = model(ramping())
    svg = ramp_plot.ramp(made["over_time"], made["ramp"])
    assert re.findall(r'class="step-number short"[^>]*>([^<]*)<', svg) == ["", "1", "2", "3", "4", "5", "6"]
    labels = re.findall(r'class="label"[^>]*>([^<]*)<', svg)
    assert labels == [
        "share on new",
        "comparisons in a minute",
        "mismatch rate",
        "latency, p50 and p99",
        "greatest lag",
    ]
    assert svg.count('class="step"') == 6


def test_a_rate_stands_within_its_interval() -> None:
    """Each point's rate is its mismatches over its comparisons; the interval is the confidence sequence's."""
    over = model(ramping())["over_time"]
    for point in over["points"]:
        assert point["mismatch_rate"] == point["mismatched"] / point["compared"]
        assert (point["rate_low"], point["rate_high"]) == bounds(point["mismatched"], point["compared"], 0.05)
    assert over["confidence"] == 0.95
    assert sum(point["mismatched"] for point in over["points"]) == 3


def test_points_say_the_latency_of_their_minutes() -> None:
    """From the minute in which new became slow its 99th percentile is of another size; legacy's is not."""
    points = model(ramping())["over_time"]["points"]
    assert max(point["latency"]["new"]["p99"] for point in points[:160]) < 0.05
    assert min(point["latency"]["new"]["p99"] for point in points[160:]) > 0.2
    assert max(point["latency"]["legacy"]["p99"] for point in points) < 0.05


def test_a_distribution_rises_to_all_calls_and_agrees_with_the_quantiles() -> None:
    """The steps of a distribution rise to 1, are few, and the median lies where half of the calls are done."""
    for row in model(ramping())["latency"]:
        for store in ("legacy", "new"):
            steps = row[store]["distribution"]
            if not steps:
                assert row[store]["calls"] == 0
                continue
            assert len(steps) <= 48
            assert [each["share"] for each in steps] == sorted(each["share"] for each in steps)
            assert steps[-1]["share"] == 1
            half = next(each["seconds"] for each in steps if each["share"] >= 0.5)
            assert row[store]["p50"] <= half
            assert all(each["share"] <= 0.5 for each in steps if each["seconds"] < row[store]["p50"] * 0.98)


def test_acts_before_the_counting_set_where_it_begins() -> None:
    """What was moved before anything was counted is the first band, not a step on the axis."""
    early = AuditEntry(NOW - timedelta(days=9), "ada", "ramp", "", {"reads_percent": {"from": 0.0, "to": 25.0}})
    made = model(replace(good(), acts=(early,)))
    svg = ramp_plot.ramp(made["over_time"], made["ramp"])
    assert 'y="75.00"' in svg
    assert made["over_time"]["first"] > made["ramp"]["steps"][0]["at"]


def test_the_timeline_reads_an_automatic_step() -> None:
    """Of an automatic ramp's entry the step and the shares stand in words, its gates apart, and not twice."""
    entries = [each for each in model(ramping())["timeline"]["entries"] if each["action"].startswith("auto ")]
    assert entries[0]["detail"] == "at step 0 (reads 0 %, writes 0 %), towards step 1"
    assert [gate["name"] for gate in entries[0]["gates"]] == ["mismatches", "latency"]
    assert entries[1]["gates"] == []
    assert "evidence" not in entries[0]["detail"]
    assert any(gate["verdict"] == "fail" for entry in entries for gate in entry["gates"])


# Risks and the way back


def _risks(evidence: Evidence) -> dict[str, str]:
    return {each["name"]: f"{each['risk']} | {each['do']}" for each in model(evidence)["risks"]}


_CALM = replace(good(), new_only=0, rolled_back_at=NOW, statistics=minute(1, 2000, seed=3))


def _counted(**fields: dict[Any, int]) -> Statistics:
    counted = minute(1, 2000, seed=3)
    for name, counts in fields.items():
        getattr(counted, name).update(counts)
    return counted


@pytest.mark.parametrize(
    ("name", "evidence", "said"),
    [
        ("unfinished", replace(_CALM, unfinished="ramp of ada"), "ramp of ada"),
        ("uncaptured", replace(_CALM, uncaptured=("umbra",)), "umbra"),
        ("guard", replace(_CALM, guard={Store.NEW: "record"}), "guard of new"),
        ("rogue", replace(_CALM, rogue_writes={Store.LEGACY: 3}), "3 writes"),
        ("long_transactions", replace(_CALM, holders=("an importer",)), "an importer"),
        ("verification", replace(_CALM, verification=None), "nothing is verified"),
        ("verification_old", replace(_CALM, verification=verification(NOW - timedelta(hours=25))), "25 h old"),
        ("verification_part", replace(_CALM, verification=replace(verification(), restriction="a sample")), "a sample"),
        ("unsettled", replace(_CALM, verification=replace(verification(), unsettled=2)), "2 rows"),
        ("left_behind", replace(_CALM, quarantined_total=2, quarantined_accepted=2), "2 rows"),
        ("rejections", replace(_CALM, rejections=bad().rejections), "1 scope"),
        ("complete", replace(_CALM, phase=replace(_CALM.phase, phase=Phase.COMPLETE)), "no way back"),
        ("debt", replace(_CALM, debts_total=4), "4 records"),
        ("new_only", replace(_CALM, new_only=7), "7 records"),
        ("unrehearsed", replace(_CALM, rolled_back_at=None), "untried"),
        ("not_compared", replace(_CALM, statistics=_counted(drops={"queue_full": 90_000})), "queue full 90,000"),
        ("sample_only", replace(_CALM, route=Route(shadow_percent=5)), "5 %"),
        ("failures", replace(_CALM, statistics=_counted(failures={"carry": 2})), "2 failures"),
        ("unrecorded", replace(_CALM, statistics=_counted(unrecorded={"find_all": 3})), "3 calls"),
        ("fallbacks", replace(_CALM, statistics=_counted(fallbacks={"find_all": 4})), "4 reads"),
        ("pinned", replace(_CALM, route=Route(pins={"umbra": Store.LEGACY})), "umbra"),
        ("gate_open", replace(_CALM, statistics=minute(1, 1)), "cannot be told"),
    ],
)
def test_each_risk_is_told_where_it_is_one(name: str, evidence: Evidence, said: str) -> None:
    """A calm migration has no such risk; with this evidence alone it has, and it says what to do."""
    assert name not in _risks(_CALM)
    found = _risks(evidence)[name]
    assert said in found
    assert found.partition(" | ")[2]


def test_a_calm_migration_has_no_risk() -> None:
    """Nothing open, nothing feared: the report says so, and not with an empty table."""
    assert _risks(_CALM) == {}
    assert "None that the evidence shows." in report(_CALM).to_html()
    assert "None that the evidence shows." in report(_CALM).to_markdown()


def test_the_way_back_says_what_moves_and_what_stays() -> None:
    """Scopes, records, notes on their way, what is new-only, the debt, and how long writers are held at most."""
    evidence = replace(
        good(),
        route=Route(reads_percent=100, writes_percent=40),
        way_back=WayBack(1_234, 56_789, 0.5, 20, "cutover", 1.31),
        backlog={Store.NEW: Backlog(17, 0.25)},
        new_only=3,
        debts=(Debt("key", None, "second_disabled", NOW),),
        debts_total=2,
    )
    told = model(evidence)["way_back"]
    assert (told["scopes"], told["records"], told["notes"], told["lag_seconds"]) == (1_234, 56_789, 17, 0.25)
    assert (told["new_only"], told["debt"], told["hold_seconds_most"], told["possible"]) == (3, 2, 0.5, True)
    assert told["sentence"] == (
        "1,234 scopes with 56,789 records would move to legacy, and the 100 % of reads that new serves; writers of "
        "these scopes would be held back for 500 ms at most in each attempt. Refused as it is: legacy cannot hold 2 "
        "records."
    )
    for text in (report(evidence).to_html(), report(evidence).to_markdown()):
        for said in ("1,234", "56,789", "500 ms", "1.31 s"):
            assert said in text


@pytest.mark.parametrize(
    ("evidence", "said"),
    [
        (empty(), "Nothing has moved"),
        (good(), "not counted"),
        (replace(good(), way_back=WayBack(0, 0, 0.5, 20)), "The 10 % of reads that new serves would go back at once"),
        (replace(good(), route=Route(), way_back=WayBack(0, 0, 0.5, 20)), "No read moves, and no scope moves"),
        (replace(good(), phase=replace(good().phase, phase=Phase.COMPLETE)), "there is no way back"),
    ],
)
def test_the_way_back_where_nothing_would_move(evidence: Evidence, said: str) -> None:
    """Before anything moved, while reads alone have, and after complete: a sentence for each."""
    assert said in model(evidence)["way_back"]["sentence"]


# Side by side


@pytest.mark.parametrize(
    ("legacy", "new", "kind", "first"),
    [
        ("abc", "abX", "the text goes on differently", 3),
        ("abc", "Xbc", "another text", 1),
        ("abc", "abc ", "white space at an end", 4),
        ("a  b", "a b", "white space within", 3),
        ("Abc", "abc", "upper and lower case", 1),
        ("abc", "abcdef", "legacy ends earlier", 4),
        ("abcdef", "abc", "new ends earlier", 4),
        ("", "abc", "empty in legacy", 1),
        (None, "abc", "absent or NULL in legacy", None),
        ("abc", None, "absent or NULL in new", None),
        ("5", "5", "alike as text, of another type", None),
    ],
)
def test_how_two_values_differ_is_said_without_showing_them(
    legacy: str | None, new: str | None, kind: str, first: int | None
) -> None:
    """The kind of a difference and its first character are known even of redacted texts."""
    sample = MismatchSample(NOW, "find", Store.LEGACY, None, "", (FieldDifference("f", legacy, new),))
    (field,) = model(replace(empty(), mismatches=(sample,)))["mismatches"]["fields"]
    assert (field["examples"][0]["kind"], field["examples"][0]["first"]) == (kind, first)


def test_the_difference_is_marked_side_by_side() -> None:
    """Of shown texts what differs is marked in both, between the parts that are alike."""
    sample = MismatchSample(
        NOW, "find", Store.LEGACY, None, "", (FieldDifference("f", "one two three", "one 2 three"),)
    )
    html = report(replace(empty(), mismatches=(sample,)), redact=False).to_html()
    assert "one <mark>two</mark> three" in html
    assert "one <mark>2</mark> three" in html
    assert "<mark>" not in report(replace(empty(), mismatches=(sample,))).to_html()


# The checksum


def test_the_checksum_is_the_same_in_all_three_and_can_be_recomputed(tmp_path: Path) -> None:
    """Two lines of Python, without any of ours, come to the checksum that HTML, Markdown and JSON show."""
    made = report(bad())
    made.write(tmp_path)
    document = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    said = document.pop("checksum")
    assert said == hashlib.sha256(json.dumps(document, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
    assert said == made.checksum
    for name in ("report.html", "report.md"):
        assert said in (tmp_path / name).read_text(encoding="utf-8")


def test_a_changed_copy_is_found(tmp_path: Path) -> None:
    """One digit changed: the check ends with 3; the copy as it was written ends with 0, however it is indented."""
    report(bad()).write(tmp_path)
    file = tmp_path / "report.json"
    document = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps(document, sort_keys=True), encoding="utf-8")
    assert checked(file) == document["checksum"]
    done = CliRunner().invoke(main, ["report", "--check", str(file), "--json"])
    assert done.exit_code == 0
    assert json.loads(done.stdout) == {"checksum": document["checksum"], "intact": True}
    document["operations"]["all"]["mismatched"] = 0
    file.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(MismatchFound, match=r"is not what was written"):
        checked(file)
    assert CliRunner().invoke(main, ["report", "--check", str(file)]).exit_code == 3


@pytest.mark.parametrize("said", ["", "[]", "{}", '{"checksum": 7}', '{"checksum": "x", "n": NaN}', "[" * 100_000])
def test_what_is_no_report_is_called_that(said: str, tmp_path: Path) -> None:
    """Empty files, other documents, numbers that are none: a sentence and exit code 2, no traceback."""
    file = tmp_path / "other.json"
    file.write_text(said, encoding="utf-8")
    with pytest.raises(ConfigError, match="is no report"):
        checked(file)
    assert CliRunner().invoke(main, ["report", "--check", str(file)]).exit_code == 2


def test_what_two_readers_read_differently_is_no_intact_copy(tmp_path: Path) -> None:
    """A key given twice, of which the checksum would see one and a person the other, is found."""
    report(bad()).write(tmp_path)
    file = tmp_path / "report.json"
    said = file.read_text(encoding="utf-8")
    file.write_text(said.replace("{", '{\n  "verdict": {"word": "GO"},', 1), encoding="utf-8")
    with pytest.raises(ConfigError, match="is no report"):
        checked(file)


def test_a_foreign_checksum_cannot_speak_to_the_terminal(tmp_path: Path) -> None:
    """What stands in a file where a checksum should is shown, and not obeyed."""
    file = tmp_path / "report.json"
    file.write_text(json.dumps({"checksum": "\x1b[2J"}), encoding="utf-8")
    with pytest.raises(MismatchFound) as caught:
        checked(file)
    assert str(caught.value).isprintable()


def test_odd_characters_do_not_change_the_checksum(tmp_path: Path) -> None:
    """An unpaired surrogate, written escaped and read back, is the same data."""
    report(replace(good(), audit=(AuditEntry(NOW, "ada\udc80", "ramp", "", {}),))).write(tmp_path)
    checked(tmp_path / "report.json")


def test_results_that_are_none_have_no_rate() -> None:
    """A point in which nothing was settled has neither a rate nor an interval."""
    counted = Statistics()
    counted.comparisons["find_all", Result.NOT_COMPARED] += 3
    (point,) = model(replace(good(), by_minute=((NOW, counted),), lag_by_minute=()))["over_time"]["points"]
    assert (point["mismatch_rate"], point["rate_low"], point["rate_high"]) == (None, None, None)
    assert point["not_compared"] == 3
