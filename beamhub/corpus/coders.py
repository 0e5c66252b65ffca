"""`tfx_bsl`'s coders of `tf.Example`s, imported when they are wanted: it takes a second."""

from __future__ import annotations

import functools
import os
from typing import Any

import pyarrow as pa

_POOL = "ARROW_DEFAULT_MEMORY_POOL"


@functools.cache
def example_coder() -> Any:
    """The module `tfx_bsl.coders.example_coder`.

    It has an Arrow of its own, which knows no allocator but the system's, and says so on stderr where the environment names
    another, as `beamhub.startup` does: so it does not see that name.
    """
    # Arrow proper reads it when it is asked first.
    pa.default_memory_pool()
    named = os.environ.pop(_POOL, None)
    try:
        from tfx_bsl.coders import example_coder as coder
    finally:
        if named is not None:
            os.environ[_POOL] = named
    return coder
