"""Beam's `RunInference` as its documentation shows it: rows as dicts, Beam's own handler, results one by one, no settings.

https://beam.apache.org/documentation/ml/about-ml/ and `RunInference`'s own examples: `ReadFromParquet` or `ReadFromTFRecord`,
a map to (key, example), `RunInference(KeyedModelHandler(...))`, a map of each `PredictionResult` to a dict, and
`WriteToParquet`, on the runner that one gets without a flag that says more. The handler is `TFModelHandlerNumpy`; on texts
`TFModelHandlerTensor` does .8 of its rows a second (7,300 and 5,900: one run of both, 40,000 and 200,000 rows). A handler of
one's own, which takes texts as they are and gives back rows of one array, does 3.4 times as many (25,000). What its users can
gain by knowing Beam still better is in `run_inference.py`.
"""

from __future__ import annotations

from typing import Any

import apache_beam as beam
import numpy as np
import tensorflow as tf
from apache_beam.io.parquetio import ReadAllFromParquet, WriteToParquet
from apache_beam.ml.inference.base import KeyedModelHandler, PredictionResult, RunInference
from apache_beam.ml.inference.tensorflow_inference import TFModelHandlerNumpy
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

    def __call__(self, batch: Any) -> Any:
        return self.function(batch)


class Handler(TFModelHandlerNumpy):
    """Beam's own, but for the loading: Keras 3, with which its `load_model` loads, reads no SavedModel."""

    def __init__(self, job: Job) -> None:
        super().__init__(job.module)
        self.job = job

    def load_model(self) -> Model:
        return Model(self.job)


def example(value: str | bytes) -> Any:
    """A text or an encoded image as the handler takes it, which stacks arrays. NumPy's own bytes lose zeros at the end."""
    return np.array(value, object)


def parsed(record: bytes, column: str) -> tuple[int, Any]:
    features = tf.train.Example.FromString(record).features.feature
    return features["id"].int64_list.value[0], example(features[column].bytes_list.value[0])


def row(result: tuple[int, PredictionResult]) -> dict[str, Any]:
    key, prediction = result
    return {"key": key, "embedding": np.asarray(prediction.inference).tolist()}


def run(job: Job) -> None:
    column = job.column
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        files = pipeline | "Files" >> beam.Create(job.files)
        if job.parquet:
            rows = files | ReadAllFromParquet(columns=["id", column])
            rows |= beam.Map(lambda each: (each["id"], example(each[column])))
        else:
            rows = files | beam.io.ReadAllFromTFRecord() | beam.Map(parsed, column)
        found = rows | RunInference(KeyedModelHandler(Handler(job))) | beam.Map(row)
        found | WriteToParquet(str(job.out / "part"), schema(job.name), file_name_suffix=".parquet")


if __name__ == "__main__":
    run(job(parser().parse_args()))
