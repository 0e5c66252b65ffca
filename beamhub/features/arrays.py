"""Arrow columns as NumPy arrays and TensorFlow tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from beamhub.errors import TableError

if TYPE_CHECKING:
    import tensorflow as tf


def shape_of(kind: pa.DataType) -> tuple[int, ...]:
    """The shape of one row as stored: (d,) of a vector, (h, w, c) of a tensor, () of anything else."""
    if isinstance(kind, pa.FixedShapeTensorType):
        return tuple(kind.shape)
    if pa.types.is_fixed_size_list(kind):
        return (int(kind.list_size), *shape_of(kind.value_type))
    return ()


def element_of(kind: pa.DataType) -> pa.DataType:
    """The type of one element of a vector or tensor; of anything else its own."""
    if isinstance(kind, pa.FixedShapeTensorType):
        return kind.value_type
    return element_of(kind.value_type) if pa.types.is_fixed_size_list(kind) else kind


def dtype_of(kind: pa.DataType) -> np.dtype[Any]:
    """The NumPy dtype of the elements; object for strings, lists and whatever else NumPy has no dtype for."""
    element = element_of(kind)
    if pa.types.is_nested(element) or not (pa.types.is_primitive(element) or pa.types.is_boolean(element)):
        return np.dtype(object)
    dtype: np.dtype[Any] = np.dtype(element.to_pandas_dtype())
    return dtype


def to_numpy(array: pa.Array, name: str) -> npt.NDArray[Any]:
    """The array as [rows, *shape_of(type)], without a copy where the type allows. Nulls among floats become
    NaN.

    Raises TableError for nulls of a type that has no such value; `name` is the column's, for the message.
    """
    shape = shape_of(array.type)
    if shape:
        values: npt.NDArray[Any] = _elements(array).to_numpy(zero_copy_only=False)
        return values.reshape(len(array), *shape)
    dtype = dtype_of(array.type)
    if array.null_count and dtype.kind in "iub":
        raise TableError(f"column {name}: {array.null_count} nulls, which {dtype} cannot hold; use to_table()")
    rows: npt.NDArray[Any] = array.to_numpy(zero_copy_only=False)
    return rows.astype(dtype, copy=False)


def _elements(array: pa.Array) -> pa.Array:
    if isinstance(array, pa.ExtensionArray):
        return _elements(array.storage)
    return _elements(array.flatten()) if pa.types.is_fixed_size_list(array.type) else array


def tensor_spec(kind: pa.DataType, name: str) -> Any:
    """The tf.TypeSpec of a batch of rows of this type: dense for scalars, vectors and tensors, ragged for lists.

    Raises TableError for a type that TensorFlow has none for; `name` is the column's.
    """
    import tensorflow as tf

    depth, inner = 0, kind
    while _is_list(inner):
        depth, inner = depth + 1, inner.value_type
    try:
        # Neither NumPy nor TensorFlow has times with a zone, decimals, structs ...
        dtype = dtype_of(inner)
        element = tf.string if dtype.hasobject else tf.as_dtype(dtype)
    except TypeError as error:
        raise TableError(f"column {name}: TensorFlow has no type for {kind}; name other columns") from error
    shape = [None] * (depth + 1) + list(shape_of(inner))
    return tf.RaggedTensorSpec(shape, element, ragged_rank=depth) if depth else tf.TensorSpec(shape, element)


def to_tensor(array: pa.Array, name: str) -> tf.Tensor | tf.RaggedTensor:
    """The array as `tensor_spec` describes it.

    Raises TableError for nulls other than floats'; `name` is the column's.
    """
    import tensorflow as tf

    is_object = dtype_of(array.type).hasobject
    if array.null_count and (_is_list(array.type) or is_object):
        raise TableError(f"column {name}: {array.null_count} nulls, which a tensor cannot hold; drop or fill them")
    if _is_list(array.type):
        splits = np.append(0, np.cumsum(np.diff(np.asarray(array.offsets)))).astype(np.int64)
        return tf.RaggedTensor.from_row_splits(to_tensor(array.flatten(), name), splits)
    if is_object and not shape_of(array.type):
        return tf.constant(array.to_pylist(), tf.string, [len(array)])
    return tf.constant(to_numpy(array, name))


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))
