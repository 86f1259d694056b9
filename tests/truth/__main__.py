"""``python -m truth``: make every corruption, ask every check, and write docs/truth-table.md."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path

from fix_postgres import Databases, Server

from adapters.postgres.embedded import EmbeddedServer
from truth.observing import observe
from truth.page import PAGE, page


def main() -> None:
    with EmbeddedServer() as embedded, ExitStack() as stack, tempfile.TemporaryDirectory() as place:
        server = Server(embedded.url(), embedded)
        small, large = Databases(stack, server), Databases(stack, server)
        PAGE.write_text(page(observe(small, large, Path(place))), encoding="utf-8")


if __name__ == "__main__":
    main()
