"""What the Arrow type of a column says of its records."""

from __future__ import annotations

import pyarrow as pa


def value_type(column: pa.DataType) -> pa.DataType:
    """What a column's elements are, below its lists, tensors and dictionaries."""
    if isinstance(column, pa.BaseExtensionType):
        return value_type(column.storage_type)
    if pa.types.is_dictionary(column) or is_list(column):
        return value_type(column.value_type)
    return column


def is_list(column: pa.DataType) -> bool:
    """True for lists of any kind."""
    return bool(pa.types.is_list(column) or pa.types.is_large_list(column) or pa.types.is_fixed_size_list(column))


def list_depth(column: pa.DataType) -> int:
    """How many lists are nested in a column; a fixed-shape tensor counts as one."""
    if isinstance(column, pa.BaseExtensionType):
        return 1
    return 1 + list_depth(column.value_type) if is_list(column) else 0


def is_bytes(column: pa.DataType) -> bool:
    """True for strings and binaries of any kind."""
    types = pa.types
    return bool(
        types.is_string(column)
        or types.is_large_string(column)
        or types.is_binary(column)
        or types.is_large_binary(column)
        or types.is_fixed_size_binary(column)
        or types.is_string_view(column)
        or types.is_binary_view(column)
    )


def tensor_shape(column: pa.DataType) -> tuple[int, ...] | None:
    """The shape that a column's type gives each record: of a fixed-shape tensor or nested fixed-size lists; else None."""
    if isinstance(column, pa.FixedShapeTensorType):
        return tuple(column.shape)
    shape: list[int] = []
    while pa.types.is_fixed_size_list(column):
        shape.append(int(column.list_size))
        column = column.value_type
    return tuple(shape) if shape and not is_list(column) else None


def is_permuted(column: pa.DataType) -> bool:
    """True for tensors whose values do not lie in the order of their dimensions."""
    if not isinstance(column, pa.FixedShapeTensorType) or column.permutation is None:
        return False
    return list(column.permutation) != list(range(len(column.shape)))


def fixed_elements(arrow: pa.DataType) -> int | None:
    """Values in each record of a column, where its type says so."""
    if isinstance(arrow, pa.BaseExtensionType):
        return fixed_elements(arrow.storage_type)
    if pa.types.is_fixed_size_list(arrow):
        inner = fixed_elements(arrow.value_type)
        return None if inner is None else inner * int(arrow.list_size)
    return None if is_list(arrow) else 1
