"""The commands around the jobs, and the table's formats, as a user meets them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
import yaml

import beamhub as library
from beamhub.spec import EmbedJob, from_mapping
from tests.jobs import beamhub, refused, succeed
from tests.shared import shared

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def job(tmp_path: Path) -> list[object]:
    """A module that doubles vectors of 3, and a corpus with partition folders; returns the flags."""
    spec = tf.TensorSpec((None, 3), tf.float32, name="x")
    double = tf.function(lambda x: {"default": 2 * x}, input_signature=[spec])
    tf.saved_model.save(tf.Module(), str(tmp_path / "module"), signatures={"serving_default": double})
    for number, day in enumerate(("2026-11-19", "2026-11-20")):
        folder = tmp_path / "corpus" / f"dt={day}"
        folder.mkdir(parents=True)
        vectors = np.arange(12, dtype=np.float32).reshape(4, 3) + 100 * number
        lists = pa.array(vectors.tolist(), pa.list_(pa.float32()))
        table = pa.table({"id": [f"{number}-{row}" for row in range(4)], "x": lists})
        pq.write_table(table, folder / "part.parquet")
    return [
        "--module",
        tmp_path / "module",
        "--corpus",
        f"{tmp_path}/corpus/*/*.parquet",
        "--out",
        tmp_path / "out",
        "--key=id",
    ]


def expected() -> np.ndarray:
    first = np.arange(12, dtype=np.float32).reshape(4, 3)
    return 2 * np.concatenate([first, first + 100])


def test_readers_that_know_nothing_of_beamhub(job: list[object], tmp_path: Path) -> None:
    """With dead letters, ledger and manifest beside the data; partition folders become a column."""
    poisoned = tmp_path / "corpus" / "dt=2026-11-21"
    poisoned.mkdir()
    pq.write_table(pa.table({"id": ["bad"], "x": pa.array([[1.0]], pa.list_(pa.float32()))}), poisoned / "part.parquet")
    succeed("embed", *job, "--max-dead-fraction=0.2")
    folder = succeed("path", tmp_path / "out").strip()
    keys = [f"{number}-{row}" for number in range(2) for row in range(4)]
    days = ["2026-11-19"] * 4 + ["2026-11-20"] * 4
    assert len(library.open(str(tmp_path / "out")).dead_letters()) == 1

    arrow = ds.dataset(folder, partitioning="hive").to_table()
    pandas = pd.read_parquet(folder)
    duck = duckdb.sql(f"SELECT * FROM read_parquet('{folder}/**/*.parquet') ORDER BY key").fetchnumpy()
    polars = pl.read_parquet(f"{folder}/**/*.parquet", hive_partitioning=True)

    assert arrow.column("key").to_pylist() == keys
    assert list(pandas["key"]) == keys
    assert list(duck["key"]) == keys
    assert polars["key"].to_list() == keys
    for vectors in (arrow.column("embedding").to_pylist(), pandas["embedding"], duck["embedding"], polars["embedding"]):
        np.testing.assert_array_equal(np.array([list(vector) for vector in vectors]), expected())
    assert [str(day) for day in pandas["dt"]] == days
    assert [str(day) for day in polars["dt"]] == days


def test_open_gives_schema_lineage_and_arrays(job: list[object], tmp_path: Path) -> None:
    succeed("embed", *job)

    table = library.open(str(tmp_path / "out"))

    assert table.schema.names == ["key", "embedding"]
    assert table.schema.field("embedding").type == pa.list_(pa.float32(), 3)
    np.testing.assert_array_equal(table.to_numpy("embedding"), expected())
    assert table.lineage["module"]["handle"] == str(tmp_path / "module")
    assert table.lineage["module"]["digest"].startswith("sha256:")
    assert table.lineage["packages"]["tensorflow"] == tf.__version__
    identity = table.schema.field("embedding").metadata[b"beamhub.identity"].decode()
    assert table.lineage["identities"] == {"embedding": identity}
    (batch,) = table.to_tf_dataset(["embedding"], batch_size=8)
    np.testing.assert_array_equal(batch["embedding"].numpy(), expected())


def test_identity_is_that_of_the_features(job: list[object], tmp_path: Path) -> None:
    """Another key or kept column makes another version of the same features; another module makes other features."""
    changed = [tmp_path / "elsewhere" if argument == tmp_path / "out" else argument for argument in job]
    succeed("embed", *job)
    succeed("embed", *changed[:-1])
    one, other = library.open(str(tmp_path / "out")), library.open(str(tmp_path / "elsewhere"))

    assert one.version != other.version
    assert one.lineage["identities"] == other.lineage["identities"]


def test_tfrecord_output(job: list[object], tmp_path: Path) -> None:
    succeed("embed", *job, "--output-format=tfrecord")

    table = library.open(str(tmp_path / "out"))
    examples = [
        tf.train.Example.FromString(record)
        for file in table.files
        for record in tf.data.TFRecordDataset(file).as_numpy_iterator()
    ]
    vectors = [example.features.feature["embedding"].float_list.value for example in examples]
    np.testing.assert_array_equal(np.array(vectors), expected())
    keys = [example.features.feature["key"].bytes_list.value[0].decode() for example in examples]
    assert keys == [f"{number}-{row}" for number in range(2) for row in range(4)]
    assert all(file.endswith(".tfrecord") for file in table.files)
    np.testing.assert_array_equal(table.to_numpy("embedding"), expected())
    assert succeed("embed", *job, "--output-format=tfrecord").startswith("nothing to do")


def test_limit_shows_values_and_writes_nothing(job: list[object], tmp_path: Path) -> None:
    printed = succeed("embed", *job, "--limit=3")

    assert "3 rows" in printed
    assert "[12.0, 14.0, 16.0]" in printed
    assert "18.0" not in printed
    assert not (tmp_path / "out").exists()


def test_dry_run_says_what_would_be_done(job: list[object], tmp_path: Path) -> None:
    printed = succeed("embed", *job, "--dry-run")

    assert "compute   2 of 2 shards" in printed
    assert "column    embedding: fixed_size_list<item: float>[3]" in printed
    assert not (tmp_path / "out").exists()


def test_run_shard_and_commit(job: list[object], tmp_path: Path) -> None:
    """A shard that failed is computed alone by hand once it is mended, and the run is committed by hand."""
    broken = tmp_path / "corpus" / "dt=2026-11-20" / "part.parquet"
    whole = broken.read_bytes()
    status = broken.stat()
    broken.write_bytes(b"PAR1" + bytes(len(whole) - 8) + b"PAR1")
    os.utime(broken, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert beamhub("embed", *job).status == 4
    line = refused(4, "run-shard", tmp_path / "out", "dt=2026-11-20/part.parquet")
    assert "part.parquet" in line
    broken.write_bytes(whole)
    os.utime(broken, ns=(status.st_atime_ns, status.st_mtime_ns))

    printed = succeed("run-shard", tmp_path / "out", "dt=2026-11-20/part.parquet")
    assert "4 read, 4 produced, 0 dead" in printed
    printed = succeed("commit", tmp_path / "out")

    assert "generation 1: 2 shards, 8 rows" in printed
    np.testing.assert_array_equal(library.open(str(tmp_path / "out")).to_numpy("embedding"), expected())


def test_no_such_shard(job: list[object], tmp_path: Path) -> None:
    succeed("embed", *job)

    assert "no shard 'x'" in refused(2, "run-shard", tmp_path / "out", "x")


@pytest.mark.shared
def test_inspect() -> None:
    printed = succeed("inspect", shared("modules/tf1_hub_oracle/image"))
    found = json.loads(succeed("inspect", shared("modules/tf1_hub_oracle/image"), "--json"))

    for words in ("image_feature_vector", "images", "float32 [?,16,16,3]", "train", "sha256:"):
        assert words in printed
    assert found["image_size"] == [16, 16]
    assert found["trainable"] is True
    assert found["format"] == "tf1_hub"


@pytest.mark.shared
def test_inspect_leaves_helpers_out() -> None:
    printed = succeed("inspect", shared("modules/vww_mobilenet_v1/tf2"))

    assert "image_classification" in printed
    assert "__saved_model_init_op" not in printed


@pytest.mark.parametrize("launcher", ["-m beamhub embed", "jobs/embed.py"])
def test_launchers_accept_the_same(launcher: str, job: list[object], tmp_path: Path) -> None:
    command = [sys.executable, *launcher.split(), *map(str, job), "--runner=FnApiRunner"]

    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert ran.returncode == 0, ran.stderr
    assert "8 read = 8 produced" in ran.stdout


def test_each_task_has_a_launcher() -> None:
    for task in ("embed", "extract", "classify", "detect"):
        ran = subprocess.run(
            [sys.executable, f"jobs/{task}.py", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
        )  # fmt: skip
        assert f"beamhub {task}" in ran.stdout


def test_spec_template_is_a_job() -> None:
    fields = yaml.safe_load((ROOT / "templates" / "embed.yaml").read_text())
    assert fields.pop("task") == "embed"

    job = from_mapping(EmbedJob, {name.replace("-", "_"): value for name, value in fields.items()}, "template")

    assert job.key == "id"


def test_import_is_lazy() -> None:
    script = (
        "import sys, beamhub; beamhub.__version__; "
        "print([name for name in ('tensorflow', 'apache_beam', 'pyarrow') if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert ran.stdout.strip() == "[]"


def test_exported_names() -> None:
    assert library.__all__ == ["__version__", "open"]


def test_reference_page_is_that_of_the_code() -> None:
    from beamhub.reference import reference

    assert (ROOT / "docs" / "reference.md").read_text() == reference()


@pytest.mark.parametrize("first", ["", "sys.stderr.close(); "])
def test_leaving_keeps_the_status_the_output_and_what_is_to_be_done_at_the_end(first: str) -> None:
    script = "import atexit, sys; from beamhub.startup import leave; atexit.register(print, 'last'); print('first'); "

    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    command = [sys.executable, "-c", f"{script}{first}leave(3)"]
    done = subprocess.run(command, env=buffered, stdout=subprocess.PIPE, check=False)

    assert (done.returncode, done.stdout) == (3, b"first\nlast\n")
