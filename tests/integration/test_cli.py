"""The command line: every mistake gets one clear message and its exit code, and changes nothing."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from fix_postgres import Databases
from fix_stores import Migration
from picture import picture
from sqlalchemy import make_url

from adapters.postgres.ledger.locks import command_lock
from harness.cli.main import COMMANDS, main
from harness.cli.pages import PAGES
from harness.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
SECRET = "hunter2-never-shown"  # noqa: S105 - of an account that does not exist
NOWHERE = f"postgresql://somebody:{SECRET}@127.0.0.1:1/absent"
STORE_COMMANDS = [name for name in COMMANDS if name not in {"boards", "demo", "init"}]
SHORTEST = {"ramp": ("ramp", "--reads", "1"), "quarantine": ("quarantine", "list")}  # what else must be given
VARIABLES = (
    *("CROSSFADE_LEGACY_URL", "CROSSFADE_NEW_URL", "CROSSFADE_DEBUG", "CROSSFADE_FAILPOINTS"),
    *("DATABASE_HOSTNAME", "DATABASE_PORT", "DATABASE_NAME", "DATABASE_CREDENTIALS"),
    *("POSTGRES_HOST", "POSTGRES_PORT", "POSTGRES_DB", "POSTGRES_USER", "POSTGRES_PASSWORD"),
)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory: no settings file is found, and what is written does not stay."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def invoke(*arguments: str, legacy: str | None = None, new: str | None = None) -> Result:
    """Run the command in this process, on these two addresses."""
    environment = dict.fromkeys(VARIABLES) | {"CROSSFADE_LEGACY_URL": legacy, "CROSSFADE_NEW_URL": new}
    return CliRunner().invoke(main, arguments, env=environment)


def on(settings: Settings, *arguments: str) -> Result:
    return invoke(*arguments, legacy=settings.legacy.url, new=settings.new.url)


def assert_refused(done: Result, code: int, *named: str) -> None:
    """One message of one line on standard error that names what it is about; no traceback, no secret, no result."""
    assert (done.exit_code, done.stdout) == (code, ""), done.output
    lines = done.stderr.strip().splitlines()
    if lines[0].startswith("Usage:"):  # click says how the command is used before it says what is wrong
        lines = [line for line in lines if line.startswith("Error: ")]
    else:
        assert lines[0].startswith("crossfade: ")
    assert len(lines) == 1, done.stderr
    for name in named:
        assert name in lines[0]
    assert "Traceback" not in done.output
    assert SECRET not in done.output


@pytest.fixture
def unchanged(databases: Databases) -> Iterator[Callable[[], None]]:
    """Call it where the test's mistakes begin: at the test's end both databases hold what they held then."""
    before: list[tuple[str, dict[str, str]]] = []

    def begin() -> None:
        before.extend((url, picture(url)) for url in (databases.legacy_url, databases.new_url))

    yield begin
    assert before, "the test never said where its mistakes begin"
    for url, held in before:
        assert picture(url) == held


class TestStoresThatAreNotThere:
    @pytest.mark.parametrize("away", ["legacy", "new"])
    def test_unreachable_server(self, databases: Databases, unchanged: Callable[[], None], away: str) -> None:
        """Every command says which store cannot be reached and where it looked, and ends with 5."""
        unchanged()
        urls = {"legacy": databases.legacy_url, "new": databases.new_url} | {away: NOWHERE}
        for command in STORE_COMMANDS:
            arguments = SHORTEST.get(command, (command,))
            done = invoke(*arguments, legacy=urls["legacy"], new=urls["new"])
            assert_refused(done, 5, away, "absent on 127.0.0.1:1", f"CROSSFADE_{away.upper()}_URL")

    def test_server_that_never_answers(self, databases: Databases, unchanged: Callable[[], None]) -> None:
        """A server that takes the connection and says nothing is given up."""
        unchanged()
        with socket.create_server(("127.0.0.1", 0)) as mute:
            url = f"postgresql://somebody:{SECRET}@127.0.0.1:{mute.getsockname()[1]}/mute"
            assert_refused(invoke("assess", legacy=databases.legacy_url, new=url), 5, "new")

    @pytest.mark.parametrize("wrong", ["username", "database"])
    def test_wrong_credentials(self, databases: Databases, unchanged: Callable[[], None], wrong: str) -> None:
        """A role or a database that does not exist is named as such, without its password."""
        unchanged()
        url = make_url(databases.new_url).set(password=SECRET)
        absent = "nobody-of-this-name"
        url = url.set(username=absent) if wrong == "username" else url.set(database=absent)
        done = invoke("prepare", legacy=databases.legacy_url, new=url.render_as_string(hide_password=False))
        assert_refused(done, 5, "new", "CROSSFADE_NEW_URL")

    @pytest.mark.parametrize("command", ["assess", "prepare"])
    def test_no_dispatch_database(self, databases: Databases, unchanged: Callable[[], None], command: str) -> None:
        """A legacy database without Dispatch's own schema is not taken for one."""
        unchanged()
        done = invoke(command, legacy=databases.legacy_url, new=databases.new_url)
        assert_refused(done, 5, "dispatch_core.organization", "CROSSFADE_LEGACY_URL")

    def test_tenant_without_its_prompt_table(self, migration: Migration, unchanged: Callable[[], None]) -> None:
        """An organization whose schema lacks the table is named, and nothing of either database is touched."""
        migration.sql("DROP TABLE dispatch_organization_umbra.prompt")
        unchanged()
        assert_refused(
            on(migration.app.settings, "prepare"),
            5,
            "'umbra'",
            "dispatch_organization_umbra.prompt",
            "crossfade assess",
        )

    @pytest.mark.parametrize("command", ["backfill", "catchup", "verify", "run", "repair"])
    def test_tenant_that_lost_its_prompt_table(
        self, carried_migration: Migration, unchanged: Callable[[], None], command: str
    ) -> None:
        """The same when it goes missing later: no command takes what is left for the whole."""
        carried_migration.sql("DROP TABLE dispatch_organization_umbra.prompt")
        unchanged()
        assert_refused(on(carried_migration.app.settings, command), 5, "dispatch_organization_umbra.prompt")


