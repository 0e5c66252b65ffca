"""Random operations are found wherever TensorFlow hides a graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from beamhub.modules import inspect_module

X = tf.TensorSpec([None, 2], tf.float32, name="x")


class Sampler(tf.Module):
    @tf.function(input_signature=[X])
    def plain(self, x: Any) -> Any:
        return {"y": x + 1.0}

    @tf.function(input_signature=[X])
    def sampled(self, x: Any) -> Any:
        return {"y": x + tf.random.normal([2])}

    @tf.function(input_signature=[X])
    def nested(self, x: Any) -> Any:
        return {"y": tf.map_fn(lambda row: tf.nn.dropout(row, 0.5), x)}

    @tf.function(input_signature=[X])
    def switched(self, x: Any) -> Any:
        which = tf.cast(x[0, 0], tf.int32)
        return {"y": tf.switch_case(which, [lambda: x, lambda: tf.random.shuffle(x)])}

    @tf.function(input_signature=[X])
    def seeded(self, x: Any) -> Any:
        return {"y": x + tf.random.stateless_normal([2], seed=[1, 2])}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sampler")
    sampler = Sampler()
    names = ("plain", "sampled", "nested", "switched", "seeded")
    tf.saved_model.save(sampler, str(folder), signatures={name: getattr(sampler, name) for name in names})
    return folder


@pytest.mark.parametrize(
    ("signature", "found"),
    [
        ("plain", ()),
        ("sampled", ("RandomStandardNormal",)),
        ("nested", ("RandomUniform",)),
        ("switched", ("RandomShuffle",)),
        ("seeded", ()),
    ],
)
def test_random_operations_of_a_signature(path: Path, signature: str, found: tuple[str, ...]) -> None:
    assert inspect_module(str(path)).signature(signature).stateful_random == found
