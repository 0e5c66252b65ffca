"""How long a job takes that has nothing to do, for 10,000 shards, imports left out.

    python -m benchmarks.replan [SHARDS]

Makes a corpus of small files, runs the job once, then five times more, and prints the median of those.
"""

from __future__ import annotations

import contextlib
import io
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf

from beamhub.cli import main

RUNS = 5


def write_job(folder: Path, shards: int) -> list[str]:
    """A module that multiplies, and a corpus of one file under many names; returns the command's arguments."""
    module = tf.Module()
    module.weights = tf.Variable(np.ones((4, 2), np.float32))
    spec = tf.TensorSpec((None, 4), tf.float32, name="x")
    embed = tf.function(lambda x: {"default": x @ module.weights}, input_signature=[spec])
    tf.saved_model.save(module, str(folder / "module"), signatures={"serving_default": embed})
    (folder / "corpus").mkdir()
    first = folder / "corpus" / "part-00000.parquet"
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(np.ones(8, np.float32)), 4)
    pq.write_table(pa.table({"x": vectors}), first)
    for number in range(1, shards):
        os.link(first, folder / "corpus" / f"part-{number:05d}.parquet")
    corpus = f"{folder}/corpus/*.parquet"
    return ["embed", f"--module={folder}/module", f"--corpus={corpus}", f"--out={folder}/out", "--runner=FnApiRunner"]


def timed(arguments: list[str]) -> float:
    """Seconds of one run, which must succeed."""
    started = time.monotonic()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        status = main(arguments)
    if status:
        sys.exit(f"the job ended with status {status}")
    return time.monotonic() - started


def run(shards: int) -> None:
    """Prints the first run's seconds and the median of the later ones."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = write_job(Path(folder), shards)
        first = timed(arguments)
        later = statistics.median(timed(arguments) for _ in range(RUNS))
    print(f"{shards:,} shards: first run {first:.1f} s, nothing to do {later:.2f} s (median of {RUNS})")


if __name__ == "__main__":
    run(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)
