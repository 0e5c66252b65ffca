"""The limit: the best loop that we could write by hand, for this machine and these four modules alone. To be judged.

It reads the same files as the systems, and writes the same columns, a Parquet file for each. What makes it fast:

- as many threads as there are cores are in one `tf.function` that decodes, preprocesses and runs the module on a batch;
  operations have no threads of their own (`intra_op` 1), and oneDNN is on, whatever the processor;
- one thread more makes its tensors meanwhile, or takes results apart, for those wait for Python's lock: with short texts 1.92 of
  two cores are busy, 1.85 without it;
- batch sizes, and whether variables are frozen to constants, are what a search found to be best on the machine (`search.py`;
  `make bench-short` takes what it found on ours);
- Parquet is read by pyarrow, TFRecord by a loop and `tf.io.parse_example`, ahead of the computing threads, across files;
- a thread is handed some calls' records at once, where calls are of few;
- a writer thread takes what is done, in order, and writes row groups, plain: no dictionary, no statistics, no compression; and
  with beamhub's own `VectorFile`, which takes a quarter of the time that Arrow's writer takes for vectors;
- Python collects no garbage, and the process ends without taking its objects apart: two seconds of imports and exit less.

Two processes with a core each were no faster than one with two (texts of Parquet: 1.15 and 1.12 million rows a second, medians
of three; texts of TFRecord, on another machine: 1.03 times its rate, median of four pairs, .84 to 1.17). But for the checksums of
TFRecord, which every reader of it compares, it checks nothing, and it keeps nothing: one bad record, one changed file or one kill
and its work is lost.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import queue
import struct
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    # Before TensorFlow is imported; not for peers that import this file.
    gc.disable()
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# TensorFlow leaves it off on processors without AVX512-VNNI; on such a one, the images took .6 to .75 of the time with it.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import google_crc32c
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf

from beamhub.features.vector_file import VectorFile

THREADS = len(os.sched_getaffinity(0))
SIDE = 28
PIXELS = 224
ROW_GROUP = 16384
PLAIN = {"use_dictionary": False, "write_statistics": False, "compression": "none"}
TOGETHER = 32
"""Records that a thread is handed, at least: calls of photographs have so few that to hand each over would cost a tenth."""


def one_thread_for_operations(callers: int) -> None:
    """Before the first operation: none has threads of its own, and as many run at a time as there are callers."""
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(callers)


def load(path: str, name: str, frozen: bool) -> Any:
    """A function from a batch of texts or encoded images, [n] strings, to vectors, [n, d] float32."""
    module = tf.saved_model.load(path)
    signature = module.signatures["serving_default"]
    given = signature.structured_input_signature[1]
    (feed,) = given
    if frozen:
        constant = constants(signature)

    def run(batch: Any) -> Any:
        tensor = prepared(name, batch)
        return constant(tensor)[0] if frozen else signature(**{feed: tensor})["embedding"]

    function = tf.function(run, autograph=False)
    function.module = module
    return function


def constants(signature: Any) -> Any:
    """The signature with its variables frozen."""
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    return convert_variables_to_constants_v2(signature)


def prepared(name: str, batch: Any) -> Any:
    if name == "text":
        return batch
    if name == "vae":
        pixels = batch if batch.dtype == tf.uint8 else tf.io.decode_raw(batch, tf.uint8)
        return tf.cast(tf.reshape(pixels, (-1, SIDE, SIDE, 1)), tf.float32) / 255.0

    def decoded(image: Any) -> Any:
        pixels = tf.io.decode_jpeg(image, channels=3)
        # Scaled one by one, while it is in the core's cache.
        return tf.image.resize(pixels, (PIXELS, PIXELS)) / 255.0

    count = batch.shape[0]
    if count is not None and count <= 64:
        return tf.stack([decoded(image) for image in tf.unstack(batch)])
    return tf.map_fn(decoded, batch, fn_output_signature=tf.TensorSpec((PIXELS, PIXELS, 3), tf.float32))


def parquet_batches(path: str, column: str, rows: int) -> Iterator[tuple[Any, Any]]:
    file = pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20)
    for batch in file.iter_batches(rows, columns=["id", column], use_threads=False):
        yield batch.column(0), batch.column(1)


def parquet_tensor(name: str, column: Any) -> Any:
    if name == "vae":
        first = column.offset
        offsets = np.frombuffer(column.buffers()[1], np.int32)[first : first + len(column) + 1]
        pixels = np.frombuffer(column.buffers()[2], np.uint8)[offsets[0] : offsets[-1]]
        return tf.constant(pixels.reshape(len(column), -1))
    return tf.constant(column.cast(pa.binary()).to_numpy(zero_copy_only=False), tf.string)


def tfrecord_batches(path: str, rows: int) -> Iterator[tuple[Any, Any]]:
    # In Python: 20 to 30 % more rows a second than tf.data.TFRecordDataset, of which three variants were tried. Lengths are
    # added up; then the records of a block are cut, and their checksums compared, at once.
    unpack = struct.Struct("<Q").unpack_from
    buffer, position, records = b"", 0, []
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            buffer, position = buffer[position:] + block, 0
            ends = []
            while position + 12 <= len(buffer):
                stop = position + 16 + unpack(buffer, position)[0]
                if stop > len(buffer):
                    break
                ends.append(stop)
                position = stop
            cut = sliced(buffer, np.array([0, *ends]))
            if not intact(buffer, cut, ends):
                raise ValueError(f"{path}: damaged")
            records += cut
            while len(records) >= rows:
                yield None, records[:rows]
                records = records[rows:]
    if records:
        yield None, records


def sliced(buffer: bytes, bounds: Any) -> list[bytes]:
    """The records between the bounds of frames. Arrow makes `bytes` faster than Python; views are of 13 bytes or more."""
    views = np.zeros((len(bounds) - 1, 4), np.int32)
    views[:, 0], views[:, 3] = np.diff(bounds) - 16, bounds[:-1] + 12
    if views[:, 0].min(initial=13) < 13:
        return [buffer[start : start + length] for length, _, _, start in views.tolist()]
    parts = pa.Array.from_buffers(pa.binary_view(), len(views), [None, pa.py_buffer(views), pa.py_buffer(buffer)])
    return parts.to_numpy(zero_copy_only=False).tolist()


def intact(buffer: bytes, records: list[bytes], ends: list[int]) -> bool:
    if not records:
        return True
    stored = np.frombuffer(buffer, np.uint8)[np.array(ends)[:, None] + np.arange(-4, 0)].view("<u4").ravel()
    crcs = np.fromiter(map(google_crc32c.value, records), np.uint32, len(records))
    return bool(np.all(((crcs >> 15) | (crcs << 17)) + np.uint32(0xA282EAD8) == stored))


def parser(function: Any, column: str) -> Any:
    features = {"id": tf.io.FixedLenFeature((), tf.int64), column: tf.io.FixedLenFeature((), tf.string)}

    def run(records: Any) -> Any:
        parsed = tf.io.parse_example(records, features)
        values = parsed[column]
        values.set_shape(records.shape)
        return parsed["id"], function(values)

    return tf.function(run, autograph=False)


def joined(parts: Sequence[Any]) -> Any:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


class Writer:
    """A thread that writes batches of keys and vectors, in order, to a file for each file read."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.queue: queue.Queue[Any] = queue.Queue(4 * THREADS)
        # Nobody waits for it where reading fails.
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self) -> None:
        file, writer, name, waiting = None, None, None, []
        while True:
            item = self.queue.get()
            if item is None or item[0] != name:
                if writer is not None:
                    self.write(writer, waiting)
                    writer.close({})
                    file.close()
                    waiting = []
                if item is None:
                    return
                name, writer = item[0], None
            keys, vectors = item[1].result()
            if writer is None:
                width = vectors.shape[1]
                schema = pa.schema([("key", pa.int64()), ("embedding", pa.list_(pa.float32(), width))])
                file = (self.out / (Path(name).stem + ".parquet")).open("wb")
                writer = VectorFile(file, schema, lambda _: PLAIN)
            waiting.append((keys, vectors))
            if sum(map(len, (keys for keys, _ in waiting))) >= ROW_GROUP:
                self.write(writer, waiting)
                waiting = []

    def write(self, writer: Any, waiting: list[Any]) -> None:
        if waiting:
            keys, vectors = zip(*waiting, strict=True)
            pieces = [pa.FixedSizeListArray.from_arrays(pa.array(each.reshape(-1)), each.shape[1]) for each in vectors]
            writer.write_table(pa.table({"key": pa.chunked_array(keys), "embedding": pa.chunked_array(pieces)}))


