"""Beam's `RunInference` as its documentation shows it: rows as dicts, a keyed handler, results one by one, no settings.

https://beam.apache.org/documentation/ml/about-ml/ and `RunInference`'s own examples: `ReadFromParquet` or `ReadFromTFRecord`,
a map to (key, example), `RunInference(KeyedModelHandler(...))`, a map of each `PredictionResult` to a dict, and
`WriteToParquet`, on the runner that one gets without a flag that says more. What its users can gain by knowing Beam better is
in `run_inference.py`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
import tensorflow as tf
from apache_beam.io.parquetio import ReadAllFromParquet, WriteToParquet
from apache_beam.ml.inference.base import KeyedModelHandler, ModelHandler, PredictionResult, RunInference
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from benchmarks.limit import prepared
from benchmarks.peers.job import Job, job, parser
from benchmarks.peers.model import schema


class Model:
    """The module with its preprocessing in one graph for any number of rows; TensorFlow's threads are its own affair."""

    def __init__(self, job: Job) -> None:
        self.module = tf.saved_model.load(job.module)
        signature = self.module.signatures["serving_default"]
        (feed,) = signature.structured_input_signature[1]

        def run(values: Any) -> Any:
            return signature(**{feed: prepared(job.name, values)})["embedding"]

        self.function = tf.function(run, autograph=False, input_signature=[tf.TensorSpec([None], tf.string)])


class Handler(ModelHandler[Any, PredictionResult, Model]):
    """From texts or encoded images to vectors, as `TFModelHandlerTensor` has it: a batch is called, its rows are results."""

    def __init__(self, job: Job) -> None:
        super().__init__()
        self.job = job

    def load_model(self) -> Model:
        return Model(self.job)

    def run_inference(
        self, batch: Sequence[Any], model: Model, inference_args: dict[str, Any] | None = None
    ) -> Iterable[PredictionResult]:
        vectors = model.function(tf.constant(batch, tf.string)).numpy()
        for value, vector in zip(batch, vectors, strict=True):
            yield PredictionResult(value, vector)

    def get_num_bytes(self, batch: Sequence[Any]) -> int:
        # As Beam's own handlers for TensorFlow have it; without it every batch would be pickled to be measured.
        return sum(sys.getsizeof(each) for each in batch)


def parsed(record: bytes, column: str) -> tuple[int, bytes]:
    features = tf.train.Example.FromString(record).features.feature
    return features["id"].int64_list.value[0], features[column].bytes_list.value[0]


def row(result: tuple[int, PredictionResult]) -> dict[str, Any]:
    key, prediction = result
    return {"key": key, "embedding": np.asarray(prediction.inference).tolist()}


def run(job: Job) -> None:
    column = job.column
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        files = pipeline | "Files" >> beam.Create(job.files)
        if job.parquet:
            rows = files | ReadAllFromParquet(columns=["id", column])
            rows |= beam.Map(lambda each: (each["id"], each[column]))
        else:
            rows = files | beam.io.ReadAllFromTFRecord() | beam.Map(parsed, column)
        found = rows | RunInference(KeyedModelHandler(Handler(job))) | beam.Map(row)
        found | WriteToParquet(str(job.out / "part"), schema(job.name), file_name_suffix=".parquet")


if __name__ == "__main__":
    run(job(parser().parse_args()))
