"""From the tensors that a call to a module gives to arrays.

Imports TensorFlow.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from beamhub.errors import ModuleError
from beamhub.modules.ragged import Output, Ragged


def to_output(name: str, value: Any) -> Output:
    """What TensorFlow returned, eagerly or from a session, as arrays; strings are objects of type bytes.

    Raises ModuleError for a sparse tensor of more than two dimensions, which is no list of values for each
    row.
    """
    if isinstance(value, tf.SparseTensor | tf.compat.v1.SparseTensorValue):
        return _from_sparse(name, value)
    if isinstance(value, tf.RaggedTensor | tf.compat.v1.ragged.RaggedTensorValue):
        return _from_ragged(value)
    return np.asarray(value)


def _from_sparse(name: str, value: Any) -> Ragged:
    indices, shape = np.asarray(value.indices), np.asarray(value.dense_shape)
    if len(shape) not in (1, 2):
        rank = f"sparse with {len(shape)} dimensions"
        raise ModuleError(f"output '{name}' is {rank}; only 1 and 2 can be kept as lists, leave it out")
    order = np.lexsort(indices.T[::-1])
    lengths = np.bincount(indices[:, 0], minlength=int(shape[0]))
    return Ragged(np.asarray(value.values)[order], lengths.astype(np.int64))


def _from_ragged(value: Any) -> Ragged:
    levels = []
    while isinstance(value, tf.RaggedTensor | tf.compat.v1.ragged.RaggedTensorValue):
        levels.append(np.diff(np.asarray(value.row_splits)).astype(np.int64))
        value = value.values
    return Ragged(np.asarray(value), levels[0], tuple(levels[1:]))
