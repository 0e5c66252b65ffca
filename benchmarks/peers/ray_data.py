"""Ray Data: `map_batches` with a pool of actors, one for each core, each holding the module.

A batch goes to one actor, so on images, where one file would fit into a batch of 8,192, batches are of 64 rows. So does a block,
and Ray reads files into one until it has 128 MiB: on photographs one actor would get all of a small corpus, so they have 4.
Ray's own reader, `read_tfrecords`, makes a table of every record of TFRecord: so an actor is given file names and reads them as
the limit does. What is written is plain.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import psutil
import ray

from benchmarks.peers.job import CORES, PLAIN, Job, handed_over, job, parser

BLOCKS = {"mobilenet035": 4 << 20, "mobilenet100": 4 << 20}
"""Bytes in a block that is read, where Ray's own would leave an actor idle: two and four files went to one of two."""


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


class EmbedFiles:
    """The same, given names of TFRecord files."""

    def __init__(self, job: Job, batch: int) -> None:
        from benchmarks.peers.model import Model

        self.batch = batch
        self.model = Model(job)

    def __call__(self, files: Any) -> Iterator[Any]:
        from benchmarks.limit import tfrecord_batches
        from benchmarks.peers.model import table

        for file in files.column("file").to_pylist():
            for _, records in tfrecord_batches(file, self.batch):
                yield table(*self.model.of_records(records))


def run(job: Job, batch: int, blocks: int | None) -> None:
    # An actor holds its core for good: with no slot beside them nothing would be left to read, and the job stand still. With as
    # many slots as actors it was no faster (four files of texts, three pairs: 41, 44, 48 s with one, 42, 44, 54 s with two).
    # Ray's own shares, but of all memory: it would go by what is free, which a ballast holds.
    total = psutil.virtual_memory().total
    objects = int(0.3 * total)
    ray.init(
        num_cpus=CORES + 1,
        object_store_memory=objects,
        _memory=total - objects,
        _system_config={"memory_monitor_refresh_ms": 0},
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    # Else the first actor that is up gets the first files, and another core is idle until the next.
    context.wait_for_min_actors_s = 60
    files = list(job.files)
    each = {"batch_format": "pyarrow", "zero_copy_batch": True, "num_cpus": 1, "concurrency": CORES}
    if job.parquet:
        context.target_max_block_size = BLOCKS.get(job.name, context.target_max_block_size)
        data = ray.data.read_parquet(files, columns=["id", job.column], override_num_blocks=blocks)
        data = data.map_batches(Embed, fn_constructor_args=(job,), batch_size=batch, **each)
    else:
        data = ray.data.from_items([{"file": file} for file in files], override_num_blocks=len(files))
        data = data.map_batches(EmbedFiles, fn_constructor_args=(job, batch), batch_size=1, **each)
    data.write_parquet(str(job.out), **PLAIN)


def main() -> None:
    parse = parser()
    parse.add_argument("--blocks", type=int)
    args = parse.parse_args()
    run(job(args), handed_over(args), args.blocks)


if __name__ == "__main__":
    main()
