"""Variables made constants: the same values, and a clear refusal where that cannot be."""

from __future__ import annotations

import gc
import threading
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf

import beamhub
from beamhub.corpus.shards import Chunk
from beamhub.engine import calibration, fitting
from beamhub.engine.calibration import Calibration, Setting
from beamhub.engine.caller import Caller
from beamhub.engine.planning import make_plan
from beamhub.engine.pool import acquire_module
from beamhub.engine.trial import Trial
from beamhub.errors import ModuleError
from beamhub.modules import frozen
from beamhub.modules.function import FunctionModule
from beamhub.modules.load import load_module
from beamhub.spec import ExtractJob
from tests.jobs import refused, succeed
from tests.small import flags


class Linear(tf.Module):
    """Two inputs and two outputs, whose names are in another order than they are used."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = tf.Variable([[1.0, 2.0], [3.0, 4.0]])
        self.calls = tf.Variable(0)

    @tf.function(input_signature=[tf.TensorSpec((None, 2), tf.float32, "z"), tf.TensorSpec((None, 2), tf.float32, "a")])
    def apply(self, z: Any, a: Any) -> Any:
        return {"y": z @ self.weights, "b": 10 * a}

    @tf.function(input_signature=[tf.TensorSpec((None, 2), tf.float32, "x")])
    def counting(self, x: Any) -> Any:
        self.calls.assign_add(1)
        return {"y": x @ self.weights}


@pytest.fixture
def linear(tmp_path: Path) -> str:
    module = Linear()
    signatures = {"serving_default": module.apply, "counting": module.counting}
    tf.saved_model.save(module, str(tmp_path / "linear"), signatures=signatures)
    return str(tmp_path / "linear")


def test_same_values(linear: str) -> None:
    x = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], np.float32)
    bound = load_module(linear).bind("serving_default", ["y", "b"], frozen=True)

    outputs = bound({"z": x, "a": 2 * x})

    assert outputs["y"].tolist() == [[1, 2], [3, 4], [4, 6]]
    assert outputs["b"].tolist() == (20 * x).tolist()


def test_no_variable_is_read_any_more(linear: str) -> None:
    module = load_module(linear)
    (weights,) = [v for v in module._loaded.signatures["serving_default"].variables if v.shape == (2, 2)]
    bound = module.bind("serving_default", ["y"], frozen=True)
    ones = np.ones((2, 2), np.float32)
    before = bound({"z": ones, "a": ones})["y"].tolist()

    weights.assign(tf.zeros((2, 2)))

    assert bound({"z": ones, "a": ones})["y"].tolist() == before == [[4, 6], [4, 6]]


def test_copies_made_on_the_way_are_gone(linear: str) -> None:
    """Also while a process starts, and collects no garbage."""
    module = load_module(linear)
    gc.collect()
    gc.disable()
    try:
        assert module.can_freeze("serving_default")
        left = {type(each).__name__ for each in gc.get_objects() if "convert_to_constants" in repr(type(each))}
    finally:
        gc.enable()

    assert not left


def test_what_assigns_is_left_alone(linear: str) -> None:
    module = load_module(linear)

    assert module.can_freeze("serving_default")
    assert not module.can_freeze("counting")
    with pytest.raises(ModuleError, match="cannot be made constants"):
        module.bind("counting", frozen=True)


def test_what_is_large_is_left_alone(linear: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frozen, "MOST_BYTES", 8)

    assert not load_module(linear).can_freeze("serving_default")


@pytest.fixture
def words(tmp_path: Path) -> str:
    """A module with a table and a variable."""
    module = tf.Module()
    keys, values = tf.constant(["a", "b"]), tf.constant([0, 1], tf.int64)
    module.table = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(keys, values), 0)
    module.vectors = tf.Variable([[1.0, 2.0], [3.0, 4.0]])

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, "texts")])
    def embed(texts: Any) -> Any:
        return {"embedding": tf.gather(module.vectors, module.table.lookup(texts))}

    tf.saved_model.save(module, str(tmp_path / "words"), signatures=embed)
    return str(tmp_path / "words")


def test_tables_are_left_alone(words: str, tmp_path: Path) -> None:
    job = flags(tmp_path, words, pa.table({"t": ["a", "b"]}))

    line = refused(2, "embed", *job, "--variables=frozen")
    succeed("embed", *job)

    assert "signature serving_default, has none that can be made constants" in line
    assert beamhub.open(str(tmp_path / "out")).to_numpy("embedding").tolist() == [[1, 2], [3, 4]]


def test_no_variable_is_copied_to_find_a_table(words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from tensorflow.python.framework import convert_to_constants

    copied = "convert_variables_to_constants_v2"
    monkeypatch.setattr(convert_to_constants, copied, lambda _: pytest.fail("variables were copied"))

    assert not load_module(words).can_freeze("serving_default")


def test_pinned_variables(linear: str, tmp_path: Path) -> None:
    """What a version was begun with stays: other bits may not come into it."""
    table = pa.table({"x": pa.array([[1.0, 0.0], [0.0, 1.0]], pa.list_(pa.float32()))})
    job = ["extract", *flags(tmp_path, linear, table), "--input", "z=x", "--input", "a=x"]

    summary = succeed(*job, "--variables=frozen")
    line = refused(2, *job, "--variables=plain")
    again = succeed(*job)

    assert "with frozen variables" in summary
    assert "--variables plain: version" in line
    assert "was begun with frozen" in line
    assert "nothing to do" in again
    assert beamhub.open(str(tmp_path / "out")).to_numpy("y").tolist() == [[1, 2], [3, 4]]


def test_constants_that_are_not_used_are_freed(linear: str) -> None:
    module = load_module(linear)
    assert module.can_freeze("serving_default")
    frozen_function = weakref.ref(module._frozen["serving_default"])

    module.forget_frozen("serving_default")
    gc.collect()

    assert frozen_function() is None


def test_plain_variables_that_were_faster_leave_no_constants(
    linear: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration, "WORTH_SECONDS", 0.0)
    monkeypatch.setattr(Calibration, "_rate", lambda _, setting: 1.0 if setting.frozen else 2.0)
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(np.ones(8, np.float32)), 2)
    job = flags(tmp_path, linear, pa.table({"z": vectors, "a": vectors}))[3]
    asked: list[str] = []
    can_freeze = FunctionModule.can_freeze

    def noted(self: FunctionModule, signature: str) -> bool:
        asked.append(signature)
        return can_freeze(self, signature)

    monkeypatch.setattr(FunctionModule, "can_freeze", noted)

    given = {"signature": "serving_default", "input": ("z=z", "a=a")}
    call = make_plan(ExtractJob(module=linear, corpus=str(job), out=str(tmp_path / "out"), **given)).spec.call

    assert (asked, call.frozen) == (["serving_default"], False)
    assert acquire_module(call.handle, call.digest, call.tags)._frozen == {}


def test_constants_are_made_while_the_module_is_tried_and_before_anything_is_measured(
    linear: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By another thread, for which the first call of the module waits here; a rate that it disturbed would say little."""
    monkeypatch.setattr(fitting, "AHEAD_BYTES", 0)
    monkeypatch.setattr(fitting, "cores", lambda: 2)
    monkeypatch.setattr(calibration, "WORTH_SECONDS", 0.0)
    begun, done = threading.Event(), threading.Event()
    can_freeze, first = FunctionModule.can_freeze, Trial.first

    def ahead(self: FunctionModule, signature: str) -> bool:
        begun.set()
        found = can_freeze(self, signature)
        done.set()
        return found

    def tried(self: Trial, batch: Chunk) -> Any:
        assert begun.wait(60)
        return first(self, batch)

    def rate(_: Calibration, setting: Setting) -> float:
        assert done.is_set()
        return 2.0 if setting.frozen else 1.0

    monkeypatch.setattr(FunctionModule, "can_freeze", ahead)
    monkeypatch.setattr(Trial, "first", tried)
    monkeypatch.setattr(Calibration, "_rate", rate)
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(np.ones(8, np.float32)), 2)
    job = flags(tmp_path, linear, pa.table({"z": vectors, "a": vectors}))[3]

    given = {"signature": "serving_default", "input": ("z=z", "a=a")}
    call = make_plan(ExtractJob(module=linear, corpus=str(job), out=str(tmp_path / "out"), **given)).spec.call

    assert call.frozen


