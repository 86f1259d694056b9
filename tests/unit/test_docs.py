"""What the documentation says is there, is there: links, commands, options, variables, and the code itself runs."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from fix_postgres import Databases
from fix_stores import migration_between
from sqlalchemy import Engine, text

from adapters.prompts import invented
from harness.cli.main import COMMANDS, main

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`([^`\n]+)`")
# What the design names and a later version brings; the pages may say so.
NOT_YET = {"serve"}


def blocks(page: Path, language: str) -> list[str]:
    return [body for found, body in FENCE.findall(page.read_text(encoding="utf-8")) if found == language]


def said(page: Path) -> list[str]:
    """What the page says in code: its fenced lines, and its code within sentences."""
    whole = page.read_text(encoding="utf-8")
    fenced = [line for _, body in FENCE.findall(whole) for line in body.splitlines()]
    return fenced + CODE.findall(FENCE.sub("", whole))


def anchors(page: Path) -> set[str]:
    """The names that headings get: lower case, without punctuation, blanks as hyphens."""
    prose = FENCE.sub("", page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.+)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def options_of(command: click.Command) -> set[str]:
    """The command's options, and those of the commands within it."""
    within = command.commands.values() if isinstance(command, click.Group) else ()
    return {option for each in (command, *within) for parameter in each.params for option in parameter.opts}


def command_of(name: str, rest: str = "") -> click.Command:
    found = main.get_command(click.Context(main), name)
    assert found is not None, f"there is no command {name}"
    if isinstance(found, click.Group) and (words := rest.split()):
        assert words[0] in found.commands or words[0].startswith(("-", "[")), f"{name} has no command {words[0]}"
        return found.commands.get(words[0], found)
    return found


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link names a file that exists, and every anchor a heading of it."""
    prose = FENCE.sub("", page.read_text(encoding="utf-8"))
    for link in re.findall(r"\]\(([^)\s]+)\)", prose):
        if link.startswith(("http://", "https://")):
            continue
        path, _, anchor = link.partition("#")
        place = (page.parent / path).resolve() if path else page
        assert place.exists(), f"{link} leads nowhere"
        if anchor:
            assert anchor in anchors(place), f"{link}: no such heading"


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_commands_and_options_exist(page: Path) -> None:
    """Every ``crossfade <command>`` in code is a command, and every option after it is one of that command's."""
    for line in said(page):
        for name, rest in re.findall(r"(?:^|[\s/$])crossfade ([a-z]+)\b([^|&;#]*)", line):
            if name in NOT_YET or "TOML" in rest:
                continue
            known = options_of(command_of(name, rest)) | {"--help"}
            for option in re.findall(r"(?<![\w-])--[a-z][a-z-]*", re.sub(r"'[^']*'", "", rest)):
                assert option in known, f"crossfade {name} has no option {option}: {line}"


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_options_named_alone_exist(page: Path) -> None:
    """An option within a sentence is one of some command's."""
    known = {option for name in COMMANDS for option in options_of(command_of(name))} | {"--help"}
    for code in CODE.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
        if code.startswith("--"):
            assert code.split()[0] in known, f"no command has {code}"


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_variables_exist(page: Path) -> None:
    """Every CROSSFADE_ variable that a page names is read somewhere in the code or the tests."""
    code = "".join(
        path.read_text(encoding="utf-8")
        for room in ("harness", "adapters", "tests")
        for path in (ROOT / room).rglob("*.py")
        if path != Path(__file__) and path.name != "pages.py"  # the page itself is no reader
    )
    for name in sorted(set(re.findall(r"\bCROSSFADE_[A-Z_]+\b", page.read_text(encoding="utf-8")))):
        assert name in code, f"nothing reads {name}"


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_examples_compile_and_import_what_is_there(page: Path) -> None:
    """Each Python example is valid, and every name that it imports can be imported."""
    for body in blocks(page, "python"):
        for node in ast.walk(ast.parse(body)):
            if isinstance(node, ast.ImportFrom):
                module = importlib.import_module(str(node.module))
                for each in node.names:
                    there = hasattr(module, each.name) or importlib.util.find_spec(f"{node.module}.{each.name}")
                    assert there, f"{node.module} has no {each.name}"
            elif isinstance(node, ast.Import):
                for each in node.names:
                    importlib.import_module(each.name)


