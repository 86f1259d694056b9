"""What the fork server imports once, for all its children."""

import importlib

from chaos import children
from harness.cli.main import COMMANDS

__all__ = ["children"]

for module in COMMANDS.values():
    importlib.import_module(module)
