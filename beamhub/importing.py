"""TensorFlow's start: with oneDNN, and without its chatter, for our own lines, and errors, must be seen."""

from __future__ import annotations

import contextlib
import importlib
import os
import platform
import sys
import tempfile
from collections.abc import Iterator

from beamhub.startup import keep_imported


def import_tensorflow() -> None:
    """Imports TensorFlow; what it writes on standard error is shown only if that fails.

    Its libraries log while they are loaded, before any setting of theirs is read.
    """
    switch_onednn_on()
    # For what it logs later, unless the user wants it.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with _held_back():
        importlib.import_module("tensorflow")
    keep_imported()


def switch_onednn_on() -> None:
    """Before TensorFlow is imported: without effect where a program has done so already.

    On x86 processors without AVX512-VNNI or later, TensorFlow leaves oneDNN off by default. `TF_ENABLE_ONEDNN_OPTS=0` leaves it
    off here too.
    """
    if platform.machine() in ("x86_64", "AMD64"):
        os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")


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
