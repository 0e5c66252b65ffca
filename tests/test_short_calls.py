"""How long calls take decides how many records they have at most."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
import tensorflow as tf

import beamhub as library
from beamhub.corpus.shards import Chunk
from beamhub.engine import short_calls
from beamhub.engine.caller import Caller, Rows
from beamhub.engine.short_calls import most_in_short_call
from beamhub.engine.tablespec import Call
from beamhub.modules.loaded import FREE
from beamhub.modules.ragged import Output
from beamhub.tasks.binding import Binding
from tests.jobs import succeed
from tests.small import flags, identity, save, sizes_called
from tests.test_calibration import Doubles

SAMPLE = Chunk(pa.record_batch({"x": pa.array([1.0, 2.0], pa.float32())}), np.arange(2))


def found(
    first: int,
    last: int,
    seconds: Callable[[int], float | None],
    monkeypatch: pytest.MonkeyPatch,
    suffices: Callable[[int], bool] = lambda _: False,
) -> tuple[int, list[int]]:
    """What is found where a call of so many records takes so long, or cannot be made, and which sizes were tried."""
    tried: list[int] = []

    def took(
        caller: Caller, sample: Chunk, rows: Rows, suffices: Callable[[int], bool], is_traced: bool = False
    ) -> float | None:
        assert is_traced is not bool(tried)
        tried.append(caller.call.batch_size)
        return seconds(caller.call.batch_size)

    monkeypatch.setattr(short_calls, "_seconds", took)
    call = Call("m", "sha256:0", (), "s", (Binding("x", "x", "float32", ()),), {}, None, first)

    def bind(size: int) -> Caller:
        return Caller(Doubles(), call.of_size(size), (ValueError,), TimeoutError)

    return most_in_short_call(bind, first, last, SAMPLE, np.arange(2), suffices), tried


def test_light_records_bound_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert found(32, 16384, lambda size: 1e-6 * size, monkeypatch) == (1_000_000, [32, 16384])


def test_heavy_records_are_tried_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    assert found(32, 16384, lambda size: 0.01 * size, monkeypatch) == (100, [32, 256])
    assert found(32, 16384, lambda size: 0.1 * size, monkeypatch) == (10, [32])
    assert found(16, 16, lambda size: 0.5 * size, monkeypatch) == (2, [16])


@pytest.mark.parametrize("constant", [0.1, 0.5, 0.6, 0.9])
def test_what_a_call_takes_whatever_its_size_is_not_the_records_fault(
    constant: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A recurrent network takes its steps one after the other, however many records take them together."""
    most, tried = found(32, 16384, lambda size: constant + 1e-6 * size, monkeypatch)

    assert most >= 16384
    assert tried[-1] == 16384


def test_a_call_that_is_refused_bounds_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = [32, 1024, 128]
    assert found(32, 16384, lambda size: 1e-3 if size <= 1000 else None, monkeypatch) == (128, tried)


def test_a_call_that_takes_long_enough_tells_of_larger_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """They would take memory and time to try: a VAE on small images, whose call of 2,048 takes .2 s, and its graph as long."""
    most, tried = found(32, 2048, lambda size: 1e-4 + 8e-5 * size, monkeypatch)

    assert most == pytest.approx(12_500, rel=0.05)
    assert tried == [32, 512]
    # One that takes less may do so whatever its size.
    assert found(32, 2048, lambda size: 0.003 + 3e-5 * size, monkeypatch)[1] == [32, 256, 1024]


