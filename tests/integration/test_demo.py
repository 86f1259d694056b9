"""The demo: it ends in GO by itself, and with a fault in a retreat and a NO-GO that names the gate."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from command import document

BRISK = ("--step-seconds", "0", "--rate", "200")
FAILING = {"latency": {"slow", "latency"}, "mismatch": {"mismatches"}, "errors": {"errors"}}


def demo(place: Path, *arguments: str) -> tuple[dict[str, Any], str]:
    """A demo that ends well: its document, and all that it told as one line."""
    done = subprocess.run(
        [sys.executable, "-m", "harness.cli", "demo", "--json", *BRISK, *arguments],
        cwd=place,
        capture_output=True,
        text=True,
        check=False,
        timeout=400,
    )
    assert done.returncode == 0, "\n".join(["…", *done.stderr.splitlines()[-30:]])  # how it ended
    return document(done), " ".join(done.stderr.split())


@pytest.mark.slow
def test_it_is_a_whole_migration(tmp_path: Path) -> None:
    """From invented data through the automatic ramp to COMPLETE, on a server of its own, and a report that says GO."""
    found, told = demo(tmp_path)
    assert (found["verdict"], found["decision"], found["failing"]) == ("pass", "GO", [])
    assert {Path(file).name for file in found["files"]} == {"report.html", "report.md", "report.json"}
    assert all(Path(file).parent == tmp_path / "crossfade-demo" for file in found["files"])
    for chapter in ("Assess", "Prepare", "Backfill", "Verify", "Quarantine", "Parallel run", "Repair", "Rollback"):
        assert chapter in told
    steps = re.findall(r"advanced to reads ([\d]+) %, writes (\d+) %, after [\d.,]+ s and ([\d,]+) operations", told)
    assert [step[:2] for step in steps] == [
        *(("1", "0"), ("10", "0"), ("50", "0"), ("100", "0")),
        *(("100", "1"), ("100", "50"), ("100", "100")),
    ]
    assert told.count("0 confirmed mismatches in") >= len(steps)  # each with the evidence it was taken on
    assert "COMPLETE: nothing is carried back any more" in told


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAILING)
def test_a_fault_ends_in_a_retreat_and_no_go(tmp_path: Path, fault: str) -> None:
    """The ramp goes back by itself, says when and for which gate, and the report says NO-GO for the same one."""
    found, told = demo(tmp_path, "--fault", fault)
    counted = r"after [\d.]+ s and [\d,]+ operations? at reads 10 %, writes 0 %"
    [seen] = re.findall(rf"retreated to reads 0 %, writes 0 %, {counted}: (\w+): ", told)
    assert seen in FAILING[fault]
    assert (found["verdict"], found["decision"]) == ("fail", "NO-GO")
    assert seen in found["failing"]
    assert set(found["failing"]) <= FAILING[fault]  # nothing else is amiss
    report = json.loads((tmp_path / "crossfade-demo" / "report.json").read_text())
    [gate] = [each for each in report["gates"] if each["name"] == seen]
    assert gate["verdict"] == "fail"
