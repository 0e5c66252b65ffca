"""The corpora that are benchmarked, made here from fixed seeds: rows of an id and a text or an image."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.networks import SIDE, VOCABULARY

FORMATS = ("parquet", "tfrecord")


def texts(seed: int, rows: int) -> Iterator[bytes]:
    """Texts of 3 to 12 words, frequent words more often, as in a language (Zipf)."""
    random = np.random.default_rng(seed)
    counts = random.integers(3, 13, rows)
    ranks = np.minimum(random.zipf(1.2, counts.sum()), VOCABULARY + 10) - 1
    words = pa.array([f"w{rank}" for rank in range(VOCABULARY + 10)]).take(pa.array(ranks))
    offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]), pa.int32())
    joined = pc.binary_join(pa.ListArray.from_arrays(offsets, words), " ")
    yield from joined.cast(pa.binary()).to_pylist()


def small_images(seed: int, rows: int) -> Iterator[bytes]:
    """Grey images of 28x28 raw pixels."""
    random = np.random.default_rng(seed)
    for _ in range(rows):
        yield random.integers(0, 256, SIDE * SIDE, np.uint8).tobytes()


def photographs(seed: int, rows: int) -> Iterator[bytes]:
    """JPEG images of 224 to 320 pixels a side, about as detailed as photographs are (15 to 25 kB)."""
    import tensorflow as tf

    random = np.random.default_rng(seed)
    for _ in range(rows):
        height, width = (int(side) for side in random.integers(224, 321, 2))
        coarse = random.integers(0, 256, (24, 24, 3)).astype(np.float32)
        smooth = tf.image.resize(coarse, (height, width), "bicubic").numpy()
        grain = random.normal(0, 8, (height, width, 1))
        pixels = np.clip(smooth + grain, 0, 255).astype(np.uint8)
        yield tf.io.encode_jpeg(pixels, quality=85).numpy()


def write_files(paths: list[Path], rows: int, column: str, values: Callable[[int, int], Iterator[bytes]]) -> None:
    """Files `...-NNN.EXTENSION` of `rows` rows: `id`, int64, unlike that of any other file, and `column`."""
    for path in paths:
        seed = int(path.stem.rpartition("-")[2])
        ids = range(seed * rows, (seed + 1) * rows)
        part = path.with_name(f".{path.name}")
        write = write_parquet if path.suffix == ".parquet" else write_tfrecord
        write(part, column, ids, values(seed, rows))
        part.rename(path)


def write_parquet(path: Path, column: str, ids: range, values: Iterator[bytes]) -> None:
    kind = pa.string() if column == "text" else pa.binary()
    table = pa.table({"id": pa.array(ids), column: pa.array(list(values), pa.binary()).cast(kind)})
    pq.write_table(table, path, row_group_size=100_000)


def write_tfrecord(path: Path, column: str, ids: range, values: Iterator[bytes]) -> None:
    import tensorflow as tf

    with tf.io.TFRecordWriter(str(path)) as writer:
        for number, value in zip(ids, values, strict=True):
            example = tf.train.Example()
            example.features.feature["id"].int64_list.value.append(number)
            example.features.feature[column].bytes_list.value.append(value)
            writer.write(example.SerializeToString())
