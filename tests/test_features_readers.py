"""Programs that know nothing of beamhub, and a reader that never stops."""

from __future__ import annotations

import threading
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pytest

import beamhub.features.table as tables
from beamhub.features.checksums import checksum_of
from beamhub.features.manifest import Manifest
from beamhub.features.paths import VersionPaths
from beamhub.features.roots import latest_generation
from tests.features_job import VERSION, File, compute, run, shards_of
from tests.test_features_table import COLUMNS, make


@pytest.fixture
def folder(tmp_path: Path) -> str:
    """A version's folder with rows in partitions, and beside them all that must not be read as rows."""
    table = make(tmp_path, COLUMNS)
    changed, dead = shards_of({"dt=1/a": File("new", (1,)), "dt=1/x": File("x", (-1,))})
    compute(table.paths, changed, (1,), pending=True)
    compute(table.paths, dead, (-1,))
    Path(table.paths.data_file(dead, "parquet")).unlink()
    (Path(table.path) / "dt=1" / ".beamhub-part-0.parquet-x7k3").write_bytes(b"killed while writing")
    return table.path


def wanted(*names: str) -> list[dict[str, object]]:
    return sorted(pa.table(COLUMNS).select(list(names)).to_pylist(), key=lambda row: str(row["key"]))


def test_pyarrow_dataset(folder: str) -> None:
    found = ds.dataset(folder, format="parquet", partitioning="hive").to_table()
    assert found.sort_by("key").select(list(COLUMNS)).equals(pa.table(COLUMNS))
    assert set(found.column("dt").to_pylist()) == {1, 2}


def test_pandas(folder: str) -> None:
    found = pd.read_parquet(folder).sort_values("key")
    assert found["key"].tolist() == COLUMNS["key"].to_pylist()
    assert np.stack(found["embedding"].tolist()).tolist() == COLUMNS["embedding"].to_pylist()
    # pandas gives tensors as they are stored: flat, in row-major order.
    assert np.stack(found["map"].tolist()).tolist() == COLUMNS["map"].storage.to_pylist()
    assert [list(each) for each in found["labels"]] == COLUMNS["labels"].to_pylist()


def test_duckdb(folder: str) -> None:
    found = duckdb.sql(f"select * from read_parquet('{folder}/**/*.parquet') order by key")
    rows = found.to_arrow_table().select(["key", "value", "embedding", "labels"]).to_pylist()
    assert rows == wanted("key", "value", "embedding", "labels")
    flat = duckdb.sql(f"select map from read_parquet('{folder}/**/*.parquet') order by key").fetchall()
    assert [list(row[0]) for row in flat] == COLUMNS["map"].storage.to_pylist()


def test_polars(folder: str) -> None:
    found = pl.scan_parquet(f"{folder}/**/*.parquet").sort("key").collect()
    assert found.select("key", "value", "embedding", "labels").to_dicts() == wanted(
        "key", "value", "embedding", "labels"
    )
    flat = found["map"]
    assert flat.to_list() == COLUMNS["map"].storage.to_pylist()


def read_until(paths: VersionPaths, stop: threading.Event, faults: list[str]) -> int:
    """Checks every file of the newest manifest, again and again; a file that a newer commit replaced does not count."""
    checked = 0
    while not stop.is_set():
        manifest = Manifest.load(paths)
        assert manifest is not None
        for entry in manifest.entries.to_pylist():
            try:
                with open(paths.path(entry["file"]), "rb") as file:
                    found = checksum_of(file)
            except FileNotFoundError:
                if latest_generation(paths) == manifest.generation:
                    faults.append(f"{entry['file']} is missing")
                break
            if found != (entry["bytes"], entry["checksum"]):
                faults.append(f"{entry['file']} is not whole")
            checked += 1
    return checked


def test_at_every_instant_all_files_of_the_manifest_are_whole(tmp_path: Path) -> None:
    run(tmp_path, {f"f{n}": File("0", (n,)) for n in range(6)})
    paths = VersionPaths(str(tmp_path), VERSION)
    stop, faults, checked = threading.Event(), [], []
    reader = threading.Thread(target=lambda: checked.append(read_until(paths, stop, faults)))
    reader.start()
    for token in range(1, 40):
        run(tmp_path, {f"f{n}": File(str(token * (n % 3 == token % 3)), (token, n)) for n in range(6)})
    stop.set()
    reader.join()
    assert faults == []
    assert checked[0] > 100
    assert tables.open(str(tmp_path)).manifest.generation == 40
