"""Real modules of every format, called and compared with what the genuine library computed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from beamhub.errors import ModuleError
from beamhub.modules.function import FunctionModule
from beamhub.modules.load import LoadedModule, Ragged, load_module
from beamhub.modules.protos import read_saved_model, variants
from beamhub.modules.reason import reason
from beamhub.modules.session import SessionModule
from tests.shared import shared

pytestmark = pytest.mark.shared

BEHIND_DROPOUT = {
    ("train", "default", "default"),
    ("train", "image_classification", "default"),
    ("train", "image_classification", "Net/Logits"),
    ("train", "image_feature_vector", "default"),
}


def oracle(name: str) -> tuple[str, dict[str, np.ndarray[Any, Any]]]:
    path = shared(f"modules/tf1_hub_oracle/{name}")
    with np.load(shared(f"modules/tf1_hub_oracle/{name}_reference.npz")) as archive:
        return path, dict(archive)


def oracle_inputs(reference: dict[str, np.ndarray[Any, Any]]) -> Any:
    if "input" in reference:
        return reference["input"]
    return {key.removeprefix("input/"): value for key, value in reference.items() if key.startswith("input/")}


@pytest.mark.parametrize("name", ["const", "doc", "fruit", "image", "text"])
def test_every_dense_output_of_every_variant_equals_the_genuine_library(name: str) -> None:
    path, reference = oracle(name)
    inputs = oracle_inputs(reference)
    modules: dict[str, LoadedModule] = {}
    keys = [key for key in reference if key.startswith("output/") and "/ids." not in key]

    for key in keys:
        _, tags, signature, output = key.split("/", 3)
        if tags not in modules:
            modules[tags] = load_module(path, () if tags == "-" else (tags,))
        got = modules[tags].call(signature, inputs, [output])

        assert list(got) == [output]
        assert got[output].dtype == reference[key].dtype
        assert got[output].shape == reference[key].shape
        if (tags, signature, output) not in BEHIND_DROPOUT:
            np.testing.assert_allclose(got[output], reference[key], rtol=1e-5, atol=1e-5)
    assert keys


def test_a_lone_input_may_be_given_without_its_name_and_all_outputs_come_by_default() -> None:
    path, reference = oracle("fruit")
    fruit = load_module(path, ())

    got = fruit.call("fruit_to_pet", oracle_inputs(reference))

    assert list(got) == ["cats", "dogs"]
    with pytest.raises(ModuleError, match=r"fruit_to_pet: give its inputs by name: apples, oranges"):
        fruit.call("fruit_to_pet", reference["input/apples"])


def test_a_sparse_output_is_each_rows_values_in_order() -> None:
    path, reference = oracle("text")

    ids = load_module(path, ()).call("words", reference["input"], ["ids"])["ids"]

    # The reference is in coordinates: one (row, position) for each value, row after row.
    rows = reference["output/-/words/ids.indices"][:, 0]
    assert isinstance(ids, Ragged)
    assert ids.values.tolist() == reference["output/-/words/ids.values"].tolist()
    assert ids.row_lengths.tolist() == [int((rows == row).sum()) for row in range(4)]
    assert ids.row_lengths.dtype == np.int64


def test_tf1_hub_module_of_unknown_rank_halves_and_adds_two() -> None:
    module = load_module(shared("modules/hub_half_plus_two_v1"), ())

    assert module.call(None, np.float32([2, 4]))["default"].tolist() == [3.0, 4.0]
    assert module.call(None, np.float32([[6]]))["default"].tolist() == [[5.0]]


def test_the_session_loader_runs_what_saved_model_load_refuses() -> None:
    module = load_module(shared("modules/serving_testdata/saved_model_half_plus_three"), ("serve",))

    assert isinstance(module, SessionModule)
    assert module.call("serving_default", np.float32([[2], [4]]))["y"].tolist() == [[4.0], [5.0]]


def test_the_session_loaders_signatures_have_the_shapes_of_the_graph_and_calls_are_checked_by_them() -> None:
    module = load_module(shared("modules/serving_testdata/saved_model_half_plus_three"), ("serve",))

    assert module.signature("serving_default").inputs["x"].shape == (None, 1)
    with pytest.raises(ModuleError, match=r"input 'x' wants float32 \[\?,1\], got float32 \[2\]"):
        module.call("serving_default", np.float32([2, 4]))


def test_the_session_loader_takes_tensors_as_it_takes_arrays(tmp_path: Path) -> None:
    """What is fed comes as a tensor where the reader or the feed had it so."""
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        texts = v1.placeholder(tf.string, (None,), "texts")
        v1.saved_model.simple_save(session, str(tmp_path / "m"), {"x": texts}, {"y": tf.strings.length(texts)})
    bound = SessionModule(str(tmp_path / "m"), variants(read_saved_model(str(tmp_path / "m")))[0]).bind(None)

    for given in (np.array([b"", b"ab\0"], object), tf.constant([b"", b"ab\0"])):
        assert np.asarray(bound({"x": given})["y"]).tolist() == [0, 3]


def test_the_session_loader_fills_tables() -> None:
    path, reference = oracle("text")
    module = SessionModule(path, variants(read_saved_model(path))[0])

    got = module.call("words", reference["input"])

    np.testing.assert_allclose(got["default"], reference["output/-/words/default"], rtol=1e-5, atol=1e-5)
    assert isinstance(got["ids"], Ragged)
    assert got["ids"].values.tolist() == reference["output/-/words/ids.values"].tolist()


def test_loading_says_nothing_about_what_is_normal_for_old_modules() -> None:
    # In a process of its own: TensorFlow gives each of these warnings a few times only.
    code = "import sys; from beamhub.modules.load import load_module; load_module(sys.argv[1])"
    old = shared("modules/serving_testdata/saved_model_half_plus_three")

    done = subprocess.run([sys.executable, "-c", code, old], capture_output=True, text=True, check=True)

    assert "WARNING:tensorflow" not in done.stderr
    assert done.stdout == ""


def test_a_tf2_module_of_six_signatures_with_static_batches() -> None:
    module = load_module(shared("modules/serving_testdata/saved_model_half_plus_two_tf2_cpu"), ("serve",))

    assert isinstance(module, FunctionModule)
    assert sorted(module.variant.signatures) == [
        "classify_x2_to_y3",
        "classify_x_to_y",
        "regress_x2_to_y3",
        "regress_x_to_y",
        "regress_x_to_y2",
        "serving_default",
    ]
    assert module.call("serving_default", np.float32([4]))["y"].tolist() == [4.0]
    assert module.call("classify_x2_to_y3", np.float32([4]))["scores"].tolist() == [5.0]
    with pytest.raises(ModuleError, match=r"input 'x' wants float32 \[1\], got float32 \[2\]"):
        module.call("serving_default", np.float32([4, 6]))


def test_a_tf2_signature_parses_serialized_examples() -> None:
    import tensorflow as tf

    module = load_module(shared("modules/serving_testdata/saved_model_half_plus_two_tf2_cpu"), ("serve",))
    value = tf.train.Feature(float_list=tf.train.FloatList(value=[2.0]))
    record = tf.train.Example(features=tf.train.Features(feature={"x": value})).SerializeToString()

    got = module.call("regress_x_to_y", np.array([record, record], dtype=object))

    assert got["outputs"].tolist() == [[3.0], [3.0]]


def test_both_formats_of_one_network_agree() -> None:
    images = np.random.default_rng(0).random((3, 96, 96, 3), dtype=np.float32)
    hub = load_module(shared("modules/vww_mobilenet_v1/tf1_hub"), ())
    saved_model = load_module(shared("modules/vww_mobilenet_v1/tf2"), ("serve",))

    for signature, width in (("image_feature_vector", 256), ("image_classification", 2)):
        one = hub.call(signature, {"images": images})["default"]
        other = saved_model.call(signature, {"images": images})["default"]
        assert one.shape == (3, width)
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_a_wrong_image_size_is_refused_where_tensorflow_would_accept_it() -> None:
    module = load_module(shared("modules/vww_mobilenet_v1/tf1_hub"), ())

    with pytest.raises(ModuleError, match=r"wants float32 \[\?,96,96,3\], got float32 \[1,128,128,3\]; resize"):
        module.call("default", np.zeros((1, 128, 128, 3), np.float32))


def taxi_records(count: int, integers: tuple[str, ...]) -> np.ndarray[Any, Any]:
    """Records of the taxi corpus, with the named features, which are floats there, made integers."""
    import tensorflow as tf

    files = sorted(tf.io.gfile.glob(f"{shared('data/chicago_taxi/tfrecord')}/*"))
    records = []
    for record in tf.data.TFRecordDataset(files, compression_type="GZIP").take(count):
        example = tf.train.Example.FromString(record.numpy())
        for name in integers:
            floats = list(example.features.feature[name].float_list.value)
            example.features.feature[name].Clear()
            if floats:
                example.features.feature[name].int64_list.value.extend(int(value) for value in floats)
        records.append(example.SerializeToString())
    return np.array(records, dtype=object)


def test_a_transform_graph_takes_serialized_records() -> None:
    # The module was made for these three features as integers; the corpus has floats there.
    module = load_module(shared("modules/tfx_taxi_serving"), ("serve",))
    records = taxi_records(5, ("trip_seconds", "dropoff_census_tract", "dropoff_community_area"))

    got = module.call("predict", records)
    scores = module.call("classification", records, ["scores"])["scores"]
    regressed = module.call("regression", records)["outputs"]

    assert got["probabilities"].shape == (5, 2)
    np.testing.assert_allclose(got["probabilities"].sum(axis=1), 1.0, rtol=1e-5)
    np.testing.assert_allclose(scores, got["probabilities"], rtol=1e-5)
    np.testing.assert_allclose(regressed, got["probabilities"][:, 1:], rtol=1e-5)
    assert got["all_classes"].tolist() == [[b"0", b"1"]] * 5


def test_records_of_other_types_than_the_module_parses_fail_with_tensorflows_error() -> None:
    import tensorflow as tf

    module = load_module(shared("modules/tfx_taxi_serving"), ("serve",))

    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        module.call("predict", taxi_records(1, ("dropoff_census_tract", "dropoff_community_area")))

    assert "Key: trip_seconds" in reason(caught.value)
    assert "Expected type: int64, Actual type: float" in reason(caught.value)


def test_what_is_no_module_is_refused_with_what_was_found() -> None:
    path = shared("modules/serving_testdata/bad_half_plus_two")

    with pytest.raises(ModuleError) as caught:
        load_module(path)

    assert "not a module" in str(caught.value)
    assert "checkpoint, export, export.meta" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_module_without_its_variables_is_refused_in_one_line(tmp_path: Any) -> None:
    graph = tmp_path / "saved_model.pb"
    with open(shared("modules/mlperf_kws/saved_model.pb"), "rb") as original:
        graph.write_bytes(original.read())

    with pytest.raises(ModuleError, match="cannot load it") as caught:
        load_module(str(tmp_path))

    assert "\n" not in str(caught.value)
