"""TFRecord files of a feature table: `tf.Example`s, for programs that read those.

`tf.Example` knows three kinds of feature, so reading back needs the table's schema, which lies beside the
data in `_beamhub/schema.arrow`. TFRecord and `tf.Example` code is imported only where such a file is written
or read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import BinaryIO, cast

import numpy as np
import pyarrow as pa

from beamhub import storage
from beamhub.corpus.format import Wanted
from beamhub.corpus.shards import Shard
from beamhub.errors import CorpusError, TableError
from beamhub.features.checksums import ChecksumFile
from beamhub.features.formats import RowSink, TableFormat
from beamhub.features.ledger import ShardResult
from beamhub.features.paths import VersionPaths

_CHUNK_BYTES = 32 << 20


class TFRecordFormat(TableFormat):
    """One uncompressed TFRecord file for each shard."""

    extension = "tfrecord"
    has_footer = False

    def sink(self, file: ChecksumFile, schema: pa.Schema) -> RowSink:
        """Begins a TFRecord file."""
        return _ExampleSink(file)

    def recover(self, path: str) -> ShardResult | None:
        """None: the file has no footer."""
        return None

    def schema(self, paths: VersionPaths, path: str) -> pa.Schema:
        """The schema that lies beside the data."""
        try:
            return pa.ipc.read_schema(pa.BufferReader(storage.read_bytes(paths.schema)))
        except (FileNotFoundError, pa.ArrowInvalid) as error:
            raise TableError(
                f"{paths.schema}: wanted the schema of the TFRecord files ({error}); restore it"
            ) from error

    def read(self, path: str, schema: pa.Schema, columns: Sequence[str], rows: int) -> Iterator[pa.RecordBatch]:
        """Decodes `tf.Example`s and gives them the table's types. Raises TableError for lists of lists."""
        from beamhub.corpus.tfrecord import TFRecordFormat as Corpus

        chosen = pa.schema([schema.field(name) for name in columns])
        wire = pa.schema([(field.name, _wire_type(field.type, field.name)) for field in chosen])
        if storage.info(path) is None:
            raise FileNotFoundError(path)
        shard = Shard(path, relative=path, size=0, token="")
        try:
            for chunk in Corpus().read(shard, wire, Wanted(rows, _CHUNK_BYTES)):
                if chunk.unread:
                    raise TableError(f"{path}: {chunk.unread[0].reason}; restore it, or run again to compute it")
                arrays = [_restore(a, f.type) for a, f in zip(chunk.columns.columns, chosen, strict=True)]
                yield pa.RecordBatch.from_arrays(arrays, schema=chosen)
        except (CorpusError, pa.ArrowInvalid) as error:
            raise TableError(f"{path}: not a whole TFRecord file of this table ({error})") from error


class _ExampleSink:
    """Rows as they come: the frames of a TFRecord file do not depend on how batches were cut."""

    def __init__(self, file: ChecksumFile) -> None:
        self._file = cast(BinaryIO, file)

    def write(self, batch: pa.RecordBatch) -> None:
        """Writes the rows."""
        from beamhub.corpus.examples import to_examples
        from beamhub.corpus.framing import write_records

        write_records(self._file, to_examples(batch))

    def finish(self, footer: bytes) -> None:
        """Nothing is left to write, and there is no footer."""

    def abort(self) -> None:
        """Holds nothing."""


def _is_fixed(kind: pa.DataType) -> bool:
    return isinstance(kind, pa.BaseExtensionType) or pa.types.is_fixed_size_list(kind)


def _inner(kind: pa.DataType) -> tuple[pa.DataType, int]:
    """What a vector, tensor or scalar is made of, and of how many."""
    if isinstance(kind, pa.BaseExtensionType):
        return _inner(kind.storage_type)
    if pa.types.is_fixed_size_list(kind):
        element, count = _inner(kind.value_type)
        return element, count * int(kind.list_size)
    return kind, 1


def _wire_type(kind: pa.DataType, name: str) -> pa.DataType:
    """The column as `tf.Example` holds it: the values of one of its three kinds, or a flat list of such."""
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    element, _ = _inner(kind.value_type if is_list else kind)
    if pa.types.is_nested(element):
        raise TableError(
            f"column {name}: {kind} is flattened in TFRecord; read it by tf.io.RaggedFeature, or choose other columns"
        )
    if pa.types.is_integer(element) or pa.types.is_boolean(element):
        element = pa.int64()
    elif pa.types.is_floating(element):
        element = pa.float32()
    return pa.list_(element) if is_list or _is_fixed(kind) else element


def _restore(array: pa.Array, kind: pa.DataType) -> pa.Array:
    """The flat column with the table's type."""
    if _is_fixed(kind):
        return _fixed(array.flatten(), kind)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        _, count = _inner(kind.value_type)
        offsets = np.append(0, np.cumsum(np.diff(np.asarray(array.offsets)))) // count
        mask = pa.compute.is_null(array) if array.null_count else None
        maker = pa.LargeListArray if pa.types.is_large_list(kind) else pa.ListArray
        integer = pa.int64() if pa.types.is_large_list(kind) else pa.int32()
        return maker.from_arrays(
            pa.array(offsets, integer), _fixed(array.flatten(), kind.value_type), type=kind, mask=mask
        )
    return array.cast(kind)


def _fixed(values: pa.Array, kind: pa.DataType) -> pa.Array:
    if isinstance(kind, pa.BaseExtensionType):
        return pa.ExtensionArray.from_storage(kind, _fixed(values, kind.storage_type))
    if pa.types.is_fixed_size_list(kind):
        return pa.FixedSizeListArray.from_arrays(_fixed(values, kind.value_type), type=kind)
    return values.cast(kind)
