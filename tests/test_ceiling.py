"""Memory that does not suffice makes calls smaller: the same records, the same results, and a way back."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf

import beamhub as library
from beamhub.corpus.shards import Chunk
from beamhub.engine.caller import Caller
from beamhub.engine.ceiling import MOST_PATIENCE, PATIENCE, Ceiling
from beamhub.engine.inference import Inference, Inferred
from beamhub.engine.stages import Stages
from beamhub.engine.tablespec import Call
from beamhub.tasks.binding import Binding
from beamhub.tasks.extract import Extract
from tests.small import save

SIZE = 64
CALL = Call("m", "sha256:0", (), "s", (Binding("x", "x", "float32", ()),), {}, None, SIZE)


class Narrow:
    """Doubles numbers in calls of up to `room` records; above, memory does not suffice. Refuses negative ones."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.sizes: list[int] = []

    def __call__(self, fed: Mapping[str, np.ndarray], turn: object) -> dict[str, np.ndarray]:
        self.sizes.append(len(fed["x"]))
        if len(fed["x"]) > self.room or (fed["x"] == 1000).any():
            raise MemoryError("OOM when allocating")
        if (fed["x"] < 0).any():
            raise ValueError("negative")
        return {"y": 2 * fed["x"]}


def inference(module: Narrow) -> Inference:
    caller = Caller(module, CALL, (ValueError,), TimeoutError)  # type: ignore[arg-type]
    return Inference(caller, Extract(("y",), {"y": pa.float32()}), Stages(1))


def run(inference: Inference, values: list[float]) -> Inferred:
    columns = pa.record_batch({"x": pa.array(values, pa.float32())})
    return inference.run(Chunk(columns, np.arange(len(values))))


def test_the_same_records_in_smaller_calls() -> None:
    module = Narrow(20)
    values = [float(row) for row in range(SIZE)]

    inferred = run(inference(module), values)

    assert inferred.columns[0].to_pylist() == [2 * value for value in values]
    assert inferred.failures == {}
    assert module.sizes == [64, 32, 16, 16, 16, 16]


def test_what_was_learned_is_kept() -> None:
    module = Narrow(20)
    narrow = inference(module)
    run(narrow, [1.0] * SIZE)
    module.sizes.clear()

    run(narrow, [1.0] * SIZE)

    assert module.sizes == [16] * 4


def test_calls_grow_again() -> None:
    """Once memory is there again, after some calls that passed."""
    module = Narrow(20)
    narrow = inference(module)
    run(narrow, [1.0] * SIZE)
    module.room = SIZE
    module.sizes.clear()

    for _ in range(PATIENCE):
        run(narrow, [1.0] * SIZE)

    assert module.sizes[: PATIENCE - 4] == [16] * (PATIENCE - 4)
    assert set(module.sizes) == {16, 32, 64}
    assert module.sizes[-1] == 64


def test_growing_in_vain_makes_patient() -> None:
    ceiling = Ceiling()
    tried = []
    calls = 0
    while len(tried) < 9:
        calls += 1
        size = ceiling.size(64, 1, 2)
        if size > 16:
            tried.append(calls)
            ceiling.lower(size, 1)
        else:
            ceiling.passed(size, 1)

    waited = np.diff(tried)[1:]
    # Twice as long each time, but for the last ones; the call that is refused is one more.
    assert waited.tolist() == [min(PATIENCE * 2**n, MOST_PATIENCE) + 1 for n in range(len(waited))]


def test_one_record_that_no_call_has_room_for_is_a_dead_letter() -> None:
    module = Narrow(SIZE)
    values = [float(row) for row in range(SIZE)]
    values[40] = 1000

    inferred = run(inference(module), values)

    assert list(inferred.failures) == [40]
    assert "OOM when allocating" in inferred.failures[40].reason
    assert inferred.columns[0].to_pylist() == [2.0 * row for row in range(SIZE) if row != 40]


def test_records_that_pass_alone_and_not_together() -> None:
    """As where the process of a module is ended for what it takes."""

    def crowded(fed: Mapping[str, np.ndarray], turn: object) -> dict[str, np.ndarray]:
        if len(np.unique(fed["x"])) > 5:
            raise ValueError("too many")
        return {"y": 2 * fed["x"]}

    caller = Caller(crowded, CALL, (ValueError,), TimeoutError)  # type: ignore[arg-type]
    values = [float(row) for row in range(SIZE)]

    inferred = run(Inference(caller, Extract(("y",), {"y": pa.float32()}), Stages(1)), values)

    assert inferred.failures == {}
    assert inferred.columns[0].to_pylist() == [2 * value for value in values]


def test_bad_records_in_calls_that_are_too_large() -> None:
    values = [float(row) for row in range(SIZE)]
    values[3] = values[50] = -1

    inferred = run(inference(Narrow(20)), values)

    assert sorted(inferred.failures) == [3, 50]
    assert inferred.columns[0].to_pylist() == [2.0 * row for row in range(SIZE) if row not in (3, 50)]


def test_several_threads_that_fail_at_once_halve_once() -> None:
    ceiling = Ceiling()
    begin = threading.Barrier(8)

    def fail() -> None:
        begin.wait()
        ceiling.lower(64, 3)

    threads = [threading.Thread(target=fail) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert ceiling.size(64, 3, 2) == 32
    # Longer records come in smaller calls, shorter ones as before.
    assert ceiling.size(64, 6, 2) == 16
    assert ceiling.size(64, 1, 2) == 64


LIMITED = """
import resource, sys
from beamhub.importing import import_tensorflow
import_tensorflow()
import tensorflow as tf
tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(1)
tf.constant(1) + 1
from beamhub.cli import main
taken = next(int(line.split()[1]) << 10 for line in open("/proc/self/status") if line.startswith("VmSize"))
resource.setrlimit(resource.RLIMIT_AS, (taken + (4 << 30),) * 2)
sys.exit(main(sys.argv[1:]))
"""


def test_module_that_exhausts_the_address_space(tmp_path: Path) -> None:
    """Each record takes 128 MiB on its way: 64 of them more than the 4 GiB that the process may still take, and 32 too."""

    def wide(x: tf.Tensor) -> dict[str, tf.Tensor]:
        spread = tf.broadcast_to(x[:, tf.newaxis], (tf.size(x), 1 << 25))
        return {"y": 2 * spread[:, -1]}

    module = save(tmp_path / "m", wide, tf.TensorSpec((None,), tf.float32, "x"))
    (tmp_path / "corpus").mkdir()
    values = np.arange(64, dtype=np.float32)
    pq.write_table(pa.table({"x": values}), tmp_path / "corpus" / "c.parquet")
    flags = ["--module", module, "--corpus", f"{tmp_path}/corpus/*.parquet", "--batch-size=64", "--variables=plain"]

    done = subprocess.run(
        [sys.executable, "-c", LIMITED, "extract", *flags, "--out", str(tmp_path / "out")],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr[-3000:]
    np.testing.assert_array_equal(library.open(str(tmp_path / "out")).to_numpy("y"), 2 * values)
