"""A TCP proxy before a server: it cuts all connections at once, or holds back every byte for a while."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self

from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import make_url

_CHUNK = 65_536


class Proxy:
    """Listens on a free port of this machine, in a thread of its own, for one database's server."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="chaos-proxy", daemon=True)
        self._open: set[asyncio.StreamWriter] = set()
        self._flowing = asyncio.Event()
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        """The database's address by way of the proxy."""
        assert self._server is not None
        port = self._server.sockets[0].getsockname()[1]
        direct = make_url(self._url)
        through = direct.set(host="127.0.0.1", port=port, query={})
        return through.render_as_string(hide_password=False)

    def cut(self) -> None:
        """Reset every connection there is; the next one passes."""
        self._loop.call_soon_threadsafe(self._cut)

    def stall(self) -> None:
        """Hold back all bytes until ``flow``; connections stay."""
        self._loop.call_soon_threadsafe(self._flowing.clear)

    def flow(self) -> None:
        self._loop.call_soon_threadsafe(self._flowing.set)

    def __enter__(self) -> Self:
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _listen(self) -> asyncio.Server:
        self._flowing.set()
        return await asyncio.start_server(self._serve, "127.0.0.1", 0)

    async def _close(self) -> None:
        assert self._server is not None
        self._server.close()
        self._cut()
        self._flowing.set()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.gather(*others, return_exceptions=True)

    def _cut(self) -> None:
        for writer in self._open:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        both = [writer]
        self._open.add(writer)
        try:
            with suppress(OSError):  # the server is down: the client sees its connection closed
                there_reader, there_writer = await self._connect()
                both.append(there_writer)
                self._open.add(there_writer)
                await asyncio.gather(self._pump(reader, there_writer), self._pump(there_reader, writer))
        finally:
            for each in both:
                self._open.discard(each)
                each.transport.abort()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        place = conninfo_to_dict(self._url)
        host, port = str(place.get("host") or "/tmp"), int(place.get("port") or 5432)  # noqa: S108 - libpq's default
        if host.startswith("/"):
            return await asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
        return await asyncio.open_connection(host, port)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass bytes on in one direction; when either end closes, so does the other."""
        with suppress(OSError):
            while data := await reader.read(_CHUNK):
                await self._flowing.wait()
                writer.write(data)
                await writer.drain()
        writer.transport.abort()
