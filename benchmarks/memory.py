"""Peak memory of a job on what is large: a 4 GB file, a row group of 100,000 rows, records of 100 MB, outputs of 3 MB a row, what
MobileNetV2 computes on its way; the last two in the lanes of `multi_threading` too; and hours of work.

    python -m benchmarks.memory [CASE ...]           whole-file, row-group, large-records, large-outputs, photographs,
                                                     large-outputs-lanes, photographs-lanes; all by default
    python -m benchmarks.memory --minutes 60         a corpus of photographs through MobileNetV2, over and over: memory
                                                     each minute, and whether it grows

Files are written to a temporary folder (`--root` names another), which takes 5 GB. Exit status 1 where a bound is passed.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks import corpora
from benchmarks.corpora import write_tfrecord
from benchmarks.process import cost_of
from benchmarks.workloads import WORKLOADS, Inputs

ROWS = 100_000
RECORD_BYTES = 43_000
"""Of a record in the files of 4 GB (4.3e9 bytes)."""
LARGE = 100_000_000
"""Of a record that is large itself."""
WIDE = 750_000
"""Float32 values of an output of 3 MB."""
LIMIT = 1.3e9
"""Bytes that a process may hold beside the module's files and three times the largest record."""
PIXELS = 320 * 320 * 3 * 4
"""Bytes of the largest photograph as the module gets it, float32."""

FILES_A_MINUTE = 120
"""More than are done in one, by two cores."""
GROWTH = 0.05
"""Of memory in the second quarter of the time, by which the last may be above it where memory is flat. Before, a process has
not yet met all sizes of a record."""


def noise(rows: int, length: int = RECORD_BYTES) -> Iterator[bytes]:
    """Records that do not compress."""
    base = np.random.default_rng(0).bytes(length + rows)
    return (base[row : row + length] for row in range(rows))


def write_row_group(path: Path) -> None:
    """One row group of all rows."""
    schema = pa.schema({"id": pa.int64(), "blob": pa.binary()})
    values = noise(ROWS)
    chunks = [pa.array(itertools.islice(values, 10_000), pa.binary()) for _ in range(0, ROWS, 10_000)]
    table = pa.table([pa.chunked_array([range(ROWS)], pa.int64()), pa.chunked_array(chunks)], schema=schema)
    pq.write_table(table, path, row_group_size=ROWS, use_dictionary=False, compression="none")


def save_module(path: Path, width: int) -> None:
    """Takes bytes, gives their length in each of `width` floats."""
    import tensorflow as tf

    def lengths(blob: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": tf.repeat(tf.cast(tf.strings.length(blob), tf.float32)[:, None], width, axis=1)}

    spec = tf.TensorSpec((None,), tf.string, "blob")
    function = tf.function(lengths, input_signature=[spec])
    tf.saved_model.save(tf.Module(), str(path), signatures={"serving_default": function})


def whole_file(folder: Path) -> int:
    write_tfrecord(folder / "corpus.tfrecord", "blob", range(ROWS), noise(ROWS))
    save_module(folder / "module", 8)
    return RECORD_BYTES


def large_records(folder: Path) -> int:
    rows = 12
    write_tfrecord(folder / "corpus.tfrecord", "blob", range(rows), noise(rows, LARGE))
    save_module(folder / "module", 8)
    return LARGE


def row_group(folder: Path) -> int:
    write_row_group(folder / "corpus.parquet")
    save_module(folder / "module", 8)
    return RECORD_BYTES


def large_outputs(folder: Path) -> int:
    rows = 1000
    values = pa.array([f"{row}" for row in range(rows)], pa.binary())
    pq.write_table(pa.table({"id": range(rows), "blob": values}), folder / "corpus.parquet")
    save_module(folder / "module", WIDE)
    return 4 * WIDE


def photographs(folder: Path) -> int:
    from benchmarks import networks

    networks.save("mobilenet100", folder / "module")
    corpora.write_parquet(folder / "corpus.parquet", "image", range(1600), corpora.photographs(0, 1600))
    return PIXELS


CASES: dict[str, Callable[[Path], int]] = {
    "whole-file": whole_file,
    "row-group": row_group,
    "large-records": large_records,
    "large-outputs": large_outputs,
    "photographs": photographs,
    "large-outputs-lanes": large_outputs,
    "photographs-lanes": photographs,
}
"""Each writes a corpus and a module, and returns the bytes of the largest record, read or written."""

LANES = {"large-outputs-lanes": 4, "photographs-lanes": 4}
"""Cases whose corpus is so many files, two at a time in the lanes of one process."""
LANES_FLAGS = ("--direct_running_mode", "multi_threading", "--direct_num_workers", "2")


CALLED_BY_HAND = {"photographs": (8, 224, 224, 3), "photographs-lanes": (8, 224, 224, 3)}
"""Cases whose module takes more than its files, for what it computes on its way; and what a call gets. What it takes by hand is
told beside the verdict, and is no part of it."""


def taken_by_hand(module: str, shape: Sequence[int]) -> int:
    """Bytes by which this process grows when each core calls a module with float32 of this shape, with constants for variables
    and nothing else around it."""
    import tensorflow as tf

    from benchmarks.bare import measured_rate
    from benchmarks.limit import THREADS, constants, one_thread_for_operations

    one_thread_for_operations(THREADS)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    loaded = tf.saved_model.load(module)
    constant = constants(loaded.signatures["serving_default"])
    batch = tf.zeros(shape)
    measured_rate(lambda tensor: constant(tensor)[0], [batch] * THREADS, shape[0], 5.0)
    return 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)


