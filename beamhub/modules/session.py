"""Old modules that `tf.saved_model.load` refuses, run in a `tf.compat.v1` session.

Imports TensorFlow.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import numpy.typing as npt
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2

from beamhub.errors import ModuleError
from beamhub.modules.check import check_call
from beamhub.modules.loaded import FREE, BoundSignature, Feeding, LoadedModule, static_shape, to_tensors
from beamhub.modules.precision import FLOAT32
from beamhub.modules.protos import tensor_names
from beamhub.modules.ragged import Output
from beamhub.modules.results import to_output
from beamhub.modules.signatures import Shape, Signature, TensorSpec, Variant
from beamhub.modules.traces import Traces


class SessionModule(LoadedModule):
    """A module whose signatures are tensors of one graph, fed and fetched in one session."""

    def __init__(self, path: str, variant: Variant) -> None:
        """Loads the variables and fills the tables. Raises whatever the session loader raises."""
        self._graph = tf.Graph()
        self._session = tf.compat.v1.Session(graph=self._graph, config=_threads())
        with self._graph.as_default():
            loaded = tf.compat.v1.saved_model.loader.load(self._session, list(variant.tags), path)
            # The loader runs only an initialiser that the module names, which the TF1 Hub format does not.
            self._session.run(tf.compat.v1.tables_initializer(), _asset_paths(loaded, path))
        self._definitions = loaded.signature_def
        # Binding adds to the graph, which may not happen twice at once.
        self._binding = threading.Lock()
        super().__init__(path, self._with_graph_shapes(variant))

    def _with_graph_shapes(self, variant: Variant) -> Variant:
        refined = {name: self._refined(each) for name, each in variant.signatures.items()}
        return replace(variant, signatures=refined)

    def _refined(self, signature: Signature) -> Signature:
        definition = self._definitions[signature.name]
        inputs = {name: self._sized(spec, definition.inputs[name]) for name, spec in signature.inputs.items()}
        outputs = {name: self._sized(spec, definition.outputs[name]) for name, spec in signature.outputs.items()}
        return replace(signature, inputs=inputs, outputs=outputs)

    def _sized(self, spec: TensorSpec, info: Any) -> TensorSpec:
        if spec.kind != "dense" or spec.shape is not None:
            return spec
        return replace(spec, shape=static_shape(self._graph.get_tensor_by_name(info.name).shape))

    def _bind(
        self, signature: Signature, outputs: tuple[str, ...], feeding: Feeding, frozen: bool, precision: str
    ) -> BoundSignature:
        if precision != FLOAT32:
            raise ModuleError(
                f"--precision {precision}: {self.path} runs in a session, which computes in float32: leave the flag out"
            )
        if frozen:
            raise ModuleError(f"{self.path}: runs in a session, whose variables cannot be made constants")
        definition = self._definitions[signature.name]
        with self._binding, self._graph.as_default():
            named = self._graph.get_tensor_by_name
            feeds = [named(definition.inputs[name].name) for name in signature.inputs]
            fetches = {name: self._fetch(definition.outputs[name]) for name in outputs}
            run = self._session.make_callable(fetches, feed_list=feeds)
        return _BoundFetches(run, signature, outputs, feeding)

    def _fetch(self, info: Any) -> Any:
        first, *others = (self._graph.get_tensor_by_name(name) for name in tensor_names(info))
        match info.WhichOneof("encoding"):
            case "coo_sparse":
                indices, dense_shape = others
                return tf.SparseTensor(indices, first, dense_shape)
            case "composite_tensor":
                return tf.RaggedTensor.from_nested_row_splits(first, others, validate=False)
        return first


class _BoundFetches(BoundSignature):
    def __init__(
        self,
        run: Callable[..., dict[str, Any]],
        signature: Signature,
        outputs: tuple[str, ...],
        feeding: Feeding,
    ) -> None:
        super().__init__(signature, outputs, feeding)
        self._run = run
        self._preparation = Traces(self._counted, feeding.records)

    def __call__(
        self, raw: Mapping[str, npt.NDArray[Any]], turn: AbstractContextManager[Any] = FREE
    ) -> dict[str, Output]:
        prepared = self._feeding.prepare is not None
        given: Mapping[str, Any] = to_tensors(raw) if prepared else raw
        with turn:
            if prepared:
                given = self._preparation.of(given)(given)
            # A session takes arrays alone.
            inputs = {name: each.numpy() if tf.is_tensor(each) else each for name, each in given.items()}
            check_call(self.signature, inputs)
            results = self._run(*(inputs[name] for name in self.signature.inputs))
        return {name: to_output(name, results[name]) for name in self.outputs}

    def keep(self, sizes: Collection[int]) -> None:
        """The preparation's; a session's graph is not traced again."""
        self._preparation.keep(sizes)

    def output_shapes(self, raw_specs: Mapping[str, tf.TensorSpec]) -> dict[str, Shape]:
        """As the graph has them, whatever the raw tensors' shapes: a session's graph is not traced again."""
        return {name: self.signature.outputs[name].shape for name in self.outputs}


def _asset_paths(meta_graph: Any, path: str) -> dict[str, str]:
    """Where the files of an old graph's tables are now, by the tensors that hold the paths they were saved from."""
    assets = list(meta_graph.asset_file_def)
    for packed in meta_graph.collection_def["saved_model_assets"].any_list.value:
        assets.append(meta_graph_pb2.AssetFileDef())
        packed.Unpack(assets[-1])
    return {asset.tensor_info.name: os.path.join(path, "assets", asset.filename) for asset in assets}


def _threads() -> Any:
    # A session has settings of its own, and would otherwise take as many threads as there are cores.
    settings = tf.config.threading
    return tf.compat.v1.ConfigProto(
        intra_op_parallelism_threads=settings.get_intra_op_parallelism_threads(),
        inter_op_parallelism_threads=settings.get_inter_op_parallelism_threads(),
    )
