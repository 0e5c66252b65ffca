"""Ray Data: `map_batches` with a pool of actors, one for each core, each holding the module.

A batch goes to one actor, so on images, where one file would fit into a batch of 8,192, batches are of 64 rows.
TFRecord is read by `read_tfrecords`, Ray's own reader, into columns.
"""

from __future__ import annotations

import logging
from typing import Any

import psutil
import ray

from benchmarks.peers.job import CORES, Job, handed_over, job, parser


class Embed:
    """An actor: TensorFlow is imported and the module loaded once in each."""

    def __init__(self, job: Job) -> None:
        from benchmarks.peers.model import Model

        self.job = job
        self.model = Model(job)

    def __call__(self, rows: Any) -> Any:
        from benchmarks.peers.model import table

        rows = rows.combine_chunks()
        column = rows.column(self.job.column)
        return table(rows.column("id"), self.model.of_column(column.chunk(0)))


def run(job: Job, batch: int, blocks: int | None) -> None:
    # An actor holds its core for good: with no slot beside them nothing would be left to read, and the job stand still.
    # Ray's own share for objects, but of all memory: it would go by what is free, which a ballast holds.
    objects = int(0.3 * psutil.virtual_memory().total)
    ray.init(
        num_cpus=CORES + 1,
        object_store_memory=objects,
        _system_config={"memory_monitor_refresh_ms": 0},
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    files = list(job.files)
    if job.parquet:
        data = ray.data.read_parquet(files, columns=["id", job.column], override_num_blocks=blocks)
    else:
        data = ray.data.read_tfrecords(files, override_num_blocks=blocks)
    data = data.map_batches(
        Embed,
        fn_constructor_args=(job,),
        batch_size=batch,
        batch_format="pyarrow",
        zero_copy_batch=True,
        num_cpus=1,
        concurrency=CORES,
    )
    data.write_parquet(str(job.out))


def main() -> None:
    parse = parser()
    parse.add_argument("--blocks", type=int)
    args = parse.parse_args()
    run(job(args), handed_over(args), args.blocks)


if __name__ == "__main__":
    main()
