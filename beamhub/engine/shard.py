"""One shard: its batches in, its file out. Plain Python over iterators; knows nothing of Beam."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import pyarrow as pa

from beamhub import storage
from beamhub.corpus.format import Scan, Span, Stretch, Wanted
from beamhub.corpus.formats import reader_for
from beamhub.corpus.shards import Chunk, Shard
from beamhub.engine.batches import batches
from beamhub.engine.inference import Inferred
from beamhub.engine.rows import Rows
from beamhub.engine.tablespec import TableSpec
from beamhub.errors import BeamhubError
from beamhub.features.dead import DeadWriter
from beamhub.features.formats import format_named
from beamhub.features.key_order import KeyOrder
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
    """A shard to compute. `pending`: its file replaces committed ones, so it waits for the commit.

    `behind` is the offset of the last FalseStartError, where there was one.
    """

    shard: Shard
    pending: bool = False
    behind: int | None = None


class InputChangedError(Exception):
    """A shard's file is not the one that was planned."""


def check_token(shard: Shard) -> None:
    """Raises InputChangedError where a shard's file has another token by now."""
    now = storage.info(shard.path)
    if now is None or now.token != shard.token:
        raise InputChangedError(f"{shard.path} changed while it was read; run again")


def result_of(shard: Shard, error: BaseException) -> ShardResult | None:
    """What became of a shard that an error ended; None where the error is no failure of a shard."""
    if isinstance(error, InputChangedError):
        return ShardResult.not_done(shard, "stale", str(error))
    if not isinstance(error, FAILURES):
        return None
    reason = (str(error).strip().splitlines() or [""])[0]
    kind = "" if isinstance(error, BeamhubError) else f"{type(error).__name__}: "
    return ShardResult.not_done(shard, "failed", kind + reason)


def needs_records(spec: TableSpec) -> bool:
    """Whether serialized records are fed."""
    return any(binding.column == RECORD for binding in spec.call.bindings)


def fed_strings(spec: TableSpec) -> frozenset[str]:
    """Columns of single strings that are fed and nothing else: no Arrow array is needed of them."""
    kept = {spec.key, *spec.keep, RECORD}
    return frozenset(each.column for each in spec.call.bindings if each.dtype == "string" and each.shape == ()) - kept


def batch_rows(spec: TableSpec) -> int:
    """Records that go through the stages together, where bytes allow: those of one or more calls."""
    size = spec.call.sizes[0]
    return size * max(1, spec.call.together // size)


def scan(item: WorkItem, spec: TableSpec) -> tuple[Scan, Iterator[Stretch]]:
    """A scan of the shard, and its records in batches of one or more calls.

    Reading the batches raises CorpusError for a damaged file, FalseStartError, or OSError.
    """
    size = batch_rows(spec)
    wanted = Wanted(
        size * max(1, 4096 // size),
        CHUNK_BYTES,
        records=needs_records(spec),
        tensors=fed_strings(spec),
        behind=item.behind,
    )
    stretches = reader_for(spec.corpus_format).scan(item.shard, spec.corpus_schema, wanted)
    return stretches, batches(stretches, size)


class ShardOutput:
    """A shard's files while they are written. A context manager: left without `close`, it leaves nothing."""

    def __init__(self, item: WorkItem, spec: TableSpec, paths: VersionPaths) -> None:
        self._shard = item.shard
        self._rows = Rows(spec, item.shard)
        format = format_named(spec.output_format)
        self._writer = ShardWriter(format, paths, item.shard, spec.schema, item.pending)
        self._order = KeyOrder() if spec.key is not None else None
        self._dead = DeadWriter(paths, item.shard)
        self._read = self._produced = self._null_keys = 0
        self._open = ExitStack()

    def write(self, batch: Chunk, inferred: Inferred) -> None:
        """Writes what came of a batch; batches come in the order of the shard."""
        made = self._rows.produced(batch, inferred)
        self._dead.add(self._rows.dead(batch, inferred))
        self._read += batch.read
        self._produced += made.num_rows
        self._null_keys += made.column("key").null_count
        if self._order is not None:
            self._order.add(made.column("key"))
        if made.num_rows:
            self._writer.write(made)

    def close(self, span: Span | None) -> ShardResult:
        """Gives the files their names, dead letters first; `span` is the scan's. Raises InputChangedError."""
        check_token(self._shard)
        # Before the data file gets its name: a file that is there is done, with its dead letters.
        self._dead.close()
        first, last = (self._order and self._order.range) or (None, None)
        begins, ends = span or (None, None)
        counts = Counts(self._read, self._produced, self._dead.count, 0, self._null_keys, first, last, begins, ends)
        return self._writer.close(counts)

    def __enter__(self) -> Self:
        """Begins the data file."""
        self._open.enter_context(self._writer)
        self._open.enter_context(self._dead)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Drops the files, unless they were closed."""
        self._open.__exit__(kind, error, trace)
