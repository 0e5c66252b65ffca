"""Rows of the table and dead letters, of what the module made of a batch."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from beamhub.corpus.payload import payload
from beamhub.corpus.shards import Chunk, Shard
from beamhub.engine.caller import Failure
from beamhub.engine.inference import Inferred
from beamhub.engine.tablespec import TableSpec
from beamhub.features.dead import DeadLetter


class Rows:
    """Table rows and dead letters of a shard's batches."""

    def __init__(self, spec: TableSpec, shard: Shard) -> None:
        self._spec = spec
        self._shard = shard
        self._schema = spec.schema

    def produced(self, batch: Chunk, inferred: Inferred) -> pa.RecordBatch:
        """The rows of the table that a batch gave, in record order."""
        if not len(inferred.rows):
            return pa.RecordBatch.from_pylist([], self._schema)
        columns = batch.columns
        if len(inferred.rows) < batch.rows:
            columns = columns.take(pa.array(inferred.rows))
        kept = [_apart(columns.column(name)) for name in self._spec.keep]
        key = self._addresses(batch, inferred) if self._spec.key is None else _apart(columns.column(self._spec.key))
        return pa.RecordBatch.from_arrays([key, *kept, *inferred.columns], schema=self._schema)

    def _addresses(self, batch: Chunk, inferred: Inferred) -> pa.Array:
        addresses = pa.array(batch.addresses[inferred.rows]).cast(pa.string())
        return pc.binary_join_element_wise(self._shard.relative, addresses, ":")

    def dead(self, batch: Chunk, inferred: Inferred) -> list[DeadLetter]:
        """The dead letters of a batch."""
        letters = [
            self._letter(None, each.address, Failure("decode", each.reason), each.payload) for each in batch.unread
        ]
        for row, failure in sorted(inferred.failures.items()):
            key = None if self._spec.key is None else batch.columns.column(self._spec.key)[row].as_py()
            letters.append(self._letter(key, int(batch.addresses[row]), failure, payload(batch, row)))
        return letters

    def _letter(self, key: object, address: int, failure: Failure, content: bytes) -> DeadLetter:
        return DeadLetter(
            key=f"{self._shard.relative}:{address}" if key is None else str(key),
            file=self._shard.relative,
            range=f"{self._shard.start}:{self._shard.end}",
            address=address,
            stage=failure.stage,
            error=failure.reason,
            traceback=failure.traceback,
            identity=self._spec.version,
            attempts=failure.attempts,
            payload=content,
        )


def _apart(column: pa.Array) -> pa.Array:
    """A copy. Columns of one decoded batch hold each other in memory: a key of 8 bytes would hold its image until the row
    group is full."""
    return pa.concat_arrays([column, column.slice(0, 0)])
