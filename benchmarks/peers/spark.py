"""Spark: `mapInArrow`, a Python worker for each core, each holding the module.

Arrow batches go to Python as they are (`mapInArrow`); `predict_batch_udf` would make pandas of them on the way. Splits
are of 32 MiB at most, so that two cores always have one each; no dictionary is tried on vectors. Workers are reused, and
keep the module. Text: 129,000 rows per CPU-second on a shared machine. Spark has no reader for TFRecord: a task is given the
place of a file and reads it as the limit does. Places are a range, which Spark deals evenly; rows that it deals anew by
`repartition` may all go to one task, and two files went to one of two cores.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Any

from pyspark.sql import SparkSession

from benchmarks.peers.job import CORES, Job, handed_over, job, parser


def session(batch: int) -> Any:
    # Spark's own choice is whatever `python3` is on the PATH.
    os.environ["PYSPARK_PYTHON"] = sys.executable
    settings = {
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.driver.memory": "4g",
        "spark.sql.execution.arrow.maxRecordsPerBatch": str(batch),
        "spark.sql.files.maxPartitionBytes": str(32 << 20),
        "spark.sql.parquet.compression.codec": "uncompressed",
        "parquet.enable.dictionary": "false",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
    }
    build = SparkSession.builder.master(f"local[{CORES}]").appName("benchmark")
    for name, value in settings.items():
        build = build.config(name, value)
    return build.getOrCreate()


def run(job: Job, batch: int) -> None:
    spark = session(batch)
    spark.sparkContext.setLogLevel("ERROR")

    def embed(batches: Iterator[Any]) -> Iterator[Any]:
        from benchmarks.peers.model import kept, lists

        for rows in batches:
            vectors = kept(job).of_column(rows.column(1))
            yield lists(rows.column(0), vectors)

    def embed_files(batches: Iterator[Any]) -> Iterator[Any]:
        from benchmarks.limit import tfrecord_batches
        from benchmarks.peers.model import kept, lists

        for places in batches:
            for place in places.column(0).to_pylist():
                for _, records in tfrecord_batches(job.files[place], batch):
                    yield lists(*kept(job).of_records(records))

    if job.parquet:
        rows = spark.read.parquet(*job.files).select("id", job.column)
        found = rows.mapInArrow(embed, "key long, embedding array<float>")
    else:
        places = spark.range(0, len(job.files), numPartitions=len(job.files))
        found = places.mapInArrow(embed_files, "key long, embedding array<float>")
    found.write.mode("append").parquet(str(job.out))
    spark.stop()


def main() -> None:
    parse = parser()
    args = parse.parse_args()
    run(job(args), handed_over(args))


if __name__ == "__main__":
    main()
