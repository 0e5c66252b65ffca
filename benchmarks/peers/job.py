"""What a peer is asked to do, from its command line. Imports nothing heavy: a driver of workers needs no TensorFlow."""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from pathlib import Path

CORES = len(os.sched_getaffinity(0))

BATCHES = {"text": 8192, "vae": 2048, "mobilenet035": 64, "mobilenet100": 64}
"""Rows that a system hands over at a time, where the limit's batches are no larger; `Model` cuts them into these."""

PLAIN = {"use_dictionary": False, "write_statistics": False, "compression": "none", "write_batch_size": 1 << 16}
"""How Arrow writes vectors fastest: 510 nanoseconds for a row of 64 floats, 670 in batches of its usual 1,024 values."""


@dataclass(frozen=True)
class Job:
    """A workload, the column that feeds its module, the files, all of one format, and the folder to write to.

    `size` and `frozen` are the limit's: records in a call of the module, and whether its variables are constants.
    """

    name: str
    column: str
    module: str
    files: tuple[str, ...]
    out: Path
    size: int
    frozen: bool

    @property
    def parquet(self) -> bool:
        return self.files[0].endswith(".parquet")


def parser() -> argparse.ArgumentParser:
    parse = argparse.ArgumentParser()
    for option in ("--name", "--column", "--module", "--out"):
        parse.add_argument(option, required=True)
    parse.add_argument("--files", nargs="+", required=True)
    parse.add_argument("--size", type=int, required=True)
    parse.add_argument("--frozen", action="store_true")
    parse.add_argument("--batch", type=int)
    return parse


def job(args: argparse.Namespace) -> Job:
    return Job(args.name, args.column, args.module, tuple(args.files), Path(args.out), args.size, args.frozen)


def handed_over(args: argparse.Namespace) -> int:
    """Rows that a system hands over at a time: those asked for, or at least one of the limit's batches."""
    return int(args.batch or max(BATCHES[args.name], args.size))
