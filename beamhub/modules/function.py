"""Modules that `tf.saved_model.load` takes: TF2 SavedModels, the TF1 Hub format, and most TF1 SavedModels.

Imports TensorFlow.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import numpy.typing as npt
import tensorflow as tf

from beamhub.errors import ModuleError
from beamhub.modules.frozen import Run, freeze
from beamhub.modules.loaded import BoundSignature, LoadedModule, Prepare, Tensors, static_shape, to_tensors
from beamhub.modules.ragged import Output
from beamhub.modules.results import to_output
from beamhub.modules.signatures import Shape, Signature, Variant


class FunctionModule(LoadedModule):
    """A module whose signatures are TensorFlow functions."""

    def __init__(self, path: str, variant: Variant) -> None:
        """Loads the variables. Raises whatever `tf.saved_model.load` raises for a module that it refuses."""
        super().__init__(path, variant)
        # Functions hold their variables weakly: they live as long as the loaded object.
        self._loaded = tf.saved_model.load(path, tags=list(variant.tags))

        self._frozen: dict[str, Run | None] = {}

    def can_freeze(self, signature: str) -> bool:
        """Whether its variables can be made constants; the work of doing so is done, and kept."""
        return self._freeze(self.signature(signature)) is not None

    def _freeze(self, signature: Signature) -> Run | None:
        with self._calls_lock:
            if signature.name not in self._frozen:
                self._frozen[signature.name] = freeze(self._loaded.signatures[signature.name], signature)
            return self._frozen[signature.name]

    def _bind(
        self, signature: Signature, outputs: tuple[str, ...], prepare: Prepare | None, frozen: bool
    ) -> BoundSignature:
        function = self._freeze(signature) if frozen else self._loaded.signatures[signature.name]
        if function is None:
            raise ModuleError(f"{self.path}: the variables of signature {signature.name} cannot be made constants")
        return _BoundFunction(self._loaded, function, signature, outputs, prepare)


class _BoundFunction(BoundSignature):
    def __init__(
        self, loaded: Any, function: Run, signature: Signature, outputs: tuple[str, ...], prepare: Prepare | None
    ) -> None:
        super().__init__(signature, outputs, prepare)
        self._loaded = loaded
        self._function = function
        # Each shape is a graph of its own, as fast as it can be: with relaxed shapes the same batch would be
        # computed one way before and another way after some other batch came by, and the last bits differ.
        self._run = tf.function(self._counted_outputs, autograph=False, reduce_retracing=False)
        self._concrete: dict[Any, Any] = {}
        self._tracing = threading.Lock()

    def __call__(self, raw: Mapping[str, npt.NDArray[Any]]) -> dict[str, Output]:
        tensors = to_tensors(raw)
        results = self._traced(tensors)(tensors)
        return {name: to_output(name, results[name]) for name in self.outputs}

    def _traced(self, tensors: Tensors) -> Any:
        # Kept here by shape, so that TensorFlow need not look for it, nor warn of having traced a few times.
        shapes = tuple((name, tensor.shape, tensor.dtype) for name, tensor in sorted(tensors.items()))
        found = self._concrete.get(shapes)
        if found is None:
            with self._tracing:
                found = self._concrete[shapes] = self._run.get_concrete_function(tensors)
        return found

    def output_shapes(self, raw_specs: Mapping[str, tf.TensorSpec]) -> dict[str, Shape]:
        # Only for shapes that calls have: a trace for open ones would be kept, and used for every call that fits it.
        closed = all(spec.shape.is_fully_defined() for spec in raw_specs.values())
        run = self._run if closed else tf.function(self._wanted_outputs, autograph=False)
        traced = run.get_concrete_function(dict(raw_specs))
        return {name: static_shape(traced.structured_outputs[name].shape) for name in self.outputs}

    def _counted_outputs(self, raw: Tensors) -> Tensors:
        return self._select(self._counted(raw))

    def _wanted_outputs(self, raw: Tensors) -> Tensors:
        return self._select(self._prepared(raw))

    def _select(self, inputs: Tensors) -> Tensors:
        # TensorFlow inlines the signature and then prunes what none of the returned tensors needs.
        results = self._function(**inputs)
        return {name: results[name] for name in self.outputs}
