"""Fixtures for every test live in ``fix_*.py``, one file for each thing that they set up."""

pytest_plugins = ["fix_postgres", "fix_stores"]
