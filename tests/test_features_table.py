from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import beamhub.features.table as tables
from beamhub.corpus.shards import Shard
from beamhub.errors import TableError
from beamhub.features.commit import commit
from beamhub.features.formats import format_named
from beamhub.features.ledger import Counts
from beamhub.features.lineage import write_once
from beamhub.features.paths import VersionPaths
from beamhub.features.reconcile import Limits
from beamhub.features.writer import ShardWriter
from tests.features_job import VERSION, File, compute, run, shards_of

ALL = Limits(max_dead_fraction=1.0)
SHARDS = [
    Shard(path=relative, relative=relative, size=1, token="t")
    for relative in ("dt=1/a", "dt=1/b", "dt=2/a", "dt=2/empty")
]


def make(
    out: Path, columns: dict[str, pa.Array], extension: str = "parquet", shards: list[Shard] = SHARDS
) -> tables.FeatureTable:
    """A committed table whose rows are spread over the shards, the last of which has none."""
    rows = pa.table(columns)
    paths = VersionPaths(str(out), VERSION)
    size = -(-len(rows) // (len(shards) - 1))
    results = {}
    for number, shard in enumerate(shards):
        piece = rows.slice(number * size, size)
        with ShardWriter(format_named(extension), paths, shard, rows.schema) as writer:
            for batch in piece.to_batches():
                writer.write(batch)
            results[shard] = writer.close(Counts(read=len(piece), produced=len(piece)))
    commit(paths, shards, [], results.__getitem__, ALL, "run")
    return tables.open(str(out))


def vectors(values: Any) -> pa.Array:
    array = np.asarray(values, np.float32)
    return pa.FixedSizeListArray.from_arrays(pa.array(array.ravel()), array.shape[1])


def tensors(values: Any) -> pa.Array:
    array = np.asarray(values, np.float32)
    kind = pa.fixed_shape_tensor(pa.float32(), array.shape[1:])
    return pa.ExtensionArray.from_storage(kind, vectors(array.reshape(len(array), -1)))


N = np.arange(7)
COLUMNS = {
    "key": pa.array([f"k{n}" for n in N]),
    "value": pa.array(N),
    "score": pa.array([None if n == 2 else n / 2 for n in N.tolist()], pa.float32()),
    "maybe": pa.array([None, 1, 2, 3, 4, 5, 6]),
    "flag": pa.array(N % 2 == 0),
    "embedding": vectors([[n, -n] for n in N]),
    "map": tensors([[[n, n + 1, n + 2]] * 2 for n in N]),
    "labels": pa.array([["x"] * (n % 3) for n in N], pa.list_(pa.string())),
    "boxes": pa.array([[[n, 0, 0, 1]] * (n % 2) for n in N], pa.list_(pa.list_(pa.float32(), 4))),
}


def test_rows_come_back_as_they_were_written(tmp_path: Path) -> None:
    table = make(tmp_path, COLUMNS)
    assert table.to_table().equals(pa.table(COLUMNS))
    assert table.to_table(["value", "key"]).equals(pa.table(COLUMNS).select(["value", "key"]))
    assert (table.rows, table.version, len(table.files)) == (7, VERSION, 4)
    assert table.schema.equals(pa.table(COLUMNS).schema)


@pytest.mark.parametrize(
    ("column", "wanted"),
    [
        ("value", N),
        ("score", np.array([0, 0.5, np.nan, 1.5, 2, 2.5, 3], np.float32)),
        ("flag", N % 2 == 0),
        ("embedding", np.array([[n, -n] for n in N], np.float32)),
        ("map", np.array([[[n, n + 1, n + 2]] * 2 for n in N], np.float32)),
        ("key", np.array([f"k{n}" for n in N], object)),
    ],
)
def test_column_as_one_array(tmp_path: Path, column: str, wanted: np.ndarray[Any, Any]) -> None:
    found = make(tmp_path, COLUMNS).to_numpy(column)
    assert found.dtype == wanted.dtype
    np.testing.assert_array_equal(found, wanted)


def test_lists_become_an_array_of_arrays(tmp_path: Path) -> None:
    found = make(tmp_path, COLUMNS).to_numpy("labels")
    assert [each.tolist() for each in found] == [[], ["x"], ["x", "x"], [], ["x"], ["x", "x"], []]


def test_null_integers_do_not_fit_an_array(tmp_path: Path) -> None:
    table = make(tmp_path, COLUMNS)
    with pytest.raises(TableError, match=r"column maybe: 1 nulls.*to_table"):
        table.to_numpy("maybe")
    assert table.to_table(["maybe"]).column(0).null_count == 1


@pytest.mark.parametrize("rows", [1, 3, 7, 100])
def test_batches_cross_files(tmp_path: Path, rows: int) -> None:
    batches = list(make(tmp_path, COLUMNS).to_batches(["value"], rows))
    assert [batch.num_rows for batch in batches] == [min(rows, 7 - start) for start in range(0, 7, rows)]
    assert pa.Table.from_batches(batches).column(0).to_pylist() == N.tolist()


def test_tf_dataset(tmp_path: Path) -> None:
    table = make(tmp_path, {name: column for name, column in COLUMNS.items() if name != "maybe"})
    batches = list(table.to_tf_dataset(table.schema.names, 4))
    assert [int(batch["value"].shape[0]) for batch in batches] == [4, 3]
    first = batches[0]
    assert first["key"].numpy().tolist() == [b"k0", b"k1", b"k2", b"k3"]
    np.testing.assert_array_equal(first["embedding"], [[0, 0], [1, -1], [2, -2], [3, -3]])
    assert first["map"].shape == (4, 2, 3)
    assert first["labels"].to_list() == [[], [b"x"], [b"x", b"x"], []]
    assert first["boxes"].to_list() == [[], [[1, 0, 0, 1]], [], [[3, 0, 0, 1]]]


def test_null_strings_do_not_fit_a_tensor(tmp_path: Path) -> None:
    import tensorflow as tf

    table = make(tmp_path, {"key": pa.array(["a", None])})
    with pytest.raises(tf.errors.OpError, match="column key: 1 nulls"):
        list(table.to_tf_dataset(["key"], 2))


def test_tfrecord_table_reads_back(tmp_path: Path) -> None:
    columns = {name: column for name, column in COLUMNS.items() if name not in ("score", "maybe")}
    table = make(tmp_path, columns, "tfrecord")
    assert {file.rpartition(".")[2] for file in table.files} == {"tfrecord"}
    assert table.to_table().equals(pa.table(columns))
    np.testing.assert_array_equal(table.to_numpy("map"), COLUMNS["map"].to_numpy_ndarray())


def test_tfrecord_table_is_read_by_tensorflow(tmp_path: Path) -> None:
    import tensorflow as tf

    table = make(tmp_path, {"key": COLUMNS["key"], "embedding": COLUMNS["embedding"]}, "tfrecord")
    parse = {"key": tf.io.FixedLenFeature([], tf.string), "embedding": tf.io.FixedLenFeature([2], tf.float32)}
    found = [tf.io.parse_single_example(record, parse) for record in tf.data.TFRecordDataset(list(table.files))]
    assert [row["key"].numpy().decode() for row in found] == COLUMNS["key"].to_pylist()
    assert [row["embedding"].numpy().tolist() for row in found] == COLUMNS["embedding"].to_pylist()


def test_tfrecord_of_lists_of_lists_is_refused(tmp_path: Path) -> None:
    table = make(tmp_path, {"words": pa.array([[["a"], []]])}, "tfrecord")
    with pytest.raises(TableError, match=r"column words.*RaggedFeature"):
        table.to_table()


def test_dead_letters_of_the_committed_files_only(tmp_path: Path) -> None:
    run(tmp_path, {"a": File("a1", (1, -2, 3))})
    paths = VersionPaths(str(tmp_path), VERSION)
    compute(paths, shards_of({"b": File("b1", (-9,))})[0], (-9,))
    assert tables.open(str(tmp_path)).dead_letters().column("key").to_pylist() == ["-2"]


def test_repeated_keys_of_records(tmp_path: Path) -> None:
    columns = {"key": pa.array(["a", "a", "b", "a"]), "item": pa.array([0, 1, 0, 0], pa.int32())}
    found = make(tmp_path, columns).repeated_keys()
    assert found.count == 1
    assert found.examples[0][0] == "a"


def test_spec_and_lineage(tmp_path: Path) -> None:
    table = make(tmp_path, COLUMNS)
    assert (table.spec, table.lineage) == ({}, {})
    write_once(table.paths.spec, {"task": "embed"})
    write_once(table.paths.lineage, {"module": "m"})
    again = tables.open(str(tmp_path))
    assert (again.spec, again.lineage) == ({"task": "embed"}, {"module": "m"})


def test_folders_that_are_no_table(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="no such folder, or an empty one"):
        tables.open(str(tmp_path / "none"))
    (tmp_path / "holiday.jpg").write_bytes(b"")
    with pytest.raises(TableError, match="not a feature table"):
        tables.open(str(tmp_path))


def test_versions(tmp_path: Path) -> None:
    paths = VersionPaths(str(tmp_path), "e1")
    compute(paths, SHARDS[0], (1,))
    with pytest.raises(TableError, match="nothing is committed yet"):
        tables.open(str(tmp_path))
    compute(replace(paths, version="e2"), SHARDS[0], (1,))
    with pytest.raises(TableError, match="several versions and none is current: e1, e2"):
        tables.open(str(tmp_path))
    with pytest.raises(TableError, match="no version 'e3'; there is e1, e2"):
        tables.open(str(tmp_path), "e3")


def test_column_that_is_not_there(tmp_path: Path) -> None:
    table = make(tmp_path, {"key": COLUMNS["key"]})
    for ask in (lambda: table.to_table(["kye"]), lambda: table.to_numpy("kye")):
        with pytest.raises(TableError, match="no column 'kye'; it has key"):
            ask()


def test_table_that_a_commit_changed_has_to_be_opened_again(tmp_path: Path) -> None:
    run(tmp_path, {"a": File("a1", (1,))})
    old = tables.open(str(tmp_path))
    run(tmp_path, {"a": File("a2", (2,))})
    with pytest.raises(TableError, match="open the table again"):
        old.to_table()
    assert tables.open(str(tmp_path)).to_numpy("value").tolist() == [2]


def test_missing_and_broken_files_are_named(tmp_path: Path) -> None:
    run(tmp_path, {"a": File("a1", (1,))})
    file = Path(tables.open(str(tmp_path)).files[0])
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(TableError, match=f"{file}: not a whole Parquet file"):
        tables.open(str(tmp_path)).to_table()
    file.unlink()
    with pytest.raises(TableError, match=f"{file}: a file of the table is missing"):
        tables.open(str(tmp_path)).to_table()


def test_reading_imports_neither_beam_nor_tensorflow(tmp_path: Path) -> None:
    make(tmp_path, {"key": COLUMNS["key"], "embedding": COLUMNS["embedding"]})
    program = (
        "import sys, beamhub.features.table as t\n"
        f"table = t.open({str(tmp_path)!r})\n"
        "assert table.to_numpy('embedding').shape == (7, 2) and table.to_table().num_rows == 7\n"
        "table.repeated_keys(), table.dead_letters(), table.lineage\n"
        "import beamhub.features.commit, beamhub.features.writer\n"
        "print(sorted({name.split('.')[0] for name in sys.modules} & {'apache_beam', 'tensorflow', 'tfx_bsl'}))"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"
