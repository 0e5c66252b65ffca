"""The modules that are benchmarked, made here with random weights from fixed seeds. Imports TensorFlow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

VOCABULARY = 100_000
EMBEDDING = 64
LATENT = 16
SIDE = 28
PIXELS = 224


class TextEmbedding(tf.Module):
    """Mean of 64-d vectors of a text's words, by a vocabulary of 100,000 words, as nnlm-en-dim128 and its like."""

    def __init__(self, vocabulary: Path) -> None:
        super().__init__()
        table = tf.lookup.TextFileInitializer(
            str(vocabulary),
            tf.string,
            tf.lookup.TextFileIndex.WHOLE_LINE,
            tf.int64,
            tf.lookup.TextFileIndex.LINE_NUMBER,
        )
        self.table = tf.lookup.StaticVocabularyTable(table, num_oov_buckets=1)
        values = np.random.default_rng(1).standard_normal((VOCABULARY + 1, EMBEDDING), np.float32)
        self.vectors = tf.Variable(values, trainable=False)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="texts")])
    def __call__(self, texts: Any) -> Any:
        words = tf.strings.split(tf.strings.lower(texts))
        ids = self.table.lookup(words.values)
        total = tf.math.segment_sum(tf.gather(self.vectors, ids), words.value_rowids())
        missing = tf.shape(texts)[0] - tf.shape(total)[0]
        total = tf.pad(total, [[0, missing], [0, 0]])
        counts = tf.cast(tf.maximum(words.row_lengths(), 1), tf.float32)
        return {"embedding": tf.ensure_shape(total / tf.sqrt(counts)[:, None], [None, EMBEDDING])}


def _keras_module(model: Any, shape: tuple[int, ...], low: float) -> tf.Module:
    """Images in 0..1, as TensorFlow Hub's convention has them, scaled to low..1 inside."""
    module = tf.Module()
    module.model = model

    @tf.function(input_signature=[tf.TensorSpec([None, *shape], tf.float32, name="images")])
    def call(images: Any) -> Any:
        return {"embedding": model(images * (1.0 - low) + low, training=False)}

    module.__call__ = call
    return module


def vae_encoder() -> tf.Module:
    """The encoder of a convolutional variational autoencoder for 28x28 grey images: the mean, 16-d."""
    layers = tf.keras.layers
    tf.keras.utils.set_random_seed(2)
    model = tf.keras.Sequential(
        [
            tf.keras.Input((SIDE, SIDE, 1)),
            layers.Conv2D(32, 3, 2, "same", activation="relu"),
            layers.Conv2D(64, 3, 2, "same", activation="relu"),
            layers.Flatten(),
            layers.Dense(LATENT),
        ]
    )
    return _keras_module(model, (SIDE, SIDE, 1), 0.0)


def mobilenet(width: float) -> tf.Module:
    """MobileNetV2 for 224x224 images without its head: 1,280 features."""
    tf.keras.utils.set_random_seed(3)
    model = tf.keras.applications.MobileNetV2(
        (PIXELS, PIXELS, 3), alpha=width, include_top=False, weights=None, pooling="avg"
    )
    return _keras_module(model, (PIXELS, PIXELS, 3), -1.0)


def save(name: str, folder: Path) -> None:
    """Writes the module of that name as a SavedModel with the signature `serving_default`."""
    if name == "text":
        vocabulary = folder.with_name("vocabulary.txt")
        vocabulary.write_text("".join(f"w{n}\n" for n in range(VOCABULARY)))
        module: tf.Module = TextEmbedding(vocabulary)
    elif name == "vae":
        module = vae_encoder()
    else:
        module = mobilenet({"mobilenet035": 0.35, "mobilenet100": 1.0}[name])
    tf.saved_model.save(module, str(folder), signatures=module.__call__)


class OfExamples(tf.Module):
    """A saved module behind a signature that takes serialized `tf.Example`s: the limit's own function, with decoding and
    preprocessing inside."""

    def __init__(self, name: str, folder: Path, column: str, frozen: bool) -> None:
        super().__init__()
        from benchmarks.limit import load

        self.function = load(str(folder), name, frozen)
        self.loaded = self.function.module
        features = {"id": tf.io.FixedLenFeature((), tf.int64), column: tf.io.FixedLenFeature((), tf.string)}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")], autograph=False)
        def serve(examples: Any) -> Any:
            parsed = tf.io.parse_example(examples, features)
            return {"id": parsed["id"], "embedding": self.function(parsed[column])}

        self.serve = serve


def save_for_examples(name: str, folder: Path, column: str, frozen: bool, out: Path) -> None:
    """Writes the module in `folder` once more, for who has nothing but `tf.Example`s to give."""
    module = OfExamples(name, folder, column, frozen)
    tf.saved_model.save(module, str(out), signatures=module.serve)
