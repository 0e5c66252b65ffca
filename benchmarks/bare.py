"""The module alone, on tensors that are in memory: no reading, no decoding, no writing. What nobody can be faster than.

python -m benchmarks.bare --name text --column text --module FOLDER --files FILE --size 8192
"""

from __future__ import annotations

import argparse
import collections
import itertools
import json
import threading
import time
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from benchmarks.limit import (
    THREADS,
    constants,
    one_thread_for_operations,
    parquet_batches,
    parquet_tensor,
    parser,
    prepared,
    tfrecord_batches,
)

ROWS = 2048
SECONDS = 8.0


def in_memory(name: str, column: str, file: str, size: int) -> list[Any]:
    """Batches of what the module itself takes, about 2,048 rows of them."""
    if file.endswith(".parquet"):
        read = (prepared(name, parquet_tensor(name, values)) for _, values in parquet_batches(file, column, size))
    else:
        prepare = parser(lambda values: prepared(name, values), column)
        read = (prepare(tf.constant(records))[1] for _, records in tfrecord_batches(file, size))
    found = (tf.identity(batch) for batch in itertools.islice(read, max(1, ROWS // size)))
    return [batch for batch in found if batch.shape[0] == size]


def bare(name: str, column: str, module: str, file: str, size: int, frozen: bool) -> float:
    """Rows per second of the module alone, called as the limit calls it."""
    loaded = tf.saved_model.load(module)
    signature = loaded.signatures["serving_default"]
    (feed,) = signature.structured_input_signature[1]
    if frozen:
        constant = constants(signature)
        call = tf.function(lambda tensor: constant(tensor)[0], autograph=False)
    else:
        call = tf.function(lambda tensor: signature(**{feed: tensor})["embedding"], autograph=False)
    return measured_rate(call, in_memory(name, column, file, size), size, SECONDS)


def measured_rate(call: Callable[[Any], Any], batches: list[Any], size: int, seconds: float) -> float:
    """Rows per second when every core calls in turn; tracing is left out."""
    call(batches[0])
    call(batches[0])
    stop = time.monotonic() + seconds
    counts: collections.Counter[int] = collections.Counter()

    def work(number: int) -> None:
        for batch in itertools.islice(itertools.cycle(batches), number, None):
            if time.monotonic() > stop:
                return
            call(batch).numpy()
            counts[number] += size

    threads = [threading.Thread(target=work, args=(number,)) for number in range(THREADS)]
    started = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return counts.total() / (time.monotonic() - started)


def main() -> None:
    parse = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parse.add_argument("--name", required=True)
    parse.add_argument("--column", required=True)
    parse.add_argument("--module", required=True)
    parse.add_argument("--files", nargs="+", required=True)
    parse.add_argument("--size", type=int, required=True)
    parse.add_argument("--frozen", action="store_true")
    args = parse.parse_args()
    one_thread_for_operations(THREADS)
    rate = bare(args.name, args.column, args.module, args.files[0], args.size, args.frozen)
    print(json.dumps({"rows_per_s": rate}))


if __name__ == "__main__":
    main()
