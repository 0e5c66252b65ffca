"""`--isolate`: what a module does to its process costs the record that caused it, and nothing else."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import beamhub as library
from beamhub.engine.wire import Wire, WireError
from beamhub.modules.ragged import Output, Ragged
from tests.jobs import refused, start, succeed
from tests.small import save

ROWS, BAD = 40, 7


def abort(x: tf.Tensor) -> tf.Tensor:
    with tf.control_dependencies([tf.raw_ops.Abort(error_msg="seven")]):
        return tf.identity(x)


def loop(x: tf.Tensor) -> tf.Tensor:
    return tf.while_loop(lambda _: True, lambda y: (y + 1,), (x,))[0]


@pytest.fixture(scope="module", params=["abort", "loop"])
def job(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """How a module that doubles numbers ends on a 7, and the folder of it and of a corpus of 40 numbers."""
    folder = tmp_path_factory.mktemp(request.param)
    end = {"abort": abort, "loop": loop}[request.param]

    def double(x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": 2 * tf.cond(tf.reduce_any(tf.equal(x, float(BAD))), lambda: end(x), lambda: x)}

    save(folder / "m", double, tf.TensorSpec((None,), tf.float32, "x"))
    (folder / "corpus").mkdir()
    pq.write_table(pa.table({"x": np.arange(ROWS, dtype=np.float32)}), folder / "corpus" / "c.parquet")
    return request.param, folder


def flags(folder: Path, out: Path) -> list[object]:
    job = ["--module", folder / "m", "--corpus", folder / "corpus" / "*.parquet", "--out", out, "--batch-size=8"]
    return [*job, "--variables=plain", "--allow-operations=Abort", "--max-dead-rows=1", "--max-dead-fraction=1"]


@pytest.mark.parametrize("runner", [False, True])
def test_record_that_ends_the_process_is_one_dead_letter(job: tuple[str, Path], runner: bool, tmp_path: Path) -> None:
    kind, folder = job

    summary = succeed(
        "extract", *flags(folder, tmp_path / "out"), "--isolate", "--call-seconds=5", runner=runner
    )  # fmt: skip

    assert f"{ROWS} read = {ROWS - 1} produced + 1 dead" in summary
    table = library.open(str(tmp_path / "out"))
    assert table.to_numpy("y").tolist() == [2.0 * row for row in range(ROWS) if row != BAD]
    (letter,) = table.dead_letters().to_pylist()
    assert letter["address"] == BAD
    expected = {"abort": "was ended by SIGABRT", "loop": "gave no answer within 5 s (--call-seconds)"}[kind]
    assert (letter["stage"], letter["error"]) == ("infer", f"the module's process {expected}")


def test_rows_are_those_of_a_run_in_this_process(job: tuple[str, Path], tmp_path: Path) -> None:
    """Byte for byte, where nothing goes wrong."""
    _, folder = job
    (tmp_path / "corpus").mkdir()
    values = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    pq.write_table(pa.table({"x": values}), tmp_path / "corpus" / "c.parquet")
    files = {}
    for name, flag in (("here", []), ("there", ["--isolate"])):
        arguments = ["--module", folder / "m", "--corpus", tmp_path / "corpus" / "*.parquet", "--out", tmp_path / name]
        succeed("extract", *arguments, "--batch-size=64", "--variables=plain", "--allow-operations=Abort", *flag)
        (file,) = (tmp_path / name).glob("v=*/*.parquet")
        files[name] = file.read_bytes()

    assert files["here"] == files["there"]


def test_without_it_the_job_says_what_happened(job: tuple[str, Path], tmp_path: Path) -> None:
    """Given as a contrast: the process is gone, and what it had done stays."""
    kind, folder = job
    if kind == "loop":
        pytest.skip("would never end")

    process = start("extract", *flags(folder, tmp_path / "out"), runner=False)
    process.communicate()

    assert process.returncode == -6


def test_nothing_is_left_running(job: tuple[str, Path], tmp_path: Path) -> None:
    """When the job is killed while a call hangs, its processes end too."""
    kind, folder = job
    if kind == "abort":
        pytest.skip("does not hang")
    process = start("extract", *flags(folder, tmp_path / "out"), "--isolate", "--call-seconds=600", runner=False)
    parent = psutil.Process(process.pid)
    while not (children := parent.children()):
        assert process.poll() is None, process.communicate()
    process.kill()
    process.communicate()

    _, alive = psutil.wait_procs(children, timeout=60)
    assert alive == []


def test_module_that_cannot_be_loaded_there_is_an_error_of_the_job(job: tuple[str, Path], tmp_path: Path) -> None:
    assert "--call-seconds is 0" in refused(
        2, "extract", *flags(job[1], tmp_path / "o"), "--isolate", "--call-seconds=0"
    )
    assert not (tmp_path / "o").exists()


arrays = st.one_of(
    hnp.arrays(
        st.sampled_from([np.float32, np.int64, np.bool_, np.uint8, np.float16]),
        hnp.array_shapes(min_dims=0, min_side=0),
    ),
    hnp.arrays(object, hnp.array_shapes(min_dims=1, max_dims=2, min_side=0), elements=st.binary(max_size=20)),
)
rows = st.lists(st.lists(st.floats(width=32, allow_nan=False), max_size=4), max_size=5).map(
    lambda some: Ragged(
        np.array([value for row in some for value in row], np.float32), np.array([len(row) for row in some], np.int64)
    )
)


@given(st.dictionaries(st.text(max_size=5), st.one_of(arrays, rows), max_size=3))
def test_what_is_sent_is_received(values: dict[str, Output]) -> None:
    ours, theirs = (Wire(end) for end in socket.socketpair())
    sending = threading.Thread(target=ours.send, args=({"n": 1}, values))
    sending.start()
    document, received = theirs.receive()
    sending.join()
    ours.close()
    theirs.close()

    assert document == {"n": 1}
    assert list(received) == list(values)
    for name, value in values.items():
        pairs = [(received[name], value)]
        if isinstance(value, Ragged):
            there = received[name]
            assert isinstance(there, Ragged)
            pairs = [(there.values, value.values), *zip(there.levels, value.levels, strict=True)]
        for one, other in pairs:
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"\x01",
        b"\xff\xff\xff\xff",
        b"\x02\x00\x00\x00[]",
        b"\x02\x00\x00\x00\xff\xff",
        b'\x42\x00\x00\x00{"document": {}, "values": [["x", false, [{"dtype": "O", "shape": [1]}]]]}',
    ],
)
def test_what_makes_no_sense_is_an_error(sent: bytes) -> None:
    """From a process in which a module may do anything; nothing of it is run."""
    ours, theirs = socket.socketpair()
    ours.sendall(sent)
    ours.close()

    with pytest.raises(WireError):
        Wire(theirs).receive(10)
    theirs.close()


def test_silence_ends_waiting() -> None:
    ours, theirs = socket.socketpair()

    with pytest.raises(TimeoutError):
        Wire(theirs).receive(0.01)
    ours.close()
    theirs.close()
