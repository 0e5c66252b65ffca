"""Reading a module's graph file, the `SavedModel` protocol buffer, without loading what it describes.

The formats are TensorFlow's `saved_model.proto` and `meta_graph.proto`. TensorFlow is imported when a
function is called.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from beamhub.errors import ModuleError
from beamhub.modules.folder import check_module
from beamhub.modules.randomness import RandomOps
from beamhub.modules.reason import reason
from beamhub.modules.signatures import Kind, Shape, Signature, TensorSpec, Variant

_HELPER = "__saved_model_"
_AMBIGUOUS_SCALARS = 21
"""Graphs up to this version write an unknown shape like a scalar's (TensorFlow, shape of Placeholder)."""


def read_saved_model(path: str) -> Any:
    """The `SavedModel` of a module's folder. Raises ModuleError where there is none or it is broken."""
    from google.protobuf import message, text_format
    from tensorflow.core.protobuf import saved_model_pb2

    check_module(path)
    saved_model = saved_model_pb2.SavedModel()
    binary = os.path.join(path, "saved_model.pb")
    try:
        if os.path.isfile(binary):
            with open(binary, "rb") as file:
                saved_model.ParseFromString(file.read())
        else:
            with open(os.path.join(path, "saved_model.pbtxt"), encoding="utf-8") as text:
                text_format.Parse(text.read(), saved_model)
    except (OSError, UnicodeDecodeError, message.DecodeError, text_format.ParseError) as error:
        raise ModuleError(f"{path}: its graph cannot be read: {reason(error)}; fetch it again") from error
    if not saved_model.meta_graphs:
        raise ModuleError(f"{path}: the module's graph file holds no graph; fetch it again")
    return saved_model


def variants(saved_model: Any) -> tuple[Variant, ...]:
    """A module's variants, one for each of its graphs, sorted by tags."""
    found = [
        Variant(tuple(sorted(graph.meta_info_def.tags)), dict(sorted(_signatures(graph))))
        for graph in saved_model.meta_graphs
    ]
    return tuple(sorted(found, key=lambda variant: variant.tags))


def is_trainable(saved_model: Any) -> bool:
    """True where a graph has variables that training may change."""
    return any(
        len(graph.collection_def["trainable_variables"].bytes_list.value) > 0
        if "trainable_variables" in graph.collection_def
        else any(node.variable.trainable for node in graph.object_graph_def.nodes)
        for graph in saved_model.meta_graphs
    )


def _signatures(graph: Any) -> Iterator[tuple[str, Signature]]:
    legacy = graph.graph_def.versions.producer <= _AMBIGUOUS_SCALARS
    random = RandomOps(graph.graph_def)
    for name, definition in graph.signature_def.items():
        if name.startswith(_HELPER):
            continue
        tensors = [tensor for info in definition.outputs.values() for tensor in tensor_names(info)]
        inputs, outputs = _specs(definition.inputs, legacy), _specs(definition.outputs, legacy)
        yield name, Signature(name, inputs, outputs, random.behind(tensors))


def _specs(infos: Mapping[str, Any], legacy: bool) -> dict[str, TensorSpec]:
    return {name: _without_ambiguity(_spec(name, info), legacy) for name, info in sorted(infos.items())}


def _without_ambiguity(spec: TensorSpec, legacy: bool) -> TensorSpec:
    return replace(spec, shape=None) if legacy and spec.shape == () else spec


def _spec(name: str, info: Any) -> TensorSpec:
    import tensorflow as tf

    encoding = info.WhichOneof("encoding")
    if encoding == "composite_tensor":
        return _ragged(name, info.composite_tensor.type_spec)
    kind: Kind = "sparse" if encoding == "coo_sparse" else "dense"
    return TensorSpec(name, tf.dtypes.as_dtype(info.dtype).name, _shape(info.tensor_shape), kind)


def _ragged(name: str, type_spec: Any) -> TensorSpec:
    import tensorflow as tf

    if type_spec.type_spec_class != type_spec.RAGGED_TENSOR_SPEC:
        raise ModuleError(f"tensor '{name}' is a {type_spec.type_spec_class_name}, which beamhub cannot read")
    # RaggedTensorSpec's state: shape, dtype, ragged rank, dtype of the row splits.
    shape, dtype = type_spec.type_state.tuple_value.values[:2]
    name_of_dtype = tf.dtypes.as_dtype(dtype.tensor_dtype_value).name
    return TensorSpec(name, name_of_dtype, _shape(shape.tensor_shape_value), "ragged")


def _shape(proto: Any) -> Shape:
    if proto.unknown_rank:
        return None
    return tuple(None if dim.size < 0 else int(dim.size) for dim in proto.dim)


def tensor_names(info: Any) -> tuple[str, ...]:
    """The graph's tensors that a `TensorInfo` is made of.

    Sparse: values, indices, dense shape. Ragged: flat values, then row splits from the outermost.
    """
    encoding = info.WhichOneof("encoding")
    if encoding == "coo_sparse":
        sparse = info.coo_sparse
        return sparse.values_tensor_name, sparse.indices_tensor_name, sparse.dense_shape_tensor_name
    if encoding == "composite_tensor":
        return tuple(component.name for component in info.composite_tensor.components)
    return (info.name,)
