"""What is decided before the first shard, and what may not slip by: each case was once wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf

import beamhub as library
from beamhub.engine import fitting
from beamhub.engine.sizing import Load, fed_bytes
from beamhub.tasks.binding import Binding
from beamhub.tasks.gather import gather
from tests.jobs import refused, succeed, tensor_column
from tests.small import flags, identity, save


def test_tensors_of_another_shape_are_not_reinterpreted(tmp_path: Path) -> None:
    module = identity(tmp_path / "m", (None, 2, 3))
    arguments = flags(tmp_path, module, pa.table({"x": tensor_column(np.zeros((4, 3, 2), np.float32))}))

    assert "a record has the shape [3, 2]" in refused(2, "extract", *arguments)


def test_permuted_tensors_are_refused(tmp_path: Path) -> None:
    kind = pa.fixed_shape_tensor(pa.float32(), [3, 2], permutation=[1, 0])
    storage = pa.FixedSizeListArray.from_arrays(pa.array(np.arange(12, dtype=np.float32)), 6)
    module = identity(tmp_path / "m", (None, 3, 2))
    arguments = flags(tmp_path, module, pa.table({"x": pa.ExtensionArray.from_storage(kind, storage)}))

    assert "permuted tensor" in refused(2, "extract", *arguments)


def test_points_are_no_pictures(tmp_path: Path) -> None:
    """[?,?,3] of floats is a batch of sequences; records of the same length are stacked."""
    module = save(
        tmp_path / "m", lambda x: {"sum": tf.reduce_sum(x, 1)}, tf.TensorSpec((None, None, 3), tf.float32, "x")
    )
    points = [[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], [[1.0, 1.0, 1.0]], [[0.0, 0.0, 1.0], [0.0, 0.0, 1.0]]]
    arguments = flags(tmp_path, module, pa.table({"x": pa.array(points, pa.list_(pa.list_(pa.float32())))}))

    succeed("extract", *arguments)

    assert library.open(str(tmp_path / "out")).to_numpy("sum").tolist() == [[5, 7, 9], [1, 1, 1], [0, 0, 2]]


def test_lone_image_without_a_batch_dimension(tmp_path: Path) -> None:
    module = save(
        tmp_path / "m", lambda x: {"mean": tf.reduce_mean(x, axis=(0, 1))}, tf.TensorSpec((None, None, 3), tf.float32, "x")
    )  # fmt: skip
    pictures = [np.full((size, 2, 3), 51 * size, np.uint8) for size in (1, 2, 3)]
    encoded = pa.array([tf.io.encode_png(picture).numpy() for picture in pictures])

    succeed("extract", *flags(tmp_path, module, pa.table({"x": encoded})))

    np.testing.assert_allclose(
        library.open(str(tmp_path / "out")).to_numpy("mean"), [[0.2] * 3, [0.4] * 3, [0.6] * 3], atol=1e-6
    )


def test_integer_images_get_0_255(tmp_path: Path) -> None:
    module = identity(tmp_path / "m", (None, 1, 4, 1), tf.int32)
    pixels = np.array([[0, 100, 200, 255]] * 2, np.uint8).reshape(2, 1, 4, 1)
    arguments = flags(tmp_path, module, pa.table({"x": tensor_column(pixels)}))

    assert "--image-range 0,1" in refused(2, "extract", *arguments, "--image-range=0,1")
    succeed("extract", *arguments)

    np.testing.assert_array_equal(library.open(str(tmp_path / "out")).to_numpy("y"), pixels)


def test_float64_beyond_float32_is_a_dead_letter(tmp_path: Path) -> None:
    arguments = flags(tmp_path, identity(tmp_path / "m", (None,)), pa.table({"x": [1.0, 1e300, float("inf")]}))

    succeed("extract", *arguments, "--max-dead-fraction=0.5")

    table = library.open(str(tmp_path / "out"))
    assert table.to_numpy("y").tolist() == [1.0, float("inf")]
    assert "1e+300, too large for float32" in table.dead_letters().column("error")[0].as_py()


def test_long_records_make_small_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Vectors of a length that only the data knows: 100,000 floats are 400 kB, so a call of at most 8 MiB has sixteen.

    They are read as 200 kB, so thirty-two would be read for a call. What calls take is not measured: on a machine that is busy
    just now sixteen would take too long.
    """
    monkeypatch.setattr(fitting, "most_in_short_call", lambda *_: 1_000_000)
    module = save(tmp_path / "m", lambda x: {"sum": tf.reduce_sum(x, 1)}, tf.TensorSpec((None, None), tf.float32, "x"))
    waves = pa.array([np.full(100_000, value, np.float16) for value in (1, 2)], pa.list_(pa.float16()))

    summary = succeed("extract", *flags(tmp_path, module, pa.table({"x": waves})))

    assert "calls     of 16, 4, 2 records" in summary
    assert library.open(str(tmp_path / "out")).to_numpy("sum").tolist() == [100_000, 200_000]