def run(function: Any, name: str, column: str, files: list[str], out: Path, size: int) -> int:
    is_parquet = files[0].endswith(".parquet")
    parse = None if is_parquet else parser(function, column)

    def call(graph: Any, tensor: Any) -> Any:
        with turn:
            return graph(tensor)

    def compute(keys: Any, values: Any) -> tuple[Any, Any]:
        parts = [values[start : start + size] for start in range(0, len(values), size)]
        # Not by `numpy()`, which copies.
        if is_parquet:
            return keys, joined([np.asarray(call(function, parquet_tensor(name, part))) for part in parts])
        found = [call(parse, tf.constant(part)) for part in parts]
        keys = joined([np.asarray(keys) for keys, _ in found])
        return pa.array(keys), joined([np.asarray(vectors) for _, vectors in found])

    out.mkdir(parents=True, exist_ok=True)
    writer = Writer(out)
    room, turn = threading.Semaphore(2 * THREADS + 2), threading.Semaphore(THREADS)
    together = max(1, TOGETHER // size) * size
    rows = 0
    with ThreadPoolExecutor(THREADS + 1) as pool:
        for file in files:
            batches = parquet_batches(file, column, together) if is_parquet else tfrecord_batches(file, together)
            for keys, values in batches:
                room.acquire()
                future = pool.submit(compute, keys, values)
                future.add_done_callback(lambda _: room.release())
                writer.queue.put((file, future))
                rows += len(values)
    writer.queue.put(None)
    writer.thread.join()
    return rows


def give_up(failure: threading.ExceptHookArgs) -> None:
    """Ends the process with the error of a thread, for which the others would wait."""
    sys.__excepthook__(failure.exc_type, failure.exc_value or failure.exc_type(), failure.exc_traceback)
    os._exit(1)


def main() -> None:
    threading.excepthook = give_up
    parse = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parse.add_argument("--name", required=True)
    parse.add_argument("--column", required=True)
    parse.add_argument("--module", required=True)
    parse.add_argument("--files", nargs="+", required=True)
    parse.add_argument("--out", type=Path, required=True)
    parse.add_argument("--size", type=int, required=True, help="records in a call")
    parse.add_argument("--frozen", action="store_true", help="variables are constants")
    args = parse.parse_args()
    one_thread_for_operations(THREADS)
    function = load(args.module, args.name, args.frozen)
    print(json.dumps({"rows": run(function, args.name, args.column, args.files, args.out, args.size)}))


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    os._exit(0)
