"""docker-compose.yml, as far as it can be tried without a container engine: what it names is there, and what it runs
works.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO, Any

import click
import pytest
import yaml
from fix_postgres import Databases
from monitoring import free_port

from adapters.observability.files import Place, files
from harness.cli.main import main
from harness.config import load
from harness.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "docker-compose.yml"
COMPOSE: dict[str, Any] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}
PASSWORDS = {
    "CROSSFADE_LEGACY_PASSWORD": "a/secret:of@ours",
    "CROSSFADE_NEW_PASSWORD": "another",
    "GRAFANA_PASSWORD": "third",
}
# Where each image looks for what boards wrote.
BELOW = "/monitoring/"


def test_images_are_pinned() -> None:
    """Every image from elsewhere has a full version, so that tomorrow's demo is today's."""
    for name, service in SERVICES.items():
        if name not in OURS:
            assert re.fullmatch(r"[\w/]+:v?\d+\.\d+(\.\d+)?", service["image"]), name
    assert re.search(r"^FROM python:\d+\.\d+\.\d+-", (ROOT / "Dockerfile").read_text(), re.MULTILINE)


def test_what_waits_can_be_waited_for() -> None:
    """Whoever is waited for exists, and has a health check where its health is asked; each port is this machine's."""
    for service in SERVICES.values():
        for name, how in service.get("depends_on", {}).items():
            if how["condition"] == "service_healthy":
                assert "healthcheck" in SERVICES[name]
            else:
                assert SERVICES[name]["restart"] == "no"
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))
        for volume in service.get("volumes", ()):
            assert volume.partition(":")[0] in COMPOSE["volumes"]
    published = [re.findall(r":-(\d+)\}", port)[0] for each in SERVICES.values() for port in each.get("ports", ())]
    assert len(published) == len(set(published)) == 5


def test_no_secret_is_in_the_file() -> None:
    """Passwords come from the environment, and nothing starts without them."""
    for service in SERVICES.values():
        for name, value in service.get("environment", {}).items():
            if "PASSWORD" in name or "CREDENTIALS" in name:
                assert re.fullmatch(r"(dispatch:)?\$\{(\w+_PASSWORD):\?[\w' ]+\}", value), name
    assert set(re.findall(r"\$\{(\w+):\?", FILE.read_text())) == set(PASSWORDS)


def test_crossfade_finds_its_stores() -> None:
    """From the service's environment Crossfade makes both addresses, odd signs in a password included."""
    environment = {
        name: re.sub(r"\$\{(\w+):\?[^}]+\}", lambda found: PASSWORDS[found[1]], value)
        for name, value in SERVICES["catchup"]["environment"].items()
    }
    settings = load(None, environment)
    assert settings.legacy.url == "postgresql://dispatch:a%2Fsecret%3Aof%40ours@legacy:5432/dispatch"
    assert settings.new.url == "postgresql://postgres:another@new:5432/expert_dollop"


def test_the_image_is_made_of_what_is_there() -> None:
    """Every file that the Dockerfile copies exists, and .dockerignore lets it through."""
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = set[str]()
    for copies in re.findall(r"^COPY (.+) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE):
        copied |= set(copies.split())
    assert copied == allowed
    assert all((ROOT / name).exists() for name in copied)


def test_commands_exist() -> None:
    """Every option that a service gives to crossfade is one of its command's."""
    for name in ("traffic", "boards"):
        program, command, *rest = SERVICES[name]["command"]
        assert program == "crossfade"
        found = main.get_command(click.Context(main), command)
        assert found is not None
        known = {option for parameter in found.params for option in parameter.opts}
        assert {word.partition("=")[0] for word in rest if word.startswith("--")} <= known


def test_everyone_finds_what_boards_writes() -> None:
    """Prometheus, Alertmanager and Grafana are pointed to files that are written, and scrape ports that are served."""
    command = SERVICES["boards"]["command"]
    options = dict(word.partition("=")[::2] for word in command if word.startswith("--"))
    written = {f"{BELOW}{name}" for name in files(Settings(), Place())}
    assert command[2] == BELOW.rstrip("/")
    told = [word for each in ("prometheus", "alertmanager") for word in SERVICES[each]["command"]]
    assert {word.partition("=")[2] for word in told if word.startswith("--config.file=")} <= written
    grafana = SERVICES["grafana"]["environment"]
    assert grafana["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"] in written
    assert f"{grafana['GF_PATHS_PROVISIONING']}/datasources/crossfade.yml" in written
    assert options["--boards-at"] == f"{BELOW}grafana/dashboards"
    scraped = [word.partition("=")[2] for word in command if word.startswith("--scrape=")]
    served = [f"{name}:{SERVICES[name]['command'][-1]}" for name in ("catchup", "traffic")]
    assert scraped == served
    for name in ("catchup", "traffic"):
        assert f":{SERVICES[name]['command'][-1]}/metrics" in SERVICES[name]["healthcheck"]["test"][-1]


@pytest.mark.skipif(
    shutil.which("docker-compose") is None, reason="docker-compose is not on PATH; Debian's package of that name has it"
)
def test_compose_reads_it(tmp_path: Path) -> None:
    """Compose's own check accepts the file, and refuses to go on without a password."""
    # Debian's version knows no name at the top, which later ones do.
    (tmp_path / "docker-compose.yml").write_text(FILE.read_text().replace("name: crossfade\n", "", 1))
    check = ["docker-compose", "--project-name", "crossfade", "config", "--quiet"]
    done = subprocess.run(check, cwd=tmp_path, env=os.environ | PASSWORDS, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    without = {name: value for name, value in os.environ.items() if name not in PASSWORDS}
    done = subprocess.run(check, cwd=tmp_path, env=without, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "set a password" in done.stderr


@pytest.mark.slow
def test_the_migration_of_the_containers_runs(databases: Databases) -> None:
    """On two empty databases the script invents, prepares, copies, verifies and follows, until it is healthy by the
    file's own check; asked to stop it ends well, and begun again it goes on.
    """
    port = free_port()
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "CROSSFADE_LEGACY_URL": databases.legacy_url,
        "CROSSFADE_NEW_URL": databases.new_url,
    }
    program, _, *rest = SERVICES["catchup"]["command"]
    command = [program, str(ROOT / "docker" / "migration.sh"), *rest[:-1], str(port)]
    _, *check = SERVICES["catchup"]["healthcheck"]["test"]
    check[-1] = check[-1].replace(rest[-1], str(port))

    for _ in range(2):
        process = subprocess.Popen(
            command,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        assert process.stdout is not None
        try:
            told = _until_metrics(process.stdout)
            subprocess.run(check, env=environment, check=True, timeout=10)
            process.send_signal(signal.SIGTERM)
            last, _ = process.communicate(timeout=60)
            assert process.returncode == 0, told + last
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def _until_metrics(lines: IO[str]) -> str:
    """What a process tells until it says that it serves metrics; it fails when the process ends before."""
    told = ""
    for line in lines:
        if line.startswith("metrics: "):
            return told
        told += line
    pytest.fail(told)
