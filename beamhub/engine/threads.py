"""TensorFlow's threads: set before it starts, for they cannot be changed later."""

from __future__ import annotations

import os


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def configure_tensorflow() -> str:
    """Gives every operation one thread, because the compute pool calls TensorFlow from as many threads as there are cores.

    Returns:
        What is in force, for the summary: ours, or those of a program that had started TensorFlow already.
    """
    import tensorflow as tf

    threading = tf.config.threading
    wanted = (1, cores())
    try:
        threading.set_intra_op_parallelism_threads(wanted[0])
        threading.set_inter_op_parallelism_threads(wanted[1])
    except RuntimeError:
        # Raised once TensorFlow has started: the user's program chose, and its choice stays.
        found = (threading.get_intra_op_parallelism_threads(), threading.get_inter_op_parallelism_threads())
        if found != wanted:
            return f"TensorFlow was started before: intra_op {found[0]}, inter_op {found[1]} (0: all cores)"
    return f"intra_op {wanted[0]}, inter_op {wanted[1]}"
