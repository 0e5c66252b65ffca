"""`beamhub retry-dead`: what failed for no fault of its own is done again, and the table is that of an undisturbed run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

import beamhub as library
from beamhub.corpus.examples import to_examples
from beamhub.corpus.framing import write_records
from beamhub.engine.caller import Caller
from tests.jobs import RUNNER, beamhub, refused, succeed
from tests.small import sizes_called

ROWS, FILES = 200, 3


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A module that doubles numbers, and refuses those that are no less than what the file `limit` says; and two corpora."""
    folder = tmp_path_factory.mktemp("retry")
    limit = str(folder / "limit")

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.float32, "x")])
    def double(x: tf.Tensor) -> dict[str, tf.Tensor]:
        # A name that is known before the call would be read once, when the graph is optimized.
        name = tf.strings.join([limit, tf.strings.substr(tf.strings.as_string(x[0]), 0, 0)])
        most = tf.strings.to_number(tf.io.read_file(name))
        with tf.control_dependencies([tf.debugging.assert_less(x, most, message="for now")]):
            return {"y": 2 * x}

    tf.saved_model.save(tf.Module(), str(folder / "m"), signatures={"serving_default": double})
    for format in ("parquet", "tfrecord"):
        (folder / format).mkdir()
        for number in range(FILES):
            values = np.arange(ROWS, dtype=np.float32) + ROWS * number
            rows = pa.record_batch({"id": pa.array(np.arange(ROWS) + ROWS * number), "x": values})
            path = folder / format / f"{number}.{format}"
            if format == "parquet":
                pq.write_table(pa.Table.from_batches([rows]), path)
            else:
                with path.open("wb") as file:
                    write_records(file, to_examples(rows))
    return folder


def limit(place: Path, value: float) -> None:
    (place / "limit").write_text(str(value))


def flags(place: Path, out: Path, format: str = "parquet", *more: object) -> list[object]:
    job = ["--module", place / "m", "--corpus", place / format / f"*.{format}", "--out", out, "--key=id", "--input=x"]
    return [*job, "--batch-size=32", "--variables=plain", "--allow-operations=ReadFile", "--max-dead-fraction=1", *more]


def data(out: Path) -> dict[str, bytes]:
    """Data files by shard."""
    files = [path for path in out.glob("v=*/*") if path.is_file()]
    return {path.name.split("-")[1]: path.read_bytes() for path in files}


@pytest.mark.parametrize("output", ["parquet", "tfrecord"])
@pytest.mark.parametrize("format", ["parquet", "tfrecord"])
def test_table_is_that_of_an_undisturbed_run(place: Path, tmp_path: Path, format: str, output: str) -> None:
    limit(place, 1e6)
    succeed("extract", *flags(place, tmp_path / "undisturbed", format, f"--output-format={output}"))
    limit(place, 450)
    succeed("extract", *flags(place, tmp_path / "out", format, f"--output-format={output}"))
    table = library.open(str(tmp_path / "out"))
    before = {path: os.stat(path).st_mtime_ns for path in table.files}
    assert len(table.dead_letters()) == 150
    limit(place, 1e6)

    said = succeed("retry-dead", tmp_path / "out")

    assert "1 had dead letters" in said
    assert "150 tried again = 150 produced + 0 dead" in said
    again = library.open(str(tmp_path / "out"))
    assert data(tmp_path / "out") == data(tmp_path / "undisturbed")
    assert len(again.dead_letters()) == 0
    assert again.to_table().equals(library.open(str(tmp_path / "undisturbed")).to_table())
    # Files without dead letters are left alone, and the other's first revision is gone.
    kept = {path: at for path, at in before.items() if os.path.exists(path)}
    assert len(kept) == FILES - 1
    assert all(os.stat(path).st_mtime_ns == at for path, at in kept.items())
    assert "as they were read: yes" in succeed("verify", tmp_path / "out")
    assert "nothing to do" in succeed("extract", *flags(place, tmp_path / "out", format, f"--output-format={output}"))
    assert "nothing to do" in succeed("retry-dead", tmp_path / "out")


