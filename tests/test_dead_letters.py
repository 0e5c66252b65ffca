"""Bad records become dead letters, one for each, and no neighbour with them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

import beamhub as library
from tests.jobs import refused, succeed, tensor_column

SIZE = 8


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Images of 8x8x1 to their 64 pixels; refuses a batch with an image whose first pixel is 1."""

    @tf.function(input_signature=[tf.TensorSpec((None, SIZE, SIZE, 1), tf.float32, name="images")])
    def embed(images: tf.Tensor) -> dict[str, tf.Tensor]:
        with tf.control_dependencies([tf.debugging.assert_less(images[:, 0, 0, 0], 1.0, message="poison")]):
            return {"default": tf.reshape(images, (-1, SIZE * SIZE))}

    path = str(tmp_path_factory.mktemp("module"))
    tf.saved_model.save(tf.Module(), path, signatures={"serving_default": embed})
    return path


def png(image: np.ndarray) -> bytes:
    return bytes(tf.io.encode_png(image[..., np.newaxis]).numpy())


def images(count: int) -> np.ndarray:
    made = np.random.default_rng(0).integers(0, 255, (count, SIZE, SIZE), dtype=np.uint8)
    made[:, 0, 0] = 7
    return made


def write_corpus(folder: Path, encoded: list[bytes | None]) -> None:
    folder.mkdir()
    keys = [f"k{row}" for row in range(len(encoded))]
    pq.write_table(pa.table({"id": keys, "image": pa.array(encoded, pa.binary())}), folder / "part-0.parquet")


def flags(module: str, folder: Path, *more: object) -> list[object]:
    return [
        "--module", module, "--corpus", f"{folder}/corpus/*", "--out", folder / "out", "--key=id", "--input=image",
        "--batch-size=32", *more,
    ]  # fmt: skip


@pytest.mark.parametrize("bad_rows", [[0], [13], [99], [3, 4, 50], list(range(40, 60))])
def test_each_bad_record_alone_is_a_dead_letter(bad_rows: list[int], module: str, tmp_path: Path) -> None:
    """Undecodable images, nulls and records that the module refuses, in turn; the neighbours' values are exact."""
    pictures = images(100)
    encoded: list[bytes | None] = [png(picture) for picture in pictures]
    stages = {}
    for number, row in enumerate(bad_rows):
        if number % 3 == 0:
            encoded[row], stages[row] = b"\x89PNG\r\n\x1a\n and then nothing", "infer"
        elif number % 3 == 1:
            encoded[row], stages[row] = None, "check"
        else:
            poison = pictures[row].copy()
            poison[0, 0] = 255
            encoded[row], stages[row] = png(poison), "infer"
    write_corpus(tmp_path / "corpus", encoded)

    summary = succeed("embed", *flags(module, tmp_path, "--max-dead-fraction=0.5"))

    good = [row for row in range(100) if row not in stages]
    table = library.open(str(tmp_path / "out"))
    assert table.to_table(["key"]).column("key").to_pylist() == [f"k{row}" for row in good]
    expected = (pictures[good].reshape(len(good), -1) / np.float32(255)).astype(np.float32)
    np.testing.assert_allclose(table.to_numpy("embedding"), expected, atol=1e-6)
    dead = table.dead_letters().to_pylist()
    assert [(letter["key"], letter["stage"]) for letter in dead] == [(f"k{row}", stages[row]) for row in sorted(stages)]
    assert [letter["address"] for letter in dead] == sorted(stages)
    assert {letter["file"] for letter in dead} == {"part-0.parquet"}
    for letter, row in zip(dead, sorted(stages), strict=True):
        (kept,) = pa.ipc.open_stream(letter["payload"]).read_all().to_pylist()
        assert kept["image"] == encoded[row]
    assert f"100 read = {len(good)} produced + {len(dead)} dead + 0 skipped" in summary
    assert str(tmp_path / "out") in next(line for line in summary.splitlines() if "dead letters in" in line)


def test_neighbours_keep_their_bits(tmp_path: Path) -> None:
    """Records beside a poison one have the bytes that they have without it."""
    weights = np.random.default_rng(1).normal(size=(16, 16)).astype(np.float32)
    saved = tf.Module()
    saved.weights = tf.Variable(weights)

    @tf.function(input_signature=[tf.TensorSpec((None, 16), tf.float32, name="x")])
    def embed(x: tf.Tensor) -> dict[str, tf.Tensor]:
        with tf.control_dependencies([tf.debugging.assert_less(x, 100.0)]):
            return {"default": tf.tanh(x @ saved.weights) @ saved.weights}

    tf.saved_model.save(saved, str(tmp_path / "module"), signatures={"serving_default": embed})
    values = np.random.default_rng(2).normal(size=(200, 16)).astype(np.float32)
    for name, poison in (("clean", None), ("poisoned", 77)):
        spoiled = values.copy()
        if poison is not None:
            spoiled[poison] = 1000
        (tmp_path / name / "corpus").mkdir(parents=True)
        pq.write_table(pa.table({"x": tensor_column(spoiled)}), tmp_path / name / "corpus" / "part-0.parquet")
        succeed(
            "embed", "--module", tmp_path / "module", "--corpus", f"{tmp_path / name}/corpus/*", "--out",
            tmp_path / name / "out", "--batch-size=64",
        )  # fmt: skip

    clean = library.open(str(tmp_path / "clean" / "out")).to_numpy("embedding")
    poisoned = library.open(str(tmp_path / "poisoned" / "out")).to_numpy("embedding")
    np.testing.assert_array_equal(np.delete(clean, 77, axis=0), poisoned)


