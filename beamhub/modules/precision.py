"""A function computed in bfloat16: convolutions, products of matrices, and what lies between them. Imports TensorFlow.

TensorFlow's own graph optimizer makes the change, and each call says for itself whether it wants it: no switch of the
process is touched, so that functions in float32 and in bfloat16 may run side by side. What is fed and what comes out stays
float32.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow.core.protobuf import config_pb2, rewriter_config_pb2

from beamhub.errors import ModuleError

FLOAT32, BF16 = "float32", "bf16"

_NATIVE = frozenset({"avx512_bf16", "amx_bf16"})
"""What processors with instructions for bfloat16 call them; without, oneDNN is slower than in float32, or breaks down."""


def check_processor(processors: Path = Path("/proc/cpuinfo")) -> None:
    """Raises ModuleError where this machine has no instructions for bfloat16, as Linux tells."""
    told = set(processors.read_text().split()) if processors.exists() else set()
    if not told & _NATIVE:
        raise ModuleError(
            f"--precision {BF16}: this machine's processor has none of {', '.join(sorted(_NATIVE))}, and would be slower than "
            "in float32: run on one that has, or leave the flag out"
        )


def check_changed(function: Any, signature: str) -> None:
    """Raises ModuleError where nothing of a traced function would be computed in bfloat16; `signature` is named."""
    if not _would_change(function):
        raise ModuleError(
            f"--precision {BF16}: nothing of signature {signature} runs in bfloat16 (only convolutions and products of "
            "matrices in float32 do, and what lies between them, where oneDNN is on): leave the flag out"
        )


def in_bf16(function: Any) -> Callable[[dict[str, tf.Tensor]], dict[str, Any]]:
    """A traced function of a dictionary of tensors, computed in bfloat16 as far as that is possible."""
    settings = _settings().SerializeToString()
    types = [output.dtype for output in function.outputs]

    def run(tensors: dict[str, tf.Tensor]) -> dict[str, Any]:
        # As TensorFlow flattens a dictionary; the captured ones are variables and tables.
        arguments = [*(tensors[name] for name in sorted(tensors)), *function.captured_inputs]
        results = tf.raw_ops.StatefulPartitionedCall(args=arguments, Tout=types, f=function, config_proto=settings)
        named: dict[str, Any] = tf.nest.pack_sequence_as(function.structured_outputs, results, expand_composites=True)
        return named

    return run


def _settings() -> Any:
    settings = config_pb2.ConfigProto()
    switch = rewriter_config_pb2.RewriterConfig.ON
    settings.graph_options.rewrite_options.auto_mixed_precision_onednn_bfloat16 = switch
    return settings


def _would_change(function: Any) -> bool:
    """Whether the optimizer, run here on a copy of the graph, computes anything in bfloat16."""
    # Not public, but there is no other way to see what the optimizer makes of a graph; TensorFlow's converters use it too.
    from tensorflow.python.grappler import tf_optimizer

    graph = tf.compat.v1.train.export_meta_graph(graph_def=function.graph.as_graph_def(), graph=function.graph)
    graph.collection_def["train_op"].node_list.value.extend(output.name for output in function.outputs)
    optimized = tf_optimizer.OptimizeGraph(_settings(), graph)
    nodes = [*optimized.node, *(node for each in optimized.library.function for node in each.node_def)]
    # Its name for the casts that it adds; a module may have others of its own.
    return any("AutoMixedPrecision" in node.name for node in nodes)
