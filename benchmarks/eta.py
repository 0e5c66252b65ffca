"""How right the bar's ETA is: real runs on a terminal, what it shows at some shares of the work, and when the run ends.

    python -m benchmarks.eta

An error is (ETA - time left) / time left, in percent; the time left reaches to the end of the command. In brackets the same
against the time that would have been left if the processor time that the run got had stayed what it was: on a machine with
other work to do, the share of it that a run gets changes, which no ETA can know. The last line tells how many were within 20 %;
exit status 1 where one, not in brackets, was not.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from beamhub.corpus.framing import FrameReader, write_records
from benchmarks.terminal import Drawn, Terminal
from benchmarks.workloads import WORKLOADS, Inputs

SHARES = (10, 25, 50, 75)
BOUND = 0.2
"""What an error may be, after the first tenth."""

RUNNERS = {
    "in_memory": (),
    "multi_processing": ("--direct_running_mode=multi_processing", "--direct_num_workers=2"),
}


def shapes(rows: int) -> dict[str, list[int]]:
    """Rows of each shard, by what the corpus is called."""
    halves = [rows >> n for n in range(1, 8)]
    return {"equal": [rows // 8] * 8, "one": [rows], "uneven": [*halves, rows - sum(halves)]}


def write_corpus(inputs: Inputs, sizes: Sequence[int], folder: Path) -> str:
    """Files of those many rows, of the workload's records over and over; returns their glob."""
    folder.mkdir()
    if inputs.format == "parquet":
        table = pa.concat_tables([pq.read_table(path) for path in inputs.files])
        start = 0
        for number, rows in enumerate(sizes):
            some = table.take(np.arange(start, start + rows) % table.num_rows)
            pq.write_table(some, folder / f"{number}.parquet", row_group_size=256)
            start += rows
    else:
        records = itertools.cycle(_records(inputs.files))
        for number, rows in enumerate(sizes):
            with open(folder / f"{number}.tfrecord", "wb") as file:
                write_records(file, [next(records) for _ in range(rows)])
    return f"{folder}/*"


def _records(files: Sequence[Path]) -> Iterator[bytes]:
    for path in files:
        with open(path, "rb") as file:
            reader = FrameReader(file, str(path))
            while frames := reader.take(1024, 64 << 20):
                yield from frames.records


@dataclass(frozen=True)
class Seen:
    """A state of the bar, and the processor seconds that the command's processes had used by then."""

    state: Drawn
    cpu: float


def watch(command: Sequence[str]) -> list[Seen]:
    """All states of the bar."""
    with Terminal(command, os.environ) as terminal:
        states = []
        for state in terminal.drawn():
            # Processes that have ended, at the very end, count with what they had used before.
            used = cpu_seconds(terminal.process.pid)
            states.append(Seen(state, max(used, states[-1].cpu) if states else used))
        said, _ = terminal.process.communicate()
        if terminal.process.returncode:
            raise SystemExit(f"{said}{terminal.raw[-2000:]}")
    return states


def cpu_seconds(session: int) -> float:
    """Of all processes of a session (Linux)."""
    ticks = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12]) if int(fields[3]) == session else 0
    return ticks / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Error:
    """Of an ETA, as a share of the time left: by the `clock`, and if `processor` time had gone on as it had."""

    clock: float
    processor: float

    @property
    def is_within(self) -> bool:
        return abs(self.clock) <= BOUND

    def __str__(self) -> str:
        return f"{100 * self.clock:+.0f}% ({100 * self.processor:+.0f}%)"


def errors(states: Sequence[Seen]) -> list[Error]:
    """At each of `SHARES`, that of the first ETA shown."""
    begun = next(each.state.at for each in states if each.state.rows)
    last = states[-1]
    found = []
    for share in SHARES:
        shown = next(each for each in states if each.state.percent >= share and each.state.eta is not None)
        at, eta = shown.state.at, shown.state.eta or 0
        half = max((each for each in states if each.state.at <= (begun + at) / 2), key=lambda each: each.state.at)
        steady = (last.cpu - shown.cpu) * (at - half.state.at) / (shown.cpu - half.cpu)
        found.append(Error(*((eta - left) / left for left in (last.state.at - at, steady))))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--data", type=Path, default=Path(".bench"), help="where `make bench` keeps modules and corpora"
    )
    parser.add_argument("--rows", type=int, default=24_000, help="some 20 to 60 seconds of work")
    parser.add_argument("--formats", default="parquet,tfrecord")
    parser.add_argument("--shapes", default="equal,one,uneven")
    arguments = parser.parse_args()
    print("| corpus | runner | seconds | " + " | ".join(f"at {share}%" for share in SHARES) + " |")
    print("|---|---|---|" + "---|" * len(SHARES))
    every: list[Error] = []
    for format in arguments.formats.split(","):
        inputs = Inputs(arguments.data, WORKLOADS["mobilenet035"], format)
        inputs.make()
        for shape in arguments.shapes.split(","):
            for runner, flags in RUNNERS.items():
                with tempfile.TemporaryDirectory(prefix="beamhub-eta-") as folder:
                    corpus = write_corpus(inputs, shapes(arguments.rows)[shape], Path(folder, "corpus"))
                    command = [sys.executable, "-m", "beamhub", "embed", "--module", str(inputs.module), *flags]
                    job = ["--corpus", corpus, "--out", str(Path(folder, "out")), "--key", "id", "--input", "image"]
                    states = watch([*command, *job])
                seconds = states[-1].state.at - next(each.state.at for each in states if each.state.rows)
                found = errors(states)
                every += found
                row = [f"{format}, {shape}", runner, f"{seconds:.0f}", *map(str, found)]
                print("| " + " | ".join(row) + " |", flush=True)
    within = sum(each.is_within for each in every)
    print(f"{within} of {len(every)} within {BOUND:.0%}")
    sys.exit(within < len(every))


if __name__ == "__main__":
    main()
