"""What a run costs over a million shards: planning, committing, finding nothing to do, committing 1 % anew; seconds of the
clock and of the processor, and peak memory, each with all that the process imports.

    python -m benchmarks.million [--ranges R] [SHARDS]

The listing is simulated, for a million files are no part of what is measured: the corpus, and the data files that the shards'
results speak of, are names only; each file is one shard, or R ranges. Ledger, manifest and run papers are real files. Each
step has a process of its own, and imports what the command would. Exit status 1 where a step takes more than 60 seconds or
1 GB.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from beamhub import storage
from beamhub.corpus.splitting import SPLIT_BYTES
from beamhub.engine.planning import make_plan
from beamhub.engine.shard import WorkItem
from beamhub.engine.worklist import RunPapers, commit_run, read_outcome, read_worklist
from beamhub.features.ledger import ShardResult
from beamhub.features.ledger_writer import LedgerWriter
from beamhub.features.lineage import write_once
from beamhub.features.paths import VersionPaths, pending_name
from beamhub.spec import EmbedJob

FIRST = "dt=00000/part-00000000.parquet"
PARTITIONS = 1000
BYTES = 64 << 20
DATA_BYTES = 256_000
EVERY = 100
"""One corpus file of so many has changed for the last steps."""
SECONDS, MEMORY = 60.0, 1.0
"""By the clock, and in 10^9 bytes, that a step may take."""
STEPS = ("plan", "finish", "commit", "nothing", "changed", "finish-changed", "commit-changed")


class Listing:
    """A corpus of one real file under many names, in the place of the storage's listings; and the data files that workers
    would have written."""

    def __init__(self, folder: Path, files: int, ranges: int, changed: bool) -> None:
        self.find = storage.find
        self.walk = storage.walk
        self.folder = folder
        self.first = folder / "corpus" / FIRST
        self.pattern = f"{folder}/corpus/dt=*/*.parquet"
        self.count = files
        self.size = SPLIT_BYTES * ranges if ranges > 1 else BYTES
        self.changed = changed
        storage.find, storage.walk = self.find_simulated, self.walk_simulated
        # Nor is there a file to publish.
        storage.move = lambda source, target: None

    def find_simulated(self, pattern: str) -> Iterator[storage.FileInfo]:
        return self.corpus() if pattern == self.pattern else self.find(pattern)

    def walk_simulated(self, folder: str) -> Iterator[storage.FileInfo]:
        yield from self.walk(folder)
        if "/v=" in folder and "/_beamhub" not in folder:
            for names in self.folder.glob("names-*.txt"):
                with names.open() as lines:
                    yield from (storage.FileInfo(f"{folder}/{line[:-1]}", DATA_BYTES, "") for line in lines)

    def corpus(self) -> Iterator[storage.FileInfo]:
        real = storage.info(str(self.first))
        assert real is not None
        yield real
        root = str(self.first.parent.parent)
        for n in range(1, self.count):
            token = f"{real.token}+" if self.changed and n % EVERY == 0 else real.token
            yield storage.FileInfo(f"{root}/dt={n % PARTITIONS:05d}/part-{n:08d}.parquet", self.size, token)


def make_module(folder: Path) -> None:
    import numpy as np
    import tensorflow as tf

    module = tf.Module()
    module.weights = tf.Variable(np.ones((4, 2), np.float32))
    spec = tf.TensorSpec((None, 4), tf.float32, name="x")
    embed = tf.function(lambda x: {"default": x @ module.weights}, input_signature=[spec])
    tf.saved_model.save(module, str(folder / "module"), signatures={"serving_default": embed})
    (folder / "corpus" / "dt=00000").mkdir(parents=True)
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(np.ones(8, np.float32)), 4)
    pq.write_table(pa.table({"x": vectors}), folder / "corpus" / FIRST)


def plan(folder: Path, listing: Listing, run: str) -> str:
    found = make_plan(EmbedJob(module=f"{folder}/module", corpus=listing.pattern, out=f"{folder}/out"))
    if found.is_done:
        return "nothing to do"
    write_once(found.paths.spec, found.spec.to_json())
    document = {"gone": list(found.gone), "limits": {}, "key": "key"}
    worklists = RunPapers(found.paths, run).write(found.todo, found.changes, document)
    return f"{len(found.todo):,} shards to do in {len(worklists)} worklists"


def finish(folder: Path, run: str, ranges: int) -> str:
    """What workers would have written: the ledger, the names of the data files, and one such file, for the type of the keys."""
    paths = paths_of(folder)
    with LedgerWriter(paths, age=1e9) as ledger, (folder / f"names-{run}.txt").open("w") as names:
        for worklist in sorted(Path(paths.runs, run).glob("worklist-*")):
            for item in read_worklist(str(worklist)):
                result = result_of(paths, item, ranges)
                if item.shard.relative == FIRST:
                    real = Path(paths.path(result.file))
                    real.parent.mkdir()
                    pq.write_table(pa.table({"key": [0]}), real)
                    result = replace(result, bytes=real.stat().st_size)
                else:
                    print(pending_name(result.file) if item.pending else result.file, file=names)
                ledger.add(result)
    return "(what workers would write)"


def result_of(paths: VersionPaths, item: WorkItem, ranges: int) -> ShardResult:
    """Of 1,000 records, whose keys increase over all shards."""
    shard = item.shard
    number = int(shard.relative[-16:-8]) * ranges + shard.start // SPLIT_BYTES
    return ShardResult(
        shard.id, shard.relative, shard.start, shard.end, shard.token, "done", paths.data_name(shard, "parquet"), 1000, 1000,
        rows=1000, bytes=DATA_BYTES, checksum=shard.id[:8], first_key=f"{number}000", last_key=f"{number}999",
        pending=item.pending,
    )  # fmt: skip


def commit(folder: Path, run: str) -> str:
    commit_run(paths_of(folder), run)
    outcome = read_outcome(paths_of(folder), run)
    assert outcome["keys"]["repeated"] == 0
    return f"generation {outcome['generation']}: {outcome['added']['shards']:,} shards, {outcome['removed']:,} replaced"


def paths_of(folder: Path) -> VersionPaths:
    return VersionPaths(f"{folder}/out", next((folder / "out").glob("v=*")).name.removeprefix("v="))


def step(name: str, folder: Path, files: int, ranges: int, started: float) -> bool:
    """Whether it stays within the bounds."""
    run = "2" if name in ("changed", "finish-changed", "commit-changed") else "1"
    listing = Listing(folder, files, ranges, changed=run == "2")
    if name.startswith("finish"):
        said = finish(folder, run, ranges)
    elif name.startswith("commit"):
        said = commit(folder, run)
    else:
        said = plan(folder, listing, run)
    seconds = time.time() - started
    used = resource.getrusage(resource.RUSAGE_SELF)
    processor = used.ru_utime + used.ru_stime
    peak = used.ru_maxrss * 1024 / 1e9
    # What workers would do is no step of a run.
    is_over = not name.startswith("finish") and (seconds > SECONDS or peak > MEMORY)
    print(
        f"{name:15} {seconds:6.1f} s  processor {processor:6.1f} s  peak {peak:5.2f} GB  {said}{'  OVER' if is_over else ''}",
        flush=True,
    )
    return not is_over


def main() -> None:
    parse = argparse.ArgumentParser(prog="python -m benchmarks.million", description=__doc__.partition("\n")[0])
    parse.add_argument("shards", nargs="?", type=int, default=1_000_000)
    parse.add_argument("--ranges", type=int, default=1, help="shards that a file comes in")
    parse.add_argument("--step", nargs=3, metavar=("NAME", "FOLDER", "STARTED"), help=argparse.SUPPRESS)
    args = parse.parse_args()
    files = args.shards // args.ranges
    if args.step:
        name, folder, started = args.step
        sys.exit(not step(name, Path(folder), files, args.ranges, float(started)))
    print(f"{args.shards:,} shards in {files:,} files")
    with tempfile.TemporaryDirectory() as folder:
        # In a process of its own: what a child is charged with begins with its parent's memory.
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            pool.submit(make_module, Path(folder)).result()
        over = []
        for name in STEPS:
            line = [str(args.shards), "--ranges", str(args.ranges), "--step", name, folder, str(time.time())]
            if subprocess.run([sys.executable, "-m", "benchmarks.million", *line]).returncode:
                over.append(name)
    if over:
        sys.exit(f"failed, or over {SECONDS:.0f} s or {MEMORY:g} GB: {', '.join(over)}")


if __name__ == "__main__":
    main()
