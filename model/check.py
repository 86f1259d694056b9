"""Checks the model of moving authority: the protocol holds, and each broken rule is found out.

    python model/check.py [--long] [--jobs N] [--only NAME ...]

Exit codes: 0 everything is as it should be; 1 something is not; 2 spin or gcc is missing, or could not be run.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

MODEL = Path(__file__).with_name("authority.pml")
MEGABYTES = 3_500  # for one run; the largest of the default ones needs about 0.7 GB
SECONDS = 600
LONG_MEGABYTES, LONG_SECONDS = 16_000, 7_200

# What a violated law looks like in the checker's words (blanks removed), and what it means.
LAWS = {
    "non-progresscycle": "ends",
    "(route[1]<=route[0])": "one authority",
    "(((s<route[0])==st)&&((s<route[1])==st))": "one authority",
    "((route[1]==route[0])||pending)": "journalled",
    "((((0<route[0])==(0<route[1])))?": "nothing lost",
    "((notes[": "equal",
    "((!(pending)&&(journal_lock==0))": "ends",
    "((((fenced[0]==0)": "ends",
    "(((((fenced[0]==0)": "ends",
    "(1!=1)": "seen",
    "(2!=2)": "seen",
    "(3!=3)": "seen",
    "(4!=4)": "seen",
    "(5!=5)": "seen",
    "(6!=6)": "seen",
    "(7!=7)": "seen",
}


@dataclass(frozen=True, slots=True)
class Run:
    """One search. ``breaks`` is the law that must be found violated, empty when none may be."""

    name: str
    says: str
    breaks: str = ""
    carriers: int = 1
    operators: int = 1
    switches: tuple[str, ...] = ()

    @property
    def bounded(self) -> bool:
        return "BOUNDED" in self.switches


@dataclass(frozen=True, slots=True)
class Found:
    run: Run
    violated: str
    states: int
    steps: int
    seconds: float
    complete: bool

    @property
    def good(self) -> bool:
        return self.violated == self.run.breaks and (self.complete or bool(self.run.breaks))


def _mutant(name: str, says: str, breaks: str, carriers: int = 1, operators: int = 1, *more: str) -> Run:
    return Run(name, says, breaks, carriers, operators, (name, *more))


FAITHFUL = (
    Run("two carriers", "the protocol, without bounds", "", 2, 1),
    Run("two operators", "the same, one standing still while the other recovers", "", 1, 2),
    Run("two scopes", "the same, acts that move one scope, the other, or both", "", 1, 1, ("SCOPES=2",)),
    Run("rogue writes", "guard mode record", "", 1, 1, ("RECORD",)),
    Run("ends, carriers", "every run with a bounded number of causes ends, settled", "", 2, 1, ("BOUNDED", "FAULTS=2")),
    Run("ends, operators", "the same", "", 1, 2, ("BOUNDED", "FAULTS=1")),
    Run("ends, rogue", "the same", "", 1, 1, ("BOUNDED", "RECORD")),
)

LONG = (
    Run("all of both", "two carriers and two operators", "", 2, 2),
    Run("rogue, carriers", "guard mode record", "", 2, 1, ("RECORD",)),
    Run("scopes, carriers", "two scopes, two carriers", "", 2, 1, ("SCOPES=2",)),
    Run("ends, more faults", "every run ends", "", 1, 2, ("BOUNDED", "FAULTS=2")),
)

WITNESSES = tuple(
    Run(f"witness {number}", f"possible: {says}", "seen", carriers, 1, (f"WITNESS={number}",))
    for number, says, carriers in (
        (1, "authority moves up", 1),
        (2, "authority moves down again", 1),
        (3, "a later command finishes an act", 1),
        (4, "a later command undoes an act", 1),
        (5, "a writer is refused", 1),
        (6, "a late note is turned around", 2),
        (7, "an act is given up", 1),
    )
)

MUTANTS = (
    _mutant("NO_GUARD", "a writer does not look at the route", "one authority"),
    _mutant("OLD_SNAPSHOT", "a writer trusts a snapshot older than its lock", "one authority"),
    _mutant("NO_FENCE", "the operator does not wait for writers and carriers", "one authority"),
    _mutant("GAIN_FIRST", "COMMIT first where authority is gained", "one authority"),
    _mutant("NO_DRAIN", "nothing is drained inside the fence", "nothing lost"),
    _mutant("NO_GAINER_FENCE", "the operator leaves out the gainer's fence", "nothing lost", 2),
    _mutant("NO_CARRIER_FENCE", "a carrier does not take the fence's lock", "nothing lost", 2),
    _mutant("NO_ROUTE_CHECK", "a carrier does not look at the taking store's route", "nothing lost", 2),
    _mutant("FORGET_FIRST", "notes are deleted before the rows are committed", "equal"),
    _mutant("FORGET_UPTO", "all notes are deleted, not those that were read", "equal"),
    _mutant("READ_BEFORE_LOCK", "a carrier reads the row before it has the scope", "equal", 2),
    _mutant("NO_SCOPE_LOCK", "a carrier does not lock the scope", "equal", 2),
    _mutant("ECHO", "what a carrier writes is captured", "ends", 1, 1, "BOUNDED"),
    _mutant("UNDO_WITHOUT_FENCE", "recovery reads the loser's route without its fence", "journalled", 1, 2),
    _mutant("FINISH_BLINDLY", "recovery finishes without looking whether the loser has let go", "one authority"),
    _mutant("STALE_FINISH", "recovery does not look again whether it still holds the journal", "one authority", 1, 2),
    _mutant("NO_JOURNAL_LOCK", "recovery does not lock the journal's row", "journalled", 1, 2),
    _mutant("NO_ACT_CHECK", "an attempt does not look whether its act is still pending", "journalled", 1, 2),
    _mutant("UNSURE_IS_FAILED", "a COMMIT without an answer counts as failed", "journalled"),
    _mutant("NO_TIMEOUT", "the server does not end the transactions of who stands still", "ends", 1, 1, "BOUNDED"),
    _mutant("NO_TURNING", "a note in the shadow is dropped", "equal", 1, 1, "RECORD"),
    _mutant("IGNORE_GAINER", "what is noted in the gainer does not hold up the act", "nothing lost", 1, 1, "RECORD"),
    _mutant("RECORD_WHILE_MOVING", "the guard stays at record during an act", "nothing lost", 1, 1, "RECORD"),
)


def _call(command: list[str], folder: Path, seconds: float) -> str:
    done = subprocess.run(  # noqa: S603  # our own model; every argument is a constant of this file
        command, cwd=folder, capture_output=True, text=True, timeout=seconds, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} answered {done.returncode}: {(done.stdout + done.stderr)[-2000:]}")
    return done.stdout + done.stderr


def _violated(output: str) -> str:
    error = re.search(r"^pan:\d+: (.*?) \(at depth", output, re.MULTILINE)
    if error is None:
        return ""
    said = re.sub(r"\s|^assertion violated", "", error[1])
    return next((law for sign, law in LAWS.items() if said.startswith(sign)), said)


def _number(pattern: str, output: str) -> int:
    found = re.search(pattern, output)
    if found is None:
        raise RuntimeError(f"the checker's answer cannot be read: {output[-2000:]}")
    return int(found[1])


def check(run: Run, megabytes: int, seconds: float) -> Found:
    """Search all states of one variant; breadth first, so that what breaks a law is shown in the fewest steps.

    A bounded variant is searched depth first for cycles too: without any, every run has an end. No search is
    approximate. Raises RuntimeError when a tool fails, TimeoutExpired after ``seconds``.
    """
    switches = [*run.switches, f"CARRIERS={run.carriers}", f"OPERATORS={run.operators}"]
    search = ["-DNP"] if run.bounded else ["-DSAFETY", "-DBFS"]
    with tempfile.TemporaryDirectory(prefix="crossfade-model-") as name:
        folder = Path(name)
        began = time.monotonic()
        _call(["spin", "-a", *(f"-D{switch}" for switch in switches), str(MODEL)], folder, 60)
        flags = ["-O2", "-w", "-DCOLLAPSE", f"-DMEMLIM={megabytes}"]
        _call(["gcc", *flags, *search, "-o", "pan", "pan.c"], folder, 120)
        output = _call(["./pan", "-m200000", *(["-l"] if run.bounded else [])], folder, seconds)
        took = time.monotonic() - began
    cut_short = ("max search depth too small", "out of memory", "memory limit", "Search not completed")
    return Found(
        run,
        _violated(output),
        _number(r"(\d+) states, stored", output),
        _number(r"depth reached (\d+)", output),
        took,
        not any(sign in output for sign in cut_short) and _number(r"errors: (\d+)", output) == 0,
    )


def _line(found: Found) -> str:
    run = found.run
    if found.good:
        verdict = "holds" if not run.breaks else "possible" if run.breaks == "seen" else f"caught: {run.breaks}"
    elif not found.violated:
        verdict = "NOT CAUGHT" if found.complete else "NOT COMPLETE"
    else:
        verdict = f"VIOLATED: {found.violated}"
    return f"{run.name:<20} {run.says:<66} {found.states:>10,} {found.steps:>6} {found.seconds:>7.1f}  {verdict}"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--long", action="store_true", help="also larger searches: bounded at two hours and 16 GB each")
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1), help="searches at a time")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="only these lines of the table")
    return parser.parse_args()


def main() -> int:
    arguments = _arguments()
    if missing := [tool for tool in ("spin", "gcc") if shutil.which(tool) is None]:
        print(
            f"model: {' and '.join(missing)} not found; install it (Debian: apt-get install spin gcc)", file=sys.stderr
        )
        return 2
    runs = [*FAITHFUL, *(LONG if arguments.long else ()), *WITNESSES, *MUTANTS]
    if arguments.only and (unknown := set(arguments.only) - {run.name for run in runs}):
        print(f"model: no such line: {', '.join(sorted(unknown))}", file=sys.stderr)
        return 2
    runs = [run for run in runs if not arguments.only or run.name in arguments.only]
    megabytes, seconds = (LONG_MEGABYTES, LONG_SECONDS) if arguments.long else (MEGABYTES, SECONDS)
    began, as_it_should = time.monotonic(), True
    print(f"{'name':<20} {'what':<66} {'states':>10} {'steps':>6} {'seconds':>7}  verdict")
    with ThreadPoolExecutor(max(1, arguments.jobs)) as pool:
        try:
            for found in pool.map(lambda run: check(run, megabytes, seconds), runs):
                print(_line(found), flush=True)
                as_it_should &= found.good
        except (OSError, RuntimeError, subprocess.TimeoutExpired) as error:
            pool.shutdown(cancel_futures=True)
            print(f"model: {error}", file=sys.stderr)
            return 2
    verdict = "everything is as it should be" if as_it_should else "NOT as it should be"
    print(f"{len(runs)} searches in {time.monotonic() - began:.0f} s: {verdict}")
    return 0 if as_it_should else 1


if __name__ == "__main__":
    sys.exit(main())
