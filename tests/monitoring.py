"""A real Prometheus beside a test, and what to ask it."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fix_postgres import until

needs_prometheus = pytest.mark.skipif(
    shutil.which("prometheus") is None or shutil.which("promtool") is None,
    reason="prometheus and promtool are not on PATH; Debian's package prometheus has both",
)
# What Grafana puts in place of a board's variables.
_VARIABLES = {"$__rate_interval": "10s", "$job": ".*", "$operation": ".*", "$store": ".*"}


def plain(expression: str) -> str:
    """A panel's expression with every variable at All."""
    for name, value in _VARIABLES.items():
        expression = expression.replace(name, value)
    assert "$" not in expression, expression
    return expression


def names_in(expression: str) -> set[str]:
    """The series of Crossfade's that an expression reads."""
    return set(re.findall(r"\b(?:[a-z_]+:)?crossfade_\w+(?::\w+)?", expression))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@dataclass(frozen=True, slots=True)
class Prometheus:
    port: int

    def ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/-/ready") as answer:
                return bool(answer.status == 200)
        except OSError:
            return False  # not yet

    def get(self, path: str, **parameters: str) -> Any:
        """The data of an answer; an expression that Prometheus refuses fails the test with its reason."""
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            pytest.fail(f"{parameters}: {error.read().decode()}")

    def series(self, expression: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.get("query", query=expression)["result"]
        return found

    def has(self, expression: str) -> bool:
        """Whether it has a value now; NaN, a ratio of nothing to nothing, is none."""
        return any(each["value"][1] != "NaN" for each in self.series(expression))


@contextmanager
def prometheus(configuration: Path, data: Path) -> Iterator[Prometheus]:
    """A Prometheus under way with the configuration, ready; gone when the block ends."""
    port = free_port()
    command = [
        "prometheus",
        f"--config.file={configuration}",
        f"--storage.tsdb.path={data}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    ]
    with (data.parent / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        server = Prometheus(port)
        until(server.ready)
        yield server
    finally:
        process.terminate()
        process.wait(30)
