"""What a run prints for those who read its table, and the table as TensorFlow takes it."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

import beamhub as library
from beamhub.errors import TableError
from tests.jobs import succeed
from tests.small import FLOATS, flags, identity


def test_second_version_says_that_the_first_is_current(tmp_path: Path) -> None:
    arguments = flags(tmp_path, identity(tmp_path / "m", (None,)), pa.table({"x": FLOATS, "w": FLOATS}))
    first = succeed("extract", *arguments, "--input=x=x")
    version = library.open(str(tmp_path / "out")).version

    second = succeed("extract", *arguments, "--input=x=x", "--keep=w")

    assert "still the current version" not in first
    assert f"{version} is still the current version" in second


def test_printed_line_reads_the_table_in_duckdb(tmp_path: Path) -> None:
    """Whatever the folder is called, and without a column that nobody asked for."""
    arguments = flags(tmp_path, identity(tmp_path / "m", (None,)), pa.table({"x": FLOATS}))
    arguments[-1] = tmp_path / "it's [odd]"

    printed = succeed("extract", *arguments)

    query = next(line for line in printed.splitlines() if line.startswith("DuckDB:")).removeprefix("DuckDB:").strip()
    found = duckdb.sql(query).fetchnumpy()
    assert sorted(found) == ["key", "y"]
    assert found["y"].tolist() == [0.25, 0.5]


def test_dataset_of_all_columns(tmp_path: Path) -> None:
    arguments = flags(tmp_path, identity(tmp_path / "m", (None,)), pa.table({"x": FLOATS}))
    succeed("extract", *arguments)

    (batch,) = library.open(str(tmp_path / "out")).to_tf_dataset()

    assert batch["y"].numpy().tolist() == [0.25, 0.5]


def test_dataset_of_a_column_without_a_type_in_tensorflow(tmp_path: Path) -> None:
    when = pa.array([0, 1], pa.timestamp("us", "UTC"))
    arguments = flags(tmp_path, identity(tmp_path / "m", (None,)), pa.table({"x": FLOATS, "when": when}))
    succeed("extract", *arguments, "--keep=when")

    with pytest.raises(TableError, match="column when: TensorFlow has no type for timestamp"):
        library.open(str(tmp_path / "out")).to_tf_dataset()
