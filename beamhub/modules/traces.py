"""Graphs of a function, kept by the shapes that they were traced for.

Imports TensorFlow.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping
from typing import Any

import tensorflow as tf

from beamhub.modules.signatures import Shape
from beamhub.startup import return_freed_memory

Tensors = dict[str, tf.Tensor]


class _FirstAlone:
    """A graph whose first call is made by one thread, with none of the others that share the lock.

    TensorFlow optimizes a graph in its first call, and two threads that both come first do it twice, with several copies of all
    constants in memory for each. What that took is given back: it lies among the memory of one thread, and calls of others
    would take as much again (MobileNetV2 1.0 with constants, in two threads: a peak of 1.54 GB so, 1.26 now).
    """

    def __init__(self, graph: Callable[[Tensors], Any], lock: threading.Lock) -> None:
        self._graph, self._lock = graph, lock
        self._is_ready = False

    def __call__(self, tensors: Tensors) -> Any:
        if self._is_ready:
            return self._graph(tensors)
        with self._lock:
            results = self._graph(tensors)
            if not self._is_ready:
                return_freed_memory()
                self._is_ready = True
        return results


class Traces:
    """The graphs of a function of raw tensors, by name; may be used by several threads.

    `records` has the shape of one record of each tensor in which records may differ, None for a size that does: such a
    function has one graph for each number of records, any other one for each full shape.

    What a graph is traced for depends on these shapes and the number of records, never on what came by before: the same
    batch would else be computed one way before and another way after some other batch, and the last bits differ.
    """

    def __init__(
        self,
        function: Callable[[Tensors], Tensors],
        records: Mapping[str, Shape],
        finish: Callable[[Any], Any] | None = None,
    ) -> None:
        """`finish` makes of a graph what is to be called instead, of the same tensors."""
        self._function = function
        self._open = {name: tuple(shape) for name, shape in records.items() if shape is not None and None in shape}
        self._finish = finish or (lambda graph: graph)
        self._concrete: dict[Any, tuple[Any, Any]] = {}
        self._tracing = threading.Lock()
        self._first = threading.Lock()

    def of(self, tensors: Mapping[str, tf.Tensor | tf.TensorSpec]) -> Any:
        """The function for such tensors."""
        return self._traced(tensors)[1]

    def graph(self, specs: Mapping[str, tf.TensorSpec]) -> Any:
        """The graph for such tensors."""
        return self._traced(specs)[0]

    def _traced(self, tensors: Mapping[str, tf.Tensor | tf.TensorSpec]) -> tuple[Any, Any]:
        # Kept here by shape, so that TensorFlow need not look for it, nor warn of having traced a few times.
        shapes = tuple(
            (name, self._shape(name, tensor.shape), tensor.dtype) for name, tensor in sorted(tensors.items())
        )
        found = self._concrete.get(shapes)
        if found is None:
            with self._tracing:
                found = self._concrete.get(shapes) or self._trace(shapes)
        return found

    def _trace(self, shapes: Any) -> tuple[Any, Any]:
        # One function for each graph: what TensorFlow keeps of a function's graphs is freed with it, and not before.
        run = tf.function(self._function, autograph=False, reduce_retracing=False)
        graph = run.get_concrete_function({name: tf.TensorSpec(shape, dtype) for name, shape, dtype in shapes})
        found = self._concrete[shapes] = graph, _FirstAlone(self._finish(graph), self._first)
        return found

    def keep(self, sizes: Collection[int]) -> None:
        """Forgets the graphs for other numbers of records than these; their constants and buffers are freed."""
        kept = {(size,) for size in sizes}
        with self._tracing:
            self._concrete = {
                shapes: found
                for shapes, found in self._concrete.items()
                if all(tuple(shape[:1]) in kept for _, shape, _ in shapes)
            }

    def suits(self, specs: Mapping[str, tf.TensorSpec]) -> bool:
        """Whether calls have these shapes.

        A graph for others, such as an open number of records, would be kept, and used for every call that fits it.
        """
        sizes = {name: spec.shape[:1] if name in self._open else spec.shape for name, spec in specs.items()}
        return all(each.is_fully_defined() for each in sizes.values())

    def _shape(self, name: str, shape: tf.TensorShape) -> Any:
        record = self._open.get(name)
        return shape if record is None else (shape[0], *record)
