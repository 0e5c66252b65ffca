"""The systems that are compared: for each, the command that runs a workload over some files."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from benchmarks.workloads import Choice, Inputs

LIMIT = "limit"
OURS = "beamhub"
BARE = "bare"
CORES = len(os.sched_getaffinity(0))
ENVIRONMENT = {
    "PYTHONPATH": os.pathsep.join(filter(None, (str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH")))),
    # As beamhub and the limit have it: whoever compares sets it for all.
    "TF_ENABLE_ONEDNN_OPTS": "1",
}
"""Of every system's command."""

Command = Callable[[Inputs, int, Path], list[str]]


@dataclass(frozen=True)
class System:
    """`command` from inputs, a number of files and an empty folder; `formats` that it reads; the package it `needs`.

    `rows` in a file, by workload, where the full corpus would take a slow system many minutes: its rate is a slope too,
    between two smaller sizes. Systems are `ours`, peers, or neither. `by_hand` are the formats of which a peer's program reads
    files, or makes and takes apart batches, with code of the limit's: the library has none for it, or one that is far slower.
    """

    name: str
    title: str
    command: Command
    formats: tuple[str, ...] = ("parquet", "tfrecord")
    needs: str = "tensorflow"
    rows: Mapping[str, int] = field(default_factory=dict)
    ours: bool = False
    peer: bool = False
    of_examples: bool = False
    by_hand: tuple[str, ...] = ()

    @property
    def installed(self) -> bool:
        return find_spec(self.needs) is not None

    def given(self, inputs: Inputs) -> Inputs:
        """The inputs with the rows that this system gets."""
        name = inputs.workload.name
        return inputs.of(min(self.rows[name], inputs.workload.rows)) if name in self.rows else inputs


def program(module: str, *flags: str, examples: bool = False) -> Command:
    """A program with the arguments of `limit.py`."""

    def command(inputs: Inputs, files: int, out: Path) -> list[str]:
        network = inputs.module_of_examples if examples else inputs.module
        chosen = [str(path) for path in inputs.files[:files]]
        settings = [*inputs.choice.flags, "--files", *chosen, "--out", str(out), *flags]
        return [*_program(module, inputs, network), *settings]

    return command


def bare(inputs: Inputs) -> list[str]:
    """The command that prints the rate of the module alone."""
    return [*_program("bare", inputs, inputs.module), *inputs.choice.flags, "--files", str(inputs.files[0])]


def tries(inputs: Inputs, choices: Sequence[Choice], repeats: int, out: Path, told: Path) -> list[str]:
    """The command that writes rates of the limit with some choices to `told`."""
    names = ["--choices", *(choice.name for choice in choices), "--repeats", str(repeats), "--told", str(told)]
    files = [str(path) for path in inputs.files[: inputs.workload.small]]
    return [*_program("tries", inputs, inputs.module), "--files", *files, "--out", str(out), *names]


def _program(module: str, inputs: Inputs, network: Path) -> list[str]:
    load = inputs.workload
    names = ["--name", load.name, "--column", load.column, "--module", str(network)]
    return [sys.executable, "-m", f"benchmarks.{module}", *names]


def beamhub(*flags: str) -> Command:
    def command(inputs: Inputs, files: int, out: Path) -> list[str]:
        load = inputs.workload
        job = ["--module", str(inputs.module), "--corpus", inputs.corpus(files), "--out", str(out), "--key", "id"]
        shape = ["--image-shape", "28,28,1"] if load.name == "vae" else []
        return [sys.executable, "-m", "beamhub", "embed", *job, "--input", load.column, *shape, *flags]

    return command


def workers(mode: str) -> Command:
    return beamhub(f"--direct_running_mode={mode}", f"--direct_num_workers={CORES}")


ROWS = {"text": 400_000}
PLAIN = {"text": 20_000, "vae": 8_000, "mobilenet035": 900, "mobilenet100": 450}
LOGS = {"text": 20_000, "vae": 8_000}
HALF = {"text": 1_200_000}
"""Rows in a file for who makes an element of every row, who knows no batches, or who makes a `PredictionLog` of every row: some
seconds of work; half of the texts for who takes two minutes for them."""


SYSTEMS = {
    each.name: each
    for each in (
        System(LIMIT, "hand-written TensorFlow", program("limit")),
        System(OURS, "beamhub, one process with all cores", beamhub(), ours=True),
        System("beamhub-beam", "beamhub on Beam, one worker", beamhub("--runner=FnApiRunner"), ours=True),
        System("beamhub-processes", "beamhub on Beam, a process for each core", workers("multi_processing"), ours=True),
        System(
            "beamhub-threads", "beamhub on Beam, a worker thread for each core", workers("multi_threading"), ours=True
        ),
        System(
            "runinference-plain",
            "Beam RunInference, as documented",
            program("peers.run_inference_plain"),
            needs="tensorflow_hub",
            rows=PLAIN,
            peer=True,
        ),
        System("runinference", "the same, well set up", program("peers.run_inference"), rows=ROWS, peer=True),
        System(
            "runinference-tables",
            "the same, elements are tables",
            program("peers.run_inference", "--tables"),
            peer=True,
            by_hand=("parquet", "tfrecord"),
        ),
        System(
            "tfx_bsl",
            "tfx_bsl RunInference",
            program("peers.tfx_inference", examples=True),
            formats=("tfrecord",),
            rows=LOGS,
            peer=True,
            of_examples=True,
        ),
        System("ray", "Ray Data, actors", program("peers.ray_data"), needs="ray", peer=True, by_hand=("tfrecord",)),
        System(
            "spark",
            "Spark, mapInArrow",
            program("peers.spark"),
            needs="pyspark",
            rows=HALF,
            peer=True,
            by_hand=("tfrecord",),
        ),
    )
}
