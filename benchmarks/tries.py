"""The limit with several settings by turns, in one process on the same files: rows a second of each run, nothing for starting.

python -m benchmarks.tries --name vae --column image --module FOLDER --files FILE ... --out OUT --choices 2048 2048f --told FILE

Runs of one process, one right after the other, differ by a few hundredths; whole processes by a tenth and more.
"""

from __future__ import annotations

import argparse
import gc
import json
import shutil
import threading
import time
from pathlib import Path
from typing import Any

from benchmarks.limit import THREADS, give_up, load, one_thread_for_operations, run
from benchmarks.workloads import Choice


def tried(args: argparse.Namespace) -> dict[Choice, list[float]]:
    """Rates of each choice. Each has a run before, which traces, and every other turn is in the opposite order."""
    functions = {choice: load(args.module, args.name, choice.frozen) for choice in args.choices}

    def rate(choice: Choice, function: Any, files: list[str]) -> float:
        shutil.rmtree(args.out, ignore_errors=True)
        started = time.monotonic()
        rows = run(function, args.name, args.column, files, args.out, choice.size)
        took = time.monotonic() - started
        gc.collect()
        return rows / took

    for choice, function in functions.items():
        rate(choice, function, args.files[:1])
    found: dict[Choice, list[float]] = {choice: [] for choice in functions}
    for number in range(args.repeats):
        for choice in list(functions)[:: -1 if number % 2 else 1]:
            found[choice].append(rate(choice, functions[choice], args.files))
    return found


def main() -> None:
    threading.excepthook = give_up
    parse = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parse.add_argument("--name", required=True)
    parse.add_argument("--column", required=True)
    parse.add_argument("--module", required=True)
    parse.add_argument("--files", nargs="+", required=True)
    parse.add_argument("--out", type=Path, required=True)
    parse.add_argument("--choices", nargs="+", type=Choice.named, required=True, help="records in a call; 8f: frozen")
    parse.add_argument("--repeats", type=int, default=3)
    parse.add_argument("--told", type=Path, required=True, help="rates by choice, as JSON")
    args = parse.parse_args()
    one_thread_for_operations(THREADS)
    gc.disable()
    args.told.write_text(json.dumps({choice.name: rates for choice, rates in tried(args).items()}))


if __name__ == "__main__":
    main()
