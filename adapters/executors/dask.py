"""Workers of a Dask cluster, on any number of machines. Wants the extra ``dask``."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager

from harness.errors import ConfigError

_SECONDS = 10.0  # how long the scheduler, and its first worker, are waited for
PREFIX = "dask://"


@contextmanager
def cluster(address: str) -> Iterator[tuple[Executor, int]]:
    """An executor on the cluster whose scheduler is at ``dask://HOST:PORT``, and how many tasks it runs at once.

    A task whose worker dies is run again by another one. Raises ConfigError, within seconds, when Dask is not
    installed, when nothing answers there, or when the scheduler has no worker.
    """
    try:
        from distributed import Client
        from distributed.comm import connect
    except ImportError as error:
        raise ConfigError(
            f"{address} wants Dask, which is not installed; pip install 'crossfade[dask]', or use --executor threads"
        ) from error
    place = f"tcp://{address.removeprefix(PREFIX)}"

    async def ask() -> None:
        comm = await connect(place)
        await comm.close()

    try:
        # Asked first, because a client waits for ever for a peer that accepts it and then says nothing.
        asyncio.run(asyncio.wait_for(ask(), _SECONDS))
        client = Client(place, timeout=_SECONDS, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        raise ConfigError(f"no Dask scheduler answers at {address}; start one, or correct the address") from error
    try:
        try:
            client.wait_for_workers(1, timeout=_SECONDS)
        except TimeoutError as error:
            raise ConfigError(
                f"the Dask scheduler at {address} has no worker; start some (dask worker {place})"
            ) from error
        executor = client.get_executor(pure=False)  # pure: equal chunks would be one task, and repeating one do nothing
        try:
            yield executor, sum(client.nthreads().values())
        except BaseException:
            executor.shutdown(wait=False)
            raise
    finally:
        client.close(timeout=_SECONDS)
