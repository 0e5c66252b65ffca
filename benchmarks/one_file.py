"""A TFRecord file of 4 GB on two processes, beside the same records in two files of 2 GB.

    python -m benchmarks.one_file [--root FOLDER]

Files are written to a temporary folder, which takes 9 GB. Prints the share of the two files' rate that the one file has,
start-up included in both, for each repetition, and the median; exit status 1 where that is below .85.
"""

from __future__ import annotations

import argparse
import itertools
import shutil
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.ballast import has_free_page_reporting, paid_from_ballast
from benchmarks.corpora import write_tfrecord
from benchmarks.memory import ROWS, noise, save_module
from benchmarks.process import cost_of

REPEATS = 5
WANTED = 0.85
"""Share of the two files' rate that the one file is to have."""
PROCESSES = ("--direct_running_mode=multi_processing", "--direct_num_workers=2")


def write(folder: Path) -> None:
    save_module(folder / "module", 8)
    for name, files in {"one": 1, "two": 2}.items():
        (folder / name).mkdir()
        values = noise(ROWS)
        rows = ROWS // files
        for number in range(files):
            ids = range(number * rows, (number + 1) * rows)
            write_tfrecord(folder / name / f"{number}.tfrecord", "blob", ids, itertools.islice(values, rows))


def seconds(folder: Path, name: str, flags: Sequence[str] = ()) -> float:
    out = folder / "out"
    shutil.rmtree(out, ignore_errors=True)
    job = ["--module", f"{folder}/module", "--corpus", f"{folder}/{name}/*", "--out", str(out), "--key", "id"]
    cost = paid_from_ballast if has_free_page_reporting() else cost_of
    return cost([sys.executable, "-m", "beamhub", "embed", *job, *PROCESSES, *flags], {}).seconds


def main() -> None:
    parse = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parse.add_argument("--root")
    with tempfile.TemporaryDirectory(dir=parse.parse_args().root) as name:
        folder = Path(name)
        write(folder)
        shares = []
        for repeat in range(REPEATS):
            # Whole files, as many as processes: what cutting has to be compared with.
            order = [("one", ()), ("two", ("--split-bytes", "0"))]
            taken = {each: seconds(folder, each, flags) for each, flags in (order if repeat % 2 else order[::-1])}
            shares.append(taken["two"] / taken["one"])
            print(f"one file {taken['one']:5.1f} s  two files {taken['two']:5.1f} s  {shares[-1]:.2f}", flush=True)
    median = statistics.median(shares)
    told = "reached" if median >= WANTED else "NOT reached"
    print(f"median {median:.2f} (lowest {min(shares):.2f}, highest {max(shares):.2f}): {WANTED} {told}")
    sys.exit(median < WANTED)


if __name__ == "__main__":
    main()
