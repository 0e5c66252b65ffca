"""embed, extract and classify: inputs of every kind in, columns of every kind out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

import beamhub as library
from beamhub.tasks.classify import softmax
from tests.jobs import refused, succeed, tensor_column


def save(path: Path, function: object, *specs: tf.TensorSpec) -> str:
    """A SavedModel with one signature."""
    traced = tf.function(function, input_signature=list(specs))
    tf.saved_model.save(tf.Module(), str(path), signatures={"serving_default": traced})
    return str(path)


def run(task: str, tmp_path: Path, module: str, table: pa.Table, *flags: object) -> library.FeatureTable:
    pq.write_table(table, tmp_path / "corpus.parquet")
    succeed(task, "--module", module, "--corpus", tmp_path / "corpus.parquet", "--out", tmp_path / "out", *flags)
    return library.open(str(tmp_path / "out"))


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        (pa.array([1.5, 2.5], pa.float64()), tf.float32),
        (pa.array([1.5, 2.5], pa.float16()), tf.float32),
        (pa.array([1, 2], pa.int8()), tf.int32),
        (pa.array([1, 2], pa.uint8()), tf.int64),
        (pa.array([True, False]), tf.bool),
        (pa.array(["a", "ü"]), tf.string),
        (pa.array(["a", "ü"], pa.large_string()), tf.string),
        (pa.array(["a", "b"]).dictionary_encode(), tf.string),
        (pa.array([b"\xff", b""]), tf.string),
    ],
)
def test_numbers_and_texts_as_inputs(values: pa.Array, dtype: tf.DType, tmp_path: Path) -> None:
    module = save(tmp_path / "m", lambda x: {"y": tf.identity(x)}, tf.TensorSpec((None,), dtype, "x"))

    table = run("extract", tmp_path, module, pa.table({"x": values}))

    assert table.to_table(["y"]).column("y").to_pylist() == values.to_pylist()


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        (pa.array([1, 2], pa.int64()), tf.int32),
        (pa.array([1, 2], pa.int64()), tf.float32),
        (pa.array([1.0, 2.0]), tf.int64),
        (pa.array(["1", "2"]), tf.float32),
        (pa.array([1, 2]), tf.string),
    ],
)
def test_casts_that_change_more_than_precision_are_refused(values: pa.Array, dtype: tf.DType, tmp_path: Path) -> None:
    module = save(tmp_path / "m", lambda x: {"y": tf.identity(x)}, tf.TensorSpec((None,), dtype, "x"))
    pq.write_table(pa.table({"x": values}), tmp_path / "c.parquet")

    line = refused(2, "extract", "--module", module, "--corpus", tmp_path / "c.parquet", "--out", tmp_path / "out")

    assert f"column x is {values.type}" in line


def test_integers_of_tfrecord_fit_narrower_inputs_with_a_check(tmp_path: Path) -> None:
    """tf.Example has int64 alone; a value that int32 cannot hold is a dead letter."""
    module = save(tmp_path / "m", lambda x: {"y": tf.identity(x)}, tf.TensorSpec((None,), tf.int32, "x"))
    with tf.io.TFRecordWriter(str(tmp_path / "c.tfrecord")) as writer:
        for value in (1, 2**31, -(2**31)):
            feature = {"x": tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))}
            writer.write(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())

    succeed(
        "extract", "--module", module, "--corpus", tmp_path / "c.tfrecord", "--out", tmp_path / "out",
        "--max-dead-fraction=0.5",
    )  # fmt: skip

    table = library.open(str(tmp_path / "out"))
    assert table.to_numpy("y").tolist() == [1, -(2**31)]
    assert "2147483648, outside" in table.dead_letters().column("error")[0].as_py()


def test_several_inputs_and_a_constant(tmp_path: Path) -> None:
    module = save(
        tmp_path / "m",
        lambda a, b, scale, shift: {"default": (a + b) * scale + shift},
        tf.TensorSpec((None, 2), tf.float32, "a"),
        tf.TensorSpec((None, 2), tf.float32, "b"),
        tf.TensorSpec((), tf.float32, "scale"),
        tf.TensorSpec((None, 2), tf.float32, "shift"),
    )
    left, right = np.array([[1, 2], [3, 4]], np.float32), np.array([[10, 20], [30, 40]], np.float32)

    table = run(
        "embed", tmp_path, module, pa.table({"l": tensor_column(left), "r": tensor_column(right)}), "--input=a=l",
        "--input=b=r", "--constant=scale=0.5", "--constant=shift=[1, 0]",
    )  # fmt: skip

    np.testing.assert_array_equal(table.to_numpy("embedding"), (left + right) / 2 + [1, 0])


def test_columns_below_structs(tmp_path: Path) -> None:
    module = save(tmp_path / "m", lambda x: {"y": 2 * x}, tf.TensorSpec((None,), tf.float32, "x"))
    rows = [{"meta": {"value": 1.0, "name": "a"}}, {"meta": {"value": 2.0, "name": "b"}}]
    schema = pa.schema([("meta", pa.struct([("value", pa.float32()), ("name", pa.string())]))])

    table = run(
        "extract", tmp_path, module, pa.Table.from_pylist(rows, schema), "--input=x=meta.value", "--key=meta.name"
    )  # fmt: skip

    assert table.to_table().to_pylist() == [{"key": "a", "y": 2.0}, {"key": "b", "y": 4.0}]


def test_vectors_of_different_lengths(tmp_path: Path) -> None:
    """An input of unknown length takes each record with its own; nothing is padded."""
    module = save(
        tmp_path / "m", lambda x: {"sum": tf.reduce_sum(x, 1), "same": tf.identity(x)},
        tf.TensorSpec((None, None), tf.float32, "x"),
    )  # fmt: skip
    rows = [[1.0], [1.0, 2.0], [5.0], [1.0, 2.0, 3.0], [7.0, 7.0]]

    table = run("extract", tmp_path, module, pa.table({"x": pa.array(rows, pa.list_(pa.float32()))}))

    assert table.to_numpy("sum").tolist() == [sum(row) for row in rows]
    assert table.to_table(["same"]).column("same").to_pylist() == rows


def test_kept_columns_are_unchanged(tmp_path: Path) -> None:
    module = save(tmp_path / "m", lambda x: {"y": 2 * x}, tf.TensorSpec((None,), tf.float32, "x"))
    kept = {
        "label": pa.array([1, None], pa.int16()),
        "tags": pa.array([["a", "b"], None], pa.list_(pa.string())),
        "when": pa.array([0, 1], pa.timestamp("us", "UTC")),
        "blob": pa.array([b"\x00", None], pa.large_binary()),
    }

    table = run(
        "extract", tmp_path, module, pa.table({"x": pa.array([1.0, 2.0], pa.float32()), **kept}), f"--keep={','.join(kept)}"
    )  # fmt: skip

    found = table.to_table()
    assert found.schema.names == ["key", *kept, "y"]
    for name, column in kept.items():
        assert found.column(name).type == column.type
        assert found.column(name).to_pylist() == column.to_pylist()


def test_outputs_of_every_rank(tmp_path: Path) -> None:
    def outputs(x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {
            "number": x[:, 0],
            "vector": x,
            "matrix": tf.einsum("ni,nj->nij", x, x),
            "whole": tf.cast(x, tf.int64),
            "half": tf.cast(x, tf.float16),
            "flag": x[:, 0] > 1,
            "word": tf.strings.as_string(tf.cast(x[:, 0], tf.int32)),
            "bytes": tf.io.decode_base64(tf.fill([tf.shape(x)[0]], "_w")),
        }

    module = save(tmp_path / "m", outputs, tf.TensorSpec((None, 2), tf.float32, "x"))
    x = np.array([[1, 2], [3, 4]], np.float32)

    table = run("extract", tmp_path, module, pa.table({"x": tensor_column(x)}))

    types = {field.name: field.type for field in table.schema}
    assert types["number"] == pa.float32()
    assert types["vector"] == pa.list_(pa.float32(), 2)
    assert types["matrix"] == pa.fixed_shape_tensor(pa.float32(), [2, 2])
    assert types["half"] == pa.list_(pa.float32(), 2)
    assert types["word"] == pa.string()
    assert types["bytes"] == pa.binary()
    np.testing.assert_array_equal(table.to_numpy("matrix"), np.einsum("ni,nj->nij", x, x))
    np.testing.assert_array_equal(table.to_numpy("whole"), x)
    rows = table.to_table(["flag", "word", "bytes"]).to_pylist()
    assert rows == [{"flag": False, "word": "1", "bytes": b"\xff"}, {"flag": True, "word": "3", "bytes": b"\xff"}]


def test_ragged_outputs_become_lists(tmp_path: Path) -> None:
    module = save(
        tmp_path / "m", lambda x: {"words": tf.strings.split(x), "letters": tf.strings.bytes_split(tf.strings.split(x))},
        tf.TensorSpec((None,), tf.string, "x"),
    )  # fmt: skip

    table = run("extract", tmp_path, module, pa.table({"x": ["ab c", "", "d"]}))

    assert table.to_table(["words", "letters"]).to_pylist() == [
        {"words": ["ab", "c"], "letters": [["a", "b"], ["c"]]},
        {"words": [], "letters": []},
        {"words": ["d"], "letters": [["d"]]},
    ]


def test_unwanted_outputs_are_not_computed(tmp_path: Path) -> None:
    """An integer division by zero fails wherever it is computed, and nothing else depends on it."""
    module = save(
        tmp_path / "m", lambda x: {"y": tf.identity(x), "bad": tf.ones_like(x) // tf.zeros_like(x)},
        tf.TensorSpec((None,), tf.int64, "x"),
    )  # fmt: skip

    table = run("extract", tmp_path, module, pa.table({"x": [4, 5]}), "--outputs=y")

    assert table.to_numpy("y").tolist() == [4, 5]


def test_output_that_is_not_for_each_record(tmp_path: Path) -> None:
    module = save(
        tmp_path / "m", lambda x: {"total": tf.reduce_sum(x, axis=0, keepdims=True)}, tf.TensorSpec((None,), tf.float32, "x")
    )  # fmt: skip
    pq.write_table(pa.table({"x": pa.array([1.0, 2.0], pa.float32())}), tmp_path / "c.parquet")

    line = refused(2, "extract", "--module", module, "--corpus", tmp_path / "c.parquet", "--out", tmp_path / "out")

    assert "output total" in line
    assert "no output for each record" in line


LOGITS = np.array([[1, 3, 2], [0, 0, 0], [-1, -2, 5]], np.float32)


def identity_module(path: Path, output: str) -> str:
    return save(path, lambda x: {output: tf.identity(x)}, tf.TensorSpec((None, 3), tf.float32, "x"))


def test_classify_logits(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("cat\ndog\nowl\n")
    module = identity_module(tmp_path / "m", "logits")

    table = run(
        "classify", tmp_path, module, pa.table({"x": tensor_column(LOGITS)}), "--top-k=2", f"--label-file={tmp_path}/labels.txt"
    )  # fmt: skip

    found = table.to_table().to_pydict()
    assert found["labels"] == [["dog", "owl"], ["cat", "dog"], ["owl", "cat"]]
    assert found["classes"] == [[1, 2], [0, 1], [2, 0]]
    powers = np.exp(LOGITS.astype(np.float64))
    shares = powers / powers.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found["scores"], np.take_along_axis(shares, np.array(found["classes"]), 1), rtol=1e-5)


def test_classify_probabilities_as_they_are(tmp_path: Path) -> None:
    shares = np.array([[0.2, 0.5, 0.3], [0.9, 0.1, 0.0]], np.float32)
    module = identity_module(tmp_path / "m", "anything")

    table = run("classify", tmp_path, module, pa.table({"x": tensor_column(shares)}), "--top-k=9")

    found = table.to_table().to_pydict()
    assert found["labels"] == [["1", "2", "0"], ["0", "1", "2"]]
    np.testing.assert_array_equal(found["scores"], -np.sort(-shares, axis=1))


def test_classify_with_too_few_labels(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("cat\ndog\n")
    pq.write_table(pa.table({"x": tensor_column(LOGITS)}), tmp_path / "c.parquet")

    line = refused(
        2, "classify", "--module", identity_module(tmp_path / "m", "logits"), "--corpus", tmp_path / "c.parquet", "--out",
        tmp_path / "out", f"--label-file={tmp_path}/labels.txt",
    )  # fmt: skip

    assert "3 classes" in line
    assert "not class 2" in line


def test_softmax_of_large_logits() -> None:
    np.testing.assert_allclose(softmax(np.array([[1000, 1000, -1000]], np.float32)), [[0.5, 0.5, 0]])
