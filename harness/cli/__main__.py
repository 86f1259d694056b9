"""``python -m harness.cli`` is the ``crossfade`` command."""

from harness.cli.main import main

main()