def test_of_large_records_the_other_core_makes_the_graph_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tracing it and its first call take as long as making the constants."""
    monkeypatch.setattr(fitting, "AHEAD_BYTES", 0)
    monkeypatch.setattr(fitting, "cores", lambda: 2)
    monkeypatch.setattr(calibration, "WORTH_SECONDS", 0.0)
    size = 300_000
    module = tf.Module()
    module.scale = tf.Variable(2.0)
    spec = tf.TensorSpec((None, size), tf.float32, "x")
    module.apply = tf.function(lambda x: {"y": tf.reduce_mean(x, 1) * module.scale}, input_signature=[spec])
    tf.saved_model.save(module, str(tmp_path / "m"), signatures=module.apply)
    events: list[tuple[str, int, bool]] = []
    attempt, rate = Caller.attempt, Calibration._rate

    def called(self: Caller, *args: Any) -> Any:
        if self.call.frozen and threading.current_thread() is not threading.main_thread():
            events.append(("call", args[-1], True))
        return attempt(self, *args)

    def rated(self: Calibration, setting: Setting) -> float:
        events.append(("rate", setting.batch_size, setting.frozen))
        return rate(self, setting)

    monkeypatch.setattr(Caller, "attempt", called)
    monkeypatch.setattr(Calibration, "_rate", rated)
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(np.ones(4 * size, np.float32)), size)
    job = flags(tmp_path, str(tmp_path / "m"), pa.table({"x": vectors}))[3]

    make_plan(ExtractJob(module=str(tmp_path / "m"), corpus=str(job), out=str(tmp_path / "out")))

    assert events[:2] == [("call", 4, True), ("rate", 4, False)]
