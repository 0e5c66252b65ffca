"""The systems that are compared: for each, the command that runs a workload over some files."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.workloads import Inputs

HERE = Path(__file__).parent


@dataclass(frozen=True)
class System:
    """`command` from inputs, a number of files and an empty folder; `formats` that it reads."""

    name: str
    title: str
    command: Callable[[Inputs, int, Path], list[str]]
    formats: tuple[str, ...] = ("parquet", "tfrecord")
    environment: Mapping[str, str] = field(default_factory=dict)


def limit(inputs: Inputs, files: int, out: Path) -> list[str]:
    load = inputs.workload
    names = ["--name", load.name, "--column", load.column, "--module", str(inputs.module)]
    chosen = [str(path) for path in inputs.files[:files]]
    return [sys.executable, str(HERE / "limit.py"), *names, "--files", *chosen, "--out", str(out)]


def beamhub(*flags: str) -> Callable[[Inputs, int, Path], list[str]]:
    def command(inputs: Inputs, files: int, out: Path) -> list[str]:
        load = inputs.workload
        job = ["--module", str(inputs.module), "--corpus", inputs.corpus(files), "--out", str(out), "--key", "id"]
        shape = ["--image-shape", "28,28,1"] if load.name == "vae" else []
        return [sys.executable, "-m", "beamhub", "embed", *job, "--input", load.column, *shape, *flags]

    return command


SYSTEMS = {
    each.name: each
    for each in (
        System("limit", "hand-written TensorFlow", limit),
        System("beamhub", "beamhub", beamhub()),
    )
}