def test_at_the_limit_a_run_commits(module: str, tmp_path: Path) -> None:
    """The default is one in a hundred."""
    encoded: list[bytes | None] = [png(picture) for picture in images(100)]
    encoded[5] = b"no image"
    write_corpus(tmp_path / "corpus", encoded)

    summary = succeed("embed", *flags(module, tmp_path))

    assert "1 dead letters in" in summary


@pytest.mark.parametrize("runner", [True, False])
def test_above_the_limit_nothing_is_committed(module: str, tmp_path: Path, runner: bool) -> None:
    encoded: list[bytes | None] = [png(picture) for picture in images(100)]
    encoded[5] = encoded[6] = b"no image"
    write_corpus(tmp_path / "corpus", encoded)

    line = refused(3, "embed", *flags(module, tmp_path), runner=runner)

    assert "2 of 100 records (2.00%) are dead letters" in line
    assert not list((tmp_path / "out").rglob("gen-*.json"))
    assert not (tmp_path / "out" / "_beamhub" / "current.json").exists()
    (data,) = (tmp_path / "out").rglob("*.parquet")
    before = hashlib.sha256(data.read_bytes()).hexdigest(), data.stat().st_mtime_ns

    summary = succeed("embed", *flags(module, tmp_path, "--max-dead-fraction=0.02"), runner=runner)

    assert "98 produced + 2 dead" in summary
    assert (hashlib.sha256(data.read_bytes()).hexdigest(), data.stat().st_mtime_ns) == before


def test_max_dead_rows(module: str, tmp_path: Path) -> None:
    encoded: list[bytes | None] = [png(picture) for picture in images(300)]
    encoded[5] = encoded[6] = b"no image"
    write_corpus(tmp_path / "corpus", encoded)

    line = refused(3, "embed", *flags(module, tmp_path, "--max-dead-rows=1"))

    assert "--max-dead-rows" in line


def test_first_records_bad(module: str, tmp_path: Path) -> None:
    """The module is tried on the first records that it takes, wherever they are."""
    broken = b"\x89PNG\r\n\x1a\n and then nothing"
    encoded: list[bytes | None] = [broken] * 70 + [png(picture) for picture in images(30)]
    write_corpus(tmp_path / "corpus", encoded)
    (tmp_path / "corpus" / "part-0.parquet").rename(tmp_path / "corpus" / "part-1.parquet")

    line = refused(3, "embed", *flags(module, tmp_path))

    assert "70 of 100 records" in line


def test_wrong_length_and_missing_feature_in_tfrecord(tmp_path: Path) -> None:
    """tf.Example records with too many values, none, values of another type, and no tf.Example at all."""

    @tf.function(input_signature=[tf.TensorSpec((None, 2), tf.float32, name="x")])
    def double(x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"default": 2 * x}

    tf.saved_model.save(tf.Module(), str(tmp_path / "module"), signatures={"serving_default": double})

    def example(**features: tf.train.Feature) -> bytes:
        return bytes(tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString())

    def floats(*values: float) -> tf.train.Feature:
        return tf.train.Feature(float_list=tf.train.FloatList(value=values))

    bad = {
        10: example(x=floats(1, 2, 3)),
        20: example(),
        30: example(x=tf.train.Feature(int64_list=tf.train.Int64List(value=[1, 2]))),
        40: b"\xff\xff\xff no tf.Example",
    }
    records = [bad.get(row) or example(x=floats(row, -row)) for row in range(100)]
    (tmp_path / "corpus").mkdir()
    with tf.io.TFRecordWriter(str(tmp_path / "corpus" / "part-0.tfrecord")) as writer:
        for record in records:
            writer.write(record)

    succeed(
        "embed", "--module", tmp_path / "module", "--corpus", f"{tmp_path}/corpus/*", "--out", tmp_path / "out",
        "--max-dead-fraction=0.04",
    )  # fmt: skip

    table = library.open(str(tmp_path / "out"))
    good = [row for row in range(100) if row not in bad]
    np.testing.assert_array_equal(table.to_numpy("embedding"), [[2 * row, -2 * row] for row in good])
    dead = table.dead_letters().to_pylist()
    assert [letter["payload"] for letter in dead] == list(bad.values())
    # A frame is 8 bytes of length, 4 of checksum, the record, 4 of checksum.
    starts = np.cumsum([0, *(len(record) + 16 for record in records)])
    assert [letter["address"] for letter in dead] == [int(starts[row]) for row in bad]


def test_null_and_repeated_keys_are_reported(tmp_path: Path) -> None:
    @tf.function(input_signature=[tf.TensorSpec((None, 2), tf.float32, name="x")])
    def double(x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"default": 2 * x}

    tf.saved_model.save(tf.Module(), str(tmp_path / "module"), signatures={"serving_default": double})
    (tmp_path / "corpus").mkdir()
    vectors = tensor_column(np.zeros((3, 2), np.float32))
    pq.write_table(pa.table({"id": ["a", "b", None], "x": vectors}), tmp_path / "corpus" / "one.parquet")
    pq.write_table(pa.table({"id": ["c", "a", "c"], "x": vectors}), tmp_path / "corpus" / "two.parquet")

    summary = succeed(
        "embed", "--module", tmp_path / "module", "--corpus", f"{tmp_path}/corpus/*", "--out", tmp_path / "out",
        "--key=id",
    )  # fmt: skip

    assert "1 records have no key, for example in one.parquet" in summary
    assert "2 records repeat a key" in summary
    assert "'a' in one.parquet and two.parquet" in summary
    assert "'c' in two.parquet and two.parquet" in summary
    assert library.open(str(tmp_path / "out")).rows == 6
