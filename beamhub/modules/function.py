"""Modules that `tf.saved_model.load` takes: TF2 SavedModels, the TF1 Hub format, and most TF1 SavedModels.

Imports TensorFlow.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy.typing as npt
import tensorflow as tf

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

    def _bind(self, signature: Signature, outputs: tuple[str, ...], prepare: Prepare | None) -> BoundSignature:
        return _BoundFunction(self._loaded, signature, outputs, prepare)


class _BoundFunction(BoundSignature):
    def __init__(self, loaded: Any, signature: Signature, outputs: tuple[str, ...], prepare: Prepare | None) -> None:
        super().__init__(signature, outputs, prepare)
        self._loaded = loaded
        self._function = loaded.signatures[signature.name]
        # Each shape is a graph of its own, as fast as it can be: with relaxed shapes the same batch would be
        # computed one way before and another way after some other batch came by, and the last bits differ.
        self._run = tf.function(self._counted_outputs, autograph=False, reduce_retracing=False)

    def __call__(self, raw: Mapping[str, npt.NDArray[Any]]) -> dict[str, Output]:
        results = self._run(to_tensors(raw))
        return {name: to_output(name, results[name]) for name in self.outputs}

    def output_shapes(self, raw_specs: Mapping[str, tf.TensorSpec]) -> dict[str, Shape]:
        # Not self._run, which would keep this trace and use it for every call that fits it.
        traced = tf.function(self._wanted_outputs, autograph=False).get_concrete_function(dict(raw_specs))
        return {name: static_shape(traced.structured_outputs[name].shape) for name in self.outputs}

    def _counted_outputs(self, raw: Tensors) -> Tensors:
        return self._select(self._counted(raw))

    def _wanted_outputs(self, raw: Tensors) -> Tensors:
        return self._select(self._prepared(raw))

    def _select(self, inputs: Tensors) -> Tensors:
        # TensorFlow inlines the signature and then prunes what none of the returned tensors needs.
        results = self._function(**inputs)
        return {name: results[name] for name in self.outputs}
