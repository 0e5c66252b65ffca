"""How a process starts and ends quickly, and uses its memory while it plans and commits.

A quick start: Python collects no garbage while a process imports and traces, for nearly all that is made then stays. Looking
through it again and again cost one second of the five that importing TensorFlow and Beam took.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import os
import sys
from collections.abc import Iterator
from typing import NoReturn

_starting = True
_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)

if sys.platform == "linux":
    # Wheels have it there. Before pyarrow is imported. It keeps less of what is freed than mimalloc, Arrow's own choice: two
    # readers of photographs in pages of 28 MB held .05 GB less, and texts took as long.
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "jemalloc")


@contextlib.contextmanager
def collection_paused() -> Iterator[None]:
    """No garbage is collected in the block. What is there at its end is not looked at again, until `started`."""
    if not gc.isenabled():
        # Someone else's choice, or a block around this one.
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        if _starting:
            gc.freeze()
        gc.enable()


def keep_imported() -> None:
    """What is there now is not looked at again, where collection is paused: `drop_garbage` need not."""
    if not gc.isenabled():
        gc.freeze()


def drop_garbage() -> None:
    """Collects what was made since `keep_imported` and is not used: graphs of trials, whose objects refer to each other."""
    gc.collect()
    return_freed_memory()


def return_freed_memory() -> None:
    """Gives free memory back to the system, where the C library can (glibc): 5 ms."""
    if _trim is not None:
        _trim(0)


def started() -> None:
    """A process's start is over: what later blocks leave may be garbage."""
    global _starting
    _starting = False


def leave(status: int) -> NoReturn:
    """Ends the process, with what was registered to be done at its end, but leaves its memory to the system.

    Python would take TensorFlow's and Beam's objects apart one by one: 1.4 to 2.3 seconds.
    """
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        # Whoever read has seen enough, and `main` may have closed it for that.
        with contextlib.suppress(BrokenPipeError, ValueError):
            stream.flush()
    os._exit(status)


def choose_allocator() -> None:
    """Arrow's memory comes from jemalloc also where pyarrow was imported before us, unless the environment names another."""
    import pyarrow as pa

    if os.environ.get("ARROW_DEFAULT_MEMORY_POOL") == "jemalloc":
        # Some builds lack it.
        with contextlib.suppress(NotImplementedError):
            pa.set_memory_pool(pa.jemalloc_memory_pool())


@contextlib.contextmanager
def memory_returned() -> Iterator[None]:
    """In the block, what Arrow frees goes back to the system at once; its own allocator keeps it for later.

    Columns of a million shards are made and dropped one after the other, and all that was kept came to half of the memory.
    """
    import pyarrow as pa

    pool = pa.default_memory_pool()
    pa.set_memory_pool(pa.system_memory_pool())
    try:
        yield
    finally:
        pa.set_memory_pool(pool)
