"""Graphs that are not wanted any more are given back, and made once."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf

from beamhub.modules.load import load_module
from beamhub.modules.traces import Tensors, Traces
from tests.small import identity


def test_graphs_that_are_not_kept_are_freed(tmp_path: Path) -> None:
    bound = load_module(identity(tmp_path / "m", (None, 2))).bind("serving_default")
    few, many = np.zeros((2, 2), np.float32), np.zeros((4, 2), np.float32)
    bound({"x": few})
    bound({"x": many})
    graph = weakref.ref(bound._run.graph({"x": tf.TensorSpec((4, 2), tf.float32)}))
    assert graph() is not None

    bound.keep({2})
    gc.collect()

    assert graph() is None
    bound({"x": few})
    assert bound.traces == 2
    bound({"x": many})
    assert bound.traces == 3


def test_the_first_call_of_a_graph_is_alone_and_the_others_are_not() -> None:
    """TensorFlow optimizes a graph as often as there are threads in its first call, each time with copies of all constants."""
    waited: list[bool] = []
    inside = threading.local()

    def finish(graph: Callable[..., object]) -> Callable[..., object]:
        def run(tensors: Tensors) -> object:
            if not getattr(inside, "nested", False):
                other = threading.Thread(target=nested, args=(tensors,))
                other.start()
                other.join(0.5)
                waited.append(other.is_alive())
                others.append(other)
            return graph(tensors)

        return run

    def nested(tensors: Tensors) -> None:
        inside.nested = True
        traces.of(tensors)(tensors)

    others: list[threading.Thread] = []
    traces = Traces(lambda raw: {"y": raw["x"] + 1}, {}, finish)
    tensors = {"x": tf.zeros((2, 2))}

    traces.of(tensors)(tensors)
    others[0].join()
    traces.of(tensors)(tensors)

    assert waited == [True, False]
