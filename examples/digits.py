"""Makes what the demonstration needs: scikit-learn's handwritten digits as two corpora, and a small module trained on them.

    python examples/digits.py FOLDER

FOLDER/tfrecord/part-N.tfrecord   tf.Example: id, label, image (PNG)
FOLDER/parquet/part-N.parquet     id, label, image (raw pixels, uint8 [8,8])
FOLDER/module                     SavedModel: image_feature_vector (32 features) and image_classification (10 classes)
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf
from sklearn.datasets import load_digits

FILES = 3
EPOCHS = 30


def write_tfrecord(path: Path, ids: list[str], images: np.ndarray, labels: np.ndarray) -> None:
    """Writes one file of tf.Example records with PNG images."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for name, image, label in zip(ids, images, labels, strict=True):
            features = {
                "id": tf.train.Feature(bytes_list=tf.train.BytesList(value=[name.encode()])),
                "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
                "image": tf.train.Feature(
                    bytes_list=tf.train.BytesList(value=[tf.io.encode_png(image[..., np.newaxis]).numpy()])
                ),
            }
            writer.write(tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString())


def write_parquet(path: Path, ids: list[str], images: np.ndarray, labels: np.ndarray) -> None:
    """Writes one Parquet file with raw pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = pa.FixedShapeTensorArray.from_numpy_ndarray(np.ascontiguousarray(images))
    pq.write_table(pa.table({"id": ids, "label": labels, "image": pixels}), path)


class Digits(tf.Module):
    """A perceptron with one hidden layer, which is the feature vector."""

    def __init__(self) -> None:
        super().__init__()
        normal = tf.random.Generator.from_seed(1).normal
        self.hidden = tf.Variable(normal((64, 32)) * 0.1)
        self.output = tf.Variable(normal((32, 10)) * 0.1)

    @tf.function(input_signature=[tf.TensorSpec((None, 8, 8, 1), tf.float32, name="images")])
    def features(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        """32 features in [-1,1] for images in [0,1]."""
        return {"default": tf.tanh(tf.reshape(images, (-1, 64)) @ self.hidden)}

    @tf.function(input_signature=[tf.TensorSpec((None, 8, 8, 1), tf.float32, name="images")])
    def classify(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        """Logits of the 10 digits."""
        return {"logits": self.features(images)["default"] @ self.output}


def train(images: np.ndarray, labels: np.ndarray) -> Digits:
    """Trains the module by plain gradient descent."""
    module = Digits()
    inputs = tf.constant(images[..., np.newaxis] / 255.0, tf.float32)
    for _ in range(EPOCHS * 10):
        with tf.GradientTape() as tape:
            logits = module.classify(inputs)["logits"]
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
        for variable, gradient in zip(
            module.trainable_variables, tape.gradient(loss, module.trainable_variables), strict=True
        ):
            variable.assign_sub(2.0 * gradient)
    right = tf.reduce_mean(tf.cast(tf.argmax(module.classify(inputs)["logits"], axis=1) == labels, tf.float32))
    print(f"module trained on {len(labels):,} digits: {right:.1%} of them right")
    return module


def main(folder: Path) -> None:
    """Writes both corpora and the module."""
    digits = load_digits()
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)
    labels = digits.target.astype(np.int64)
    ids = [f"digit-{number:04d}" for number in range(len(labels))]
    for number, rows in enumerate(np.array_split(np.arange(len(labels)), FILES)):
        names = [ids[row] for row in rows]
        write_tfrecord(folder / "tfrecord" / f"part-{number}.tfrecord", names, images[rows], labels[rows])
        write_parquet(folder / "parquet" / f"part-{number}.parquet", names, images[rows], labels[rows])
    module = train(images, labels)
    signatures = {"image_feature_vector": module.features, "image_classification": module.classify}
    tf.saved_model.save(module, str(folder / "module"), signatures=signatures)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
