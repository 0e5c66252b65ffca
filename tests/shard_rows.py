"""Rows with columns of many kinds, written as the data file of a shard."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from beamhub.corpus.shards import Shard
from beamhub.features.ledger import Counts, ShardResult
from beamhub.features.parquet_format import ParquetFormat
from beamhub.features.paths import VersionPaths
from beamhub.features.writer import ShardWriter

SHARD = Shard(path="corpus/a", relative="a", size=9, token="t1", start=2, end=5)
SCHEMA = pa.schema(
    [
        pa.field("key", pa.string()),
        pa.field("weight", pa.float32()),
        pa.field("tags", pa.list_(pa.string())),
        pa.field("embedding", pa.list_(pa.float32(), 2), metadata={"identity": "module@1"}),
        pa.field("map", pa.fixed_shape_tensor(pa.float32(), [2, 1])),
        pa.field("boxes", pa.list_(pa.list_(pa.float32(), 4))),
    ]
)


def batch(rows: int, first: int = 0) -> pa.RecordBatch:
    numbers = np.arange(first, first + rows)
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(np.repeat(numbers, 2).astype(np.float32)), 2)
    return pa.RecordBatch.from_arrays(
        [
            pa.array([f"k{n}" for n in numbers]),
            pa.array(numbers.astype(np.float32)),
            pa.array([["x"] * (n % 3) for n in numbers], pa.list_(pa.string())),
            vectors,
            pa.ExtensionArray.from_storage(SCHEMA.field("map").type, vectors),
            pa.array([[[n, n, n, n]] * (n % 2) for n in numbers], SCHEMA.field("boxes").type),
        ],
        schema=SCHEMA,
    )


def write(folder: Path, *batches: pa.RecordBatch, schema: pa.Schema = SCHEMA, shard: Shard = SHARD) -> ShardResult:
    rows = sum(each.num_rows for each in batches)
    paths = VersionPaths(str(folder), "e1")
    with ShardWriter(ParquetFormat(), paths, shard, schema) as writer:
        for each in batches:
            writer.write(each)
        return writer.close(Counts(read=rows + 3, produced=rows, dead=2, skipped=1, null_keys=1))


def path_of(folder: Path, result: ShardResult) -> Path:
    return folder / "v=e1" / result.file
