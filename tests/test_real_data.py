"""Real corpora through real modules, each compared with the same module called outside beamhub."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

import beamhub
from tests.jobs import refused, succeed, tensor_column
from tests.shared import shared

pytestmark = pytest.mark.shared

TAXI = "modules/tfx_taxi_serving"
TAXI_FILES = ("data_tfrecord-00000-of-00002.gz", "data_tfrecord-00001-of-00002.gz")
SIGNATURES = {
    "predict": "examples",
    "serving_default": "inputs",
    "regression": "inputs",
    "classification": "inputs",
}


# The corpus has these as floats, the module's own parser wants integers; all values are whole.
INTEGERS = ("trip_seconds", "dropoff_census_tract", "dropoff_community_area")


def taxi_records(name: str) -> list[bytes]:
    """The serialized records of a file, read by TensorFlow."""
    path = shared(f"data/chicago_taxi/tfrecord/{name}")
    return list(tf.data.TFRecordDataset(path, compression_type="GZIP").as_numpy_iterator())


def with_integers(record: bytes) -> bytes:
    """The record with the types that the module was trained on."""
    example = tf.train.Example.FromString(record)
    for name in INTEGERS:
        floats = list(example.features.feature[name].float_list.value)
        assert all(value == int(value) for value in floats)
        if floats:
            example.features.feature[name].int64_list.value[:] = map(int, floats)
    return example.SerializeToString()


@pytest.fixture(scope="module")
def taxi(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[bytes]]:
    """The corpus, as a glob, and all its records in order."""
    folder = tmp_path_factory.mktemp("taxi")
    records = []
    for name in TAXI_FILES:
        written = [with_integers(record) for record in taxi_records(name)]
        with tf.io.TFRecordWriter(str(folder / name), "GZIP") as writer:
            for record in written:
                writer.write(record)
        records += written
    return f"{folder}/*.gz", records


def test_chicago_taxi_as_it_is_does_not_suit_the_module(tmp_path: Path) -> None:
    """TensorFlow's own parser refuses every record, and the line says which feature and why."""
    corpus = shared("data/chicago_taxi/tfrecord") + "/*.gz"

    line = refused(
        2, "extract", "--module", shared(TAXI), "--corpus", corpus, "--out", tmp_path / "out", "--signature=regression",
        "--input=@record",
    )  # fmt: skip

    assert "Key: trip_seconds" in line
    assert "Expected type: int64, Actual type: float" in line


@pytest.mark.parametrize("signature", SIGNATURES)
def test_chicago_taxi_whole_records(signature: str, taxi: tuple[str, list[bytes]], tmp_path: Path) -> None:
    corpus, records = taxi
    function = tf.saved_model.load(shared(TAXI)).signatures[signature]
    expected = function(**{SIGNATURES[signature]: tf.constant(records)})

    succeed(
        "extract", "--module", shared(TAXI), "--corpus", corpus, "--out",
        tmp_path / "out", f"--signature={signature}", f"--input={SIGNATURES[signature]}=@record",
    )  # fmt: skip

    table = beamhub.open(str(tmp_path / "out")).to_table()
    assert table.num_rows == len(records)
    for name, tensor in expected.items():
        column = table.column(name)
        if tensor.dtype == tf.string:
            assert column.to_pylist() == [[each.decode() for each in row] for row in tensor.numpy()]
        else:
            found = np.stack(column.to_pylist())
            np.testing.assert_allclose(found, tensor.numpy(), rtol=1e-5, atol=1e-6)


def test_chicago_taxi_missing_values_are_kept(taxi: tuple[str, list[bytes]], tmp_path: Path) -> None:
    """`company` and `trip_seconds` are missing in many records: they stay null, and no row is lost."""
    kept = ("company", "trip_seconds", "pickup_community_area")
    corpus, records = taxi
    expected: dict[str, list[object]] = {name: [] for name in kept}
    for record in records:
        features = tf.train.Example.FromString(record).features.feature
        for name in kept:
            lists = features[name] if name in features else tf.train.Feature()
            values = [*lists.bytes_list.value, *lists.int64_list.value, *lists.float_list.value]
            value = values[0] if values else None
            expected[name].append(value.decode() if isinstance(value, bytes) else value)
    assert any(value is None for value in expected["company"])

    succeed(
        "extract", "--module", shared(TAXI), "--corpus", corpus, "--out",
        tmp_path / "out", "--signature=regression", "--input=@record", f"--keep={','.join(kept)}",
    )  # fmt: skip

    table = beamhub.open(str(tmp_path / "out")).to_table()
    for name in kept:
        assert table.column(name).to_pylist() == expected[name]


