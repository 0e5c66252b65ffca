"""The format Parquet."""

from __future__ import annotations

import contextlib
import functools
import io
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, BinaryIO, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from beamhub.corpus import columns
from beamhub.corpus.files import opened
from beamhub.corpus.format import CorpusFormat, Stretch, Wanted
from beamhub.corpus.payload import row_payload
from beamhub.corpus.row_groups import MEND, batches_of, groups_of, miscounted, starts_of
from beamhub.corpus.sampling import sampled
from beamhub.corpus.shards import Chunk, Shard, Unread
from beamhub.errors import CorpusError, UsageError

_MAGIC = b"PAR1"


@dataclass(frozen=True)
class _Rows(Stretch):
    """A batch as the file holds it; `first` is the row number of its first row, `shard` are those of the shard.

    `size` in bytes, where it is known.
    """

    batch: pa.RecordBatch
    first: int
    shard: range
    schema: pa.Schema
    path: str
    size: int | None = None

    @property
    def rows(self) -> int:
        return int(self.batch.num_rows)

    @functools.cached_property
    def nbytes(self) -> int:
        return int(self.batch.nbytes) if self.size is None else self.size

    @property
    def reached(self) -> float:
        return (self.first + self.rows - self.shard.start) / len(self.shard) if self.shard else 1.0

    def cut(self, start: int, rows: int) -> _Rows:
        return replace(self, batch=self.batch.slice(start, rows), first=self.first + start, size=None)

    def join(self, others: Sequence[_Rows]) -> _Rows:
        return replace(self, batch=pa.concat_batches([self.batch, *(each.batch for each in others)]), size=None)

    def decode(self) -> Chunk:
        return _chunk(self.batch, self.first, self.schema, self.path)


class ParquetFormat(CorpusFormat):
    """Parquet files as a corpus. See `beamhub.corpus.format.CorpusFormat` for what each member does.

    The field `b` of a struct column `a` is read as column `a.b`, null where `a` is. Addresses are row numbers
    in the file. Counts of rows are verified, and pages where their writer left checksums.
    """

    name = "parquet"

    def sniff(self, head: bytes, tail: bytes) -> bool:
        """The magic number at both ends (https://parquet.apache.org/docs/file-format/)."""
        return head.startswith(_MAGIC) and tail == _MAGIC

    def schema(self, shards: Sequence[Shard], declared: bytes | None, sample: int) -> pa.Schema:
        """Of the first footer that can be read."""
        if declared is not None:
            raise UsageError("a schema was given for a Parquet corpus, whose files hold their own; leave it out")

        def one(shard: Shard) -> Iterator[pa.Schema]:
            with opened(shard.path) as source, _parquet(source, shard.path) as file:
                yield pa.schema(_fields(file.schema_arrow))

        return next(sampled(shards, one))

    def density(self, shard: Shard) -> float:
        """By the footer."""
        with opened(shard.path) as source, _parquet(source, shard.path) as file:
            return float(file.metadata.num_rows / source.seek(0, 2))

    def _stretches(self, shard: Shard, schema: pa.Schema, wanted: Wanted) -> Generator[Stretch, None, None]:
        """The row groups of the shard. Raises CorpusError for `records`: there are none."""
        if wanted.records:
            raise CorpusError(f"{shard.path}: Parquet has no serialized records; use a TFRecord corpus, or a column")
        schema = schema.remove_metadata()
        with opened(shard.path) as source, _parquet(source, shard.path) as file:
            _check(schema, file.schema_arrow, shard.path)
            starts = starts_of(file.metadata, shard.path)
            groups = groups_of(file.metadata, shard, source.seek(0, 2)) if shard.is_range else range(len(starts) - 1)
            first = starts[groups.start]
            every = range(first, starts[groups.stop])
            for batch, size in batches_of(file, groups, schema.names, wanted) if groups else ():
                rows = batch.num_rows
                yield _Rows(batch, first, every, schema, shard.path, size)
                # Not held while the next is read, here and below: it may be one large record.
                del batch
                first += rows
            if first != starts[groups.stop]:
                raise miscounted(shard.path, first, starts[groups.stop])


