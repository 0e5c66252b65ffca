"""What comes before what in the pipeline, whatever order a runner happens to take."""

from pathlib import Path
from typing import Any

import apache_beam as beam
import pyarrow as pa
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.pipeline import PipelineVisitor
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from beamhub.engine.planning import make_plan
from beamhub.spec import ExtractJob
from beamhub.transforms import ComputeTable
from tests.small import FLOATS, flags, identity


def test_the_commit_comes_after_all_shards_and_after_those_done_again(tmp_path: Path) -> None:
    given = flags(tmp_path, identity(tmp_path / "module", (None,)), pa.table({"x": FLOATS}))
    module, corpus, out = map(str, given[1::2])
    plan = make_plan(ExtractJob(module=module, corpus=corpus, out=out))
    pipeline = beam.Pipeline(FnApiRunner(), PipelineOptions([]))
    table = ComputeTable(plan.spec, plan.paths.out, "run")
    _ = pipeline | "Worklists" >> beam.Create(["worklist"]) | "ComputeTable" >> table
    steps: dict[str, Any] = {}

    class Collect(PipelineVisitor):
        def visit_transform(self, transform_node: Any) -> None:
            steps[transform_node.full_label] = transform_node

    pipeline.visit(Collect())

    before: set[str] = set()
    waiting = [steps["ComputeTable/Commit"]]
    while waiting:
        producers = [given.producer for given in waiting.pop().inputs if not isinstance(given, beam.pvalue.PBegin)]
        waiting += [each for each in producers if each.full_label not in before]
        before.update(each.full_label for each in producers)
    assert {"ComputeTable/Compute/ComputeShards", "ComputeTable/ComputeAgain/ComputeShards"} <= before
    # Each of them whole: a grouping ends when all that it groups is there.
    assert {"ComputeTable/Computed/Sum/GroupByKey", "ComputeTable/All/Sum/GroupByKey"} <= before
