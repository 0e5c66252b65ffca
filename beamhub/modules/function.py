"""Modules that `tf.saved_model.load` takes: TF2 SavedModels, the TF1 Hub format, and most TF1 SavedModels.

Imports TensorFlow.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager
from typing import Any

import numpy.typing as npt
import tensorflow as tf

from beamhub.errors import ModuleError
from beamhub.modules.frozen import Run, freeze
from beamhub.modules.loaded import FREE, BoundSignature, Feeding, LoadedModule, static_shape, to_tensors
from beamhub.modules.precision import BF16, check_changed, check_processor, in_bf16
from beamhub.modules.ragged import Output
from beamhub.modules.results import to_output
from beamhub.modules.signatures import Shape, Signature, Variant
from beamhub.modules.traces import Tensors, Traces


class FunctionModule(LoadedModule):
    """A module whose signatures are TensorFlow functions."""

    def __init__(self, path: str, variant: Variant) -> None:
        """Loads the variables. Raises whatever `tf.saved_model.load` raises for a module that it refuses."""
        super().__init__(path, variant)
        # Functions hold their variables weakly: they live as long as the loaded object.
        self._loaded = tf.saved_model.load(path, tags=list(variant.tags))

    def can_freeze(self, signature: str) -> bool:
        """Whether its variables can be made constants; the work of doing so is done, and kept."""
        return self._freeze(self.signature(signature)) is not None

    def _freeze(self, signature: Signature) -> Run | None:
        with self._calls_lock:
            if signature.name not in self._frozen:
                self._frozen[signature.name] = freeze(self._loaded.signatures[signature.name], signature)
            return self._frozen[signature.name]

    def _bind(
        self, signature: Signature, outputs: tuple[str, ...], feeding: Feeding, frozen: bool, precision: str
    ) -> BoundSignature:
        if precision == BF16:
            check_processor()
        function = self._freeze(signature) if frozen else self._loaded.signatures[signature.name]
        if function is None:
            raise ModuleError(f"{self.path}: the variables of signature {signature.name} cannot be made constants")
        return _BoundFunction(self._loaded, function, signature, outputs, feeding, precision)


class _BoundFunction(BoundSignature):
    def __init__(
        self,
        loaded: Any,
        function: Run,
        signature: Signature,
        outputs: tuple[str, ...],
        feeding: Feeding,
        precision: str,
    ) -> None:
        super().__init__(signature, outputs, feeding)
        self._loaded = loaded
        self._function = function
        self._is_checked = False
        finish = self._in_bf16 if precision == BF16 else None
        self._run = Traces(self._counted_outputs, feeding.records, finish)

    def __call__(
        self, raw: Mapping[str, npt.NDArray[Any]], turn: AbstractContextManager[Any] = FREE
    ) -> dict[str, Output]:
        tensors = to_tensors(raw)
        with turn:
            results = self._run.of(tensors)(tensors)
        return {name: to_output(name, results[name]) for name in self.outputs}

    def _in_bf16(self, traced: Any) -> Any:
        if not self._is_checked:
            # Once, for it takes as long as a trace; other shapes have the same operations.
            check_changed(traced, self.signature.name)
            self._is_checked = True
        return in_bf16(traced)

    def keep(self, sizes: Collection[int]) -> None:
        self._run.keep(sizes)

    def output_shapes(self, raw_specs: Mapping[str, tf.TensorSpec]) -> dict[str, Shape]:
        if self._run.suits(raw_specs):
            traced = self._run.graph(raw_specs)
        else:
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
