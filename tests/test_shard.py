"""One shard, without a pipeline."""

from __future__ import annotations

import datetime
import os
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from beamhub.corpus.listing import list_corpus
from beamhub.corpus.shards import Chunk, Shard
from beamhub.engine.inference import Inference, Inferred
from beamhub.engine.lane import compute_shard
from beamhub.engine.planning import read_specs
from beamhub.engine.pool import ComputePool, acquire_pool
from beamhub.engine.rows import Rows
from beamhub.engine.shard import WorkItem, scan
from beamhub.engine.worklist import new_run_id
from beamhub.features.ledger import ShardResult
from beamhub.features.paths import VersionPaths
from tests.corpora import example, write_tfrecord
from tests.jobs import succeed
from tests.small import save


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A committed table of one shard of three rows."""
    double = tf.function(lambda x: {"y": 2 * x}, input_signature=[tf.TensorSpec((None,), tf.float32, "x")])
    tf.saved_model.save(tf.Module(), str(tmp_path / "module"), signatures={"serving_default": double})
    pq.write_table(pa.table({"x": pa.array([1.0, 2.0, 3.0], pa.float32())}), tmp_path / "c.parquet")
    succeed(
        "extract", "--module", tmp_path / "module", "--corpus", tmp_path / "c.parquet", "--out", tmp_path / "out"
    )  # fmt: skip
    return tmp_path / "out"


def compute(out: Path, elsewhere: Path, **changes: object) -> tuple[ShardResult, Shard]:
    """Computes the shard, changed as said, into a table of its own."""
    ((version, spec),) = read_specs(str(out)).items()
    (shard,) = list_corpus(str(out.parent / "c.parquet")).shards
    changed = replace(shard, **changes)
    result = compute_shard(WorkItem(changed), spec, VersionPaths(str(elsewhere), version), acquire_pool(spec))
    return result, changed


def test_result_tells_all(out: Path, tmp_path: Path) -> None:
    result, shard = compute(out, tmp_path / "elsewhere")

    assert (result.outcome, result.shard, result.token) == ("done", shard.id, shard.token)
    assert (result.read, result.produced, result.dead, result.skipped, result.rows) == (3, 3, 0, 0, 3)
    written = next((tmp_path / "elsewhere").rglob("*.parquet"))
    assert written.stat().st_size == result.bytes
    assert pq.read_table(written).column("y").to_pylist() == [2, 4, 6]


def test_pools_of_calls_that_differ_are_two(out: Path) -> None:
    """What was measured or tried is not in the version's name: one process may run the same job with another choice."""
    (spec,) = read_specs(str(out)).values()
    other = replace(spec, call=replace(spec.call, stacked=not spec.call.stacked))

    assert acquire_pool(other) is not acquire_pool(spec)
    assert acquire_pool(other).inference.caller.call.stacked != spec.call.stacked
    assert acquire_pool(spec) is acquire_pool(spec)


def test_input_that_changed_since_it_was_planned_is_stale(out: Path, tmp_path: Path) -> None:
    result, _ = compute(out, tmp_path / "elsewhere", token="another")

    assert result.outcome == "stale"
    assert "changed while it was read" in result.reason
    assert not list((tmp_path / "elsewhere").rglob("part-*"))


class Touching:
    """Inference that changes the shard's file while the shard is computed, as a writer somewhere else would."""

    def __init__(self, genuine: Inference, path: Path) -> None:
        self._genuine = genuine
        self.stages = genuine.stages
        self._path = path

    def run(self, batch: Chunk) -> Inferred:
        os.utime(self._path, ns=(1, 1))
        return self._genuine.run(batch)


