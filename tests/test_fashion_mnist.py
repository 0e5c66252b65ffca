"""Fashion-MNIST as TFRecord (PNG) and Parquet (raw pixels), through both formats of one trained module."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

import beamhub
from tests.jobs import succeed
from tests.shared import shared

pytestmark = pytest.mark.shared

FILES = 7


def read_images(count: int) -> np.ndarray:
    """The first images of the 70,000, uint8 [count, 28, 28]."""
    archive = np.load(shared("data/fashion_mnist/fashion_mnist.npz"))
    return np.concatenate([archive["x_train"], archive["x_test"]])[:count]


def write_corpora(images: np.ndarray, folder: Path) -> None:
    """PNG bytes as TFRecord, raw uint8 as Parquet, in seven files each."""
    for name in ("tfrecord", "parquet"):
        (folder / name).mkdir()
    for number, rows in enumerate(np.array_split(np.arange(len(images)), FILES)):
        with tf.io.TFRecordWriter(str(folder / "tfrecord" / f"{number}.tfrecord")) as writer:
            for row in rows:
                png = tf.io.encode_png(images[row][..., np.newaxis]).numpy()
                feature = {
                    "id": tf.train.Feature(int64_list=tf.train.Int64List(value=[row])),
                    "image": tf.train.Feature(bytes_list=tf.train.BytesList(value=[png])),
                }
                writer.write(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())
        pixels = pa.FixedSizeListArray.from_arrays(pa.array(images[rows].ravel()), 784)
        pq.write_table(pa.table({"id": rows, "image": pixels}), folder / "parquet" / f"{number}.parquet")


def check_four_tables(count: int, folder: Path) -> None:
    """Embeds both corpora by both formats; all four tables agree, and with TensorFlow alone on the first images."""
    images = read_images(count)
    write_corpora(images, folder)
    vectors = {}
    for module, signature in (("tf1_hub", "image_feature_vector"), ("tf2", "image_feature_vector")):
        for corpus in ("tfrecord", "parquet"):
            out = folder / f"{module}-{corpus}"
            succeed(
                "embed", "--module", shared(f"modules/vww_mobilenet_v1/{module}"), "--signature", signature,
                "--corpus", f"{folder / corpus}/*", "--input=image", "--key=id", "--out", out,
                *(["--image-shape=28,28,1"] if corpus == "parquet" else []),
            )  # fmt: skip
            table = beamhub.open(str(out))
            assert table.to_numpy("key").tolist() == list(range(count))
            vectors[module, corpus] = table.to_numpy("embedding")

    first = tf.image.grayscale_to_rgb(tf.image.resize(images[:200][..., np.newaxis] / np.float32(255), (96, 96)))
    alone = tf.saved_model.load(shared("modules/vww_mobilenet_v1/tf2")).signatures["image_feature_vector"](first)
    for found in vectors.values():
        assert found.shape == (count, 256)
        np.testing.assert_allclose(found[:200], alone["default"].numpy(), rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(found, vectors["tf2", "parquet"], rtol=1e-4, atol=1e-4)
    # The features are no constants that would be equal whatever was fed.
    assert np.std(alone["default"].numpy(), axis=0).max() > 0.1


def test_four_tables_of_the_first_images(tmp_path: Path) -> None:
    check_four_tables(1_000, tmp_path)


@pytest.mark.long
def test_four_tables_of_all_70000_images(tmp_path: Path) -> None:
    check_four_tables(70_000, tmp_path)
