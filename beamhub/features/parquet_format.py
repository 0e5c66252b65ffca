"""Parquet files of a feature table.

Vectors are written plain: a dictionary and statistics of floats cost 5 times the writing and serve nobody. Those of one size go
around Arrow (`vector_file.py`). Keys and kept columns have both, and zstd; but numbers as keys, which seldom repeat, are told by
their differences (10 nanoseconds a row beyond plain ones, with a dictionary 63). On vectors zstd 1 cost 1.5 times the writing
for 8 % of the bytes (2.5 times for 44 % where many values are zero), so vectors are not compressed.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from beamhub import storage
from beamhub.errors import BeamhubError, TableError
from beamhub.features.checksums import ChecksumFile, checksum_of
from beamhub.features.formats import RowSink, TableFormat
from beamhub.features.grouping import RowGrouper
from beamhub.features.ledger import ShardResult
from beamhub.features.paths import FORMAT_VERSION, VersionPaths
from beamhub.features.vector_file import VectorFile, is_vector

FOOTER = b"beamhub"
"""The key of beamhub's JSON document in a file's key-value metadata."""

_LEVEL = 1


class ParquetFormat(TableFormat):
    """One Parquet file for each shard, with the shard's result in its footer."""

    extension = "parquet"
    has_footer = True

    def sink(self, file: ChecksumFile, schema: pa.Schema) -> RowSink:
        """Begins a Parquet file."""
        return _ParquetSink(file, schema)

    def recover(self, path: str) -> ShardResult | None:
        """What the footer tells, and the checksum of the file, which is read for it."""
        try:
            with storage.open_read(path) as file:
                metadata = pq.read_metadata(file)
                file.seek(0)
                size, checksum = checksum_of(file)
            document = json.loads((metadata.metadata or {})[FOOTER])
            if document.pop("format") > FORMAT_VERSION:
                return None
            return ShardResult(**document, outcome="done", rows=metadata.num_rows, bytes=size, checksum=checksum)
        except (OSError, pa.ArrowInvalid, KeyError, TypeError, ValueError):
            return None

    def schema(self, paths: VersionPaths, path: str) -> pa.Schema:
        """The Arrow schema in the footer."""
        with _opened(path) as file:
            return file.schema_arrow.remove_metadata()

    def read(self, path: str, schema: pa.Schema, columns: Sequence[str], rows: int) -> Iterator[pa.RecordBatch]:
        """Reads row group by row group, so that memory holds one."""
        with _opened(path) as file:
            yield from (batch.select(list(columns)) for batch in file.iter_batches(rows, columns=list(columns)))


@contextlib.contextmanager
def _opened(path: str) -> Iterator[pq.ParquetFile]:
    with storage.open_read(path) as source:
        try:
            yield pq.ParquetFile(source, pre_buffer=False, buffer_size=1 << 20)
        except (pa.ArrowInvalid, OSError) as error:
            raise TableError(
                f"{path}: not a whole Parquet file ({error}); restore it, or run again to compute it"
            ) from error


class _ParquetSink:
    """Row groups of a size that the rows decide."""

    def __init__(self, file: ChecksumFile, schema: pa.Schema) -> None:
        self._grouper = RowGrouper(schema)
        self._file = file
        has_vectors = any(is_vector(field.type) for field in schema)
        self._output: _Output = VectorFile(file, schema, _options) if has_vectors else _ArrowFile(file, schema)

    def write(self, batch: pa.RecordBatch) -> None:
        """Writes the row groups that the batch completes."""
        for table in self._grouper.add(batch):
            self._output.write_table(table)

    def finish(self, footer: bytes) -> None:
        """Writes the last row group and the footer."""
        for table in self._grouper.rest():
            self._output.write_table(table)
        self._output.close({FOOTER: footer})
        self._file.close()

    def abort(self) -> None:
        """Closes what would otherwise write when it is collected."""
        self._output.abort()
        with contextlib.suppress(OSError):
            self._file.close()


class _Output(Protocol):
    """A Parquet file; `abort` instead of `close`, or after it failed."""

    def write_table(self, table: pa.Table) -> None: ...
    def close(self, metadata: Mapping[bytes, bytes]) -> None: ...
    def abort(self) -> None: ...


class _ArrowFile:
    """A Parquet file that Arrow writes, all of it."""

    def __init__(self, file: ChecksumFile, schema: pa.Schema) -> None:
        self._file = file
        self._native = file.native()
        self._writer = pq.ParquetWriter(self._native, schema, **_options(schema))

    def write_table(self, table: pa.Table) -> None:
        # The writer cuts pages at chunks: only one chunk gives the same pages whatever the batches were.
        self._writer.write_table(table.combine_chunks(), row_group_size=table.num_rows)
        self._file.measure()

    def close(self, metadata: Mapping[bytes, bytes]) -> None:
        self._writer.add_key_value_metadata(metadata)
        self._writer.close()
        self._native.close()
        self._file.measure()

    def abort(self) -> None:
        for each in (self._writer, self._native):
            # Whatever one cannot do, such as writing a footer to a full disk, the next is still to be closed.
            with contextlib.suppress(OSError, pa.ArrowException):
                each.close()


@functools.lru_cache(maxsize=8)
def _options(schema: pa.Schema) -> Mapping[str, Any]:
    """How Arrow writes columns."""
    plain = _plain_columns(schema)
    rich = [path for path, is_plain in plain.items() if not is_plain]
    numbers = [field.name for field in schema if field.name == "key" and pa.types.is_integer(field.type)]
    return {
        "use_dictionary": [path for path in rich if path not in numbers],
        "column_encoding": dict.fromkeys(numbers, "DELTA_BINARY_PACKED"),
        "write_statistics": rich,
        "compression": dict.fromkeys(rich, "zstd"),
        "compression_level": dict.fromkeys(rich, _LEVEL),
    }


def _plain_columns(schema: pa.Schema) -> dict[str, bool]:
    """For each Parquet column (a leaf of the schema), by its path: whether it holds vectors."""
    # Only the writer knows how it names the leaves of nested columns: let it write an empty file.
    empty = io.BytesIO()
    pq.ParquetWriter(empty, schema).close()
    parquet = pq.ParquetFile(empty).schema
    leaves = [plain for field in schema for plain in _leaves(field.type, vector=False, listed=False)]
    if len(leaves) != len(parquet):
        raise BeamhubError(f"schema with columns {schema.names}: a type that cannot be written to Parquet; cast it")
    return {parquet.column(i).path: plain for i, plain in enumerate(leaves)}


def _leaves(kind: pa.DataType, vector: bool, listed: bool) -> list[bool]:
    if isinstance(kind, pa.BaseExtensionType):
        return _leaves(kind.storage_type, vector, listed)
    if pa.types.is_fixed_size_list(kind):
        return _leaves(kind.value_type, True, True)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _leaves(kind.value_type, vector, True)
    if pa.types.is_map(kind):
        return _leaves(kind.key_type, vector, True) + _leaves(kind.item_type, vector, True)
    if pa.types.is_struct(kind):
        return [leaf for field in kind for leaf in _leaves(field.type, vector, listed)]
    return [vector or (listed and pa.types.is_floating(kind))]
