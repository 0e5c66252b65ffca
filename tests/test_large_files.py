"""Jobs over files in ranges: the rows are those of the files as a whole, whatever lies in them."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

import beamhub as library
from beamhub.corpus.framing import write_records
from beamhub.engine.lane import compute_shard
from beamhub.engine.planning import make_plan
from beamhub.engine.pool import acquire_pool
from beamhub.features.lineage import write_once
from beamhub.spec import EmbedJob
from tests.corpora import example, write_tfrecord
from tests.jobs import beamhub, refused, succeed
from tests.small import save

WIDTH = 4


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Three times a vector."""
    spec = tf.TensorSpec((None, WIDTH), tf.float32, "x")
    return save(tmp_path_factory.mktemp("module"), lambda x: {"y": 3.0 * x}, spec)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the corpus's one file is to be."""
    (tmp_path / "corpus").mkdir()
    return tmp_path / "corpus" / "file.tfrecord"


def vectors(rows: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, WIDTH)).astype(np.float32)


def records_of(values: np.ndarray) -> list[bytes]:
    return [example(id=[row], x=[float(v) for v in vector]) for row, vector in enumerate(values)]


def flags(module: str, corpus: Path, out: Path, *more: str) -> list[object]:
    return ["--module", module, "--corpus", corpus, "--out", out, "--key=id", "--input=x", *more]


def check(out: Path, values: np.ndarray) -> None:
    """The table has each row once, in the order of the corpus, three times what was fed."""
    table = library.open(str(out)).to_table()
    assert table.column("key").to_pylist() == list(range(len(values)))
    found = np.array(table.column("embedding").to_pylist(), np.float32)
    np.testing.assert_allclose(found, 3 * values, rtol=1e-6)


def shards_in(out: Path) -> list[tuple[int, int]]:
    entries = library.open(str(out)).manifest.ordered
    return list(zip(entries.column("start").to_pylist(), entries.column("end").to_pylist(), strict=True))


def framed(rows: int) -> bytes:
    """A TFRecord file of so many records that the module takes."""
    file = io.BytesIO()
    write_records(file, records_of(vectors(rows, seed=1)))
    return file.getvalue()


def write_nested(path: Path, rows: int, inner: bytes) -> np.ndarray:
    """Records, the middle one of which holds a TFRecord file; returns the outer ones' vectors."""
    values = vectors(rows)
    records = records_of(values)
    middle = rows // 2
    records[middle] = example(id=[middle], x=[float(v) for v in values[middle]], blob=[inner])
    write_tfrecord(path, records)
    return values


@pytest.mark.parametrize(
    "mode", [[], ["--direct_running_mode=multi_processing", "--direct_num_workers=2"]], ids=["memory", "processes"]
)
def test_a_large_file_is_done_in_ranges(module: str, mode: list[str], tmp_path: Path, path: Path) -> None:
    values = vectors(5000)
    write_tfrecord(path, records_of(values))

    said = succeed("embed", *flags(module, path, tmp_path / "out", "--split-bytes=40000", *mode))

    check(tmp_path / "out", values)
    ranges = shards_in(tmp_path / "out")
    assert len(ranges) == round(path.stat().st_size / 40000) > 5
    assert f"shards    {len(ranges)} committed" in said
    assert "nothing to do" in succeed("embed", *flags(module, path, tmp_path / "out"))
    assert f"{len(ranges)} done" in succeed("status", tmp_path / "out")


@pytest.mark.parametrize("runner", [True, False], ids=["pipeline", "alone"])
def test_a_file_whose_ranges_disagree_is_done_again_whole_in_the_same_run(
    module: str, runner: bool, tmp_path: Path, path: Path
) -> None:
    """Given records one of which is a TFRecord file itself, longer than a range and of records that the module takes, when
    the file is read in ranges, then the table has the outer records alone, and no file of a range is left."""
    values = write_nested(path, 1000, framed(2000))
    out = tmp_path / "out"

    ran = beamhub("embed", *flags(module, path, out, "--split-bytes=20000"), runner=runner)

    assert ran.status == 0, ran.err
    check(out, values)
    assert shards_in(out) == [(0, -1)]
    assert len([file for file in out.rglob("*.parquet") if "pending" not in str(file)]) == 1
    assert "nothing to do" in succeed("embed", *flags(module, path, out))
    assert "1 done" in succeed("status", out)


