"""TensorFlow's threads: set before it starts, for they cannot be changed later."""

from __future__ import annotations

import math
import os
from pathlib import Path

from beamhub.importing import switch_onednn_on


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


def configure_tensorflow(callers: int) -> bool:
    """Gives every operation one thread, and TensorFlow as many as will call it at a time.

    Returns:
        Whether operations have one thread: not where a program had started TensorFlow already and chose otherwise.
    """
    switch_onednn_on()
    import tensorflow as tf

    threading = tf.config.threading
    try:
        threading.set_intra_op_parallelism_threads(1)
        threading.set_inter_op_parallelism_threads(callers)
    except RuntimeError:
        # Raised once TensorFlow has started: the user's program chose, and its choice stays.
        return bool(threading.get_intra_op_parallelism_threads() == 1)
    return True
