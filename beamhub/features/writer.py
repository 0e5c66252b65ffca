"""Writes the data file of one shard, so that it is there whole or not at all, and the first attempt stays."""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict, replace
from types import TracebackType
from typing import Any, Self

import pyarrow as pa

from beamhub import storage
from beamhub.corpus.shards import Shard
from beamhub.errors import BeamhubError
from beamhub.features.checksums import ChecksumFile
from beamhub.features.formats import RowSink, TableFormat
from beamhub.features.ledger import Counts, ShardResult
from beamhub.features.paths import FORMAT_VERSION, VersionPaths, pending_name
from beamhub.features.steps import step


class ShardWriter:
    """A context manager: `write` batches, then `close` with the counts, which gives the shard's result.

    Left without `close`, or by an exception, it leaves nothing. The file's bytes depend on the rows, the
    shard and the counts alone. `pending` is for a shard of a file that the manifest knows already: the file
    waits for its commit.

    Dead letters are written before `close`, so that a data file is never without them.

        with ShardWriter(format_named("parquet"), paths, shard, schema, pending=state.waits(shard)) as writer:
            for batch in batches:
                writer.write(batch)
            result = writer.close(Counts(read=3, produced=3))
    """

    def __init__(
        self, format: TableFormat, paths: VersionPaths, shard: Shard, schema: pa.Schema, pending: bool = False
    ) -> None:
        """Touches no file before the block begins."""
        self._format = format
        self._shard = shard
        self._schema = storable_schema(schema)
        self._pending = pending
        self._name = paths.data_name(shard, format.extension)
        self._path = paths.path(pending_name(self._name) if pending else self._name)
        self._schema_path = paths.schema
        self._rows = 0
        self._finished = False
        self._open = contextlib.ExitStack()

    def __enter__(self) -> Self:
        """Begins the file, beside its place."""
        # What is there and whole is as good as ours, and may be committed by now: it stays. Only a footer
        # tells.
        replace_it = not self._format.has_footer or self._is_broken()
        self._file = ChecksumFile(self._open.enter_context(storage.create(self._path, replace=replace_it)))
        if not self._format.has_footer and storage.info(self._schema_path) is None:
            storage.create_exclusive(self._schema_path, bytes(self._schema.serialize()))
        self._sink: RowSink = self._format.sink(self._file, self._schema)
        return self

    def write(self, batch: pa.RecordBatch) -> None:
        """Takes rows of the schema. Raises BeamhubError when they have other columns, or a null vector."""
        self._sink.write(conform(batch, self._schema))
        self._rows += batch.num_rows

    def close(self, counts: Counts) -> ShardResult:
        """Gives the file its name.

        Where another attempt has left a whole one, that stays, and its result is returned.
        """
        self._sink.finish(encode_footer(self._shard, counts))
        self._finished = True
        step("data")
        try:
            self._open.close()
        except FileExistsError:
            return self._other_attempt()
        return ShardResult(
            **_identity(self._shard),
            **asdict(counts),
            outcome="done",
            file=self._name,
            rows=self._rows,
            bytes=self._file.size,
            checksum=self._file.checksum,
            pending=self._pending,
        )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Drops the file, unless `close` has given it its name."""
        if self._finished:
            self._open.__exit__(kind, error, trace)
            return
        self._sink.abort()
        wrong = error or BeamhubError(f"{self._path}: left without close(), so nothing was written; call it")
        self._open.__exit__(type(wrong), wrong, trace)
        if error is None:
            raise wrong

    def _is_broken(self) -> bool:
        return storage.info(self._path) is not None and self._format.recover(self._path) is None

    def _other_attempt(self) -> ShardResult:
        found = self._format.recover(self._path)
        if found is None:
            raise BeamhubError(f"{self._path}: another attempt left a file that is not whole; run again")
        return replace(found, file=self._name, pending=self._pending)


def encode_footer(shard: Shard, counts: Counts) -> bytes:
    """What a data file says of itself: the layout's version, the shard and the counts; no run, time or host."""
    document = {"format": FORMAT_VERSION, **_identity(shard), **asdict(counts)}
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def _identity(shard: Shard) -> dict[str, Any]:
    named = {"shard": shard.id, "relative": shard.relative, "token": shard.token}
    return {**named, "start": shard.start, "end": shard.end}


def storable_schema(schema: pa.Schema) -> pa.Schema:
    """The schema as files hold it: dictionaries resolved, for how they are cut depends on the batches; no
    metadata but the fields'."""
    fields = [
        field.with_type(field.type.value_type) if pa.types.is_dictionary(field.type) else field for field in schema
    ]
    return pa.schema(fields)


def conform(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """The batch with exactly the schema's fields.

    Raises BeamhubError when it has other columns, or a null vector.
    """
    if batch.schema.names != schema.names:
        raise BeamhubError(f"rows with columns {batch.schema.names}: wanted {schema.names}; the encoder is wrong")
    return pa.RecordBatch.from_arrays(
        [_conform_column(column, field) for column, field in zip(batch.columns, schema, strict=True)],
        schema=schema,
    )


def _conform_column(column: pa.Array, field: pa.Field) -> pa.Array:
    plain = column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
    if plain.type != field.type:
        raise BeamhubError(f"column {field.name}: got {plain.type}, wanted {field.type}; the encoder is wrong")
    is_vector = isinstance(field.type, pa.FixedShapeTensorType) or pa.types.is_fixed_size_list(field.type)
    if is_vector and plain.null_count:
        # pyarrow 25 writes a null vector and cannot read it back.
        raise BeamhubError(
            f"column {field.name}: {plain.null_count} null vectors; a vector is never null, drop the record"
        )
    return plain