class TestSettings:
    @pytest.mark.parametrize("command", STORE_COMMANDS)
    def test_no_address(self, command: str) -> None:
        """Without an address the message says where to give one."""
        arguments = SHORTEST.get(command, (command,))
        assert_refused(invoke(*arguments), 2, "legacy", "CROSSFADE_LEGACY_URL")

    @pytest.mark.parametrize(
        "url",
        [
            "no address at all",
            f"postgresql://somebody:{SECRET}@host:port/database",
            f"mysql://somebody:{SECRET}@host/database",
            f"postgresql://somebody:{SECRET}@host/database?no_option_of_libpq=[1]",
            f"postgresql://somebody:{SECRET}@[::1/database",
        ],
    )
    def test_malformed_address(self, url: str) -> None:
        """An address that cannot be read is refused without being shown."""
        assert_refused(invoke("status", legacy=url, new=url), 2, "CROSSFADE_LEGACY_URL")

    @pytest.mark.parametrize(
        ("text", "named"),
        [
            ("[shadow]\nqueues = 3", "unknown setting shadow.queues"),
            ("[shadow]\nqueue = 'many'", "shadow.queue"),
            (f"[legacy]\nurl = ['{SECRET}']", "legacy.url"),
            ("[shadow", "not valid TOML"),
        ],
    )
    def test_unfit_settings_file(self, elsewhere: Path, text: str, named: str) -> None:
        """A mistake in the settings is named with its key, before any store is asked."""
        (elsewhere / "crossfade.toml").write_text(text)
        assert_refused(invoke("assess"), 2, "crossfade.toml", named)

    def test_settings_file_that_is_not_there(self) -> None:
        """A file that was asked for must be there."""
        assert_refused(invoke("status", "--config", "absent.toml"), 2, "absent.toml")

    @pytest.mark.parametrize("name", [r"\[/x].toml", r"a\\[/b]", "[red]x[/]", "x\\"])
    def test_a_name_that_could_be_read_as_markup(self, name: str) -> None:
        """What others have named stands in a message as it is, and breaks none."""
        assert_refused(invoke("status", "--config", name), 2, name)

    def test_init_never_overwrites(self, elsewhere: Path) -> None:
        """A settings file that is there stays as it is."""
        file = elsewhere / "mine.toml"
        file.write_text("# mine\n")
        assert_refused(invoke("init", "--file", str(file)), 2, "mine.toml is there already")
        assert file.read_text() == "# mine\n"

    def test_init_into_a_missing_directory(self, elsewhere: Path) -> None:
        """A place that cannot be written to is named."""
        assert_refused(invoke("init", "--file", str(elsewhere / "absent" / "x.toml")), 2, "absent/x.toml")

    def test_init_writes_settings_that_can_be_read(self, elsewhere: Path) -> None:
        """What init writes is found and accepted by the next command."""
        assert invoke("init").exit_code == 0
        assert_refused(invoke("status"), 2, "CROSSFADE_LEGACY_URL")
        assert (elsewhere / "crossfade.toml").exists()


