"""Named points between the reads, writes, renames and deletions of a feature table.

There a test may kill or pause a process; otherwise `step` does nothing. The environment variable
`BEAMHUB_KILL_AT=NAME:COUNT` ends the process with SIGKILL when it reaches the point NAME for the COUNT-th time,
and `listening` hands every point to a function.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator

_reached: Counter[str] = Counter()
_listeners: list[Callable[[str], None]] = []


def step(name: str) -> None:
    """Says that the process is about to do what `name` names."""
    asked = os.environ.get("BEAMHUB_KILL_AT")
    if asked is not None:
        _reached[name] += 1
        if asked == f"{name}:{_reached[name]}":
            os.kill(os.getpid(), signal.SIGKILL)
    for listener in _listeners:
        listener(name)


@contextlib.contextmanager
def listening(listener: Callable[[str], None]) -> Iterator[None]:
    """Calls `listener` with the name of every point that any thread reaches within the block."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)