@pytest.mark.parametrize("is_known", [True, False])
def test_large_outputs_make_small_batches(is_known: bool, tmp_path: Path) -> None:
    """Of outputs of 1 MiB a call has four, whether TensorFlow knows their size before a run or not."""

    def widened(x: tf.Tensor) -> dict[str, tf.Tensor]:
        width = 1 << 18
        return {"y": tf.tile(x, (1, width if is_known else width * tf.cast(x[0, 0], tf.int32)))}

    module = save(tmp_path / "m", widened, tf.TensorSpec((None, 1), tf.float32, "x"))

    summary = succeed(
        "extract", *flags(tmp_path, module, pa.table({"x": pa.array([[1.0]] * 3, pa.list_(pa.float32(), 1))}))
    )

    assert "calls     of 4, 2 records" in summary


@pytest.mark.parametrize(
    ("fed", "result", "expected"),
    [
        (4 * 784, 8, 1024),
        (32, 8, 32768),
        (400_000, 8, 8),
        (4_000_000, 8, 4),
        (32 << 20, 8, 4),
        (128 << 20, 8, 2),
        ((128 << 20) + 1, 8, 1),
        (100_000_000, 8, 2),
        (32, 3 << 20, 4),
        (64, 256, 8192),
        (32, 1 << 16, 32),
        (32, 1 << 20, 4),
        (32, 1 << 30, 4),
    ],
)
def test_default_batch_size(fed: int, result: int, expected: int) -> None:
    """4 MiB of input and outputs; a power of two from 4 to 32,768; 2 of large ones, 1 of huge ones."""
    assert Load(fed, result).default == expected


@pytest.mark.parametrize(
    ("load", "expected", "measured"),
    [
        (Load(4, 4, most=20_000), 16384, (8192,)),
        (Load(4, 4, most=100), 64, (32,)),
        (Load(64, 256, most=200_000), 16384, (8192,)),
        (Load(64, 256, most=300_000), 32768, (16384,)),
        (Load(4, 4, most=1_000_000), 32768, (16384,)),
        (Load(4, 4, most=1), 4, ()),
        (Load(4 << 20, 4, most=1), 4, ()),
        (Load(4 * 784, 8, most=30_000), 2048, (1024,)),
        (Load(4 * 784, 8, most=17_000), 2048, (1024,)),
        (Load(4 * 784, 8, most=15_000), 1024, (512,)),
        (Load(600_000, 8, most=60), 4, ()),
        (Load(600_000, 8, most=250), 4, ()),
        (Load(600_000, 8, most=270), 8, (4,)),
        (Load(600_000, 8, most=500), 8, (4,)),
        (Load(600_000, 8, most=1_000_000_000), 8, (4,)),
        (Load(400_000, 8, most=1_000_000_000), 16, (8,)),
        (Load(300_000, 8, most=1_000_000_000), 32, (16,)),
        (Load(110_000, 8), 32, (16,)),
        (Load(110_000, 8, most=100_000), 64, (32,)),
        (Load(110_000, 8, read=500_000), 16, (8,)),
        (Load(110_000, 8, read=50 << 20), 4, ()),
    ],
)
def test_calls_are_short_and_as_large_as_what_is_read_at_a_time(
    load: Load, expected: int, measured: tuple[int, ...]
) -> None:
    """No less than four records, but for memory; a batch is cut short where 8 MiB are read. Of light records an eighth of a
    second's, or 12 MiB. No larger ones are measured."""
    assert load.default == expected
    assert load.worth_measuring == (expected, *measured)


