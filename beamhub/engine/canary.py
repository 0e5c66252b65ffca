"""The first records of a corpus through a version's spec, without a pipeline and without a file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import pyarrow as pa

from beamhub.corpus.format import Stretch, Wanted
from beamhub.corpus.formats import reader_for
from beamhub.corpus.listing import Corpus
from beamhub.corpus.shards import WHOLE
from beamhub.engine.batches import batches
from beamhub.engine.pool import acquire_pool
from beamhub.engine.rows import Rows
from beamhub.engine.shard import CHUNK_BYTES, batch_rows, needs_records
from beamhub.engine.tablespec import TableSpec
from beamhub.features.dead import DeadLetter


@dataclass(frozen=True)
class Canary:
    """What the first records gave: rows of the table, and dead letters."""

    rows: pa.Table
    dead: list[DeadLetter]


def canary(spec: TableSpec, corpus: Corpus, limit: int) -> Canary:
    """Runs the first `limit` records; raises what reading them raises."""
    inference = acquire_pool(spec).inference
    made: list[pa.RecordBatch] = []
    dead: list[DeadLetter] = []
    left = limit
    for piece in corpus.shards:
        if piece.start:
            continue
        # The whole file: where a later range begins is found out by a run only.
        shard = replace(piece, end=WHOLE)
        rows = Rows(spec, shard)
        wanted = Wanted(min(limit, 1024), CHUNK_BYTES, records=needs_records(spec))
        stretches = reader_for(spec.corpus_format).scan(shard, spec.corpus_schema, wanted)
        for stretch in batches(_first(stretches, left), batch_rows(spec)):
            left -= stretch.rows
            batch = stretch.decode()
            inferred = inference.run(batch)
            made.append(rows.produced(batch, inferred))
            dead += rows.dead(batch, inferred)
        if left <= 0:
            break
    return Canary(pa.Table.from_batches(made, spec.schema), dead)


def _first(stretches: Iterator[Stretch], limit: int) -> Iterator[Stretch]:
    for stretch in stretches:
        if limit <= 0:
            return
        yield stretch.cut(0, min(limit, stretch.rows))
        limit -= stretch.rows
