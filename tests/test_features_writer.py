from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from google_crc32c import value as crc32c
from hypothesis import given, settings
from hypothesis import strategies as st

from beamhub.errors import BeamhubError, UsageError
from beamhub.features.formats import format_named
from beamhub.features.grouping import RowGrouper, row_bytes
from beamhub.features.parquet_format import ParquetFormat
from beamhub.features.paths import VersionPaths
from tests.shard_rows import SCHEMA, batch, path_of, write


@pytest.mark.parametrize("columns", [SCHEMA.names, ["key", "weight", "tags", "boxes"]])
def test_file_holds_the_rows_and_the_result_says_so(columns: list[str], tmp_path: Path) -> None:
    rows = batch(5).select(columns)
    result = write(tmp_path, rows, schema=rows.schema)
    data = path_of(tmp_path, result).read_bytes()
    assert pq.ParquetFile(pa.BufferReader(data)).read().to_batches()[0].equals(rows)
    assert (result.outcome, result.rows, result.bytes) == ("done", 5, len(data))
    assert result.checksum == f"{crc32c(data):08x}"


def test_result_is_recovered_from_the_footer(tmp_path: Path) -> None:
    result = write(tmp_path, batch(5))
    found = ParquetFormat().recover(str(path_of(tmp_path, result)))
    assert found is not None
    assert replace(found, file=result.file) == result


def test_nothing_is_recovered_from_a_broken_or_foreign_file(tmp_path: Path) -> None:
    whole = path_of(tmp_path, write(tmp_path, batch(5))).read_bytes()
    pq.write_table(pa.table({"a": [1]}), tmp_path / "foreign.parquet")
    (tmp_path / "cut.parquet").write_bytes(whole[:-1])
    (tmp_path / "empty.parquet").write_bytes(b"")
    for name in ("foreign", "cut", "empty", "missing"):
        assert ParquetFormat().recover(str(tmp_path / f"{name}.parquet")) is None


def test_shard_without_rows_has_a_file(tmp_path: Path) -> None:
    result = write(tmp_path)
    assert result.rows == 0
    assert pq.read_schema(path_of(tmp_path, result)).equals(SCHEMA)


@settings(max_examples=25, deadline=None)
@given(
    cuts=st.lists(st.integers(0, 300), max_size=8),
    columns=st.sampled_from([SCHEMA.names, ["key", "weight", "tags", "boxes"]]),
)
def test_same_rows_same_bytes_however_the_batches_are_cut(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[int], columns: list[str]
) -> None:
    """With vectors and without."""
    bounds = [0, *sorted(cuts), 300]
    whole = batch(300).select(columns)
    pieces = [whole.slice(start, end - start) for start, end in pairwise(bounds)]
    first, second = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("many")
    one, many = write(first, whole, schema=whole.schema), write(second, *pieces, schema=whole.schema)
    assert one.checksum == many.checksum


def test_pages_do_not_depend_on_the_batches(tmp_path: Path) -> None:
    # Several pages of 1 MiB in a row group: where a page ends must not follow the batches.
    numbers = np.arange(4000 * 256, dtype=np.float32)
    rows = pa.record_batch({"embedding": pa.FixedSizeListArray.from_arrays(pa.array(numbers), 256)})
    one = write(tmp_path / "1", rows, schema=rows.schema)
    many = write(tmp_path / "2", *(rows.slice(n, 333) for n in range(0, 4000, 333)), schema=rows.schema)
    assert one.checksum == many.checksum


@pytest.mark.parametrize(
    ("width", "cut"), [(64, 8192), (64, 1000), (1280, 52), (1280, 256), (96, 683), (96, 2048), (2, 3000)]
)
@pytest.mark.parametrize("key", [pa.int64(), pa.string()])
def test_pages_do_not_depend_on_where_batches_end(width: int, cut: int, key: pa.DataType, tmp_path: Path) -> None:
    # Several row groups where rows are small.
    count = max(9000, 100_000 // width)
    values = np.random.default_rng(1).random(count * width, np.float32)
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(values), width)
    keys = pa.array(range(count)).cast(key)
    rows = pa.record_batch({"key": keys, "embedding": vectors, "weight": pa.array(values[:count])})
    one = write(tmp_path / "1", rows, schema=rows.schema)
    many = write(tmp_path / "2", *(rows.slice(n, cut) for n in range(0, count, cut)), schema=rows.schema)
    assert one.checksum == many.checksum


