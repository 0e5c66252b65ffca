"""Threads that compute; TensorFlow's are set before it starts, for they cannot be changed later."""

from __future__ import annotations

import math
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from beamhub.importing import import_tensorflow


def cores(group: Path = Path("/sys/fs/cgroup")) -> int:
    """Cores that this process may use: a container may have the time of fewer than it sees.

    https://docs.kernel.org/admin-guide/cgroup-v2.html, `cpu.max`: microseconds in each period of so many.
    """
    seen = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        most, period = (group / "cpu.max").read_text().split()
    except (OSError, ValueError):
        # Not Linux, the root's own group, or the older kind of groups.
        return seen
    return seen if most == "max" else max(1, min(seen, math.ceil(int(most) / int(period))))


class ComputeThreads:
    """`executor` has one thread more than may run the module at a time: those that do have a `turn`.

    Threads wait for Python's lock where they parse, make tensors and take results apart, and a core would idle meanwhile. With as
    many threads as there are cores, 1.85 of two cores were busy with short texts, with this one more, 1.92. In the module it
    would ask for a core more, and for the memory of one more call.
    """

    def __init__(self, callers: int) -> None:
        """`callers` have a turn at a time."""
        self.callers = callers
        self.executor = ThreadPoolExecutor(callers + 1, thread_name_prefix="beamhub-compute")
        self.turn = threading.Semaphore(callers)


def configure_tensorflow(callers: int) -> bool:
    """Gives every operation one thread, and TensorFlow as many as will call it at a time.

    Returns:
        Whether operations have one thread: not where a program had started TensorFlow already and chose otherwise.
    """
    import_tensorflow()
    import tensorflow as tf

    settings = tf.config.threading
    try:
        settings.set_intra_op_parallelism_threads(1)
        settings.set_inter_op_parallelism_threads(callers)
    except RuntimeError:
        # Raised once TensorFlow has started: the user's program chose, and its choice stays.
        return bool(settings.get_intra_op_parallelism_threads() == 1)
    return True
