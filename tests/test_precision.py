"""`--precision bf16`: other bits, nearly the same values, a version of its own, and no claim where nothing changes."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

import beamhub
from beamhub.engine import calibration
from beamhub.engine.tablespec import Call, TableSpec
from beamhub.features.lineage import read_document
from beamhub.modules.load import load_module
from beamhub.tasks.binding import Binding
from beamhub.tasks.extract import Extract
from tests.jobs import start, succeed, tensor_column
from tests.shared import shared
from tests.small import flags, native, save

Floats = npt.NDArray[np.float32]

NEAR = 2e-2
"""The largest error of a value, as a share of the largest value, that is taken for bfloat16's: it keeps 8 bits."""


class Network(tf.Module):
    """A convolution, a rectifier, and a product of matrices: `images` to 5 numbers."""

    def __init__(self) -> None:
        super().__init__()
        draw = np.random.default_rng(0).standard_normal
        self.kernel = tf.Variable(draw((3, 3, 3, 16)).astype(np.float32))
        self.dense = tf.Variable(draw((8 * 8 * 16, 5)).astype(np.float32))

    @tf.function(input_signature=[tf.TensorSpec((None, 8, 8, 3), tf.float32, "images")])
    def embed(self, images: Any) -> Any:
        features = tf.nn.relu(tf.nn.conv2d(images, self.kernel, 1, "SAME"))
        return {"embedding": tf.reshape(features, (-1, 8 * 8 * 16)) @ self.dense}

    def expected(self, images: Floats) -> npt.NDArray[np.float64]:
        """The same by NumPy, in float64."""
        padded = np.pad(images.astype(np.float64), ((0, 0), (1, 1), (1, 1), (0, 0)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (1, 2))
        features = np.maximum(np.einsum("nhwcij,ijco->nhwo", windows, self.kernel.numpy().astype(np.float64)), 0)
        result: npt.NDArray[np.float64] = features.reshape(len(images), -1) @ self.dense.numpy().astype(np.float64)
        return result


NETWORK = Network()
IMAGES = np.random.default_rng(1).random((40, 8, 8, 3), np.float32)


def error(values: npt.NDArray[Any]) -> float:
    """The largest error of the network's values for the images, as a share of the largest value."""
    expected = NETWORK.expected(IMAGES[: len(values)])
    return float(np.abs(values - expected).max() / np.abs(expected).max())


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = str(tmp_path_factory.mktemp("precision") / "network")
    tf.saved_model.save(NETWORK, path, signatures=NETWORK.embed)
    return path


@pytest.fixture
def job(network: str, tmp_path: Path) -> list[object]:
    """The flags of a job over the images; --out comes last."""
    return flags(tmp_path, network, pa.table({"pixels": tensor_column(IMAGES)}))


def documents(tmp_path: Path) -> dict[str, dict[str, Any]]:
    """The specs of the versions in the table's folder, by precision."""
    specs = [read_document(str(path)) for path in (tmp_path / "out").glob("v=*/_beamhub/spec.json")]
    return {spec["call"].get("precision", "float32"): spec for spec in specs}


def data(out: Path) -> dict[str, bytes]:
    """The table's files by name."""
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.glob("v=*/**/*.parquet"))}


@native
@pytest.mark.parametrize("frozen", [False, True])
def test_values_are_near_and_of_other_bits(network: str, frozen: bool) -> None:
    module = load_module(network)

    exact = module.bind(None, frozen=frozen)({"images": IMAGES})["embedding"]
    short = module.bind(None, frozen=frozen, precision="bf16")({"images": IMAGES})["embedding"]

    assert short.dtype == np.float32
    assert error(exact) < 1e-5
    # Not float32 under another name: a bfloat16 is rounded by up to 1 part in 256.
    assert 1e-4 < error(short) < NEAR


