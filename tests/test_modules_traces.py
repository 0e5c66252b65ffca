"""Graphs that are not wanted any more are given back."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import numpy as np
import tensorflow as tf

from beamhub.modules.load import load_module
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
