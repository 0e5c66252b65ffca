"""What is benchmarked: modules, corpora of two sizes, and how they are made."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Workload:
    """A module and the corpus that it runs on. `rows` are in one file, about two seconds of work for two cores."""

    name: str
    title: str
    column: str
    kind: str
    rows: int
    small: int = 1
    large: int = 8


WORKLOADS = {
    each.name: each
    for each in (
        Workload("text", "short texts, 64-d embedding", "text", "texts", 1_000_000),
        Workload("vae", "28x28 VAE encoder", "image", "small_images", 60_000),
        Workload("mobilenet035", "MobileNetV2 0.35", "image", "photographs", 1_000),
        Workload("mobilenet100", "MobileNetV2 1.0", "image", "photographs", 400),
    )
}


@dataclass(frozen=True)
class Inputs:
    """Where the files of a workload in one format are."""

    root: Path
    workload: Workload
    format: str

    @property
    def module(self) -> Path:
        return self.root / "modules" / self.workload.name

    @property
    def files(self) -> list[Path]:
        folder = self.root / f"{self.workload.kind}-{self.workload.rows}-{self.format}"
        return [folder / f"part-{n:03d}.{self.format}" for n in range(self.workload.large)]

    def corpus(self, files: int) -> str:
        """A glob of the first `files` files."""
        first = self.files[0]
        return str(first) if files == 1 else str(first.parent / f"part-00[0-{files - 1}].{self.format}")

    def make(self) -> None:
        """Makes what is missing."""
        if not (self.module / "saved_model.pb").exists():
            self.module.parent.mkdir(parents=True, exist_ok=True)
            _python(f"networks.save({self.workload.name!r}, pathlib.Path({str(self.module)!r}))")
        missing = [path for path in self.files if not path.exists()]
        if missing:
            self.files[0].parent.mkdir(parents=True, exist_ok=True)
            _python(
                f"corpora.write_files([pathlib.Path(p) for p in {[str(path) for path in missing]}], "
                f"{self.workload.rows}, {self.workload.column!r}, corpora.{self.workload.kind})"
            )


def inputs(root: Path, names: list[str], formats: list[str]) -> Iterator[Inputs]:
    """Each workload in each format."""
    for name in names:
        for format in formats:
            yield Inputs(root, WORKLOADS[name], format)


def _python(statement: str) -> None:
    # In a process of its own: the one that measures never imports TensorFlow.
    subprocess.run(
        [sys.executable, "-c", f"import pathlib\nfrom benchmarks import corpora, networks\n{statement}"], check=True
    )
