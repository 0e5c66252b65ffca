"""Parquet files whose vectors are written without Arrow, which takes four times as long for them.

A vector is a list of so many numbers, none of them null. Arrow's writer computes and encodes two levels for each number (410
nanoseconds for a row of 64 floats, with all it does); but where each list has the same length, they repeat, and pages can be
laid around the numbers as they lie in memory. Arrow writes the other columns, each row group as a file of its own whose pages go
into this one, and the schema; their footers are joined to one.

https://github.com/apache/parquet-format: README.md (levels, pages), Encodings.md (RLE).
"""

from __future__ import annotations

import contextlib
import functools
import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from beamhub.features.parquet_footer import MAGIC, Chunk, ColumnPath, Footer, Leaf, plain_chunk, plain_page, row_group
from beamhub.features.thrift import varint

PAGE = 1 << 20
"""Bytes of numbers in a page, or one row: as many as Arrow's pages have."""
MOST_BYTES = 1 << 30
"""Of a vector. A page has no more than 2**31 - 1, and Arrow refuses what does not fit."""

_KINDS = (pa.float16(), pa.float32(), pa.float64(), pa.int32(), pa.int64())
"""Numbers that Parquet stores as they lie in memory (on machines of little endian, which are all that TensorFlow has)."""

Options = Callable[[pa.Schema], Mapping[str, Any]]
"""Arguments of `pq.ParquetWriter` for a schema."""


class Output(Protocol):
    """Where a file goes."""

    def write(self, data: bytes | memoryview) -> int:
        """Writes all of it."""

    def tell(self) -> int:
        """Bytes written."""


def is_vector(kind: pa.DataType) -> bool:
    """Whether a column's type is one that is written here: lists or tensors of one size, of numbers as they are in memory."""
    storage = kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind
    if not pa.types.is_fixed_size_list(storage) or storage.value_type not in _KINDS:
        return False
    return bool(0 < storage.list_size * storage.value_type.byte_width <= MOST_BYTES)


class VectorFile:
    """A Parquet file with a row group for each table. The file given is neither flushed nor closed."""

    def __init__(self, file: Output, schema: pa.Schema, options: Options) -> None:
        """`options` are for Arrow, of the columns that it writes."""
        self._file = file
        self._schema = schema
        self._options = options
        empty = pa.BufferOutputStream()
        pq.ParquetWriter(empty, schema).close()
        self._footer = Footer(empty.getvalue())
        self._leaves = self._footer.leaves()
        self._groups: list[bytes] = []
        self._rows = 0
        file.write(MAGIC)

    def write_table(self, table: pa.Table) -> None:
        """Writes a row group; none for a table without rows."""
        if not table.num_rows:
            return
        begin = self._file.tell()
        vectors = {field.name: flat for field in self._schema if (flat := _numbers(table[field.name])) is not None}
        chunks = self._by_arrow(table.drop_columns(list(vectors)))
        for leaf in self._leaves:
            if (flat := vectors.get(leaf.path[0].decode())) is not None:
                chunks[leaf.path] = self._vectors(leaf, flat)
        self._groups.append(row_group([chunks[leaf.path] for leaf in self._leaves], table.num_rows, begin))
        self._rows += table.num_rows

    def close(self, metadata: Mapping[bytes, bytes]) -> None:
        """Writes the footer, with key-value metadata besides Arrow's own."""
        self._file.write(self._footer.of(self._rows, self._groups, metadata))

    def abort(self) -> None:
        """Does nothing: nothing is held that would write."""

    def _by_arrow(self, table: pa.Table) -> dict[ColumnPath, Chunk]:
        """Writes column chunks as Arrow makes them."""
        if not table.num_columns:
            return {}
        shift = self._file.tell() - len(MAGIC)
        body = _Body(self._file)
        writer = pq.ParquetWriter(body, table.schema, store_schema=False, **self._options(table.schema))
        with writer, body.passed_on():
            # It cuts pages at chunks, and they are to be the same whatever the batches were.
            writer.write_table(table.combine_chunks(), row_group_size=table.num_rows)
        return {chunk.path: chunk.moved(shift) for chunk in Footer(body.kept.getbuffer()).chunks()}

    def _vectors(self, leaf: Leaf, flat: _Flat) -> Chunk:
        """Writes the pages of a column chunk."""
        begin = self._file.tell()
        for page in _pages(flat):
            count = sum(part.size for part in page)
            self._file.write(_head(count, count * page[0].itemsize, flat.width, leaf.definition))
            for part in page:
                self._file.write(part.view(np.uint8).data)
        return plain_chunk(leaf, sum(part.size for part in flat.parts), begin, self._file.tell() - begin)