@pytest.mark.parametrize(
    ("dtype", "shape", "column", "expected"),
    [
        ("float32", (None,), pa.array([[1.0] * 10, [2.0] * 30]), 4 * 30),
        ("int64", (3,), pa.array([[1, 2, 3]]), 8 * 3),
        ("string", (), pa.array(["a", "b"]), 64),
        ("string", (), pa.array(["a" * 1000, "b" * 1000, "c" * 7000]), 3000),
        ("string", (2,), pa.array([["a" * 500, "b" * 700]]), 1200),
    ],
)
def test_bytes_that_a_record_feeds(dtype: str, shape: tuple[int | None, ...], column: pa.Array, expected: int) -> None:
    """Of numbers the most that a record has, of texts the mean, or 64 bytes where they are short."""
    binding = Binding("x", "x", dtype, shape)

    assert fed_bytes((binding,), {"x": gather(binding, column)}) == expected


def test_nested_lists_of_any_length(tmp_path: Path) -> None:
    module = save(
        tmp_path / "m", lambda x: {"sum": tf.reduce_sum(x, 1)}, tf.TensorSpec((None, None, 2), tf.float32, "x")
    )
    rows = [[[1.0, 2.0]], [[1.0, 2.0], [3.0, 4.0]], [[1.0, 2.0], [3.0]]]
    arguments = flags(tmp_path, module, pa.table({"x": pa.array(rows, pa.list_(pa.list_(pa.float32())))}))

    succeed("extract", *arguments, "--max-dead-fraction=0.5")

    table = library.open(str(tmp_path / "out"))
    assert table.to_numpy("sum").tolist() == [[1, 2], [4, 6]]
    assert "has 1 values at depth 2, 2 wanted" in table.dead_letters().column("error")[0].as_py()


@pytest.mark.parametrize("kind", [pa.binary(2), pa.large_string(), pa.string(), pa.large_binary()])
def test_null_texts_of_every_type_are_dead_letters(kind: pa.DataType, tmp_path: Path) -> None:
    module = identity(tmp_path / "m", (None,), tf.string)
    arguments = flags(tmp_path, module, pa.table({"x": pa.array(["aa", None, "cc"]).cast(kind)}))

    succeed("extract", *arguments, "--max-dead-fraction=0.5")

    table = library.open(str(tmp_path / "out"))
    assert table.to_table(["y"]).column("y").to_pylist() == ["aa", "cc"]
    assert table.dead_letters().column("error").to_pylist() == ["column x is missing"]


def test_many_bad_records_cost_few_calls_of_full_size(tmp_path: Path) -> None:
    """1,024 texts of which every second is bad, in one batch: the culprits are found in small calls."""
    module = save(
        tmp_path / "m", lambda x: {"y": tf.strings.to_number(x)}, tf.TensorSpec((None,), tf.string, "x")
    )  # fmt: skip
    texts = [str(row) if row % 2 else "bad" for row in range(1024)]
    arguments = flags(tmp_path, module, pa.table({"x": texts}))

    succeed("extract", *arguments, "--max-dead-fraction=0.5")

    table = library.open(str(tmp_path / "out"))
    assert table.to_numpy("y").tolist() == list(range(1, 1024, 2))
    assert len(table.dead_letters()) == 512
