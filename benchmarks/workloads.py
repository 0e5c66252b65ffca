"""What is benchmarked: modules, corpora of two sizes, and how they are made."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path


@dataclass(frozen=True)
class Choice:
    """How the limit calls a module: records in a call, and whether variables are frozen to constants."""

    size: int
    frozen: bool

    @property
    def flags(self) -> list[str]:
        """For `limit.py` and all programs that take its arguments."""
        return ["--size", str(self.size), *(["--frozen"] if self.frozen else [])]

    @property
    def name(self) -> str:
        """As an argument, such as `8` and `8f`, which `named` takes."""
        return f"{self.size}{'f' if self.frozen else ''}"

    @classmethod
    def named(cls, name: str) -> Choice:
        return cls(int(name.removesuffix("f")), name.endswith("f"))


@dataclass(frozen=True)
class Workload:
    """A module and the corpus that it runs on. `rows` are in one file, two to eight seconds of work for two cores.

    Rates are slopes between the first `small` and all `large` files. Both are even numbers: systems that give a file to a
    process would leave one of two cores idle at the end, and their slope would come out too steep or too flat. Nor would less
    than two seconds of the module's own work: beamhub measures batch sizes for larger corpora alone, and its slope would pay
    for that. Texts have the most: one run and the next differ by a second whatever their size, by what a neighbour on the machine
    does, and slopes of half as many rows differed by 30 %. Photographs have three times what the others' seconds would ask for:
    with six files of 1,000 between the sizes, 13 seconds, two or three that the start of several processes scatters by made
    slopes of 1.2 to 1.8 times what the module alone can do.

    `choice` was the best of earlier searches, and is where one begins (`search.py`). A module with a table cannot be frozen.
    """

    name: str
    title: str
    column: str
    kind: str
    rows: int
    choice: Choice
    small: int = 2
    large: int = 8
    has_table: bool = False

    def of(self, rows: int) -> Workload:
        """The same with so many rows in a file."""
        return replace(self, rows=rows)


WORKLOADS = {
    each.name: each
    for each in (
        Workload(
            "text",
            "short texts, 64-d embedding",
            "text",
            "texts",
            2_400_000,
            Choice(32768, False),
            large=10,
            has_table=True,
        ),
        Workload("vae", "28x28 VAE encoder", "image", "small_images", 150_000, Choice(2048, False)),
        Workload("mobilenet035", "MobileNetV2 0.35", "image", "photographs", 3_000, Choice(8, True)),
        Workload("mobilenet100", "MobileNetV2 1.0", "image", "photographs", 1_200, Choice(8, True)),
    )
}


@dataclass(frozen=True)
class Inputs:
    """Where the files of a workload in one format are, and how the limit calls its module."""

    root: Path
    workload: Workload
    format: str

    @property
    def row(self) -> tuple[str, str]:
        return self.workload.name, self.format

    @property
    def module(self) -> Path:
        return self.root / "modules" / self.workload.name

    @property
    def module_of_examples(self) -> Path:
        """The same module behind a signature that takes serialized `tf.Example`s, its variables as the limit has them."""
        kind = "frozen" if self.choice.frozen else "plain"
        return self.root / "modules" / f"{self.workload.name}-examples-{kind}"

    @property
    def choice(self) -> Choice:
        return self.workload.choice

    @property
    def files(self) -> list[Path]:
        folder = self.root / f"{self.workload.kind}-{self.workload.rows}-{self.format}"
        return [folder / f"part-{n:03d}.{self.format}" for n in range(self.workload.large)]

    def corpus(self, files: int) -> str:
        """A glob of the first `files` files."""
        first = self.files[0]
        return str(first) if files == 1 else str(first.parent / f"part-00[0-{files - 1}].{self.format}")

    def of(self, rows: int) -> Inputs:
        """The same workload with so many rows in a file."""
        return replace(self, workload=self.workload.of(rows))

    def choose(self, choice: Choice) -> Inputs:
        """The same with another choice for the limit."""
        return replace(self, workload=replace(self.workload, choice=choice))

    def make(self, examples: bool = False) -> None:
        """Makes what is missing; the module of `tf.Example`s only where asked."""
        load = self.workload
        if not (self.module / "saved_model.pb").exists():
            self.module.parent.mkdir(parents=True, exist_ok=True)
            _python(f"networks.save({load.name!r}, pathlib.Path({str(self.module)!r}))")
        if examples and not (self.module_of_examples / "saved_model.pb").exists():
            given = f"{load.name!r}, pathlib.Path({str(self.module)!r}), {load.column!r}, {load.choice.frozen}"
            _python(f"networks.save_for_examples({given}, pathlib.Path({str(self.module_of_examples)!r}))")
        missing = [path for path in self.files if not path.exists()]
        if missing:
            self.files[0].parent.mkdir(parents=True, exist_ok=True)
            _python(
                f"corpora.write_files([pathlib.Path(p) for p in {[str(path) for path in missing]}], "
                f"{load.rows}, {load.column!r}, corpora.{load.kind})"
            )


def _python(statement: str) -> None:
    # In a process of its own: the one that measures never imports TensorFlow.
    subprocess.run(
        [sys.executable, "-c", f"import pathlib\nfrom benchmarks import corpora, networks\n{statement}"],
        check=True,
        cwd=Path(__file__).parents[1],
        env={"TF_CPP_MIN_LOG_LEVEL": "3", **os.environ},
    )
