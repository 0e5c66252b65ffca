"""Tensors as Arrow columns."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from beamhub.errors import ModuleError, RecordError
from beamhub.modules.ragged import Output, Ragged
from beamhub.tasks.base import OutputShape, is_text, list_offsets, texts

_NARROW = {"float16": "float32", "bfloat16": "float32"}


def column_type(output: OutputShape) -> pa.DataType:
    """The Arrow type of an output.

    A number for each record is a number, a vector a fixed-size list, a higher rank a `fixed_shape_tensor`; sizes that vary,
    ragged and sparse outputs, and texts give lists. Half precision is widened to float32, which every reader knows. Texts
    are strings if those of the sample are UTF-8, else binary.

    Raises:
        ModuleError: a dtype that Arrow does not have.
    """
    value = _element_type(output)
    if output.kind != "dense":
        depth = len(output.sample.levels) if isinstance(output.sample, Ragged) else 1
        return _nested(value, depth)
    if not output.shape:
        return value
    if None in output.shape or pa.types.is_string(value) or pa.types.is_binary(value):
        return _nested(value, len(output.shape))
    sizes = [size or 0 for size in output.shape]
    return pa.list_(value, sizes[0]) if len(sizes) == 1 else pa.fixed_shape_tensor(value, sizes)


def _element_type(output: OutputShape) -> pa.DataType:
    if output.dtype == "string":
        sample = output.sample.values if isinstance(output.sample, Ragged) else output.sample
        return pa.string() if is_text(sample) else pa.binary()
    try:
        return pa.from_numpy_dtype(np.dtype(_NARROW.get(output.dtype, output.dtype)))
    except (TypeError, pa.ArrowNotImplementedError) as error:
        raise ModuleError(
            f"output {output.name} is {output.dtype}, which a table cannot hold; choose another"
        ) from error


def _nested(value: pa.DataType, depth: int) -> pa.DataType:
    for _ in range(depth):
        value = pa.list_(value)
    return value


def to_arrow(values: Output, arrow: pa.DataType, name: str) -> pa.Array:
    """A batch of an output, [n, ...] or ragged, as a column of the type that `column_type` gave.

    Raises:
        RecordError: texts that are not UTF-8, or a shape other than the column's.
    """
    if isinstance(values, Ragged):
        return _lists(_flat(values.values, arrow), list(values.levels))
    if isinstance(arrow, pa.FixedShapeTensorType):
        _check(values, tuple(arrow.shape), name)
        storage = pa.FixedSizeListArray.from_arrays(_flat(values, arrow.storage_type), type=arrow.storage_type)
        return pa.ExtensionArray.from_storage(arrow, storage)
    if pa.types.is_fixed_size_list(arrow):
        _check(values, (arrow.list_size,), name)
        return pa.FixedSizeListArray.from_arrays(_flat(values, arrow), type=arrow)
    if pa.types.is_list(arrow):
        lengths = [
            np.full(int(np.prod(values.shape[: level + 1])), values.shape[level + 1], np.int64)
            for level in range(values.ndim - 1)
        ]
        return _lists(_flat(values, arrow), lengths)
    _check(values, (), name)
    return _flat(values, arrow)


def _check(values: npt.NDArray[Any], shape: tuple[int, ...], name: str) -> None:
    if values.shape[1:] != shape:
        raise RecordError("encode", f"output {name} has the shape {list(values.shape[1:])}, the table {list(shape)}")


def _flat(values: npt.NDArray[Any], arrow: pa.DataType) -> pa.Array:
    while hasattr(arrow, "value_type"):
        arrow = arrow.value_type
    if pa.types.is_string(arrow):
        return texts(values)
    if pa.types.is_binary(arrow):
        return pa.array(values.ravel(), arrow)
    return pa.array(np.ascontiguousarray(values, arrow.to_pandas_dtype()).reshape(-1), arrow)


def _lists(flat: pa.Array, levels: list[npt.NDArray[np.int64]]) -> pa.Array:
    for lengths in reversed(levels):
        flat = pa.ListArray.from_arrays(list_offsets(lengths), flat)
    return flat
