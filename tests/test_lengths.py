"""Inputs of open length: few graphs, little padding, and values and bits that nothing around a record changes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf

import beamhub as library
from beamhub.corpus.listing import list_corpus
from beamhub.engine.lane import compute_shard
from beamhub.engine.planning import read_specs
from beamhub.engine.pool import acquire_pool
from beamhub.engine.shard import WorkItem
from beamhub.engine.sizing import BATCH_ROWS, RESULT_BYTES, TOGETHER_BYTES, TOGETHER_ROWS, rows_together
from beamhub.features.paths import VersionPaths
from beamhub.modules.load import Feeding, load_module
from beamhub.modules.protos import read_saved_model, variants
from beamhub.modules.session import SessionModule
from tests.jobs import start, succeed
from tests.small import flags, save

FLOATS = pa.list_(pa.float32())
KERNEL = np.random.default_rng(1).normal(size=(5, 1, 8)).astype(np.float32)
WEIGHTS = np.random.default_rng(2).normal(size=(8, 6)).astype(np.float32)

Vector = np.ndarray[Any, np.dtype[np.float32]]


@pytest.fixture
def network(tmp_path: Path) -> str:
    """A convolution over samples of any number, its mean over time, and a layer with variables.

    A module of its own for each test, by the second output: a process keeps graphs by content.
    """
    saved = tf.Module()
    saved.kernel, saved.weights = tf.Variable(KERNEL), tf.Variable(WEIGHTS)

    @tf.function(input_signature=[tf.TensorSpec((None, None), tf.float32, "x")])
    def embed(x: tf.Tensor) -> dict[str, tf.Tensor]:
        heard = tf.nn.relu(tf.nn.conv1d(x[:, :, None], saved.kernel, 1, "SAME"))
        return {"default": tf.tanh(tf.reduce_mean(heard, 1) @ saved.weights), "name": tf.constant(path)}

    path = str(tmp_path / "network")
    tf.saved_model.save(saved, path, signatures={"serving_default": embed})
    return path


def alone(x: Vector) -> Vector:
    """What the network gives for one record, by NumPy, in float64."""
    padded = np.pad(x.astype(np.float64), 2)
    heard = sum(padded[step : step + len(x), None] * KERNEL[step, 0].astype(np.float64) for step in range(5))
    return np.tanh(np.maximum(heard, 0).mean(0) @ WEIGHTS)


def records(lengths: Sequence[int], seed: int = 0) -> list[Vector]:
    random = np.random.default_rng(seed)
    return [random.normal(size=length).astype(np.float32) for length in lengths]


def column(rows: Sequence[Vector]) -> pa.Table:
    return pa.table({"x": pa.array(list(rows), FLOATS)})


@dataclass(frozen=True)
class Workload:
    """The figures of a summary."""

    called: int
    padding: float
    traces: int

    @classmethod
    def of(cls, summary: str) -> Workload:
        found = re.search(r"calls +([\d,]+) records, ([\d.]+)% of them padding; (\d+) traces", summary)
        assert found, summary
        return cls(int(found[1].replace(",", "")), float(found[2]) / 100, int(found[3]))


def embeddings(tmp_path: Path) -> np.ndarray[Any, Any]:
    return library.open(str(tmp_path / "out")).to_numpy("embedding")


@pytest.mark.parametrize("variables", ["plain", "frozen"])
def test_a_hundred_lengths_make_a_handful_of_traces_and_little_padding(
    network: str, variables: str, tmp_path: Path
) -> None:
    """Sizes are 64, 16, 4 and 2; 3,000 records of 100 lengths have about 30 of each."""
    rows = records(np.random.default_rng(3).integers(1, 101, 3000))

    summary = succeed(
        "embed", *flags(tmp_path, network, column(rows)), "--batch-size=64", f"--variables={variables}"
    )  # fmt: skip

    figures = Workload.of(summary)
    assert figures.traces <= 4
    assert figures.padding < 0.05
    np.testing.assert_allclose(embeddings(tmp_path), [alone(row) for row in rows], rtol=1e-4, atol=1e-5)


def test_lengths_that_all_differ_make_a_handful_of_traces(network: str, tmp_path: Path) -> None:
    """Never 1 where a module takes batches: each record is called with a copy of itself, and with no more."""
    rows = records(np.random.default_rng(4).permutation(500) + 1)

    summary = succeed("embed", *flags(tmp_path, network, column(rows)), "--batch-size=1024")

    # The first records are tried in calls of 1,024; all others have 2.
    assert Workload.of(summary) == Workload(called=1000, padding=0.5, traces=2)
    np.testing.assert_allclose(embeddings(tmp_path), [alone(row) for row in rows], rtol=1e-4, atol=1e-5)


def test_neither_neighbours_nor_order_nor_process_change_a_records_bits(network: str, tmp_path: Path) -> None:
    """Eight records of each length fill a call. The first one of each length comes in both corpora, and nothing else does:
    the others have other values, the lengths come in another order, among more lengths, in another process.

    It stays the first: with AVX2, a product of matrices gives a record other last bits in another place.
    """
    lengths = [3, 50, 7, 200, 31]
    ours = records(lengths, seed=5)
    here = [row for row, length in zip(ours, lengths, strict=True) for row in (row, *records([length] * 7, seed=6))]
    there = [
        row
        for each, length in reversed([*enumerate(lengths), (-1, 90)])
        for row in (ours[each] if each >= 0 else np.ones(90, np.float32), *records([length] * 7, seed=7 + each))
    ]
    (tmp_path / "there").mkdir()

    succeed("embed", *flags(tmp_path, network, column(here)), "--batch-size=8")
    process = start("embed", *flags(tmp_path / "there", network, column(there)), "--batch-size=8")
    assert process.wait(300) == 0, process.communicate()

    first, second = embeddings(tmp_path)[::8], embeddings(tmp_path / "there")[8::8][::-1]
    assert first.tobytes() == second.tobytes()


def test_the_graph_for_a_call_does_not_depend_on_what_came_before(network: str) -> None:
    """One bound signature has met other lengths, one has not."""
    feeding = Feeding(None, {"x": (None,)})
    fresh, used = (load_module(network).bind("serving_default", ["default"], feeding) for _ in range(2))
    batch = np.stack(records([77] * 4))
    for length in (1, 5, 300):
        used({"x": np.ones((4, length), np.float32)})

    assert used({"x": batch})["default"].tobytes() == fresh({"x": batch})["default"].tobytes()
    assert (used.traces, fresh.traces) == (1, 1)


def test_output_shapes_share_the_graph_of_calls(network: str) -> None:
    bound = load_module(network).bind("serving_default", ["default"], Feeding(None, {"x": (None,)}))

    assert bound.output_shapes({"x": tf.TensorSpec((4, None), tf.float32)}) == {"default": (4, 6)}
    bound({"x": np.ones((4, 9), np.float32)})

    assert bound.traces == 1


def test_a_module_in_a_session_traces_its_preparation_once(tmp_path: Path) -> None:
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, (None, None))
        signature = v1.saved_model.build_signature_def(
            {"x": v1.saved_model.build_tensor_info(x)},
            {"sum": v1.saved_model.build_tensor_info(tf.reduce_sum(x, 1))},
        )
        builder = v1.saved_model.Builder(str(tmp_path / "m"))
        builder.add_meta_graph_and_variables(session, ["serve"], {"total": signature})
        builder.save()
    module = SessionModule(str(tmp_path / "m"), variants(read_saved_model(str(tmp_path / "m")))[0])
    bound = module.bind("total", None, Feeding(lambda raw: {"x": 2 * raw["x"]}, {"x": (None,)}))

    sums = [bound({"x": np.ones((2, length), np.float32)})["sum"] for length in (1, 2, 3, 9)]

    np.testing.assert_array_equal(sums, [[2, 2], [4, 4], [6, 6], [18, 18]])
    assert bound.traces == 1


def test_a_lone_large_text_is_not_copied_into_a_call_of_many(tmp_path: Path) -> None:
    """The batch that it is in is halved until it is alone: 22, 11, 5, 1 and 1 before it, 3 after it, in calls of 32."""
    module = save(
        tmp_path / "m", lambda x: {"bytes": tf.strings.length(x)[:, None]}, tf.TensorSpec((None,), tf.string, "x")
    )  # fmt: skip
    texts = ["short"] * 40 + ["x" * (20 << 20)] + ["short"] * 3

    summary = succeed("extract", *flags(tmp_path, module, pa.table({"x": texts})), "--batch-size=16384")

    assert library.open(str(tmp_path / "out")).to_numpy("bytes")[:, 0].tolist() == [len(text) for text in texts]
    assert Workload.of(summary).called == 6 * 32 + 2


@pytest.mark.parametrize("batch", [1, 4])
def test_signatures_of_a_fixed_number_of_records(batch: int, tmp_path: Path) -> None:
    """All records of a length are gathered, so no more than one call of each length has padding."""
    module = save(
        tmp_path / "m", lambda x: {"sum": tf.reduce_sum(x, 1)}, tf.TensorSpec((batch, None), tf.float32, "x")
    )  # fmt: skip
    lengths = np.random.default_rng(8).permutation([1] * 50 + [2, 3, 5, 7, 11, 13] * 25)
    rows = [np.arange(length, dtype=np.float32) for length in lengths]

    summary = succeed("extract", *flags(tmp_path, module, column(rows)))

    expected = sum(-(-int(count) // batch) * batch for count in np.bincount(lengths))
    figures = Workload.of(summary)
    assert (figures.called, figures.traces) == (expected, 1)
    sums = library.open(str(tmp_path / "out")).to_numpy("sum")
    np.testing.assert_array_equal(sums, lengths * (lengths - 1) // 2)


def test_two_inputs_of_lengths_of_their_own(tmp_path: Path) -> None:
    module = save(
        tmp_path / "m", lambda a, b: {"y": tf.reduce_sum(a, 1) - tf.reduce_max(b, 1)},
        tf.TensorSpec((None, None), tf.float32, "a"), tf.TensorSpec((None, None), tf.float32, "b"),
    )  # fmt: skip
    random = np.random.default_rng(9)
    left, right = records(random.integers(1, 6, 300), 10), records(random.integers(1, 6, 300), 11)
    table = pa.table({"a": pa.array(left, FLOATS), "b": pa.array(right, FLOATS)})

    summary = succeed(
        "extract", *flags(tmp_path, module, table), "--input=a=a", "--input=b=b", "--batch-size=16"
    )  # fmt: skip

    assert Workload.of(summary).traces <= 3
    found = library.open(str(tmp_path / "out")).to_numpy("y")
    np.testing.assert_allclose(
        found, [a.sum() - b.max() for a, b in zip(left, right, strict=True)], rtol=1e-5, atol=1e-5
    )


def test_bad_records_are_told_apart_among_all_lengths(tmp_path: Path) -> None:
    """The module refuses a negative value; a record without values cannot be fed."""
    module = save(
        tmp_path / "m",
        lambda x: {"y": tf.reduce_sum(tf.debugging.check_numerics(tf.sqrt(x), "negative") ** 2, 1)},
        tf.TensorSpec((None, None), tf.float32, "x"),
    )
    rows: list[list[float] | None] = [[1.0] * (1 + row % 20) for row in range(400)]
    rows[7], rows[130], rows[399] = [], [4.0, -1.0, 4.0], None

    succeed(
        "extract", *flags(tmp_path, module, pa.table({"x": pa.array(rows, FLOATS)})), "--batch-size=16",
        "--max-dead-fraction=0.1",
    )  # fmt: skip

    table = library.open(str(tmp_path / "out"))
    dead = {int(key.split(":")[-1]) for key in table.dead_letters().column("key").to_pylist()}
    assert dead == {7, 130, 399}
    kept = [1 + row % 20 for row in range(400) if row not in dead]
    np.testing.assert_allclose(table.to_numpy("y"), kept, rtol=1e-5)
    assert [int(key.split(":")[-1]) for key in table.to_table().column("key").to_pylist()] == [
        row for row in range(400) if row not in dead
    ]


def test_encoded_images_of_different_sizes_share_a_trace(tmp_path: Path) -> None:
    module = save(
        tmp_path / "m", lambda x: {"default": tf.reduce_mean(x, (1, 2))},
        tf.TensorSpec((None, None, None, 3), tf.float32, "x"),
    )  # fmt: skip
    random = np.random.default_rng(12)
    images = [random.integers(0, 256, (*size, 3), np.uint8) for size in random.integers(4, 40, (64, 2))]
    encoded = pa.array([tf.io.encode_png(image).numpy() for image in images], pa.binary())

    summary = succeed(
        "embed", *flags(tmp_path, module, pa.table({"x": encoded})), "--image-size=16,16", "--batch-size=64"
    )  # fmt: skip

    assert Workload.of(summary) == Workload(called=64, padding=0, traces=1)
    expected = [tf.image.resize(image[None], (16, 16)).numpy().mean((0, 1, 2)) / 255 for image in images]
    np.testing.assert_allclose(embeddings(tmp_path), expected, rtol=1e-4)


def test_the_number_of_threads_changes_no_byte(network: str, tmp_path: Path) -> None:
    rows = records(np.random.default_rng(13).integers(1, 30, 700))
    succeed("embed", *flags(tmp_path, network, column(rows)), "--batch-size=32")
    ((version, spec),) = read_specs(str(tmp_path / "out")).items()
    (shard,) = list_corpus(str(tmp_path / "corpus" / "*.parquet")).shards

    files = []
    for threads in (1, 2, 5):
        paths = VersionPaths(str(tmp_path / f"{threads}"), version)
        result = compute_shard(WorkItem(shard), spec, paths, acquire_pool(spec, threads))
        files.append(Path(paths.path(result.file)).read_bytes())

    assert files[0] == files[1] == files[2]


def test_memory_bounds_how_many_records_are_gathered() -> None:
    assert rows_together(40, 10, is_open=True) == TOGETHER_ROWS
    assert rows_together(64_000, 10, is_open=True) == TOGETHER_BYTES // 64_000
    assert rows_together(40, 1 << 20, is_open=True) == RESULT_BYTES >> 20
    assert rows_together(1 << 32, 10, is_open=True) == 1
    assert rows_together(1 << 32, 10, is_open=False) == BATCH_ROWS
    assert rows_together(40, 3 << 20, is_open=False) == RESULT_BYTES // (3 << 20) == 5
