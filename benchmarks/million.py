"""What a run costs over a million shards: planning, committing, and finding nothing to do; seconds and peak memory of each.

    python -m benchmarks.million [SHARDS]

The listing is simulated, for a million files are no part of what is measured: the corpus, and the data files that the shards'
results speak of, are names only. Ledger, manifest and run papers are real files. Each step has a process of its own.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from beamhub import storage
from beamhub.corpus.shards import Shard
from beamhub.engine.planning import Plan, make_plan
from beamhub.engine.worklist import RunPapers, commit_run, read_outcome
from beamhub.features.ledger import LedgerWriter, ShardResult
from beamhub.features.lineage import write_once
from beamhub.features.paths import VersionPaths
from beamhub.spec import EmbedJob

PARTITIONS = 1000
BYTES = 64 << 20
STEPS = ("plan", "finish", "commit", "replan")


class Listing:
    """A corpus of one real file under many names, and the data files of its table."""

    def __init__(self, folder: Path, shards: int) -> None:
        self.real = storage.match
        self.real_files = storage.list_files
        self.first = folder / "corpus" / "dt=00000" / "part-00000000.parquet"
        self.pattern = f"{folder}/corpus/dt=*/*.parquet"
        self.count = shards
        self.data: list[storage.FileInfo] = []
        self.root = ""

    def match(self, pattern: str) -> list[storage.FileInfo]:
        if pattern != self.pattern:
            return self.real(pattern)
        real = storage.info(str(self.first))
        assert real is not None
        base = str(self.first.parent.parent)
        names = (f"{base}/dt={n % PARTITIONS:05d}/part-{n:08d}.parquet" for n in range(1, self.count))
        return sorted([real, *(storage.FileInfo(name, BYTES, real.token) for name in names)], key=lambda f: f.path)

    def list_files(self, folder: str) -> list[storage.FileInfo]:
        return [*self.real_files(folder), *(self.data if folder == self.root else [])]


def make_module(folder: Path) -> None:
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq
    import tensorflow as tf

    module = tf.Module()
    module.weights = tf.Variable(np.ones((4, 2), np.float32))
    spec = tf.TensorSpec((None, 4), tf.float32, name="x")
    embed = tf.function(lambda x: {"default": x @ module.weights}, input_signature=[spec])
    tf.saved_model.save(module, str(folder / "module"), signatures={"serving_default": embed})
    (folder / "corpus" / "dt=00000").mkdir(parents=True)
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(np.ones(8, np.float32)), 4)
    pq.write_table(pa.table({"x": vectors}), folder / "corpus" / "dt=00000" / "part-00000000.parquet")


def simulated(folder: Path, shards: int, done: bool) -> Listing:
    """Puts the simulated listing in the place of the storage's; `done` adds the data files of all shards."""
    listing = Listing(folder, shards)
    storage.match, storage.list_files = listing.match, listing.list_files
    if done:
        spec = json.loads(next((folder / "out").glob("v=*/_beamhub/spec.json")).read_text())
        paths = VersionPaths(str(folder / "out"), spec["version"])
        listing.root = paths.root
        files = storage.match(listing.pattern)
        listing.data = [storage.FileInfo(paths.path(each.file), each.bytes, "") for each in results(files, paths)]
    return listing


def results(files: list[storage.FileInfo], paths: VersionPaths) -> Iterator[ShardResult]:
    """What workers would have said of the shards."""
    root = files[0].path.split("/dt=")[0]
    for n, file in enumerate(files):
        shard = Shard(file.path, file.path[len(root) + 1 :], file.size, file.token)
        yield ShardResult(
            shard.id, shard.relative, 0, -1, shard.token, "done", paths.data_name(shard, "parquet"), 1000, 1000,
            rows=1000, bytes=256_000, checksum=f"{n:08x}",
        )  # fmt: skip


def planned(folder: Path, listing: Listing) -> Plan:
    return make_plan(EmbedJob(module=f"{folder}/module", corpus=listing.pattern, out=f"{folder}/out"))


def step(name: str, folder: Path, shards: int) -> None:
    listing = simulated(folder, shards, done=name in ("commit", "replan"))
    started = time.monotonic()
    said = ""
    if name == "plan":
        plan = planned(folder, listing)
        write_once(plan.paths.spec, plan.spec.to_json())
        document = {"gone": [], "limits": {}, "key": None}
        worklists = RunPapers(plan.paths, "run").write(plan.todo, plan.changes, document)
        said = f"{len(plan.todo):,} shards to do in {len(worklists)} worklists"
    elif name == "finish":
        spec = json.loads(next((folder / "out").glob("v=*/_beamhub/spec.json")).read_text())
        paths = VersionPaths(f"{folder}/out", spec["version"])
        with LedgerWriter(paths, age=1e9) as ledger:
            for result in results(storage.match(listing.pattern), paths):
                ledger.add(result)
        said = "(what workers would write; not measured)"
    elif name == "commit":
        paths = VersionPaths(f"{folder}/out", next((folder / "out").glob("v=*")).name.removeprefix("v="))
        commit_run(paths, "run")
        said = f"generation {read_outcome(paths, 'run')['generation']}"
    else:
        said = "nothing to do" if planned(folder, listing).is_done else "something to do, which is wrong"
    seconds = time.monotonic() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{name:8} {seconds:6.1f} s  peak {peak:5.2f} GiB  {said}", flush=True)


def main() -> None:
    if len(sys.argv) == 4:
        step(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
        return
    shards = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with tempfile.TemporaryDirectory() as folder:
        make_module(Path(folder))
        for name in STEPS:
            subprocess.run([sys.executable, "-m", "benchmarks.million", name, folder, str(shards)], check=True)


if __name__ == "__main__":
    main()