def test_where_half_of_enough_is_told_the_last_size_is_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes between take a graph each, which is thrown away."""
    assert found(32, 2048, lambda size: 8e-5 * size, monkeypatch, lambda most: most >= 24_000)[1] == [32, 2048]
    assert found(32, 2048, lambda size: 8e-5 * size, monkeypatch, lambda most: most >= 26_000)[1] == [32, 512]


def test_what_small_calls_promise_large_ones_have_to_keep(monkeypatch: pytest.MonkeyPatch) -> None:
    def quadratic(size: int) -> float:
        return 1e-6 * size**2

    assert found(32, 2048, quadratic, monkeypatch, lambda most: most >= 16_000) == (488, [32, 2048])
    refused = found(32, 2048, lambda size: 1e-3 if size < 2048 else None, monkeypatch, lambda most: most >= 16_000)
    assert refused == (256, [32, 2048, 256])


@pytest.mark.parametrize(("enough", "expected"), [(320, [0.1]), (3000, [0.1, 0.01]), (9000, [0.1, 0.01, 0.02, 0.005])])
def test_a_call_is_not_timed_again_once_it_suffices(
    enough: int, expected: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of four calls, of which the first traces."""
    took = iter([0.1, 0.01, 0.02, 0.005])
    now, made = 0.0, []

    class Slow(Doubles):
        def __call__(self, raw: Mapping[str, npt.NDArray[Any]], turn: Any = FREE) -> dict[str, Output]:
            nonlocal now
            made.append(next(took))
            now += made[-1]
            return super().__call__(raw, turn)

    monkeypatch.setattr(short_calls.time, "perf_counter", lambda: now)
    call = Call("m", "sha256:0", (), "s", (Binding("x", "x", "float32", ()),), {}, None, 32)
    caller = Caller(Slow(), call, (ValueError,), TimeoutError)

    seconds = short_calls._seconds(caller, SAMPLE, np.arange(2), lambda most: most >= enough)

    assert made == expected
    assert seconds == pytest.approx(min(made))


def test_a_module_that_takes_no_large_batch_gets_none(tmp_path: Path) -> None:
    def small(x: tf.Tensor) -> dict[str, tf.Tensor]:
        with tf.control_dependencies([tf.debugging.assert_less(tf.shape(x)[0], 1000)]):
            return {"y": tf.identity(x)}

    module = save(tmp_path / "m", small, tf.TensorSpec((None, 1), tf.float32, "x"))
    numbers = np.random.default_rng(0).random(20_000, np.float32)

    succeed("extract", *flags(tmp_path, module, pa.table({"x": pa.FixedSizeListArray.from_arrays(numbers, 1)})))

    assert library.open(str(tmp_path / "out")).to_numpy("y").ravel().tolist() == numbers.tolist()


@pytest.mark.parametrize("first", [0.5, -1.0])
def test_a_heavy_module_gets_small_batches(first: float, tmp_path: Path) -> None:
    """By the 4 bytes that a record feeds a call would have 16,384, and take several seconds; a bad record changes nothing."""
    matrix = tf.constant(np.eye(300, dtype=np.float32))

    def heavy(x: tf.Tensor) -> dict[str, tf.Tensor]:
        with tf.control_dependencies([tf.debugging.assert_non_negative(x)]):
            return {"y": tf.map_fn(lambda value: (matrix @ (matrix * value))[0, 0], x[:, 0])}

    module = save(tmp_path / "m", heavy, tf.TensorSpec((None, 1), tf.float32, "x"))
    numbers = np.concatenate([[first], np.random.default_rng(0).random(99)]).astype(np.float32)
    corpus = pa.table({"x": pa.FixedSizeListArray.from_arrays(numbers, 1)})

    summary = succeed("extract", *flags(tmp_path, module, corpus), "--max-dead-fraction=0.5")

    size = re.search(r"calls +of (\d+), ", summary)
    assert size is not None
    assert 8 <= int(size[1]) <= 4096
    np.testing.assert_allclose(library.open(str(tmp_path / "out")).to_numpy("y"), numbers[numbers > 0], rtol=1e-6)


def test_a_small_corpus_is_not_tried_with_larger_calls_than_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = sizes_called(monkeypatch)
    corpus = pa.table({"x": pa.FixedSizeListArray.from_arrays(np.zeros(600, np.float32), 1)})

    summary = succeed("extract", *flags(tmp_path, identity(tmp_path / "m", (None, 1)), corpus))

    assert "calls     of 32768, 4096, 512, 64 records" in summary
    assert max(sizes) == 512


def test_tables_begun_before_large_batches_had_a_fourth_size_keep_theirs() -> None:
    call = Call("m", "sha256:0", (), "s", (), {}, None, 4)
    values = call.of_size(16384).to_json()
    assert Call.from_json(values).sizes == (16384, 2048, 256, 32)

    del values["steps"]

    assert Call.from_json(values).sizes == (16384, 2048, 256)
    assert "steps" not in call.of_size(4096).to_json()