@native
@pytest.mark.parametrize("first", ["float32", "bf16"])
def test_both_in_one_process(network: str, first: str) -> None:
    """Whichever is called first, and from several threads at once, each keeps its own bits."""
    second = {"float32": "bf16", "bf16": "float32"}[first]
    module = load_module(network)
    bound = {precision: module.bind(None, precision=precision) for precision in (first, second)}

    def call(precision: str) -> bytes:
        return bytes(bound[precision]({"images": IMAGES})["embedding"].data)

    alone = {precision: call(precision) for precision in (first, second)}
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(call, ["float32", "bf16"] * 20))

    assert alone["float32"] != alone["bf16"]
    assert together == [alone["float32"], alone["bf16"]] * 20
    assert error(np.frombuffer(alone["float32"], np.float32).reshape(-1, 5)) < 1e-5
    assert 1e-4 < error(np.frombuffer(alone["bf16"], np.float32).reshape(-1, 5)) < NEAR


@native
@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "signature", "output"),
    [
        ("doc", "default", "default"),
        ("fruit", "fruit_to_pet", "dogs"),
        ("image", "image_classification", "Net/Logits"),
    ],
)
def test_modules_of_the_tf1_hub_format(name: str, signature: str, output: str) -> None:
    """Beside what the genuine library computed in float32."""
    folder = "modules/tf1_hub_oracle"
    with np.load(shared(f"{folder}/{name}_reference.npz")) as archive:
        reference = dict(archive)
    module = load_module(shared(f"{folder}/{name}"), ())
    fed = {each: reference.get("input", reference.get(f"input/{each}")) for each in module.signature(signature).inputs}
    expected = reference[f"output/-/{signature}/{output}"]

    found = module.bind(signature, [output], precision="bf16")(fed)[output]

    assert found.dtype == np.float32
    assert 1e-4 < np.abs(found - expected).max() / np.abs(expected).max() < NEAR


@native
def test_sparse_and_several_outputs_keep_their_names(tmp_path: Path) -> None:
    """No matter in which order a graph returns them."""
    weights = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)

    def outputs(z: Any, a: Any) -> Any:
        return {"last": z @ weights, "few": tf.sparse.from_dense(a), "double": 2 * a}

    spec = [tf.TensorSpec((None, 3), tf.float32, name) for name in "za"]
    bound = load_module(save(tmp_path / "m", outputs, *spec)).bind(None, ["last", "few", "double"], precision="bf16")
    z, a = np.random.default_rng(1).random((2, 2, 3), np.float32)

    found = bound({"z": z, "a": a})

    np.testing.assert_array_equal(found["double"], 2 * a)
    np.testing.assert_array_equal(found["few"].values, a.ravel())
    np.testing.assert_allclose(found["last"], z @ weights, atol=NEAR * np.abs(z @ weights).max())
    assert (found["last"] != z @ weights).all()


@native
def test_a_version_of_its_own(job: list[object], tmp_path: Path) -> None:
    """Runs with and without the flag share a folder, and never a version; each goes on with its own."""
    summary = succeed("embed", *job, "--precision=bf16")
    plain = succeed("embed", *job)

    short, exact = documents(tmp_path)["bf16"], documents(tmp_path)["float32"]
    assert ", in bf16\n" in summary
    assert "bf16" not in plain
    assert short["version"] != exact["version"]
    assert [c["name"] for c in short["columns"]] == [c["name"] for c in exact["columns"]] == ["key", "embedding"]
    assert short["columns"][1]["type"] == exact["columns"][1]["type"] == "fixed_size_list<item: float>[5]"
    assert short["columns"][1]["identity"] != exact["columns"][1]["identity"]
    tables = [beamhub.open(str(tmp_path / "out"), each["version"]) for each in (short, exact)]
    assert [table.lineage["module"]["precision"] for table in tables] == ["bf16", "float32"]
    assert 1e-4 < error(tables[0].to_numpy("embedding")) < NEAR
    assert error(tables[1].to_numpy("embedding")) < 1e-5
    assert succeed("embed", *job, "--precision=bf16").startswith(f"nothing to do: version {short['version']} ")
    assert succeed("embed", *job).startswith(f"nothing to do: version {exact['version']} ")
    assert succeed("embed", *job, "--precision=float32").startswith(f"nothing to do: version {exact['version']} ")