class TestPhases:
    @pytest.mark.parametrize(
        "arguments",
        [
            ("backfill",),
            ("catchup",),
            ("verify",),
            ("run",),
            ("ramp", "--reads", "1"),
            ("report",),
            ("repair", "--yes"),
        ],
        ids=lambda arguments: arguments[0],
    )
    def test_before_prepare_everything_names_it(
        self, migration: Migration, unchanged: Callable[[], None], elsewhere: Path, arguments: tuple[str, ...]
    ) -> None:
        """A command that comes too early is refused, and says what to run next."""
        unchanged()
        assert_refused(on(migration.app.settings, *arguments), 4, "crossfade prepare")
        assert list(elsewhere.iterdir()) == []

    @pytest.mark.parametrize(
        "arguments",
        [("verify",), ("run",), ("ramp", "--reads", "1"), ("ramp", "--shadow", "50"), ("repair", "--yes")],
        ids=lambda arguments: " ".join(arguments[:2]),
    )
    def test_before_backfill_they_name_it(
        self, prepared_migration: Migration, unchanged: Callable[[], None], arguments: tuple[str, ...]
    ) -> None:
        """What compares needs a backfill first."""
        unchanged()
        assert_refused(on(prepared_migration.app.settings, *arguments), 4, "crossfade backfill")

    def test_no_read_goes_to_new_before_a_passed_verification(
        self, carried_migration: Migration, unchanged: Callable[[], None]
    ) -> None:
        """Neither with no verification at all, nor after a failed one; not even as a dry run."""
        settings = carried_migration.app.settings
        assert_refused(on(settings, "ramp", "--reads", "1"), 4, "crossfade verify")
        carried_migration.prompt()
        assert carried_migration.drain() == 0
        carried_migration.behind("UPDATE prompts SET content = 'edited behind everybody''s back'")
        assert on(settings, "verify", "--patience", "0").exit_code == 3
        unchanged()
        assert_refused(on(settings, "ramp", "--reads", "1"), 4, "crossfade verify")
        planned = on(settings, "ramp", "--reads", "1", "--dry-run")
        assert (planned.exit_code, "in the way" in planned.stdout) == (4, True)

    def test_a_run_without_any_prompt_is_refused(
        self, carried_migration: Migration, unchanged: Callable[[], None]
    ) -> None:
        """There is nothing to compare, and that is said instead of a run of nothing."""
        unchanged()
        assert_refused(on(carried_migration.app.settings, "run"), 4, "no prompt")

    @pytest.mark.parametrize("command", ["prepare", "backfill", "ramp", "repair"])
    def test_two_at_once(self, carried_migration: Migration, unchanged: Callable[[], None], command: str) -> None:
        """While another holds the command's lock, it ends with 6 and says who it is."""
        settings = carried_migration.app.settings
        carried_migration.prompt()
        assert carried_migration.drain() == 0
        assert carried_migration.verify().verdict == "pass"
        arguments = {"ramp": ("ramp", "--reads", "1"), "repair": ("repair", "--yes")}.get(command, (command,))
        if command == "repair":
            carried_migration.behind("DELETE FROM prompts")
        with command_lock(carried_migration.stores.new, "authority" if command == "ramp" else command):
            if command != "repair":  # which has to verify, and keeps the result, before it knows what to do
                unchanged()
                assert_refused(on(settings, *arguments), 6, "another crossfade", "is running")
            else:
                assert on(settings, *arguments).exit_code == 6
                unchanged()
        if command == "repair":
            assert carried_migration.new_sql("SELECT 1 FROM prompts") == []