def test_a_range_that_began_within_a_record_begins_again_behind_it(module: str, tmp_path: Path, path: Path) -> None:
    """Given the middle of a file lies in a record that holds a small TFRecord file, when the file is read in two ranges, then
    the second finds its true first record by itself: the table is of ranges, and the file is not done whole."""
    inner = framed(200)
    values = write_nested(path, 1000, inner)
    begins = path.read_bytes().index(inner)
    assert begins + 100 < path.stat().st_size // 2 < begins + len(inner) - 100
    out = tmp_path / "out"

    succeed("embed", *flags(module, path, out, f"--split-bytes={path.stat().st_size // 2}"))

    check(out, values)
    assert shards_in(out) == [(0, path.stat().st_size // 2), (path.stat().st_size // 2, -1)]


def test_limit_takes_no_record_in_a_record_for_one_of_the_corpus(module: str, tmp_path: Path, path: Path) -> None:
    """Where ranges begin is found out by a run alone; the first records come from the front of whole files."""
    write_nested(path, 1000, framed(2000))

    printed = succeed("embed", *flags(module, path, tmp_path / "out", "--split-bytes=20000", "--limit=5000"))

    assert "1000 rows" in printed.replace(",", "")


def test_ranges_that_disagreed_before_the_job_died_are_done_again(module: str, tmp_path: Path, path: Path) -> None:
    """Given a job that died between its ranges and its commit, when it is run again, then the file is done whole."""
    values = write_nested(path, 100, framed(2000))
    out = tmp_path / "out"
    job = EmbedJob(module=module, corpus=str(path), out=str(out), key="id", input=("x",), split_bytes=20000)
    plan = make_plan(job)
    assert len(plan.todo) > 5
    write_once(plan.paths.spec, plan.spec.to_json())
    for item in plan.todo:
        compute_shard(item, plan.spec, plan.paths, acquire_pool(plan.spec))

    succeed("embed", *flags(module, path, out, "--split-bytes=20000"))

    check(out, values)


def test_a_damaged_record_fails_the_file_and_says_where(module: str, tmp_path: Path, path: Path) -> None:
    write_tfrecord(path, records_of(vectors(3000)))
    data = bytearray(path.read_bytes())
    data[len(data) * 2 // 3] ^= 1
    path.write_bytes(data)

    error = refused(4, "embed", *flags(module, path, tmp_path / "out", "--split-bytes=30000"))

    assert "1 shards failed" in error
    assert "is not what was written" in error


def test_the_first_run_settles_how_files_are_cut(module: str, tmp_path: Path, path: Path) -> None:
    write_tfrecord(path, records_of(vectors(1000)))
    succeed("embed", *flags(module, path, tmp_path / "out", "--split-bytes=20000"))

    error = refused(2, "embed", *flags(module, path, tmp_path / "out", "--split-bytes=30000"))

    assert "--split-bytes 30000" in error
    assert "begun with 20000" in error


def test_the_rows_of_a_changed_file_replace_those_of_its_ranges(module: str, tmp_path: Path, path: Path) -> None:
    write_tfrecord(path, records_of(vectors(1000)))
    succeed("embed", *flags(module, path, tmp_path / "out", "--split-bytes=20000"))
    fewer = vectors(300, seed=2)
    write_tfrecord(path, records_of(fewer))

    succeed("embed", *flags(module, path, tmp_path / "out"))

    check(tmp_path / "out", fewer)


PEAK = """
import sys
from beamhub.launch import launch
from beamhub.spec import ExtractJob

module, corpus, out = sys.argv[1:]
launch(ExtractJob(module=module, corpus=corpus, out=out))
print([line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")][0])
"""


def write_examples(path: Path, values: list[bytes]) -> None:
    write_tfrecord(path, [example(x=[value]) for value in values])


def write_rows(path: Path, values: list[bytes]) -> None:
    table = pa.table({"x": pa.array(values, pa.large_binary())})
    # A page is read whole.
    pq.write_table(table, path, row_group_size=1, use_dictionary=False, compression="none", write_statistics=False)


@pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="needs /proc, which tells what memory a process took"
)
@pytest.mark.parametrize("write", [write_examples, write_rows])
@pytest.mark.parametrize(("size", "times"), [(72 << 20, 5.2), (144 << 20, 4.2)])
def test_a_large_record_is_held_a_few_times_and_no_more(
    write: Callable[[Path, list[bytes]], None], size: int, times: float, tmp_path: Path
) -> None:
    """As it is stored, as it is read, as it is fed, twice in a call of two; none is read beside it. Measured by itself, planning
    and calls included."""
    network = save(
        tmp_path / "m", lambda x: {"bytes": tf.strings.length(x)[:, None]}, tf.TensorSpec((None,), tf.string, "x")
    )  # fmt: skip
    peaks = []
    for name, length in [("small", 40), ("large", size)]:
        write(tmp_path / name, [bytes(length + row) for row in range(4)])
        given = [network, f"{tmp_path}/{name}", f"{tmp_path}/{name}-out"]
        told = subprocess.run([sys.executable, "-c", PEAK, *given], check=True, capture_output=True, text=True).stdout
        peaks.append(1024 * int(told.split()[-1]))
        values = library.open(f"{tmp_path}/{name}-out").to_numpy("bytes")[:, 0]
        assert values.tolist() == [length + row for row in range(4)]

    assert (peaks[1] - peaks[0]) / size < times
