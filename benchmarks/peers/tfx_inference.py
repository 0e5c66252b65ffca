"""`tfx_bsl`'s `RunInference`: serialized `tf.Example`s into a SavedModel that parses them, `PredictionLog`s out.

TFRecord only: a Parquet corpus would have to be written as `tf.Example`s first. The module hands the id through, so
that no key has to be parsed out of every record beforehand. It runs in a TF1 session, of which the thread counts are
those of the environment. A process for each core, for each `PredictionLog` is made in Python. Batches of 8 and 64
photographs, 256 and 2,048 small images, 1,024 and 4,096 texts took the same time, three runs each.
"""

from __future__ import annotations

import os
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from tfx_bsl.public.beam import RunInference
from tfx_bsl.public.proto import model_spec_pb2

from benchmarks.peers.job import CORES, Job, job, parser
from benchmarks.peers.model import table
from benchmarks.peers.writing import WriteTables


def gathered(logs: list[Any]) -> Any:
    """An Arrow table of many predictions; the module hands the id through, so that no key is needed."""
    outputs = [log.predict_log.response.outputs for log in logs]
    ids = pa.array([each["id"].int64_val[0] for each in outputs], pa.int64())
    first = outputs[0]["embedding"]
    if first.tensor_content:
        joined = b"".join(each["embedding"].tensor_content for each in outputs)
        vectors = np.frombuffer(joined, np.float32)
    else:
        vectors = np.concatenate([np.asarray(each["embedding"].float_val, np.float32) for each in outputs])
    return table(ids, vectors.reshape(len(logs), -1))


def run(job: Job, mode: str, workers: int, batch: int) -> None:
    flags = [f"--direct_running_mode={mode}", f"--direct_num_workers={workers}", "--no_pipeline_type_check"]
    # A TF1 session has no other way to be told; worker processes inherit it.
    os.environ["TF_NUM_INTRAOP_THREADS"] = os.environ["TF_NUM_INTEROP_THREADS"] = "1"
    spec = model_spec_pb2.InferenceSpecType(
        saved_model_spec=model_spec_pb2.SavedModelSpec(model_path=job.module, signature_name=["serving_default"])
    )
    spec.batch_parameters.min_batch_size = batch
    spec.batch_parameters.max_batch_size = batch
    with beam.Pipeline(runner=FnApiRunner(), options=PipelineOptions(flags)) as pipeline:
        found = (
            pipeline
            | beam.Create(job.files)
            | beam.io.ReadAllFromTFRecord()
            | RunInference(spec)
            | "Gather" >> beam.BatchElements(min_batch_size=4096, max_batch_size=4096)
            | beam.Map(gathered)
        )
        found | beam.ParDo(WriteTables(job.out))


def main() -> None:
    parse = parser()
    parse.add_argument("--mode", default="multi_processing")
    parse.add_argument("--workers", type=int, default=CORES)
    args = parse.parse_args()
    run(job(args), args.mode, args.workers, args.batch or args.size)


if __name__ == "__main__":
    main()