@contextlib.contextmanager
def _parquet(source: BinaryIO, path: str) -> Iterator[pq.ParquetFile]:
    try:
        with _by_arrow(source) as given:
            # Without these two, a whole row group would be in memory at once.
            yield pq.ParquetFile(given, pre_buffer=False, buffer_size=1 << 20, page_checksum_verification=True)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        # Arrow tells of a damaged file by a bare OSError; the file system's own have a number or a class.
        if isinstance(error, OSError) and (type(error) is not OSError or error.errno is not None):
            raise
        if isinstance(error, MemoryError):
            raise
        unknown = isinstance(error, NotImplementedError)
        what = "has what pyarrow does not read" if unknown else "not Parquet, truncated or damaged"
        raise CorpusError(f"{path}: {what} ({_first_line(error)}); {MEND}") from error


def _by_arrow(source: BinaryIO) -> contextlib.AbstractContextManager[Any]:
    """What Arrow reads: a file of this machine by itself. Through Python, pages of tens of MB would be there once more, and each
    read would wait for the interpreter's lock."""
    if isinstance(source, io.BufferedReader) and isinstance(source.raw, io.FileIO):
        return cast(contextlib.AbstractContextManager[Any], pa.OSFile(source.name, "rb"))
    return contextlib.nullcontext(source)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")


def _fields(schema: pa.Schema) -> list[pa.Field]:
    """The columns, and after each struct its fields at any depth, under their dotted names."""
    found: dict[str, pa.Field] = {}
    waiting = list(schema)
    while waiting:
        field = waiting.pop(0)
        kind = columns.plain(field.type)
        # A column whose own name has a dot comes before a field that is called the same.
        found.setdefault(field.name, pa.field(field.name, kind))
        if pa.types.is_struct(kind):
            waiting += [child.with_name(f"{field.name}.{child.name}") for child in kind]
    return list(found.values())


def _check(schema: pa.Schema, there: pa.Schema, path: str) -> None:
    available = {field.name: field for field in _fields(there)}
    for field in schema:
        if field.name not in available:
            raise columns.missing(field.name, path, list(available))
        if there.names.count(field.name) > 1:
            raise CorpusError(f"{path}: several columns are called {field.name!r}; rename all but one")
        got = available[field.name].type
        if not columns.lossless(got, field.type):
            raise CorpusError(
                f"{path}: column {field.name!r} is {got}, wanted {field.type} as in the rest of the corpus; "
                "write the file with that type or leave it out"
            )


def _chunk(batch: pa.RecordBatch, first: int, schema: pa.Schema, path: str) -> Chunk:
    addresses = np.arange(first, first + batch.num_rows, dtype=np.int64)
    if not schema.names:
        return Chunk(columns.without_columns(batch.num_rows), addresses)
    try:
        arrays = [_cast(_column(batch, field.name), field.type) for field in schema]
    except pa.ArrowInvalid as error:
        raise CorpusError(f"{path}: rows {first} to {first + batch.num_rows}: {_first_line(error)}") from error
    bad = {
        row: f"column {field.name!r} is not UTF-8 text"
        for field, array in zip(schema, arrays, strict=True)
        for row in columns.invalid_text(array)
    }
    table = pa.RecordBatch.from_arrays(arrays, schema=schema)
    if not bad:
        return Chunk(table, addresses)
    unread = tuple(Unread(int(addresses[row]), bad[row], row_payload(table, row)) for row in sorted(bad))
    kept = np.delete(np.arange(batch.num_rows), list(bad))
    return Chunk(table.take(pa.array(kept)), addresses[kept], unread=unread)


def _column(batch: pa.RecordBatch, name: str) -> pa.Array:
    if name in batch.schema.names:
        return batch.column(name)
    top, *path = _split(name, batch.schema)
    return pc.struct_field(batch.column(top), path)


def _cast(array: pa.Array, kind: pa.DataType) -> pa.Array:
    # Casting to the same type copies nothing, but lets go of the interpreter's lock, for which others wait.
    return array if array.type == kind else array.cast(kind)


def _split(name: str, schema: pa.Schema) -> list[str]:
    """A dotted name as the names of a column and of the fields within, any of which may have dots itself."""
    fields: Sequence[pa.Field] = list(schema)
    path: list[str] = []
    while name:
        field = max((f for f in fields if f"{name}.".startswith(f"{f.name}.")), key=lambda f: len(f.name))
        path.append(field.name)
        name = name[len(field.name) + 1 :]
        fields = list(field.type) if name else []
    return path