@pytest.mark.parametrize("columns", [["text"], ["text", "embedding"]])
def test_pages_of_texts_do_not_depend_on_the_batches(columns: list[str], tmp_path: Path) -> None:
    """Arrow ends a page of 1 MiB with a batch of 1,024 values, and such a batch where a piece of memory ends."""
    whole = pa.record_batch(
        {
            "text": [f"{n:09d}" * 111 for n in range(4000)],
            "embedding": pa.FixedSizeListArray.from_arrays(pa.array(np.arange(8000, dtype=np.float32)), 2),
        }
    ).select(columns)
    one = write(tmp_path / "1", whole, schema=whole.schema)
    many = write(tmp_path / "2", *(whole.slice(n, 333) for n in range(0, 4000, 333)), schema=whole.schema)
    assert one.checksum == many.checksum


@pytest.mark.parametrize(
    ("kind", "is_ours"),
    [(pa.list_(pa.float32(), 2), True), (pa.list_(pa.float32()), False), (pa.list_(pa.string(), 2), False)],
)
def test_vectors_are_not_written_by_arrow(
    kind: pa.DataType, is_ours: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes four times as long for them."""
    columns: list[list[str]] = []
    write_table = pq.ParquetWriter.write_table

    def spy(self: pq.ParquetWriter, table: pa.Table, row_group_size: int | None = None) -> None:
        columns.append(table.column_names)
        write_table(self, table, row_group_size)

    monkeypatch.setattr(pq.ParquetWriter, "write_table", spy)
    rows = pa.record_batch(
        {"key": [1, 2], "embedding": pa.array([[1, 2], [3, 4]]).cast(pa.list_(pa.string())).cast(kind)}
    )

    result = write(tmp_path, rows, schema=rows.schema)

    assert columns == [["key"] if is_ours else ["key", "embedding"]]
    assert pq.read_table(path_of(tmp_path, result)).to_batches()[0].equals(rows)


@pytest.mark.parametrize("kind", [pa.string(), pa.binary(2000), pa.struct([("blob", pa.binary(2000))])])
def test_readers_of_few_rows_hold_little(kind: pa.DataType, tmp_path: Path) -> None:
    """A reader holds whole pages: were texts handed to the writer in such batches as vectors are, one of 32 MB would come of
    these."""
    count = 16000
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(np.ones(count * 64, np.float32)), 64)
    texts = [f"{n:05d}" * 400 for n in range(count)]
    kept = pa.array([{"blob": each.encode()} for each in texts] if pa.types.is_struct(kind) else texts, kind)
    columns = {"text": kept, "embedding": vectors}
    rows = pa.record_batch(columns)
    path = path_of(tmp_path, write(tmp_path, rows, schema=rows.schema))
    before, pool = pa.default_memory_pool(), pa.proxy_memory_pool(pa.system_memory_pool())
    pa.set_memory_pool(pool)
    try:
        next(pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 16).iter_batches(10, use_threads=False))
    finally:
        pa.set_memory_pool(before)
    assert 1 << 20 < pool.max_memory() < 8 << 20


def test_dictionaries_do_not_change_the_bytes(tmp_path: Path) -> None:
    schema = pa.schema([("key", pa.dictionary(pa.int8(), pa.string()))])
    plain = pa.record_batch({"key": ["b", "a", "b"]})
    encoded = pa.RecordBatch.from_arrays(
        [plain.column(0).dictionary_encode().cast(schema.field(0).type)], schema=schema
    )
    one = write(tmp_path / "1", plain, schema=plain.schema)
    assert write(tmp_path / "2", encoded, schema=schema).checksum == one.checksum


def test_row_groups_of_16384_rows(tmp_path: Path) -> None:
    result = write(tmp_path, *(batch(3000, first) for first in range(0, 36000, 3000)))
    metadata = pq.read_metadata(path_of(tmp_path, result))
    groups = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
    assert groups == [16384, 16384, 3232]


def groups_of(batches: list[pa.RecordBatch], most_rows: int, most_bytes: int) -> list[int]:
    grouper = RowGrouper(batches[0].schema, most_rows, most_bytes)
    return [table.num_rows for each in [*(grouper.add(b) for b in batches), grouper.rest()] for table in each]


def test_row_group_ends_with_the_row_that_fills_it() -> None:
    # Eight bytes a row: the third reaches 20.
    numbers = pa.record_batch({"n": pa.array(range(7), pa.int64())})
    assert groups_of([numbers], 100, 20) == [3, 3, 1]
    assert groups_of([numbers.slice(0, 1), numbers.slice(1)], 100, 20) == [3, 3, 1]
    assert groups_of([numbers], 2, 20) == [2, 2, 2, 1]


@pytest.mark.parametrize(
    ("column", "sizes"),
    [
        (pa.array([True, None]), [1, 1]),
        (pa.array([1, None], pa.int32()), [4, 4]),
        (pa.array(["", "abc", None]), [4, 7, 4]),
        (pa.array([[1.0, 2.0], None, []], pa.list_(pa.float32())), [12, 4, 4]),
        (pa.array([["ab", "c"], []], pa.list_(pa.string())), [15, 4]),
        (pa.array([[1, 2]], pa.list_(pa.int16(), 2)), [4]),
        (pa.array([["a", "bc"]], pa.list_(pa.string(), 2)), [11]),
        (pa.array([{"a": 1, "b": "xy"}], pa.struct([("a", pa.int64()), ("b", pa.string())])), [14]),
        (pa.array([[("k", 1)], []], pa.map_(pa.string(), pa.int64())), [17, 4]),
    ],
)
def test_bytes_of_a_row_do_not_depend_on_how_arrays_are_cut(column: pa.Array, sizes: list[int]) -> None:
    rows = pa.RecordBatch.from_arrays([column], ["c"])
    assert row_bytes(rows).tolist() == sizes
    assert [int(row_bytes(rows.slice(n, 1))[0]) for n in range(len(column))] == sizes


def test_vectors_are_plain_and_keys_are_not(tmp_path: Path) -> None:
    group = pq.read_metadata(path_of(tmp_path, write(tmp_path, batch(50)))).row_group(0)
    columns = {group.column(i).path_in_schema: group.column(i) for i in range(group.num_columns)}
    rich = {path for path, column in columns.items() if column.is_stats_set}
    assert rich == {"key", "weight", "tags.list.element"}
    assert {path for path, column in columns.items() if column.compression == "ZSTD"} == rich
    assert {path for path, column in columns.items() if column.has_dictionary_page} == rich


def test_numbers_as_keys_are_told_by_their_differences(tmp_path: Path) -> None:
    schema = pa.schema([("key", pa.int64()), ("y", pa.list_(pa.float32(), 2))])
    keys = pa.array([-(1 << 63), 7, 7, 0, (1 << 63) - 1], pa.int64())
    rows = pa.record_batch([keys, pa.array([[1.0, 2.0]] * 5, schema.field("y").type)], schema=schema)
    path = path_of(tmp_path, write(tmp_path, rows, schema=schema))

    column = pq.read_metadata(path).row_group(0).column(0)
    assert set(column.encodings) == {"DELTA_BINARY_PACKED", "RLE"}
    assert not column.has_dictionary_page
    assert column.is_stats_set
    assert pq.read_table(path)["key"].combine_chunks() == keys


def test_feature_identity_stays_with_its_column(tmp_path: Path) -> None:
    schema = pq.read_schema(path_of(tmp_path, write(tmp_path, batch(1))))
    assert schema.field("embedding").metadata == {b"identity": b"module@1"}


def test_null_vector_is_refused(tmp_path: Path) -> None:
    schema = pa.schema([("embedding", pa.list_(pa.float32(), 2))])
    rows = pa.RecordBatch.from_pylist([{"embedding": [1, 2]}, {"embedding": None}], schema=schema)
    with pytest.raises(BeamhubError, match="1 null vectors"):
        write(tmp_path, rows, schema=schema)


def test_other_columns_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BeamhubError, match=r"rows with columns \['other'\]"):
        write(tmp_path, pa.record_batch({"other": [1]}), schema=pa.schema([("key", pa.int64())]))
    with pytest.raises(BeamhubError, match="column key: got string, wanted int64"):
        write(tmp_path, pa.record_batch({"key": ["1"]}), schema=pa.schema([("key", pa.int64())]))


def test_unknown_format_is_refused() -> None:
    with pytest.raises(UsageError, match="'csv': wanted parquet or tfrecord"):
        format_named("csv")


def test_version_that_reads_as_a_number_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="wanted a letter"):
        VersionPaths(str(tmp_path), "12e4")
