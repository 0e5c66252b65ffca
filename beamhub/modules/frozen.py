"""A signature with its variables as constants, which lets TensorFlow fold them into each other.

MobileNetV2 runs 1.3 to 1.5 times as fast so, other networks as fast as before or slower: measure. Imports TensorFlow.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from beamhub.modules.signatures import Signature
from beamhub.startup import drop_garbage

MOST_BYTES = 256 << 20
"""Variables of a signature that are made constants, at most: each batch shape holds its own copy."""

Run = Callable[..., dict[str, Any]]


def freeze(function: Any, signature: Signature) -> Run | None:
    """The function of a loaded signature with constants for variables, called by input names; None where there is no such.

    There is none for a signature with tables or other resources, one that assigns variables, one with sparse or ragged
    outputs, one without variables, or one with more than 256 MiB of them.
    """
    if any(spec.kind != "dense" for spec in signature.outputs.values()):
        return None
    sizes = [variable.shape.num_elements() * variable.dtype.size for variable in function.variables]
    if not sizes or sum(sizes) > MOST_BYTES or _holds_tables(function) or _assigns(function.graph):
        return None
    # Not public, but it is what TensorFlow's own converters (TFLite, TF-TRT) and their users call since TF 2.0.
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    try:
        frozen = convert_variables_to_constants_v2(function)
    except (ValueError, KeyError, TypeError, tf.errors.OpError):
        # What it raises for operations that it does not know.
        return None
    # The copies that this made refer to each other, and are several times the variables (MobileNetV2 1.0: .1 GB).
    drop_garbage()
    names = sorted(signature.inputs)
    if len(frozen.inputs) != len(names):
        # Something is left that is no variable.
        return None
    outputs = sorted(signature.outputs)

    def run(**inputs: Any) -> dict[str, Any]:
        results = frozen(*(inputs[name] for name in names))
        return dict(zip(outputs, results, strict=True))

    return run


def _holds_tables(function: Any) -> bool:
    """Whether it uses resources other than its variables; found out before variables are copied, some times each."""
    handles = {id(variable.handle) for variable in function.variables}
    return any(each.dtype == tf.resource and id(each) not in handles for each in function.captured_inputs)


def _assigns(graph: Any) -> bool:
    functions = graph.as_graph_def().library.function
    operations = {node.op for each in functions for node in each.node_def} | {op.type for op in graph.get_operations()}
    return any(name.startswith("Assign") and name.endswith("VariableOp") for name in operations)
