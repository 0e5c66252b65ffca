"""A small saved module, bound to what is wanted of it."""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from beamhub.errors import ModuleError
from beamhub.modules.load import BoundSignature, Feeding, LoadedModule, Ragged, load_module
from beamhub.modules.protos import read_saved_model, variants
from beamhub.modules.results import to_output
from beamhub.modules.session import SessionModule

OPEN_ROW = tf.TensorSpec([None], tf.string, name="text")


class Small(tf.Module):
    """Adds, divides, splits and sums."""

    def __init__(self) -> None:
        super().__init__()
        self.two = tf.Variable(2)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int32, name="x")])
    def divide(self, x: Any) -> Any:
        return {"plus_two": x + self.two, "ratio": self.two // x}

    @tf.function(input_signature=[OPEN_ROW])
    def split(self, text: Any) -> Any:
        words = tf.strings.split(text)
        return {"words": words, "letters": tf.strings.bytes_split(words), "count": words.row_lengths()}

    @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32, name="x")])
    def nonzero(self, x: Any) -> Any:
        return {"values": tf.sparse.from_dense(x), "cube": tf.sparse.from_dense(x[:, :, None])}

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, 2], tf.float32, name="left"),
            tf.TensorSpec([None, 2], tf.float32, name="right"),
        ]
    )
    def add(self, left: Any, right: Any) -> Any:
        return {"sum": left + right}


SIGNATURES = ("divide", "split", "nonzero", "add")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The module saved as a TF2 SavedModel."""
    folder = str(tmp_path_factory.mktemp("small"))
    small = Small()
    tf.saved_model.save(small, folder, signatures={name: getattr(small, name) for name in SIGNATURES})
    return folder


@pytest.fixture(scope="module")
def tf1_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The same module saved as a TF1 SavedModel: one flat graph, signatures name its tensors."""
    v1 = tf.compat.v1
    folder = str(tmp_path_factory.mktemp("small_tf1") / "module")
    with tf.Graph().as_default(), v1.Session() as session:
        small, signatures = Small(), {}
        for name in SIGNATURES:
            function = getattr(small, name)
            inputs = {spec.name: v1.placeholder(spec.dtype, spec.shape) for spec in function.input_signature}
            outputs = function.python_function(*inputs.values())
            signatures[name] = v1.saved_model.build_signature_def(
                {key: v1.saved_model.build_tensor_info(tensor) for key, tensor in inputs.items()},
                {key: v1.saved_model.build_tensor_info(tensor) for key, tensor in outputs.items()},
            )
        session.run(v1.global_variables_initializer())
        builder = v1.saved_model.Builder(folder)
        builder.add_meta_graph_and_variables(session, ["serve"], signatures)
        builder.save()
    return folder


@pytest.fixture(scope="module", params=["tf2", "tf1", "tf1 in a session"])
def module(path: str, tf1_path: str, request: pytest.FixtureRequest) -> LoadedModule:
    """The module in either format and through either loader: they must not differ."""
    if request.param == "tf2":
        return load_module(path)
    if request.param == "tf1":
        return load_module(tf1_path)
    return SessionModule(tf1_path, variants(read_saved_model(tf1_path))[0])


def test_only_the_outputs_asked_for_are_computed(module: LoadedModule) -> None:
    # 2 // 0 fails, so what comes back without an error was not computed.
    zero = {"x": np.int32([0, 1])}

    assert module.call("divide", zero, ["plus_two"])["plus_two"].tolist() == [2, 3]
    with pytest.raises(tf.errors.InvalidArgumentError, match="division by zero"):
        module.call("divide", zero, ["ratio"])


def test_outputs_come_by_name_in_the_order_asked_for(module: LoadedModule) -> None:
    bound = module.bind("divide", ["ratio", "plus_two"])

    got = bound({"x": np.int32([2])})

    assert [(name, value.tolist()) for name, value in got.items()] == [("ratio", [1]), ("plus_two", [4])]


def test_ragged_outputs_are_values_and_row_lengths(module: LoadedModule) -> None:
    got = module.call("split", np.array([b"ab c", b"", b"d"]), ["words", "letters", "count"])

    words, letters = got["words"], got["letters"]
    assert isinstance(words, Ragged)
    assert isinstance(letters, Ragged)
    assert words.values.tolist() == [b"ab", b"c", b"d"]
    assert words.row_lengths.tolist() == [2, 0, 1]
    assert words.inner == ()
    assert letters.values.tolist() == [b"a", b"b", b"c", b"d"]
    assert letters.row_lengths.tolist() == [2, 0, 1]
    assert [lengths.tolist() for lengths in letters.inner] == [[2, 1, 1]]
    assert got["count"].tolist() == [2, 0, 1]


def test_sparse_outputs_of_two_dimensions_are_lists_and_of_three_are_refused(module: LoadedModule) -> None:
    x = np.float32([[0, 5, 6], [0, 0, 0], [7, 0, 0]])

    values = module.call("nonzero", x, ["values"])["values"]

    assert isinstance(values, Ragged)
    assert values.values.tolist() == [5.0, 6.0, 7.0]
    assert values.row_lengths.tolist() == [2, 0, 1]
    with pytest.raises(ModuleError, match="output 'cube' is sparse with 3 dimensions"):
        module.call("nonzero", x, ["cube"])


def test_sparse_values_come_in_the_order_of_their_indices() -> None:
    unordered = tf.SparseTensor([[1, 0], [0, 2], [0, 1]], [b"c", b"b", b"a"], [3, 3])

    got = to_output("ids", unordered)

    assert isinstance(got, Ragged)
    assert got.values.tolist() == [b"a", b"b", b"c"]
    assert got.row_lengths.tolist() == [2, 1, 0]


