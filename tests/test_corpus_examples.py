from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf

from beamhub.corpus.examples import to_examples
from beamhub.corpus.listing import list_corpus
from beamhub.errors import UsageError
from tests.corpora import read, write_tfrecord


def features(record: bytes) -> dict[str, list[object]]:
    """The features that have a value, by the protocol buffer."""
    parsed = tf.train.Example.FromString(record).features.feature
    kinds = {name: feature.WhichOneof("kind") for name, feature in parsed.items()}
    return {name: list(getattr(parsed[name], kind).value) for name, kind in kinds.items() if kind}


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pa.array([1, -2]), [[1], [-2]]),
        (pa.array([1, None], pa.uint8()), [[1], None]),
        (pa.array([True, False]), [[1], [0]]),
        (pa.array([0.5, None]), [[0.5], None]),
        (pa.array(["é", ""]), [["é".encode()], [b""]]),
        (pa.array([b"\xff", None], pa.large_binary()), [[b"\xff"], None]),
        (pa.array(["x", None]).dictionary_encode(), [[b"x"], None]),
        (pa.array([[1, 2], [], None, [3]], pa.list_(pa.int32())).slice(1), [[], None, [3]]),
        (pa.array([["a", "b"], None], pa.large_list(pa.string())), [[b"a", b"b"], None]),
        (pa.array([[0.5, 1.5], [2.5, 3.5]], pa.list_(pa.float32(), 2)), [[0.5, 1.5], [2.5, 3.5]]),
        (pa.nulls(2), [None, None]),
    ],
)
def test_columns_become_features(column: pa.Array, expected: list[list[object] | None]) -> None:
    made = [features(record) for record in to_examples(pa.record_batch({"x": column}))]

    assert made == [{} if values is None else {"x": values} for values in expected]


def test_a_tensor_is_flattened_in_row_major_order() -> None:
    tensors = np.arange(12, dtype=np.float32).reshape(2, 3, 2)

    records = to_examples(pa.record_batch({"x": pa.FixedShapeTensorArray.from_numpy_ndarray(tensors)}))

    parsed = tf.io.parse_example(records, {"x": tf.io.FixedLenFeature([3, 2], tf.float32)})
    np.testing.assert_array_equal(parsed["x"].numpy(), tensors)


def test_boxes_of_a_varying_number_keep_their_shape() -> None:
    boxes = [[[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]], [], [[9.0, 10.0, 11.0, 12.0]]]
    column = pa.array(boxes, pa.list_(pa.list_(pa.float32(), 4)))

    records = to_examples(pa.record_batch({"boxes": column}))

    feature = tf.io.FixedLenSequenceFeature([4], tf.float32, allow_missing=True)
    for record, expected in zip(records, boxes, strict=True):
        parsed = tf.io.parse_single_example(record, {"boxes": feature})["boxes"]
        np.testing.assert_array_equal(parsed.numpy(), np.reshape(expected, (-1, 4)))
        assert list(features(record)) == ["boxes"]


def test_lists_of_varying_length_come_back_by_their_row_lengths() -> None:
    rows = [[[[1], [2, 3]], []], [], [[[4]], [[], [5, 6]]]]
    column = pa.array([*rows, None], pa.list_(pa.list_(pa.list_(pa.int64()))))

    records = to_examples(pa.record_batch({"x": column}))

    partitions = [
        tf.io.RaggedFeature.RowLengths("x/row_lengths"),
        tf.io.RaggedFeature.RowLengths("x/row_lengths/2"),
    ]
    ragged = tf.io.RaggedFeature(tf.int64, value_key="x", partitions=partitions, row_splits_dtype=tf.int64)
    parsed = [tf.io.parse_single_example(record, {"x": ragged})["x"].to_list() for record in records]
    assert parsed == [*rows, []]
    assert features(records[3]) == {}


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (
            pa.array([date(2026, 1, 1)]),
            "column 'x' is date32\\[day\\], which tf.Example has no kind for; leave it out",
        ),
        (pa.array([{"a": 1}]), "column 'x' is struct"),
        (pa.array([[1, None]]), "column 'x' has nulls inside its lists"),
        (pa.array([[[1], None]]), "column 'x' has nulls inside its lists"),
        (pa.array([2**63], pa.uint64()), "column 'x' does not fit a tf.Example's int64"),
    ],
)
def test_what_an_example_cannot_hold_is_refused(column: pa.Array, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        to_examples(pa.record_batch({"x": column}))


def test_types_alone_can_be_checked() -> None:
    assert to_examples(pa.record_batch({"x": pa.array([], pa.list_(pa.float32(), 2))})) == []
    with pytest.raises(UsageError, match="column 'x' is timestamp"):
        to_examples(pa.record_batch({"x": pa.array([], pa.timestamp("us"))}))


def test_rows_without_columns_are_empty_examples() -> None:
    assert to_examples(pa.record_batch({"x": pa.nulls(2)}).select([])) == [b"", b""]


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    schema = pa.schema({"key": pa.string(), "v": pa.list_(pa.float32()), "n": pa.int64()})
    batch = pa.record_batch([["a", "b"], [[0.5, 1.5], None], [None, 3]], schema=schema)

    (chunk,) = read(list_corpus(write_tfrecord(tmp_path / "x", to_examples(batch))), schema)

    assert chunk.columns == batch
