"""The search behind `limit.BEST`: the rate of decoding, preprocessing and module together, for many batch sizes.

python -m benchmarks.search --name text --column text --module FOLDER --file FILE.parquet
"""

from __future__ import annotations

import argparse
import itertools
import json

from benchmarks.bare import measured_rate
from benchmarks.limit import THREADS, load, one_thread_for_operations, parquet_batches, parquet_tensor

SIZES = {"text": (1024, 2048, 4096, 8192, 16384), "vae": (32, 64, 128, 256, 512, 1024)}
IMAGES = (2, 4, 8, 16, 32)
SECONDS = 4.0


def search(name: str, column: str, module: str, file: str) -> None:
    """Prints a line of JSON for each batch size, plain and frozen."""
    for frozen in (False, True):
        function = load(module, name, frozen)
        for size in SIZES.get(name, IMAGES):
            read = itertools.islice(parquet_batches(file, column, size), max(4, 512 // size))
            batches = [parquet_tensor(name, values) for _, values in read if len(values) == size]
            rate = measured_rate(function, batches, size, SECONDS)
            print(json.dumps({"module": name, "size": size, "frozen": frozen, "rows_per_s": round(rate)}), flush=True)


def main() -> None:
    parse = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    for option in ("--name", "--column", "--module", "--file"):
        parse.add_argument(option, required=True)
    args = parse.parse_args()
    one_thread_for_operations(THREADS)
    search(args.name, args.column, args.module, args.file)


if __name__ == "__main__":
    main()