def test_preparation_makes_the_inputs_of_raw_columns(module: LoadedModule) -> None:
    def decode(raw: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        both = tf.reshape(tf.io.decode_raw(raw["bytes"], tf.uint8), [-1, 2])
        return {"left": tf.cast(both, tf.float32), "right": raw["right"]}

    bound = module.bind("add", ["sum"], Feeding(decode))

    got = bound({"bytes": np.array([b"\x01\x02", b"\x03\x04"]), "right": np.float32([[10, 10], [20, 20]])})

    assert got["sum"].tolist() == [[11.0, 12.0], [23.0, 24.0]]


def test_a_preparation_that_gives_a_wrong_size_is_refused(module: LoadedModule) -> None:
    bound = module.bind("add", ["sum"], Feeding(lambda raw: {"left": raw["a"], "right": raw["a"][:, :1]}))

    with pytest.raises(ModuleError, match=r"input 'right' wants float32 \[\?,2\], got float32 \[3,1\]"):
        bound({"a": np.zeros((3, 2), np.float32)})


def test_each_new_shape_is_traced_once(path: str) -> None:
    bound = load_module(path).bind("add", ["sum"])
    small, large = np.zeros((2, 2), np.float32), np.zeros((4, 2), np.float32)

    for rows in (small, large, small, large, small):
        bound({"left": rows, "right": rows})

    assert bound.traces == 2


def test_output_shapes_are_known_without_a_run_and_leave_no_trace(path: str) -> None:
    bound = load_module(path).bind("add", ["sum"])
    rows = tf.TensorSpec([None, 2], tf.float32)

    assert bound.output_shapes({"left": rows, "right": rows}) == {"sum": (None, 2)}
    assert bound.traces == 0
    for count in (1, 2):
        bound({"left": np.zeros((count, 2), np.float32), "right": np.zeros((count, 2), np.float32)})
    assert bound.traces == 2


def test_calls_from_several_threads_do_not_mix(module: LoadedModule) -> None:
    bound = module.bind("add", ["sum"])

    def call(number: int) -> list[list[float]]:
        rows = np.full((1 + number % 3, 2), number, np.float32)
        total = bound({"left": rows, "right": rows})["sum"]
        return [] if isinstance(total, Ragged) else total.tolist()

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(call, range(60)))

    assert results == [[[2.0 * number] * 2] * (1 + number % 3) for number in range(60)]


class Turn(contextlib.AbstractContextManager[None]):
    """Notes how often a bound signature had been traced when a thread came, and when it went."""

    def __init__(self, bound: BoundSignature) -> None:
        self.bound = bound
        self.traces = list[int]()

    def __enter__(self) -> None:
        self.traces.append(self.bound.traces)

    def __exit__(self, *error: object) -> None:
        self.traces.append(self.bound.traces)


def test_it_computes_in_its_turn(module: LoadedModule) -> None:
    """Shown by the trace, which its first call makes. A session traces the preparation."""
    bound = module.bind("divide", ["plus_two"], Feeding(lambda raw: {"x": tf.cast(raw["x"], tf.int32)}))
    turn = Turn(bound)

    bound({"x": np.float32([1, 2])}, turn)
    bound({"x": np.float32([3, 4])}, turn)

    assert turn.traces == [0, 1, 1, 1]


def test_binding_from_several_threads_works(module: LoadedModule) -> None:
    def call(number: int) -> list[int]:
        total = module.bind("divide", ["plus_two"])({"x": np.int32([number])})["plus_two"]
        return [] if isinstance(total, Ragged) else total.tolist()

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(call, range(8))) == [[number + 2] for number in range(8)]


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"lft": 0, "right": 0}, r"no input 'lft', only left, right; did you mean 'left'\?"),
        (
            {"left": np.zeros((1, 2), np.float32)},
            r"input 'right' \(float32 \[\?,2\]\) is missing; given: left",
        ),
        (
            {"left": np.zeros((1, 2)), "right": 0},
            r"'left' wants float32 \[\?,2\], got float64 \[1,2\]; cast it",
        ),
        ({"left": np.zeros(2, np.float32), "right": 0}, r"'left' wants float32 \[\?,2\], got float32 \[2\]"),
        ({"left": np.zeros((1, 3), np.float32), "right": 0}, r"got float32 \[1,3\]; resize or reshape it"),
    ],
)
def test_a_call_that_does_not_fit_the_signature_says_why(
    module: LoadedModule, inputs: dict[str, Any], message: str
) -> None:
    with pytest.raises(ModuleError, match=message):
        module.call("add", inputs)


def test_an_unknown_signature_or_output_names_the_nearest(module: LoadedModule) -> None:
    with pytest.raises(ModuleError, match=r"no signature 'splitt', only .*; did you mean 'split'\?"):
        module.bind("splitt", ["words"])
    with pytest.raises(ModuleError, match=r"no output 'word', only .*; did you mean 'words'\?"):
        module.bind("split", ["word"])


def test_sparse_inputs_are_refused_with_their_name(tmp_path: Path) -> None:
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        ids = v1.sparse_placeholder(tf.int64, [None, 9])
        signature = v1.saved_model.build_signature_def(
            {"ids": v1.saved_model.build_tensor_info(ids)},
            {"sum": v1.saved_model.build_tensor_info(tf.sparse.reduce_sum(ids, 1))},
        )
        builder = v1.saved_model.Builder(str(tmp_path / "m"))
        builder.add_meta_graph_and_variables(session, ["serve"], {"total": signature})
        builder.save()

    with pytest.raises(ModuleError, match=r"input 'ids' is sparse int64 \[\?,9\]; only dense inputs can be fed"):
        load_module(str(tmp_path / "m")).bind("total", ["sum"])