def test_chicago_taxi_classify_takes_the_modules_own_labels(taxi: tuple[str, list[bytes]], tmp_path: Path) -> None:
    corpus, records = taxi
    scores = tf.saved_model.load(shared(TAXI)).signatures["classification"](inputs=tf.constant(records))

    succeed(
        "classify", "--module", shared(TAXI), "--corpus", corpus, "--out",
        tmp_path / "out", "--signature=classification", "--input=@record", "--top-k=1",
    )  # fmt: skip

    table = beamhub.open(str(tmp_path / "out")).to_table()
    best = scores["scores"].numpy().argmax(axis=1)
    assert table.column("labels").to_pylist() == [[str(index)] for index in best]
    assert table.column("classes").to_pylist() == [[index] for index in best]


def test_mnist_tfrecord_floats_as_they_are(tmp_path: Path) -> None:
    """784 floats become an input of [28,28,1]; the module is made here, so that its weights are known."""
    weights = np.random.default_rng(0).normal(size=(784, 5)).astype(np.float32)
    module = tf.Module()
    module.weights = tf.Variable(weights)

    @tf.function(input_signature=[tf.TensorSpec((None, 28, 28, 1), tf.float32, name="images")])
    def embed(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"default": tf.reshape(images, (-1, 784)) @ module.weights}

    tf.saved_model.save(module, str(tmp_path / "module"), signatures={"serving_default": embed})
    corpus = shared("data/mnist_tfrecord/mnist.tfrecord")
    examples = [tf.train.Example.FromString(r) for r in tf.data.TFRecordDataset(corpus).as_numpy_iterator()]
    images = np.array([e.features.feature["image_floats"].float_list.value for e in examples], np.float32)
    classes = [e.features.feature["image_class"].int64_list.value[0] for e in examples]

    succeed(
        "embed", "--module", tmp_path / "module", "--corpus", corpus, "--out", tmp_path / "out", "--keep=image_class",
        "--input=image_floats",
    )  # fmt: skip

    table = beamhub.open(str(tmp_path / "out"))
    np.testing.assert_allclose(table.to_numpy("embedding"), images @ weights, rtol=1e-4, atol=1e-4)
    assert table.to_table().column("image_class").to_pylist() == classes


def test_movie_reviews_through_the_text_oracle(tmp_path: Path) -> None:
    reviews = []
    for name in ("pos", "neg"):
        lines = Path(shared(f"data/movie_reviews/rt-polarity.{name}")).read_text("latin-1").splitlines()
        reviews += [(f"{name}-{number}", line) for number, line in enumerate(lines)]
    pq.write_table(pa.table({"id": [r[0] for r in reviews], "text": [r[1] for r in reviews]}), tmp_path / "r.parquet")
    module = shared("modules/tf1_hub_oracle/text")
    function = tf.saved_model.load(module, tags=[]).signatures["default"]
    expected = function(tf.constant([text.encode() for _, text in reviews]))["default"].numpy()

    succeed("embed", "--module", module, "--corpus", tmp_path / "r.parquet", "--out", tmp_path / "out", "--key=id")

    table = beamhub.open(str(tmp_path / "out"))
    assert table.rows == 10_662
    np.testing.assert_allclose(table.to_numpy("embedding"), expected, rtol=1e-5, atol=1e-5)
    assert table.to_table(["key"]).column("key").to_pylist() == [name for name, _ in reviews]


def test_basic_pitch_on_windows_of_a_waveform(tmp_path: Path) -> None:
    """Eight windows of a rising tone; three outputs of rank 2 for each record."""
    rate, size = 22_050, 43_844
    times = np.arange(8 * size) / rate
    waveform = (0.5 * np.sin(2 * np.pi * (220 + 40 * times) * times)).astype(np.float32).reshape(8, size)
    pq.write_table(pa.table({"window": range(8), "audio": tensor_column(waveform)}), tmp_path / "audio.parquet")
    module = shared("modules/basic_pitch")
    expected = tf.saved_model.load(module).signatures["serving_default"](input_2=tf.constant(waveform[..., np.newaxis]))

    succeed(
        "extract", "--module", module, "--corpus", tmp_path / "audio.parquet", "--out", tmp_path / "out",
        "--key=window", "--input=audio",
    )  # fmt: skip

    table = beamhub.open(str(tmp_path / "out"))
    for name in ("note", "onset", "contour"):
        assert isinstance(table.schema.field(name).type, pa.FixedShapeTensorType)
        np.testing.assert_allclose(table.to_numpy(name), expected[name].numpy(), rtol=1e-4, atol=1e-4)


