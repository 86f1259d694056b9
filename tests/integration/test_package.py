"""The wheel: installed elsewhere it works, with revisions and templates inside."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
from fix_postgres import Databases

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(place), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    [built] = place.glob("crossfade-*.whl")
    return built


def test_wheel_holds_what_runs(wheel: Path) -> None:
    """Revisions, templates and type markers are in the wheel; tests, benchmarks and a package named alembic are not."""
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {
        "adapters/postgres/alembic/env.py",
        "adapters/postgres/alembic/versions/new/0001_prompts.py",
        "adapters/metrics/templates/live.html",
        "reports/templates/report.html",
        "reports/templates/report.css",
        "adapters/observability/boards/overview.py",
        "harness/py.typed",
        "adapters/py.typed",
        "reports/py.typed",
    } <= names
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/", "alembic/"))]


@pytest.mark.slow
def test_installed_elsewhere_it_prepares_a_database(wheel: Path, tmp_path: Path, databases: Databases) -> None:
    """In an environment of its own, away from the checkout, the command answers, and its revisions run."""
    place = tmp_path / "elsewhere"
    venv.create(place, with_pip=False, symlinks=True)
    # The dependencies are those of the environment that runs the tests; only Crossfade itself comes from the wheel.
    site = next(place.glob("lib/python3*/site-packages"))
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    here = next(path for path in sys.path if path.endswith("site-packages"))
    (site / "dependencies.pth").write_text(here + "\n")
    code = (
        "import harness, sys; assert 'elsewhere' in harness.__path__[0], harness.__path__\n"
        "from adapters.postgres.migrations import current, upgrade\n"
        "from adapters.postgres.pool import open_engine\n"
        "from harness.settings import PoolSettings\nfrom harness.routing import Store\n"
        "for store, url in zip((Store.LEGACY, Store.NEW), sys.argv[1:]):\n"
        "    engine = open_engine(url, store, PoolSettings())\n"
        "    upgrade(engine, store.value)\n    print(current(engine, store.value))\n    engine.dispose()\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [place / "bin" / "python", "-c", code, databases.legacy_url, databases.new_url],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["0005", "0012"]
    helped = subprocess.run(
        [place / "bin" / "python", "-m", "harness.cli", "--help"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Exit codes" in helped.stdout, helped.stderr
