"""Bisecting, seen from the calls that it makes. The module is a function here: what counts is how it is called."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pytest

from beamhub.corpus.shards import Chunk
from beamhub.engine.caller import Caller
from beamhub.engine.inference import Inference, call_size
from beamhub.engine.stages import Stages
from beamhub.engine.tablespec import Call
from beamhub.errors import BeamhubError
from beamhub.tasks.binding import Binding
from beamhub.tasks.extract import Extract

SIZE = 64


class Recorded:
    """Doubles numbers, refuses a call with a negative one, breaks down at 1000; notes the size of each call."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def __call__(self, fed: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        self.sizes.append(len(fed["x"]))
        if (fed["x"] < 0).any():
            raise ValueError("negative")
        if (fed["x"] == 1000).any():
            raise TimeoutError("lost")
        return {"y": 2 * fed["x"]}


def run(values: list[float]) -> tuple[list[float], list[int], list[int]]:
    """The outputs, the rows that failed, and the sizes of the calls."""
    module = Recorded()
    call = Call("m", "sha256:0", (), "s", (Binding("x", "x", "float32", ()),), {}, None, SIZE)
    inference = Inference(
        Caller(module, call, (ValueError,), TimeoutError), Extract(("y",), {"y": pa.float32()}), Stages(1)
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
        (2049, [4096]),
        (2048, [512] * 4),
        (599, [512, 64, 64]),
        (257, [512]),
        (256, [64] * 4),
        (3, [64]),
    ],
)
def test_calls_hold_little_padding(left: int, calls: list[int]) -> None:
    made = []
    while left > 0:
        made.append(call_size((4096, 512, 64), left))
        left -= made[-1]

    assert made == calls


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
    assert run([1.0] * 33)[2] == [64]
    assert run([1.0] * 9)[2] == [8, 2]
    assert run([1.0] * 8)[2] == [8]
    assert run([1.0])[2] == [2]


def test_breakdown_is_no_records_fault() -> None:
    with pytest.raises(BeamhubError, match="the module failed: lost"):
        run([1.0, 1000.0])