def test_keyword_spotting_labels(tmp_path: Path) -> None:
    features = np.random.default_rng(3).normal(size=(20, 49, 10, 1)).astype(np.float32)
    pq.write_table(pa.table({"mfcc": tensor_column(features)}), tmp_path / "kws.parquet")
    module = shared("modules/mlperf_kws")
    scores = tf.saved_model.load(module).signatures["serving_default"](input_1=tf.constant(features))["dense"].numpy()
    (tmp_path / "labels.txt").write_text("\n".join(f"word{index}" for index in range(12)))

    summary = succeed(
        "classify", "--module", module, "--corpus", tmp_path / "kws.parquet", "--out", tmp_path / "out", "--top-k=3",
        f"--label-file={tmp_path / 'labels.txt'}", "--scores=probabilities",
    )  # fmt: skip

    assert "float values as they are" in summary
    best = np.argsort(-scores, axis=1, kind="stable")[:, :3]
    table = beamhub.open(str(tmp_path / "out")).to_table()
    assert table.column("labels").to_pylist() == [[f"word{index}" for index in row] for row in best]
    np.testing.assert_allclose(table.column("scores").to_pylist(), np.take_along_axis(scores, best, 1), atol=1e-5)


@pytest.mark.parametrize(
    ("module", "signature", "output", "add"),
    [
        ("hub_half_plus_two_v1", "default", "default", 2),
        ("serving_testdata/saved_model_half_plus_two_tf2_cpu", "serving_default", "y", 2),
        ("serving_testdata/saved_model_half_plus_three", "serving_default", "y", 3),
    ],
)
def test_half_plus_something(module: str, signature: str, output: str, add: int, tmp_path: Path) -> None:
    """x / 2 + 2 and x / 2 + 3: TF1 Hub format with an unknown rank, static batch size 1, and the session loader."""
    numbers = np.arange(10, dtype=np.float32)
    pq.write_table(pa.table({"x": numbers}), tmp_path / "x.parquet")

    succeed(
        "extract", "--module", shared(f"modules/{module}"), "--corpus", tmp_path / "x.parquet", "--out",
        tmp_path / "out", f"--signature={signature}", f"--outputs={output}",
    )  # fmt: skip

    found = beamhub.open(str(tmp_path / "out")).to_numpy(output)
    np.testing.assert_array_equal(found.ravel(), numbers / 2 + add)


@pytest.mark.parametrize("signature", ["regress_x_to_y", "classify_x_to_y"])
def test_half_plus_two_on_serialized_examples(signature: str, tmp_path: Path) -> None:
    with gzip.open(tmp_path / "x.tfrecord.gz", "wb"):
        pass
    with tf.io.TFRecordWriter(str(tmp_path / "x.tfrecord"), "ZLIB") as writer:
        for x in (0.0, 1.0, 5.0):
            feature = {"x": tf.train.Feature(float_list=tf.train.FloatList(value=[x]))}
            writer.write(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())

    succeed(
        "extract", "--module", shared("modules/serving_testdata/saved_model_half_plus_two_tf2_cpu"), "--corpus",
        tmp_path / "x.tfrecord", "--out", tmp_path / "out", f"--signature={signature}", "--input=@record",
    )  # fmt: skip

    table = beamhub.open(str(tmp_path / "out"))
    output = next(name for name in table.schema.names if name != "key")
    np.testing.assert_array_equal(table.to_numpy(output).ravel(), [2.0, 2.5, 4.5])


def test_bad_half_plus_two_is_no_module(tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": [1.0]}), tmp_path / "x.parquet")
    bad = shared("modules/serving_testdata/bad_half_plus_two")

    line = refused(2, "embed", "--module", bad, "--corpus", tmp_path / "x.parquet", "--out", tmp_path / "out")

    assert bad in line
    assert "saved_model.pb" in line
    assert not (tmp_path / "out").exists()
