"""TensorFlow's start without its chatter: our own lines, and errors, must be seen."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import tempfile
from collections.abc import Iterator


def import_tensorflow() -> None:
    """Imports TensorFlow; what it writes on standard error is shown only if that fails.

    Its libraries log while they are loaded, before any setting of theirs is read.
    """
    # For what it logs later, unless the user wants it.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with _held_back():
        importlib.import_module("tensorflow")


@contextlib.contextmanager
def _held_back() -> Iterator[None]:
    try:
        kept = os.dup(2)
    except OSError:
        # Standard error is closed: there is nothing to hold back.
        yield
        return
    sys.stderr.flush()
    succeeded = False
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
            succeeded = True
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            if not succeeded:
                held.seek(0)
                os.write(2, held.read())