def test_input_that_changes_while_it_is_read_is_stale(out: Path, tmp_path: Path) -> None:
    ((version, spec),) = read_specs(str(out)).items()
    (shard,) = list_corpus(str(out.parent / "c.parquet")).shards
    pool = acquire_pool(spec)
    touching = ComputePool(pool.module, Touching(pool.inference, Path(shard.path)), pool.threads)

    result = compute_shard(WorkItem(shard), spec, VersionPaths(str(tmp_path / "elsewhere"), version), touching)

    assert result.outcome == "stale"
    assert not list((tmp_path / "elsewhere").rglob("part-*"))


def test_input_that_is_gone_fails_the_shard(out: Path, tmp_path: Path) -> None:
    result, _ = compute(out, tmp_path / "elsewhere", path=str(tmp_path / "nothing.parquet"))

    assert result.outcome == "stale"


def test_unwritable_table_fails_the_shard(out: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    result, _ = compute(out, tmp_path / "file" / "elsewhere")

    assert result.outcome == "failed"
    assert "file/elsewhere" in result.reason


def test_runs_of_one_second_sort_by_their_beginning() -> None:
    moment = datetime.datetime(2026, 11, 21, 12, 0, 0, 1, datetime.UTC)

    names = [new_run_id(moment + datetime.timedelta(microseconds=each)) for each in range(50)]

    assert names == sorted(names)


@pytest.mark.parametrize("refused", [False, True])
def test_records_are_let_go_by_the_thread_that_computes_unless_one_may_be_a_dead_letter(
    tmp_path: Path, refused: bool
) -> None:
    """The thread that writes would have to free them, one by one, from its own core."""
    module = save(
        tmp_path / "m", lambda b: {"y": tf.strings.to_number(b)}, tf.TensorSpec((None,), tf.string, "b")
    )  # fmt: skip
    write_tfrecord(tmp_path / "c", [example(b=[each]) for each in (b"1", b"2", b"x" if refused else b"3")])
    job = ["--module", module, "--corpus", tmp_path / "c", "--out", tmp_path / "out", "--input=b"]
    succeed("extract", *job, "--max-dead-fraction=0.5")
    (spec,) = read_specs(str(tmp_path / "out")).values()
    (shard,) = list_corpus(str(tmp_path / "c")).shards
    (batch,) = scan(WorkItem(shard), spec)[1]

    with acquire_pool(spec).submit(batch) as (chunk, inferred):
        assert bool(inferred.failures) == refused == bool(chunk.records)
        assert refused or not chunk.tensors


@pytest.mark.parametrize("format", ["parquet", "tfrecord"])
def test_rows_of_the_table_do_not_hold_what_was_read(tmp_path: Path, format: str) -> None:
    """Columns of a decoded batch may be one piece of memory: a key would hold its image until a row group is full."""
    module = save(
        tmp_path / "m", lambda b: {"y": tf.cast(tf.strings.length(b), tf.float32)}, tf.TensorSpec((None,), tf.string, "b")
    )  # fmt: skip
    names, blob = ["u", "v"], b"x" * 1000
    if format == "parquet":
        pq.write_table(pa.table({"id": [0, 1], "name": names, "b": [blob, blob]}), tmp_path / "c")
    else:
        records = [example(id=[n], name=[name.encode()], b=[blob]) for n, name in enumerate(names)]
        write_tfrecord(tmp_path / "c", records)
    job = ["--module", module, "--corpus", tmp_path / "c", "--out", tmp_path / "out", "--input=b"]
    succeed("extract", *job, "--key=id", "--keep=name")
    (spec,) = read_specs(str(tmp_path / "out")).values()
    (shard,) = list_corpus(str(tmp_path / "c")).shards
    (batch,) = scan(WorkItem(shard), spec)[1]
    read = batch.decode()

    made = Rows(spec, shard).produced(read, acquire_pool(spec).inference.run(read))

    assert made.column("name").to_pylist() == names
    held = {buffer.address for name in ("id", "name") for buffer in read.columns.column(name).buffers() if buffer}
    assert held.isdisjoint(buffer.address for column in made.columns for buffer in column.buffers() if buffer)