def test_only_batches_with_dead_letters_are_computed(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refused number in the last of seven batches."""
    limit(place, ROWS * FILES - 1)
    succeed("extract", *flags(place, tmp_path / "out"))
    limit(place, 1e6)
    calls = []
    attempt = Caller.attempt

    def noted(self: Caller, *arguments: object) -> object:
        calls.append(arguments)
        return attempt(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Caller, "attempt", noted)

    succeed("retry-dead", tmp_path / "out")

    # Its 8 records in two calls of 4.
    assert len(calls) == 2
    assert library.open(str(tmp_path / "out")).to_numpy("y").tolist() == [2.0 * row for row in range(ROWS * FILES)]


def test_what_still_fails_stays_a_dead_letter(place: Path, tmp_path: Path) -> None:
    limit(place, 450)
    succeed("extract", *flags(place, tmp_path / "out"))
    limit(place, 500)

    assert "150 tried again = 50 produced + 100 dead" in succeed("retry-dead", tmp_path / "out", RUNNER)

    table = library.open(str(tmp_path / "out"))
    assert table.to_numpy("y").tolist() == [2.0 * row for row in range(500)]
    assert table.dead_letters().column("key").to_pylist() == [str(row) for row in range(500, 600)]
    limit(place, 1e6)
    assert "100 tried again = 100 produced + 0 dead" in succeed("retry-dead", tmp_path / "out")
    assert library.open(str(tmp_path / "out")).manifest.generation == 3


def test_run_that_was_not_allowed_to_commit(place: Path, tmp_path: Path) -> None:
    """All it had finished is committed once its dead letters are few enough."""
    limit(place, 450)
    refused(3, "extract", *flags(place, tmp_path / "out", "parquet"), "--max-dead-rows=10")
    limit(place, 595)

    assert "150 tried again = 145 produced + 5 dead" in succeed("retry-dead", tmp_path / "out")

    assert library.open(str(tmp_path / "out")).to_numpy("y").tolist() == [2.0 * row for row in range(595)]


def test_too_many_still_fail(place: Path, tmp_path: Path) -> None:
    limit(place, 450)
    succeed("extract", *flags(place, tmp_path / "out"))
    before = data(tmp_path / "out")

    line = refused(3, "retry-dead", tmp_path / "out", "--max-dead-rows=10")

    assert "150 of 200 records" in line
    assert data(tmp_path / "out") == before
    limit(place, 1e6)
    assert "150 tried again = 150 produced + 0 dead" in succeed("retry-dead", tmp_path / "out")


def test_changed_input_is_left_to_the_job(place: Path, tmp_path: Path) -> None:
    for number in range(2):
        values = np.array([1, 500 + number], np.float32)
        pq.write_table(pa.table({"id": [number, -number], "x": values}), tmp_path / f"{number}.parquet")
    limit(place, 450)
    job = flags(place, tmp_path / "out")
    job[3] = tmp_path / "*.parquet"
    succeed("extract", *job)
    limit(place, 1e6)
    pq.write_table(pa.table({"id": [7], "x": np.array([7], np.float32)}), tmp_path / "1.parquet")

    ran = beamhub("retry-dead", tmp_path / "out")

    assert "warning: 1.parquet is not what it was: run the job again" in ran.err
    assert library.open(str(tmp_path / "out")).to_numpy("y").tolist() == [2, 1000, 2]
    succeed("extract", *job)
    assert library.open(str(tmp_path / "out")).to_numpy("y").tolist() == [2, 1000, 14]


@pytest.mark.parametrize(
    "point", ["dead:1", "data:1", "ledger:1", "part:1", "intent:1", "publish:1", "root:1", "delete:1"]
)
def test_killed_at_any_step_and_run_again(place: Path, tmp_path: Path, point: str) -> None:
    limit(place, 1e6)
    succeed("extract", *flags(place, tmp_path / "undisturbed"))
    limit(place, 450)
    succeed("extract", *flags(place, tmp_path / "out"))
    limit(place, 1e6)
    command = [sys.executable, "-m", "beamhub", "retry-dead", str(tmp_path / "out")]

    killed = subprocess.run(command, env={**os.environ, "BEAMHUB_KILL_AT": point}, capture_output=True, check=False)

    # Without dead letters there is none to write.
    assert killed.returncode == (0 if point == "dead:1" else -9), killed.stderr
    whole = library.open(str(tmp_path / "out")).to_table().num_rows
    assert whole in (450, 600)
    beamhub("retry-dead", tmp_path / "out")
    assert data(tmp_path / "out") == data(tmp_path / "undisturbed")


def test_calls_have_the_size_that_they_had(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit(place, 599)
    succeed("extract", *flags(place, tmp_path / "out"))
    limit(place, 1e6)
    sizes = sizes_called(monkeypatch)

    succeed("retry-dead", tmp_path / "out")

    # The last 8 of 200 records, in calls of 32, 4 and 2.
    assert sizes == {4}
