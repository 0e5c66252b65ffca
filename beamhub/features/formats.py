"""What a file format of feature tables has to do: one small class for each.

Parquet is the format of feature tables. TFRecord exists for programs that read `tf.Example`; its files have
no footer, so what they hold is known from ledger and manifest alone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Protocol

import pyarrow as pa

from beamhub.errors import TableError, UsageError
from beamhub.features.checksums import ChecksumFile
from beamhub.features.ledger import ShardResult
from beamhub.features.paths import VersionPaths


class RowSink(Protocol):
    """Where the rows of one file go."""

    def write(self, batch: pa.RecordBatch) -> None:
        """Takes rows of the sink's schema."""

    def finish(self, footer: bytes) -> None:
        """Writes all that is left, and `footer` where the format has one. Called once, last."""

    def abort(self) -> None:
        """Lets go of everything; the file will be dropped. Called instead of `finish`, or after it failed."""


class TableFormat(ABC):
    """A file format: the extension of its files, and whether a file tells which shard it is of."""

    extension: str
    has_footer: bool

    @abstractmethod
    def sink(self, file: ChecksumFile, schema: pa.Schema) -> RowSink:
        """Begins a file with rows of `schema`."""

    @abstractmethod
    def recover(self, path: str) -> ShardResult | None:
        """The result that a whole file tells of itself, without `file` and `pending`; None where it cannot."""

    @abstractmethod
    def schema(self, paths: VersionPaths, path: str) -> pa.Schema:
        """The schema of the rows of a file. Raises FileNotFoundError, or TableError when it is not whole."""

    @abstractmethod
    def read(self, path: str, schema: pa.Schema, columns: Sequence[str], rows: int) -> Iterator[pa.RecordBatch]:
        """The rows of a file in order, at most `rows` at a time, with the columns asked for, in that order.

        Raises FileNotFoundError, or TableError when the file is not whole.
        """

    def read_keys(self, path: str, schema: pa.Schema) -> Iterator[pa.Array]:
        """The key of each record of a file: where a record has several rows (`item`), that of the first."""
        columns = [name for name in ("key", "item") if name in schema.names]
        for batch in self.read(path, schema, columns, 1 << 16):
            rows = batch if "item" not in columns else batch.filter(pa.compute.equal(batch.column("item"), 0))
            yield rows.column("key")


FORMATS = ("parquet", "tfrecord")
"""The formats' names, which are their files' extensions too."""


def format_named(name: str) -> TableFormat:
    """The format "parquet" or "tfrecord". Raises UsageError for another."""
    # Each imports this file.
    if name == "parquet":
        from beamhub.features.parquet_format import ParquetFormat

        return ParquetFormat()
    if name == "tfrecord":
        from beamhub.features.tfrecord_format import TFRecordFormat

        return TFRecordFormat()
    raise UsageError(f"output format {name!r}: wanted {' or '.join(FORMATS)}")


def format_of(file: str) -> TableFormat:
    """The format of a data file, by its extension, pending or not. Raises TableError for another."""
    extension = file.removesuffix(".pending").rpartition(".")[2]
    if extension not in FORMATS:
        raise TableError(f"{file}: not a data file of a feature table; upgrade beamhub if a newer one wrote it")
    return format_named(extension)
