"""Corpora for tests, written by TensorFlow and pyarrow, and a reader that gives everything at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf

from beamhub.corpus.format import Wanted
from beamhub.corpus.formats import reader_for
from beamhub.corpus.listing import Corpus
from beamhub.corpus.shards import Chunk, Shard


def example(**features: Sequence[int] | Sequence[float] | Sequence[bytes]) -> bytes:
    """A serialized tf.Example; the first value of a feature tells its kind."""
    made = tf.train.Example()
    for name, values in features.items():
        feature = made.features.feature[name]
        kinds = {int: feature.int64_list, float: feature.float_list, bytes: feature.bytes_list}
        kinds[type(values[0])].value.extend(values)
    return made.SerializeToString()


def write_tfrecord(path: Path, records: Iterable[bytes], compression: str = "") -> str:
    with tf.io.TFRecordWriter(str(path), compression) as writer:
        for record in records:
            writer.write(record)
    return str(path)


def read(corpus: Corpus, schema: pa.Schema, rows: int = 2048, max_bytes: int = 1 << 20) -> list[Chunk]:
    return [
        chunk
        for shard in corpus.shards
        for chunk in reader_for(corpus.format).read(shard, schema, Wanted(rows, max_bytes))
    ]


def columns(chunks: Sequence[Chunk]) -> dict[str, list[object]]:
    """The columns of all chunks, as Python values."""
    found: dict[str, list[object]] = pa.Table.from_batches([chunk.columns for chunk in chunks]).to_pydict()
    return found


def write_parquet(path: Path, data: dict[str, Any], **options: Any) -> str:
    pq.write_table(pa.table(data), path, **options)
    return str(path)


def read_parquet(path: str, schema: pa.Schema, rows: int = 1000, max_bytes: int = 1 << 20, **where: int) -> list[Chunk]:
    shard = Shard(path, Path(path).name, 0, "", **where)
    return list(reader_for("parquet").read(shard, schema, Wanted(rows, max_bytes)))