def test_tables_without_the_field_go_on() -> None:
    """The hashes, and the JSON, that beamhub wrote before there was a precision to choose."""
    call = Call("m", "sha256:0", (), "s", (Binding("x", "x", "float32", ()),), {}, None, 4)
    task = Extract(("y",), {"y": pa.float32()})
    spec = TableSpec({}, call, task, None, (), "parquet", "parquet", "/c", pa.schema([("x", pa.float32())]))

    assert call.identity(["y"]) == "sha256:e10bee2d1ab6b0fe48ebf572448faf003728e291b1e842dd4db5f63e76c70b46"
    assert spec.version == "ff79ce5bff488"
    assert "precision" not in json.dumps(spec.to_json())
    assert TableSpec.from_json(spec.to_json()) == spec


def test_a_request_without_the_flag_is_as_it_was(job: list[object], tmp_path: Path) -> None:
    succeed("embed", *job)

    (spec,) = documents(tmp_path).values()

    assert "precision" not in spec["request"]
    assert "precision" not in spec["call"]


@native
def test_same_bytes_from_every_worker(job: list[object], tmp_path: Path) -> None:
    """Two runs in this process, and one in worker processes of its own."""
    pq.write_table(pa.table({"pixels": tensor_column(IMAGES[::-1])}), tmp_path / "corpus" / "d.parquet")
    short = [*job[:-1], tmp_path / "again", "--precision=bf16"]
    succeed("embed", *job, "--precision=bf16")
    succeed("embed", *short)
    process = start(
        "embed", *job[:-1], tmp_path / "spread", "--precision=bf16",
        "--direct_running_mode=multi_processing", "--direct_num_workers=2",
    )  # fmt: skip
    _, err = process.communicate()

    assert process.returncode == 0, err
    first = data(tmp_path / "out")
    assert len(first) == 2
    assert data(tmp_path / "again") == first
    assert data(tmp_path / "spread") == first


@native
def test_settings_are_measured_in_bf16(job: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[Call] = []
    rate = calibration.Calibration._rate

    def noted(self: calibration.Calibration, setting: calibration.Setting) -> float:
        tried.append(setting.of(self.call))
        return rate(self, setting)

    monkeypatch.setattr(calibration, "WORTH_SECONDS", 0.0)
    monkeypatch.setattr(calibration, "LEAST_SECONDS", 60.0)
    monkeypatch.setattr(calibration.Calibration, "_rate", noted)

    succeed("embed", *job, "--precision=bf16")

    assert {call.frozen for call in tried} == {False, True}
    assert len({call.batch_size for call in tried}) > 1
    assert {call.precision for call in tried} == {"bf16"}
    assert 1e-4 < error(beamhub.open(str(tmp_path / "out")).to_numpy("embedding")) < NEAR


@native
def test_a_record_that_the_module_refuses_is_a_dead_letter(tmp_path: Path) -> None:
    weights = np.random.default_rng(0).standard_normal((2, 3)).astype(np.float32)

    def checked(x: Any) -> Any:
        return {"y": tf.debugging.check_numerics(x, "x") @ weights}

    module = save(tmp_path / "m", checked, tf.TensorSpec((None, 2), tf.float32, "x"))
    rows = np.random.default_rng(1).random((20, 2), np.float32)
    rows[7, 0] = np.nan

    summary = succeed(
        "extract", *flags(tmp_path, module, pa.table({"x": tensor_column(rows)})), "--precision=bf16", "--max-dead-fraction=0.1"
    )  # fmt: skip

    assert "20 read = 19 produced + 1 dead" in summary
    expected = np.delete(rows, 7, axis=0) @ weights
    table = beamhub.open(str(tmp_path / "out"))
    np.testing.assert_allclose(table.to_numpy("y"), expected, atol=NEAR * np.abs(expected).max())
    # As in float32, without the name of the operation that calls the function.
    assert table.dead_letters()["error"].to_pylist() == ["x : Tensor had NaN values"]