class _Body(io.RawIOBase):
    """A file that Arrow writes: its pages are passed on, and not held, for of kept images there are 32 MB; the rest is kept."""

    def __init__(self, file: Output) -> None:
        self._file = file
        self._is_passing = False
        self._size = 0
        self.kept = io.BytesIO()

    @contextlib.contextmanager
    def passed_on(self) -> Iterator[None]:
        """What is written in the block are pages."""
        self._is_passing = True
        try:
            yield
        finally:
            self._is_passing = False

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        (self._file if self._is_passing else self.kept).write(data)
        self._size += len(data)
        return len(data)

    def tell(self) -> int:
        return self._size


_Numbers = npt.NDArray[np.generic]


@dataclass(frozen=True)
class _Flat:
    """The numbers of vectors of one size, one after the other, in the pieces of memory where they lie."""

    parts: list[_Numbers]
    width: int


def _numbers(column: pa.ChunkedArray) -> _Flat | None:
    """None where a column has no vectors, or null among the numbers: Arrow writes such a row group."""
    if not is_vector(column.type) or column.null_count:
        return None
    chunks = [chunk.storage if isinstance(chunk, pa.ExtensionArray) else chunk for chunk in column.chunks]
    flat = [chunk.flatten() for chunk in chunks]
    if any(values.null_count for values in flat):
        return None
    return _Flat([values.to_numpy() for values in flat], chunks[0].type.list_size)


def _pages(flat: _Flat) -> Iterator[list[_Numbers]]:
    """The numbers of each page: of as many rows as have its size, whatever the pieces."""
    most = max(1, PAGE // (flat.width * flat.parts[0].itemsize)) * flat.width
    page: list[_Numbers] = []
    room = most
    for part in flat.parts:
        while part.size:
            page.append(part[:room])
            part, room = part[room:], room - page[-1].size
            if not room:
                yield page
                page, room = [], most
    if page:
        yield page


@functools.lru_cache(maxsize=8)
def _head(count: int, size: int, width: int, definition: int) -> bytes:
    """The header of a page and its levels, for so many numbers of so many bytes."""
    levels = _repetitions(count, width) + _same(count, definition)
    return plain_page(count, len(levels) + size) + levels


def _repetitions(count: int, width: int) -> bytes:
    """Level 0 for the first number of a row, 1 for the others: two runs of RLE for each row, or one of bits if that is less."""
    if width == 1:
        return _same(count, 0)
    runs = (varint(1 << 1) + b"\x00" + varint(width - 1 << 1) + b"\x01") * (count // width)
    if len(runs) <= count // 8:
        return _sized(runs)
    bits = np.ones(count, np.uint8)
    bits[::width] = 0
    # Eight to a byte, the lowest first.
    packed = np.packbits(bits, bitorder="little").tobytes()
    return _sized(varint(len(packed) << 1 | 1) + packed)


def _same(count: int, level: int) -> bytes:
    """The same level, of a byte at most, for each number: one run of RLE."""
    return _sized(varint(count << 1) + bytes([level]))


def _sized(levels: bytes) -> bytes:
    return len(levels).to_bytes(4, "little") + levels