def by_hand(name: str, folder: str) -> str:
    """What the module of a case takes when it is called by hand, where that is more than its files."""
    if name not in CALLED_BY_HAND:
        return ""
    taken = answer(f"memory.taken_by_hand('{folder}/module', {CALLED_BY_HAND[name]})")
    return f"; by hand, its module takes {taken / 1e9:.2f} GB beyond TensorFlow"


def answer(expression: str) -> int:
    """A number, computed here by a process of its own: what that takes is nobody's."""
    line = [sys.executable, "-c", f"import pathlib\nfrom benchmarks import memory\nprint({expression})"]
    return int(subprocess.run(line, check=True, capture_output=True, text=True).stdout.split()[-1])


def command(folder: Path, *flags: str) -> list[str]:
    job = ["--module", f"{folder}/module", "--corpus", f"{folder}/corpus*", "--out", f"{folder}/out", "--key", "id"]
    return [sys.executable, "-m", "beamhub", "embed", *job, "--split-bytes", "0", *flags]


def run_cases(names: Sequence[str], root: str | None) -> bool:
    """Whether all stay within their bound."""
    over = False
    for name in names:
        with tempfile.TemporaryDirectory(dir=root) as folder:
            record = answer(f"memory.CASES[{name!r}](pathlib.Path({folder!r}))")
            for copy in range(1, LANES.get(name, 1)):
                (corpus,) = Path(folder).glob("corpus.*")
                os.link(corpus, corpus.with_stem(f"corpus-{copy}"))
            cost = cost_of(command(Path(folder), *(LANES_FLAGS if name in LANES else ())), {})
            module = sum(path.stat().st_size for path in Path(folder, "module").rglob("*") if path.is_file())
            bound = LIMIT + module + 3 * record
            over = over or cost.peak > bound
            verdict = "within" if cost.peak <= bound else "OVER"
            told = f"peak {cost.peak / 1e9:.2f} GB, {verdict} {bound / 1e9:.2f} GB{by_hand(name, folder)}"
            print(f"{name:20} {cost.seconds:6.0f} s  {told}", flush=True)
    return not over


def run_long(minutes: float, root: str | None) -> bool:
    """Whether memory stays within the bound, and flat, for so long."""
    given = Inputs(Path(root or ".bench"), WORKLOADS["mobilenet035"], "tfrecord")
    given.make()
    with tempfile.TemporaryDirectory(dir=root) as name:
        folder = Path(name)
        (folder / "corpus").mkdir()
        for number in range(int(minutes * FILES_A_MINUTE)):
            source = given.files[number % len(given.files)]
            os.link(source, folder / "corpus" / f"{number:05d}.tfrecord")
        job = ["--module", str(given.module), "--corpus", f"{folder}/corpus/*", "--out", f"{folder}/out", "--key", "id"]
        started = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-m", "beamhub", "embed", *job, "--input", given.workload.column],
            stdout=subprocess.DEVNULL,
        )
        watched = psutil.Process(process.pid)
        seen = []
        while time.monotonic() - started < minutes * 60 and not _has_ended(process, 60):
            done = len(list((folder / "out").rglob("*.parquet")))
            tree = [watched, *watched.children(recursive=True)]
            resident = sum(each.memory_info().rss for each in tree)
            seen.append(resident)
            print(f"{(time.monotonic() - started) / 60:5.1f} min  {done:5} shards  {resident / 1e9:.3f} GB", flush=True)
        if process.returncode is not None:
            print(f"the job ended before {minutes:g} minutes were over, with status {process.returncode}")
            return False
        process.terminate()
        process.wait()
    return _is_flat(seen)


def _is_flat(resident: Sequence[int]) -> bool:
    quarter = len(resident) // 4
    if not quarter:
        print("too short to tell whether memory grows: four minutes at least")
        return False
    before, after = median(resident[quarter : 2 * quarter]), median(resident[-quarter:])
    grown, peak = after / before - 1, max(resident)
    flat, within = grown <= GROWTH, peak <= LIMIT
    print(
        f"second quarter {before / 1e9:.3f} GB, last {after / 1e9:.3f} GB ({grown:+.1%}): {'flat' if flat else 'GROWS'}; most "
        f"{peak / 1e9:.3f} GB, {'within' if within else 'OVER'} {LIMIT / 1e9:.2f} GB and what the module takes"
    )
    return flat and within


def _has_ended(process: subprocess.Popen[bytes], within: float) -> bool:
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(within)
    return process.returncode is not None


def main() -> None:
    parse = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parse.add_argument("cases", nargs="*", choices=[*CASES, []])
    parse.add_argument("--minutes", type=float)
    parse.add_argument("--root")
    args = parse.parse_args()
    kept = (
        run_cases(args.cases or list(CASES), args.root) if args.minutes is None else run_long(args.minutes, args.root)
    )
    sys.exit(not kept)


if __name__ == "__main__":
    main()
