"""Bisecting, seen from the calls that it makes. The module is a function here: what counts is how it is called."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from beamhub.corpus.shards import Chunk
from beamhub.engine.caller import Caller
from beamhub.engine.inference import Inference
from beamhub.engine.stages import Stages
from beamhub.engine.tablespec import Call
from beamhub.errors import BeamhubError
from beamhub.tasks.binding import Binding
from beamhub.tasks.extract import Extract

SIZE = 64
CALL = Call("m", "sha256:0", (), "s", (Binding("x", "x", "float32", ()),), {}, None, SIZE)
OPEN_CALL = replace(CALL, bindings=(Binding("x", "x", "float32", (None,)),))


class Recorded:
    """Doubles numbers, refuses a call with a negative one, breaks down at 1000; notes the size of each call."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def __call__(self, fed: Mapping[str, np.ndarray], turn: object) -> dict[str, np.ndarray]:
        self.sizes.append(len(fed["x"]))
        if (fed["x"] < 0).any():
            raise ValueError("negative")
        if (fed["x"] == 1000).any():
            raise TimeoutError("lost")
        return {"y": 2 * fed["x"]}


def run(values: list[float]) -> tuple[list[float], list[int], list[int]]:
    """The outputs, the rows that failed, and the sizes of the calls."""
    module = Recorded()
    inference = Inference(
        Caller(module, CALL, (ValueError,), TimeoutError), Extract(("y",), {"y": pa.float32()}), Stages(1)
    )  # fmt: skip
    columns = pa.record_batch({"x": pa.array(values, pa.float32())})
    inferred = inference.run(Chunk(columns, np.arange(len(values))))
    outputs = inferred.columns[0].to_pylist() if inferred.columns else []
    return outputs, sorted(inferred.failures), module.sizes


@pytest.mark.parametrize(
    ("left", "calls"),
    [
        (4096, [4096]),
        (5000, [4096, 512, 512]),
        (3073, [4096]),
        (3072, [512] * 6),
        (2049, [512] * 4 + [64]),
        (2048, [512] * 4),
        (599, [512, 64, 64]),
        (385, [512]),
        (257, [64] * 5),
        (256, [64] * 4),
        (3, [64]),
    ],
)
def test_calls_hold_little_padding(left: int, calls: list[int]) -> None:
    assert calls_made(CALL, 4096, left) == calls


def calls_made(call: Call, batch_size: int, left: int) -> list[int]:
    made: list[int] = []
    while sum(made) < left:
        made.append(replace(call, batch_size=batch_size).next_size(left - sum(made)))
    return made


@pytest.mark.parametrize(
    ("left", "calls"),
    [
        (2000, [2048]),
        (1536, [512] * 3),
        (1537, [2048]),
        (100, [128]),
        (96, [32] * 3),
        (39, [32, 8]),
        (37, [32, 2, 2, 2]),
        (7, [8]),
        (6, [2] * 3),
        (1, [2]),
    ],
)
def test_calls_of_records_that_share_a_length_hold_less(left: int, calls: list[int]) -> None:
    """Sizes lie a factor of four apart, down to 2, and no more than a quarter of a call of more than two is padding."""
    assert calls_made(OPEN_CALL, 2048, left) == calls


def test_few_large_records_are_not_copied_to_fill_a_call() -> None:
    """30 of 300 kB would take 9.6 MB in a call of 32. Of 100 kB they would not."""
    assert sizes_of_texts(30, 300_000) == [2] * 3 + [4] * 6
    assert sizes_of_texts(30, 100_000) == [32]


def sizes_of_texts(count: int, length: int) -> list[int]:
    sizes = list[int]()

    def lengths(fed: Mapping[str, np.ndarray], turn: object) -> dict[str, np.ndarray]:
        sizes.append(len(fed["x"]))
        return {"y": np.ones(len(fed["x"]), np.float32)}

    call = Call("m", "sha256:0", (), "s", (Binding("x", "x", "string", ()),), {}, None, 32)
    inference = Inference(
        Caller(lengths, call, (ValueError,), TimeoutError), Extract(("y",), {"y": pa.float32()}), Stages(1)
    )  # fmt: skip
    columns = pa.record_batch({"x": pa.array([b"x" * length] * count)})
    assert len(inference.run(Chunk(columns, np.arange(count))).columns[0]) == count
    return sorted(sizes)


def test_a_good_batch_is_one_call() -> None:
    outputs, failed, sizes = run([1.0] * SIZE)

    assert (outputs, failed, sizes) == ([2.0] * SIZE, [], [SIZE])


@pytest.mark.parametrize("bad", [0, 31, 63])
def test_one_bad_record_costs_logarithmically_many_calls(bad: int) -> None:
    """Two calls for each halving, the refused one, and one for the others, in the batch's own size again."""
    values = [float(row) for row in range(SIZE)]
    values[bad] = -1

    outputs, failed, sizes = run(values)

    assert failed == [bad]
    assert outputs == [2.0 * row for row in range(SIZE) if row != bad]
    assert len(sizes) == 2 + 2 * math.log2(SIZE)
    assert sizes[0] == sizes[-1] == SIZE


def test_all_bad_records_are_found_in_small_calls() -> None:
    outputs, failed, sizes = run([-1.0] * SIZE)

    assert (outputs, failed) == ([], list(range(SIZE)))
    assert sum(sizes) < 16 * SIZE


def test_last_batch_is_filled_up_to_the_next_size() -> None:
    """Sizes are 64, an eighth, and at least 2."""
    assert run([1.0] * 49)[2] == [64]
    assert run([1.0] * 33)[2] == [8] * 4 + [2]
    assert run([1.0] * 9)[2] == [8, 2]
    assert run([1.0] * 8)[2] == [8]
    assert run([1.0])[2] == [2]


def test_breakdown_is_no_records_fault() -> None:
    with pytest.raises(BeamhubError, match="the module failed: lost"):
        run([1.0, 1000.0])
