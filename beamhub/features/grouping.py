"""Rows gathered to row groups whose cuts depend on the rows alone, so that the same rows give the same file.

A group ends with the row that fills it: the 16,384th, or the one that reaches 32 MiB of Arrow data.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

ROWS = 16384
BYTES = 32 << 20

Sizes = npt.NDArray[np.int64]


class RowGrouper:
    """Takes batches cut anyhow, gives tables cut by the rule, of as many chunks as batches have a part in them."""

    def __init__(self, schema: pa.Schema, most_rows: int = ROWS, most_bytes: int = BYTES) -> None:
        """`most_bytes` are of Arrow data."""
        self._schema = schema
        self._width = fixed_width(pa.struct(list(schema)))
        self._most_rows = most_rows
        self._most_bytes = most_bytes
        self._batches: list[pa.RecordBatch] = []
        self._rows = 0
        self._bytes = 0

    def add(self, batch: pa.RecordBatch) -> Iterator[pa.Table]:
        """Takes a batch of the schema; yields the groups that it completes. To be iterated to its end."""
        ends = np.cumsum(row_bytes(batch)) if self._width is None else _multiples(self._width, batch.num_rows)
        start = 0
        while start < batch.num_rows:
            before = int(ends[start - 1]) if start else 0
            full = int(np.searchsorted(ends, before + self._most_bytes - self._bytes)) + 1
            stop = min(batch.num_rows, start + self._most_rows - self._rows, full)
            self._batches.append(batch.slice(start, stop - start))
            self._rows += stop - start
            self._bytes += int(ends[stop - 1]) - before
            start = stop
            if self._rows >= self._most_rows or self._bytes >= self._most_bytes:
                yield self._take()

    def rest(self) -> Iterator[pa.Table]:
        """Yields the last group, if there are rows left."""
        if self._rows:
            yield self._take()

    def _take(self) -> pa.Table:
        batches = self._batches
        self._batches, self._rows, self._bytes = [], 0, 0
        return pa.Table.from_batches(batches, self._schema)


def row_bytes(batch: pa.RecordBatch) -> Sizes:
    """Bytes of Arrow data of each row, int64 [rows]: a function of the row's values alone, never of how
    arrays are cut."""
    widths = [fixed_width(field.type) for field in batch.schema]
    total = np.full(batch.num_rows, sum(width for width in widths if width is not None), np.int64)
    for column, width in zip(batch.columns, widths, strict=True):
        if width is None:
            total += _sizes(column)
    return total


def _sizes(array: pa.Array) -> Sizes:
    kind = array.type
    if isinstance(array, pa.ExtensionArray):
        return _sizes(array.storage)
    width = fixed_width(kind)
    if width is not None:
        return np.full(len(array), width, np.int64)
    if pa.types.is_fixed_size_list(kind):
        size = kind.list_size
        inner = _sizes(array.values.slice(array.offset * size, len(array) * size))
        rows: Sizes = inner.reshape(len(array), size).sum(axis=1)
        return rows
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_map(kind):
        return _list_sizes(array)
    if pa.types.is_struct(kind):
        return sum((_sizes(array.field(i)) for i in range(kind.num_fields)), np.zeros(len(array), np.int64))
    lengths = pc.fill_null(pc.cast(pc.binary_length(array), pa.int64()), 0)
    return np.asarray(lengths) + 4


def _list_sizes(array: pa.Array) -> Sizes:
    offsets = np.asarray(array.offsets)
    first, length = int(offsets[0]), int(offsets[-1] - offsets[0])
    columns = [array.keys, array.items] if pa.types.is_map(array.type) else [array.values]
    inner = sum((_sizes(column.slice(first, length)) for column in columns), np.zeros(length, np.int64))
    ends = np.concatenate([[0], np.cumsum(inner)])
    sizes = ends[offsets[1:] - first] - ends[offsets[:-1] - first]
    # What lies under a null is not part of the row.
    return np.where(np.asarray(array.is_valid()), sizes, 0) + 4


@functools.lru_cache(maxsize=4)
def _multiples(width: int, count: int) -> Sizes:
    return np.arange(1, count + 1, dtype=np.int64) * width


def fixed_width(kind: pa.DataType) -> int | None:
    """Bytes of Arrow data of each value of a type; None where values differ."""
    if pa.types.is_null(kind) or pa.types.is_boolean(kind):
        return 1
    if pa.types.is_fixed_size_list(kind):
        inner = fixed_width(kind.value_type)
        return None if inner is None else inner * int(kind.list_size)
    if pa.types.is_struct(kind):
        parts = [fixed_width(field.type) for field in kind]
        return None if None in parts else sum(part for part in parts if part is not None)
    if isinstance(kind, pa.BaseExtensionType):
        return fixed_width(kind.storage_type)
    if pa.types.is_primitive(kind) or pa.types.is_fixed_size_binary(kind) or pa.types.is_decimal(kind):
        return int(kind.bit_width) // 8
    return None
