"""``crossfade status --watch`` over a migration under way: in a terminal, in lines, and as the metrics port's page."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
import termios
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from command import crossfade, environment
from fix_postgres import Server, until
from fix_stores import Migration, create_tenants, migration_between
from monitoring import free_port
from rich.cells import cell_len
from sqlalchemy import event

from adapters.postgres.embedded import EmbeddedServer
from adapters.postgres.ledger.running_total import RunningTotal
from adapters.postgres.ledger.statistics import StatisticsBook
from harness.cli.watching import Watching
from harness.gates import GATES
from harness.routing import Store
from harness.statistics import Result, Role, Statistics
from harness.watched import told

ROWS, COLUMNS = 24, 80
ENTERED, LEFT, SHOWN = b"\x1b[?1049h", b"\x1b[?1049l", b"\x1b[?25h"
CONTROL = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


class Terminal:
    """A command in a terminal of 80 columns and 24 lines."""

    def __init__(self, migration: Migration, *arguments: str) -> None:
        self._ours, self.theirs = os.openpty()
        termios.tcsetwinsize(self.theirs, (ROWS, COLUMNS))
        self.before = termios.tcgetattr(self.theirs)
        variables = environment(migration.app.settings, TERM="xterm-256color")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "harness.cli", *arguments],
            env={name: value for name, value in variables.items() if name not in {"COLUMNS", "LINES", "NO_COLOR"}},
            stdin=self.theirs,
            stdout=self.theirs,
            stderr=self.theirs,
            start_new_session=True,
        )
        self.said = b""

    def read(self) -> None:
        while select.select([self._ours], [], [], 0)[0]:
            self.said += os.read(self._ours, 65_536)

    def screen(self) -> list[str]:
        """The lines of the newest frame that was painted as a whole."""
        frames = self.frames()
        return frames[-1] if frames else []

    def frames(self) -> list[list[str]]:
        """The lines of each frame that was painted as a whole."""
        self.read()
        frames = self.said.decode(errors="replace").split("\x1b[H")[1:-1]
        return [[CONTROL.sub("", line).rstrip() for line in frame.splitlines()] for frame in frames]

    def shows(self, text: str) -> bool:
        return any(text in line for line in self.screen())

    def strike(self, key: bytes) -> None:
        os.write(self._ours, key)

    def ended(self) -> int:
        """Its exit code; reads on meanwhile, or it could not write its last words."""

        def gone() -> bool:
            self.read()
            return self.process.poll() is not None

        until(gone)
        self.read()
        return int(self.process.returncode)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._ours)
        os.close(self.theirs)


@contextmanager
def in_terminal(migration: Migration, *arguments: str) -> Iterator[Terminal]:
    terminal = Terminal(migration, *arguments)
    try:
        yield terminal
    finally:
        terminal.close()


@contextmanager
def working(migration: Migration, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A command under way; asked to end with the block, with its output to be read."""
    process = subprocess.Popen(
        [sys.executable, "-m", "harness.cli", *arguments],
        env=environment(migration.app.settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.communicate(timeout=30)
        finally:
            if process.poll() is None:
                process.kill()


def fill(migration: Migration) -> None:
    for project in range(1, 7):
        for kind in range(1, 5):
            migration.prompt(project=project, genai_type=kind, enabled=True)
    assert migration.drain() == 0
    assert migration.verify().verdict == "pass"


@pytest.fixture
def filled(carried_migration: Migration) -> Migration:
    fill(carried_migration)
    return carried_migration


@dataclass(frozen=True)
class Addresses:
    legacy_url: str
    new_url: str


@pytest.fixture
def apart(server: Server) -> Iterator[tuple[Migration, EmbeddedServer]]:
    """A migration to a server of its own, which can go away."""
    with EmbeddedServer() as new, ExitStack() as stack:
        legacy_url = stack.enter_context(server.database("legacy"))
        addresses: Any = Addresses(legacy_url, new.create_database("new"))
        migration = stack.enter_context(migration_between(addresses))
        with migration.stores.legacy.begin() as connection:
            create_tenants(connection)
        migration.prepare()
        migration.backfill()
        fill(migration)
        yield migration, new


@pytest.mark.parametrize("ending", ["q", "ctrl-c", "sigterm"])
def test_a_live_page_that_quits_cleanly(filled: Migration, ending: str) -> None:
    """A whole frame, then q, Ctrl-C or SIGTERM: exit code 0, the screen left, the cursor shown, modes as before."""
    with in_terminal(filled, "status", "--watch", "--every", "0.2") as terminal:
        until(lambda: terminal.shows("; judged"))
        screen = terminal.screen()
        assert screen[0].startswith("BACKFILLED, epoch 0")
        assert screen[0].endswith("q quits")
        assert [line.split()[0] for line in screen[5:11]] == ["served/s", "p50", "p99", "errors", "lag", "dirty"]
        assert any(line.startswith("? mismatches   inconclusive no answers were compared") for line in screen)
        assert "crossfade catchup, then crossfade verify" in screen[22]
        assert len(screen) == ROWS
        assert max(map(cell_len, screen)) <= COLUMNS
        assert termios.tcgetattr(terminal.theirs) != terminal.before
        if ending == "sigterm":
            terminal.process.send_signal(signal.SIGTERM)
        elif ending == "q":
            terminal.strike(b"q")
        else:  # no job control here: what the terminal would send to the one in front
            terminal.process.send_signal(signal.SIGINT)
        assert terminal.ended() == 0
        assert ENTERED in terminal.said
        assert terminal.said.rindex(LEFT) > terminal.said.rindex(ENTERED)
        assert terminal.said.rindex(SHOWN) > terminal.said.rindex(b"\x1b[?25l")
        assert termios.tcgetattr(terminal.theirs) == terminal.before
        assert b"Traceback" not in terminal.said


def test_it_follows_what_happens(filled: Migration) -> None:
    """Calls of a run, a raised percentage and a change on its way appear while it is watched."""
    with (
        in_terminal(filled, "status", "--watch", "--every", "0.2") as terminal,
        working(filled, "run", "--seconds", "300", "--rate", "50", "--json"),
    ):
        until(lambda: terminal.shows("SHADOWING"))
        until(lambda: re.search(r"served/s +\d+\.\d+ +0\.00", "\n".join(terminal.screen())) is not None)
        until(lambda: re.search(r"p99 +[\d.]+ [mµ]?s +[\d.]+ [mµ]?s", "\n".join(terminal.screen())) is not None)
        filled.prompt(project=None)
        until(lambda: terminal.shows("dirty notes           1"))
        filled.stores.routes.change(reads_percent=10, actor="a", reason="b")
        until(lambda: terminal.shows("reads 10 %"))
        terminal.strike(b"q")
        assert terminal.ended() == 0


def test_documents_in_lines(filled: Migration) -> None:
    """With --json each look is one document in one line, with all that status says, until it is told to end."""
    plain = json.loads(crossfade(filled.app.settings, "status", "--json").stdout)
    with working(filled, "status", "--watch", "--every", "0.2", "--json") as process:
        assert process.stdout is not None
        documents = [json.loads(process.stdout.readline()) for _ in range(3)]
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    for document in documents:
        assert document.keys() > plain.keys()
        assert [gate["name"] for gate in document["gates"]] == list(GATES)
        assert document["away"] == {"legacy": None, "new": None}
        assert document["gates_age_seconds"] >= 0
    assert documents[0]["at"] < documents[1]["at"] < documents[2]["at"]


def test_blocks_where_there_is_no_terminal(filled: Migration) -> None:
    """Plain text of one frame each, without a control character; a reader who leaves ends it without a complaint."""
    arguments = [sys.executable, "-m", "harness.cli", "status", "--watch", "--every", "0.2"]
    variables = environment(filled.app.settings)
    with subprocess.Popen(
        arguments, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        block = [process.stdout.readline().rstrip("\n") for _ in range(ROWS + 1)]
        process.stdout.close()
        assert process.wait(30) == 0
        assert process.stderr.read() == ""
    assert block[0].startswith("BACKFILLED, epoch 0")
    assert block[14].startswith("gates ")
    assert block[-1] == ""
    assert all(line.isprintable() and cell_len(line) <= COLUMNS for line in block)


def test_before_prepare_there_is_little_to_show(migration: Migration) -> None:
    """On two databases that Crossfade never saw it says so, and what to do."""
    with working(migration, "status", "--watch", "--json") as process:
        assert process.stdout is not None
        found = json.loads(process.stdout.readline())
    assert (found["phase"], found["gates"], found["next"]) == ("IDLE", [], "crossfade prepare")


def test_a_pace_without_a_watch_is_a_mistake(filled: Migration) -> None:
    """--every alone is a usage error that names what is missing."""
    done = crossfade(filled.app.settings, "status", "--every", "2")
    assert done.returncode == 2
    assert "--watch" in done.stderr
    assert crossfade(filled.app.settings, "status", "--watch", "--every", "nan").returncode == 2


def test_a_store_that_goes_away_and_comes_back(apart: tuple[Migration, EmbeddedServer]) -> None:
    """It is a line of the page, what is not known of it is no number, and everything goes on when it is back."""
    migration, new = apart
    with in_terminal(migration, "status", "--watch", "--every", "0.2") as terminal:
        until(lambda: terminal.shows("; judged"))
        new.stop("immediate")
        until(lambda: terminal.shows("! new cannot be reached since "))
        until(lambda: bool(re.search(r"lag +0 s +–", "\n".join(terminal.screen()))))
        away = [text for text in map("\n".join, terminal.frames()) if "! new cannot be reached since " in text]
        assert not [text for text in away if re.search(r"lag +\S+( s)? +\d", text)]
        assert terminal.shows("✓ verified")  # what was judged stays, with its age
        new.start()
        until(lambda: bool(screen := terminal.screen()) and screen[3] == "")
        assert re.search(r"lag +0 s +0 s", "\n".join(terminal.screen()))
        terminal.strike(b"q")
        assert terminal.ended() == 0


def get(port: int, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as answer:
        return str(answer.read().decode())


def test_the_page_of_a_real_process(apart: tuple[Migration, EmbeddedServer]) -> None:
    """Page, JSON and metrics of a catch-up worker; a store that is away is shown there, and the metrics go on."""
    migration, new = apart
    port = free_port()
    with working(migration, "catchup", "--follow", "--metrics-port", str(port)):

        def serving() -> bool:
            try:
                return "crossfade_lag_seconds" in get(port, "/metrics")
            except OSError:
                return False  # not yet

        until(serving)
        until(lambda: len(json.loads(get(port, "/status.json"))["gates"]) == len(GATES))
        page = get(port, "/")
        assert "BACKFILLED" in page
        assert "row compared" in page or "rows compared" in page
        found = json.loads(get(port, "/status.json"))
        assert (found["phase"], found["away"]) == ("BACKFILLED", {"legacy": None, "new": None})
        assert "postgresql://" not in page + json.dumps(found)
        new.stop("immediate")
        until(lambda: json.loads(get(port, "/status.json"))["away"]["new"] is not None)
        assert "new cannot be reached since" in get(port, "/")
        assert "crossfade_lag_seconds" in get(port, "/metrics")
        new.start()
        until(lambda: json.loads(get(port, "/status.json"))["away"]["new"] is None)


def test_nobody_is_asked_while_nobody_looks(filled: Migration) -> None:
    """A look that nobody wants reads nothing: what is known stays unknown."""
    unwanted = Watching(filled.stores, lambda: False)
    assert (unwanted.look(), unwanted.judge()) == (False, False)
    assert not unwanted.begun
    assert unwanted.document()["phase"] is None
    wanted = Watching(filled.stores)
    assert (wanted.look(), wanted.judge()) == (True, True)
    assert wanted.begun
    assert wanted.document()["phase"] == "BACKFILLED"


def counted(calls: int, mismatched: int = 0) -> Statistics:
    found = Statistics()
    found.latencies["find", Store.LEGACY, Role.SERVED].add_all([0.01] * calls)
    found.comparisons["find", Result.MISMATCHED] = mismatched
    found.comparisons["find", Result.MATCHED] = calls
    return found


def test_unknown_is_not_idle(apart: tuple[Migration, EmbeddedServer]) -> None:
    """Whoever looks first while new is away is told so, and not that nothing has begun."""
    migration, new = apart
    new.stop("immediate")
    watching = Watching(migration.stores)
    watching.look()
    document = watching.document()
    assert (document["phase"], document["reads_percent"]) == (None, None)
    assert document["dirty"] == {"legacy": 0, "new": None}
    assert "prepare" not in document["next"]
    shown = told(document)
    assert (shown.phase, shown.judged) == ("–", "being judged")
    assert shown.alerts[0].startswith("new cannot be reached since ")
    new.start()


def test_a_running_total_is_the_total(filled: Migration) -> None:
    """Whatever minutes grow, begin and grow old meanwhile, and from whatever moment on."""
    book, first, second = StatisticsBook(filled.stores.new), uuid4(), uuid4()
    now = [datetime(2026, 3, 4, 12, 0, 30, tzinfo=UTC)]
    running = RunningTotal(book, lambda: now[0])
    since = now[0] - timedelta(hours=1)

    def agrees(begin: datetime | None = None) -> bool:
        found, expected = running.total(begin), book.total(begin)
        return (found.latency(Store.LEGACY).count, found.results()) == (
            expected.latency(Store.LEGACY).count,
            expected.results(),
        )

    def minute(back: int) -> datetime:
        return now[0].replace(second=0) - timedelta(minutes=back)

    assert agrees()
    book.roll_up(first, minute(90), counted(1000, 3))
    book.roll_up(first, minute(1), counted(100))
    running = RunningTotal(book, lambda: now[0])
    assert agrees()
    book.roll_up(first, minute(1), counted(150, 1))  # it grew
    book.roll_up(second, minute(0), counted(20, 1))
    assert agrees()
    assert agrees(since)
    for _ in range(5):
        now[0] += timedelta(minutes=1)
        book.roll_up(second, minute(0) + timedelta(seconds=7), counted(30))  # a new route began within the minute
        assert agrees(since)
    assert agrees()
    assert book.mismatched() == book.total().results()[Result.MISMATCHED] == 5


def test_what_has_grown_old_is_not_read_again(filled: Migration) -> None:
    """The history is read once: a row of long ago that is changed behind everybody's back is not noticed."""
    book, process = StatisticsBook(filled.stores.new), uuid4()
    now = datetime(2026, 3, 4, 12, 0, 30, tzinfo=UTC)
    book.roll_up(process, now - timedelta(hours=2), counted(1000))
    running = RunningTotal(book, lambda: now)
    assert running.total().latency(Store.LEGACY).count == 1000
    book.roll_up(process, now - timedelta(hours=2), counted(7))
    assert running.total().latency(Store.LEGACY).count == 1000


def test_a_look_costs_the_same_however_long_the_history(filled: Migration) -> None:
    """A quick look asks a few small things, and fetches of the counts no row that has grown old."""
    book, watching = StatisticsBook(filled.stores.new), Watching(filled.stores)
    for back in range(60, 300):
        book.roll_up(uuid4(), datetime.now(UTC) - timedelta(minutes=back), counted(10))
    book.roll_up(uuid4(), datetime.now(UTC), counted(10))
    watching.look()
    fetched: list[int] = []

    @event.listens_for(filled.stores.new, "after_cursor_execute")
    def note(_: object, cursor: Any, *__: object) -> None:
        fetched.append(cursor.rowcount)

    try:
        watching.look()
    finally:
        event.remove(filled.stores.new, "after_cursor_execute", note)
    assert 0 < len(fetched) <= 15
    assert sum(fetched) <= 15
