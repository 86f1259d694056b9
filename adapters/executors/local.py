"""Threads of this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager


@contextmanager
def threads(count: int, abandon: Callable[[], None]) -> Iterator[Executor]:
    """So many threads, which have ended when the block has. ``abandon`` lets them fail soon: called when it breaks."""
    executor = ThreadPoolExecutor(count, thread_name_prefix="crossfade-chunk")
    try:
        yield executor
    except BaseException:  # a second Ctrl-C above all: nobody wants to wait for the chunks under way then
        abandon()
        raise
    finally:
        executor.shutdown(wait=True, cancel_futures=True)