def test_every_page_is_found_from_the_readme() -> None:
    """No page of docs/ is an orphan: following links from the README reaches each of them."""
    seen, waiting = set[Path](), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in seen or page.suffix != ".md":
            continue
        seen.add(page)
        links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
        waiting += [(page.parent / link).resolve() for link in links if not link.startswith("http")]
    assert set((ROOT / "docs").rglob("*.md")) <= seen


def test_the_readme_example_runs(databases: Databases) -> None:
    """The README's application reads through the router, updates a prompt in legacy, and tells what was compared."""
    (example,) = blocks(ROOT / "README.md", "python")
    with migration_between(databases) as migration:
        invented.create(migration.stores.legacy, 7)
        migration.prepare()
        migration.backfill()
        environment = os.environ | {
            "CROSSFADE_LEGACY_URL": databases.legacy_url,
            "CROSSFADE_NEW_URL": databases.new_url,
        }
        done = subprocess.run(
            [sys.executable, "-c", example], env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("Counter("), done.stdout
        edited = (
            "SELECT count(*) FROM dispatch_organization_default.prompt WHERE genai_prompt LIKE 'Summarise in three%'"
        )
        assert migration.sql(edited) == [(1,)]
        assert migration.drain() == 0
        assert migration.verify().verdict == "pass"


def adapter_page(*numbers: int) -> dict[str, Any]:
    """The names that the code of docs/adapter.md defines, after running these blocks of it."""
    bodies = blocks(ROOT / "docs" / "adapter.md", "python")
    names: dict[str, Any] = {"__name__": "docs.adapter"}
    module = type(sys)("docs.adapter")
    sys.modules["docs.adapter"] = module  # dataclasses look their module up
    try:
        for number in numbers:
            exec(compile(bodies[number], f"adapter.md, block {number}", "exec"), module.__dict__)  # noqa: S102 - the page is ours
        names |= module.__dict__
    finally:
        del sys.modules["docs.adapter"]
    return names


def test_the_adapter_page_routes_a_contract_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    """The page's first step works as it stands: a hundred reads of both stores, all compared and equal."""
    adapter_page(0, 1)
    assert "100" in capsys.readouterr().out


def test_the_adapter_page_carries_a_table_of_its_own(prepared_legacy: Engine, prepared_new: Engine) -> None:
    """The page's tables are copied, followed, and held back where new cannot represent them."""
    page = adapter_page(2, 3)
    page["old"].create(prepared_legacy)
    page["new"].create(prepared_new)
    with prepared_legacy.begin() as legacy:
        legacy.execute(text("INSERT INTO bookmark VALUES (1, 'ann', 'https://a'), (2, 'bob', repeat('x', 201))"))
    copied, left = page["copy_and_follow"](prepared_legacy, prepared_new)
    assert (copied.copied, copied.quarantined, left) == (1, 1, 0)
    with prepared_legacy.begin() as legacy:
        legacy.execute(text("INSERT INTO bookmark VALUES (3, 'cyd', 'https://c')"))
        legacy.execute(text("UPDATE bookmark SET url = 'https://b' WHERE id = 2"))
        legacy.execute(text("DELETE FROM bookmark WHERE id = 1"))
    assert page["copy_and_follow"](prepared_legacy, prepared_new)[1] == 0
    with prepared_new.connect() as new:
        rows = new.execute(text("SELECT owner, url FROM bookmarks ORDER BY owner")).all()
        held = new.execute(text("SELECT count(*) FROM crossfade.quarantine")).scalar_one()
    assert [tuple(row) for row in rows] == [("bob", "https://b"), ("cyd", "https://c")]
    assert held == 0
