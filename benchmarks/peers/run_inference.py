"""Beam's `RunInference`, well set up: an element is a row and Beam makes the batches; or `--tables`.

Settings, on `FnApiRunner`:

- A process for each core: rows hold the interpreter lock, so threads of one process share one core. Text, rows per
  CPU-second on a shared machine: 87,000 with processes, 74,000 with threads, 67,000 with one; the limit had 398,000.
- The handler takes (id, value) pairs itself. `KeyedModelHandler` would take each apart and put it together once more.
- `get_num_bytes` is our own: Beam's pickles every element to learn its size.
- Batches are of one size, and large: `BatchElements` left to itself looks for a size, and TensorFlow traces each. Text in
  batches of 1,024: 71,000 rows per CPU-second.
- Files are read as tables and taken apart, which is what `ReadFromParquet` does; vectors are gathered to tables again,
  since `WriteToParquet` would turn each into a Python list of floats, and written as the limit writes them.
- `--tables` is for who knows that elements are what costs: a table is an element; for TFRecord it is a list of records, which a
  worker reads from a file as the limit does.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import apache_beam as beam
import pyarrow as pa
from apache_beam.ml.inference.base import ModelHandler, RunInference
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from benchmarks.peers.job import CORES, Job, handed_over, job, parser
from benchmarks.peers.model import Model, table
from benchmarks.peers.writing import WriteTables


class Rows(ModelHandler[Any, Any, Model]):
    """Elements are (id, text or image), or serialized `tf.Example`s; results are (id, vector)."""

    def __init__(self, job: Job, callers: int, batch: int) -> None:
        super().__init__(min_batch_size=batch, max_batch_size=batch)
        self.job, self.callers = job, callers

    def load_model(self) -> Model:
        return Model(self.job, self.callers)

    def run_inference(
        self, batch: Sequence[Any], model: Model, inference_args: dict[str, Any] | None = None
    ) -> Iterable[Any]:
        if self.job.parquet:
            ids, values = zip(*batch, strict=True)
            return zip(ids, model.of_values(values), strict=True)
        found, vectors = model.of_records(batch)
        return zip(found.to_pylist(), vectors, strict=True)

    def get_num_bytes(self, batch: Sequence[Any]) -> int:
        # Beam's own pickles every element to learn its size.
        return len(batch)


class Batches(ModelHandler[Any, Any, Model]):
    """Elements are Arrow tables, or lists of serialized `tf.Example`s; results are Arrow tables."""

    def __init__(self, job: Job, callers: int) -> None:
        super().__init__(min_batch_size=1, max_batch_size=1)
        self.job, self.callers = job, callers

    def load_model(self) -> Model:
        return Model(self.job, self.callers)

    def run_inference(
        self, batch: Sequence[Any], model: Model, inference_args: dict[str, Any] | None = None
    ) -> Iterable[Any]:
        for rows in batch:
            if self.job.parquet:
                whole = rows.combine_chunks()
                yield table(whole.column("id"), model.of_column(whole.column(self.job.column).chunk(0)))
            else:
                yield table(*model.of_records(rows))

    def get_num_bytes(self, batch: Sequence[Any]) -> int:
        return len(batch)


def pairs(rows: Any, column: str) -> Iterable[tuple[int, Any]]:
    return zip(rows.column("id").to_pylist(), rows.column(column).to_pylist(), strict=True)


def gathered(rows: Sequence[tuple[int, Any]]) -> Any:
    import numpy as np

    ids, vectors = zip(*rows, strict=True)
    return table(pa.array(ids), np.stack(vectors))


def lists_of_records(file: str, batch: int) -> Iterable[list[bytes]]:
    from benchmarks.limit import tfrecord_batches

    return (records for _, records in tfrecord_batches(file, batch))


def run(job: Job, mode: str, workers: int, batch: int, tables: bool) -> None:
    flags = [f"--direct_running_mode={mode}", f"--direct_num_workers={workers}", "--no_pipeline_type_check"]
    threads = workers if mode == "multi_threading" else 1
    with beam.Pipeline(runner=FnApiRunner(), options=PipelineOptions(flags)) as pipeline:
        files = pipeline | "Files" >> beam.Create(job.files)
        if job.parquet:
            rows = files | beam.io.parquetio.ReadAllFromParquetBatched(columns=["id", job.column])
            if not tables:
                rows |= beam.FlatMap(pairs, job.column)
        elif tables:
            rows = files | beam.Reshuffle() | beam.FlatMap(lists_of_records, batch)
        else:
            rows = files | beam.io.ReadAllFromTFRecord()
        if tables:
            found = rows | RunInference(Batches(job, threads))
        else:
            found = rows | RunInference(Rows(job, threads, batch))
            found |= "Gather" >> beam.BatchElements(min_batch_size=4096, max_batch_size=4096)
            found |= beam.Map(gathered)
        found | beam.ParDo(WriteTables(job.out))


def main() -> None:
    parse = parser()
    parse.add_argument("--tables", action="store_true")
    parse.add_argument("--mode", default="multi_processing")
    parse.add_argument("--workers", type=int, default=CORES)
    args = parse.parse_args()
    run(job(args), args.mode, args.workers, handed_over(args), args.tables)


if __name__ == "__main__":
    main()