class TestArguments:
    @pytest.mark.parametrize("share", ["101", "-1", "NaN", "abc", "0.001", "inf", ""])
    @pytest.mark.parametrize("option", ["--reads", "--shadow"])
    def test_what_is_no_percent(self, option: str, share: str) -> None:
        """Shares go from 0 to 100 in steps of 0.01; all else is refused before a store is asked."""
        assert_refused(invoke("ramp", option, share, legacy=NOWHERE, new=NOWHERE), 2, option)

    def test_ramp_of_nothing(self) -> None:
        """Ramp wants to be told what to change."""
        assert_refused(invoke("ramp", legacy=NOWHERE, new=NOWHERE), 2, "--reads", "--shadow")

    @pytest.mark.parametrize(
        "arguments",
        [
            ("run", "--seconds", "nan"),
            ("run", "--seconds", "inf"),
            ("run", "--seconds", "0"),
            ("run", "--rate", "nan"),
            ("run", "--rate", "-1"),
            ("run", "--write-ratio", "nan"),
            ("run", "--write-ratio", "1.5"),
            ("run", "--speed", "inf"),
            ("run", "--processes", "0"),
            ("run", "--metrics-port", "70000"),
            ("backfill", "--rows-per-second", "nan"),
            ("backfill", "--chunk-rows", "0"),
            ("catchup", "--timeout", "nan"),
            ("catchup", "--workers", "0"),
            ("verify", "--patience", "nan"),
            ("demo", "--step-seconds", "nan"),
        ],
        ids=" ".join,
    )
    def test_numbers_out_of_range(self, arguments: tuple[str, ...]) -> None:
        """A number that makes no sense is refused by its option's name before a store is asked."""
        assert_refused(invoke(*arguments, legacy=NOWHERE, new=NOWHERE), 2, arguments[1])

    @pytest.mark.parametrize(
        ("arguments", "named"),
        [
            (("--mix", "find_everything=1"), "find_everything"),
            (("--mix", "find_all=often"), "find_all=often"),
            (("--mix", "find_all=0"), "weight above 0"),
            (("--mix", ""), "weight above 0"),
            (("--mix", "find_all=1,save=1"), "--write-ratio"),
            (("--trace", "absent.jsonl"), "absent.jsonl"),
            (("--trace", "broken.jsonl"), "broken.jsonl, line 2"),
            (("--trace", "whole.jsonl", "--processes", "2"), "--processes"),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
    )
    def test_runs_that_cannot_be(
        self,
        carried_migration: Migration,
        unchanged: Callable[[], None],
        elsewhere: Path,
        arguments: tuple[str, ...],
        named: str,
    ) -> None:
        """A wrong mix or trace is found before anything is called, and the phase stays what it was."""
        carried_migration.prompt()
        assert carried_migration.drain() == 0
        good = {"at": 0, "operation": "find_by_name", "arguments": {"name": "x"}}
        (elsewhere / "whole.jsonl").write_text(json.dumps(good) + "\n")
        (elsewhere / "broken.jsonl").write_text(json.dumps(good) + "\n{}\n")
        unchanged()
        assert_refused(on(carried_migration.app.settings, "run", "--seconds", "1", *arguments), 2, named)

    def test_a_taken_port(self, carried_migration: Migration, unchanged: Callable[[], None]) -> None:
        """A port that another program has is refused by its number."""
        carried_migration.prompt()
        unchanged()
        with socket.create_server(("0.0.0.0", 0)) as taken:  # noqa: S104 - as the metrics' own server listens
            port = str(taken.getsockname()[1])
            for command in ("run", "backfill", "catchup"):
                assert_refused(on(carried_migration.app.settings, command, "--metrics-port", port), 2, port)

    @pytest.mark.parametrize("place", ["file/report.html", "file", "file/below"])
    def test_a_report_that_cannot_be_written(
        self, carried_migration: Migration, unchanged: Callable[[], None], elsewhere: Path, place: str
    ) -> None:
        """A place that takes no report is named, and what is there stays."""
        (elsewhere / "file").write_text("mine")
        unchanged()
        assert_refused(on(carried_migration.app.settings, "report", "--output", place), 2, place)
        assert [file.name for file in elsewhere.iterdir()] == ["file"]
        assert (elsewhere / "file").read_text() == "mine"

    def test_an_act_that_nobody_confirms(self, carried_migration: Migration) -> None:
        """Where nobody can be asked, repair wants --yes, and changes no row without it."""
        carried_migration.prompt()
        assert carried_migration.drain() == 0
        carried_migration.behind("DELETE FROM prompts")
        assert_refused(on(carried_migration.app.settings, "repair", "--json"), 4, "--yes")
        assert carried_migration.new_sql("SELECT 1 FROM prompts") == []

    @pytest.mark.parametrize("arguments", [("crossfade",), ("ramp", "--write", "5"), ("verify", "now")])
    def test_words_that_are_none(self, arguments: tuple[str, ...]) -> None:
        """Unknown commands, options and arguments are usage errors."""
        assert_refused(invoke(*arguments), 2)


def commands() -> Iterator[tuple[str, click.Command]]:
    context = click.Context(main)
    for name in COMMANDS:
        command = main.get_command(context, name)
        assert command is not None
        yield name, command
        if isinstance(command, click.Group):
            yield from ((f"{name} {each}", within) for each, within in command.commands.items())


NAMES = [name for name, _ in commands()]


class TestHelp:
    @pytest.mark.parametrize("name", NAMES)
    def test_every_command_has_help_with_an_example(self, name: str) -> None:
        """Help says what the command does and shows a line that can be typed, with options that it has."""
        done = invoke(*name.split(), "--help")
        assert done.exit_code == 0
        told, _, example = done.stdout.partition("Example:")
        assert len(told.splitlines()[2].strip()) > 20
        line = example.strip().splitlines()[0]
        assert line.startswith(f"crossfade {name}")
        known = {option for parameter in dict(commands())[name].params for option in parameter.opts}
        assert {word for word in line.split() if word.startswith("--")} <= known

    @pytest.mark.parametrize("name", NAMES)
    def test_help_reads_as_prose(self, name: str) -> None:
        """No line of the description is torn by the spaces of the source it came from."""
        told = invoke(*name.split(), "--help").stdout.partition("Example:")[0]
        assert not re.search(r"\S {2,}\S|^ {3,}\S", told, re.MULTILINE), told

    def test_every_option_is_explained(self) -> None:
        """No option without a word on what it does."""
        silent = [
            f"{name} {parameter.opts[0]}"
            for name, command in commands()
            for parameter in command.params
            if isinstance(parameter, click.Option)  # an argument is told of in the command's own text
            if not getattr(parameter, "help", None)
        ]
        assert silent == []

    @pytest.mark.parametrize("page", PAGES)
    def test_generated_pages_are_current(self, page: str) -> None:
        """docs/ holds what ``make docs`` would write now."""
        assert (ROOT / "docs" / page).read_text(encoding="utf-8") == PAGES[page]()

    @pytest.mark.parametrize("name", NAMES)
    def test_every_command_is_told_of(self, name: str) -> None:
        """Each is in the README or in a page that was written by hand."""
        pages = [ROOT / "README.md", *(page for page in (ROOT / "docs").glob("*.md") if page.name not in PAGES)]
        assert any(re.search(rf"\b(crossfade|make) {name}\b", page.read_text(encoding="utf-8")) for page in pages)

    def test_version(self) -> None:
        """The command says which version it is."""
        assert re.fullmatch(r"crossfade, version \d+\.\d+\.\d+\S*\n", invoke("--version").stdout)


def one_document(done: Result) -> dict[str, Any]:
    """The one JSON document that is all of standard output."""
    assert done.stdout.endswith("}\n")
    assert done.stdout.count("\n") == 1
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_json_is_one_document_of_every_command(migration: Migration) -> None:
    """With --json, standard output is one JSON document, whatever the command and whatever it found."""
    settings = migration.app.settings
    migration.prompt(enabled=True)

    def document(code: int, *arguments: str) -> dict[str, Any]:
        done = on(settings, *arguments, "--json")
        assert done.exit_code == code, done.output
        return one_document(done)

    assert document(0, "init")["written"] == "crossfade.toml"
    assert document(0, "status")["phase"] == "IDLE"
    assert document(0, "assess")["tenants"]
    assert document(0, "prepare")["phase"] == "PREPARED"
    assert document(0, "backfill")["copied"] == 1
    assert document(0, "catchup")["left"] == 0
    assert document(0, "verify")["verdict"] == "pass"
    assert document(0, "ramp", "--reads", "1", "--dry-run")["changed"] is False
    assert document(0, "ramp", "--reads", "1")["reads_percent"] == 1
    assert document(0, "status")["phase"] == "RAMPING"
    assert len(document(0, "report")["files"]) == 3
    migration.behind("DELETE FROM prompts")
    assert document(3, "verify", "--patience", "0")["missing"] == 1
    assert document(0, "repair", "--dry-run")["planned"] == {"missing": 1}
    assert document(0, "repair", "--yes")["verdict"] == "pass"
    assert document(0, "resume")["became"] == "nothing to do"
    assert document(0, "rogue")["writes"] == []
    assert document(0, "ramp", "100")["scopes"] == 1
    assert "verified" not in document(4, "cutover", "--dry-run")["obstacles"]
    assert document(0, "rollback", "--dry-run")["loser"] == "new"
    assert document(0, "rollback")["after"]["phase"] == "ROLLED_BACK"
    assert document(0, "uninstall", "--dry-run")["losses"] == []
    assert document(0, "uninstall", "--yes")["phase"] == "IDLE"


def test_people_are_told_the_same(migration: Migration) -> None:
    """Without --json every command says in words what it did, and names with brackets are not taken for markup."""
    settings = migration.app.settings
    migration.sql("UPDATE dispatch_organization_acme.project SET name = '[bold]' WHERE id = 1")
    migration.prompt(enabled=True, genai_prompt="[red]not markup")
    for arguments, said in (
        (("assess",), "acme"),
        (("prepare",), "PREPARED"),
        (("backfill",), "copied"),
        (("catchup",), "left"),
        (("verify",), "none missing"),
        (("ramp", "--reads", "1"), "epoch"),
        (("status",), "RAMPING"),
        (("report",), "verdict"),
        (("repair",), "planned"),
    ):
        done = on(settings, *arguments)
        assert done.exit_code == 0, done.output
        assert said in done.stdout


def test_what_is_no_text_is_bad_input(migration: Migration, unchanged: Callable[[], None]) -> None:
    """Bytes of another encoding, which no database would take; the actor's name is kept as far as it is readable."""
    unchanged()
    settings = migration.app.settings
    assert_refused(on(settings, "prepare", "--reason", "Gr\udcfcnde"), 2, "reason", "UTF-8")
    assert_refused(on(settings, "cutover", "--accept", "x", "--accept", "\udcfc"), 2, "accept", "UTF-8")


def test_an_actor_that_is_no_text_is_kept_as_far_as_it_is_readable(
    migration: Migration, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CROSSFADE_ACTOR", "Gr\udcfcnder")
    assert on(migration.app.settings, "prepare").exit_code == 0
    assert migration.new_sql("SELECT DISTINCT actor FROM crossfade.audit") == [("Gr?nder",)]


def test_an_unexpected_error_shows_no_traceback(
    migration: Migration, unchanged: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even an error nobody thought of ends with 1 and one line that quotes nothing."""

    def fail(*_: object) -> None:
        raise ZeroDivisionError(SECRET)

    unchanged()
    monkeypatch.setattr("harness.cli.status.status_of", fail)
    assert_refused(on(migration.app.settings, "status"), 1, "ZeroDivisionError", "CROSSFADE_DEBUG")
