"""A module as a peer's worker holds it: one process, one core, the limit's function and batch size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
import tensorflow as tf

from benchmarks.limit import load, one_thread_for_operations, parquet_tensor, parser
from benchmarks.peers.job import Job

Vectors = np.ndarray[Any, np.dtype[np.float32]]


class Model:
    """Loads the module; its calls take any number of rows, and cut them into the limit's batches.

    `callers` is the number of threads that will call it at a time.
    """

    def __init__(self, job: Job, callers: int = 1) -> None:
        if not tf.executing_eagerly():
            raise RuntimeError("TensorFlow 2 behaviour is switched off in this process")
        one_thread_for_operations(callers)
        self.job = job
        self.size = job.size
        self.function = load(job.module, job.name, job.frozen)
        self.parse = parser(self.function, job.column)

    def of_column(self, column: Any) -> Vectors:
        """Vectors of an Arrow array of texts or encoded images."""
        if pa.types.is_large_binary(column.type):
            column = column.cast(pa.binary())
        return self._cut(column, lambda part: self.function(parquet_tensor(self.job.name, part)).numpy())

    def of_values(self, values: Sequence[bytes | str]) -> Vectors:
        """Vectors of texts or encoded images."""
        return self._cut(values, lambda part: self.function(tf.constant(part, tf.string)).numpy())

    def of_records(self, records: Sequence[bytes]) -> tuple[Any, Vectors]:
        """Ids, an Arrow array, and vectors of serialized `tf.Example`s."""
        found = [self.parse(tf.constant(part)) for part in self._parts(records)]
        ids = np.concatenate([ids.numpy() for ids, _ in found])
        return pa.array(ids), np.concatenate([vectors.numpy() for _, vectors in found])

    def _parts(self, rows: Any) -> list[Any]:
        return [rows[start : start + self.size] for start in range(0, len(rows), self.size)]

    def _cut(self, rows: Any, call: Callable[[Any], Vectors]) -> Vectors:
        found = [call(part) for part in self._parts(rows)]
        return found[0] if len(found) == 1 else np.concatenate(found)


@cache
def kept(job: Job) -> Model:
    """For workers that are given one task after the other: loaded once in each process."""
    return Model(job)


WIDTHS = {"text": 64, "vae": 16, "mobilenet035": 1280, "mobilenet100": 1280}


def schema(name: str) -> Any:
    return pa.schema([("key", pa.int64()), ("embedding", pa.list_(pa.float32(), WIDTHS[name]))])


def table(ids: Any, vectors: Vectors) -> Any:
    """The columns that every system writes."""
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
    ids = ids.combine_chunks() if isinstance(ids, pa.ChunkedArray) else ids
    return pa.table({"key": ids, "embedding": column})


def lists(ids: Any, vectors: Vectors) -> Any:
    """The same as a record batch of plain lists: Spark knows none of fixed size, and Parquet stores both alike."""
    rows, width = (int(side) for side in vectors.shape)
    offsets = pa.array(np.arange(0, (rows + 1) * width, width, np.int32))
    column = pa.ListArray.from_arrays(offsets, pa.array(vectors.reshape(-1)))
    return pa.record_batch({"key": ids, "embedding": column})
