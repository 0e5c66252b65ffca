"""One shard: read, prepare, infer, encode, write. Plain Python over iterators; knows nothing of Beam."""

from __future__ import annotations

import collections
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from beamhub import storage
from beamhub.corpus.formats import reader_for
from beamhub.corpus.payload import payload
from beamhub.corpus.shards import Chunk, Shard
from beamhub.engine.batches import batches
from beamhub.engine.caller import Failure
from beamhub.engine.inference import Inferred
from beamhub.engine.pool import ComputePool
from beamhub.engine.tablespec import TableSpec
from beamhub.errors import BeamhubError
from beamhub.features.dead import DeadLetter, write_dead
from beamhub.features.formats import format_named
from beamhub.features.ledger import Counts, ShardResult
from beamhub.features.paths import VersionPaths
from beamhub.features.writer import ShardWriter
from beamhub.spec import RECORD

CHUNK_BYTES = 4 << 20
"""Bytes of a corpus that are decoded at a time."""

FAILURES = (BeamhubError, OSError, pa.ArrowException, MemoryError, RuntimeError)
"""What fails a shard and not the job. Anything else is a mistake in beamhub, and is raised."""


@dataclass(frozen=True, slots=True)
class WorkItem:
    """A shard to compute. `pending`: its file replaces committed ones, so it waits for the commit."""

    shard: Shard
    pending: bool = False


def compute_shard(item: WorkItem, spec: TableSpec, paths: VersionPaths, pool: ComputePool) -> ShardResult:
    """Computes a shard and writes its files, dead letters first.

    Returns:
        The result; a shard that cannot be read or written, or whose input changes meanwhile, is a result too.
    """
    shard = item.shard
    try:
        return _Computation(item, spec, paths, pool).run()
    except _InputChangedError:
        return ShardResult.not_done(shard, "stale", f"{shard.path} changed while it was read; run again")
    except FAILURES as error:
        reason = (str(error).strip().splitlines() or [""])[0]
        kind = "" if isinstance(error, BeamhubError) else f"{type(error).__name__}: "
        return ShardResult.not_done(shard, "failed", kind + reason)


class _InputChangedError(Exception):
    """The shard's file is not the one that was planned."""


def needs_records(spec: TableSpec) -> bool:
    """Whether serialized records are fed."""
    return any(binding.column == RECORD for binding in spec.call.bindings)


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
        kept = [columns.column(name) for name in self._spec.keep]
        key = self._addresses(batch, inferred) if self._spec.key is None else columns.column(self._spec.key)
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


class _Computation:
    def __init__(self, item: WorkItem, spec: TableSpec, paths: VersionPaths, pool: ComputePool) -> None:
        self._item = item
        self._shard = item.shard
        self._spec = spec
        self._paths = paths
        self._pool = pool

    def run(self) -> ShardResult:
        shard, paths, schema = self._shard, self._paths, self._spec.schema
        rows = Rows(self._spec, shard)
        dead: list[DeadLetter] = []
        read = produced = null_keys = 0
        self._check_token()
        with ShardWriter(format_named(self._spec.output_format), paths, shard, schema, self._item.pending) as writer:
            for batch, inferred in self._inferred():
                made = rows.produced(batch, inferred)
                dead += rows.dead(batch, inferred)
                read += batch.read
                produced += made.num_rows
                null_keys += made.column("key").null_count
                if made.num_rows:
                    writer.write(made)
            self._check_token()
            # Before the data file gets its name: a file that is there is done, with its dead letters.
            write_dead(paths, shard, dead)
            return writer.close(Counts(read, produced, len(dead), 0, null_keys))

    def _check_token(self) -> None:
        now = storage.info(self._shard.path)
        if now is None or now.token != self._shard.token:
            raise _InputChangedError

    def _batches(self) -> Iterator[Chunk]:
        size = self._spec.call.sizes[0]
        chunks = reader_for(self._spec.corpus_format).read(
            self._shard,
            self._spec.corpus_schema,
            records=needs_records(self._spec),
            rows=size * max(1, 4096 // size),
            max_bytes=CHUNK_BYTES,
        )
        return batches(chunks, size)

    def _inferred(self) -> Iterator[tuple[Chunk, Inferred]]:
        """Batches in order with what came of them; a few are computed ahead, on all threads of the pool."""
        waiting: collections.deque[tuple[Chunk, Future[Inferred]]] = collections.deque()
        try:
            for batch in self._batches():
                waiting.append((batch, self._pool.executor.submit(self._pool.inference.run, batch)))
                if len(waiting) > self._pool.threads + 1:
                    done, future = waiting.popleft()
                    yield done, future.result()
            while waiting:
                done, future = waiting.popleft()
                yield done, future.result()
        finally:
            for _, future in waiting:
                future.cancel()
