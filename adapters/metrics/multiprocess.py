"""Metrics of many processes, served as one.

prometheus_client decides at its own import whether a process keeps its values in memory or in files that another
process can read. So the directory must be named in the environment before a process imports it, and this module
imports it only where it is needed.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from adapters.metrics.definitions import METRICS

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry, Metric

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
STORE_GAUGES = frozenset(metric.name for metric in METRICS if metric.of_stores)


@contextmanager
def fresh_multiprocess_directory() -> Iterator[Path]:
    """A new, empty directory for the metrics of processes started within the block; removed at its end.

    Processes must be spawned, not forked: a fork inherits how its parent keeps values.
    """
    before = os.environ.get(VARIABLE)
    with tempfile.TemporaryDirectory(prefix="crossfade-metrics-", ignore_cleanup_errors=True) as name:
        os.environ[VARIABLE] = name
        try:
            yield Path(name)
        finally:
            if before is None:
                del os.environ[VARIABLE]
            else:
                os.environ[VARIABLE] = before


def shared_registry(directory: Path, beside: CollectorRegistry | None = None) -> CollectorRegistry:
    """A registry that shows the sum of all processes which keep their values in the directory.

    ``beside``: this process's own registry; what commands set (``STORE_GAUGES``) is shown as it is there, because
    this process keeps its values in memory.
    """
    from prometheus_client import CollectorRegistry
    from prometheus_client.multiprocess import MultiProcessCollector

    registry, of_all = CollectorRegistry(), CollectorRegistry()
    MultiProcessCollector(of_all, path=str(directory))  # type: ignore[no-untyped-call]  # ships without this hint
    registry.register(_Beside(of_all, beside))
    return registry


class _Beside:
    """Collects from both registries, each metric from one of them."""

    def __init__(self, shared: CollectorRegistry, own: CollectorRegistry | None) -> None:
        self._shared, self._own = shared, own

    def collect(self) -> Iterator[Metric]:
        for metric in self._shared.collect():
            if self._own is None or metric.name not in STORE_GAUGES:
                yield metric
        if self._own is not None:
            yield from (metric for metric in self._own.collect() if metric.name in STORE_GAUGES)


def forget_process(pid: int, directory: Path) -> None:
    """A process has ended: its gauges no longer hold, its counters stay in the sums."""
    from prometheus_client.multiprocess import mark_process_dead

    mark_process_dead(pid, path=str(directory))  # type: ignore[no-untyped-call]  # ships without this hint
