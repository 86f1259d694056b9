"""The boards, one module for each."""

from __future__ import annotations

from adapters.observability.boards.gates import gates
from adapters.observability.boards.operations import operations
from adapters.observability.boards.overview import overview
from adapters.observability.boards.replication import replication
from adapters.observability.panels import Board
from harness.settings import Settings


def boards(settings: Settings) -> tuple[Board, ...]:
    """All boards; their limits are those of the settings."""
    return (overview(settings), operations(settings), replication(settings), gates(settings))
