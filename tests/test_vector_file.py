"""Files with vectors are what Arrow would write for the same rows, to every reader."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beamhub.features.vector_file import MOST_BYTES, PAGE, VectorFile, is_vector

FLOAT = pa.float32()
NUMBERS = [pa.float16(), FLOAT, pa.float64(), pa.int32(), pa.int64()]


def vectors(rows: int, width: int, kind: pa.DataType = FLOAT) -> pa.FixedSizeListArray:
    """Numbers that differ from their neighbours; a float16 counts to 2,048."""
    numbers = (np.arange(rows * width) % 2048).astype(kind.to_pandas_dtype())
    return pa.FixedSizeListArray.from_arrays(pa.array(numbers, kind), width)


def written(tables: Sequence[pa.Table], schema: pa.Schema | None = None, **options: Any) -> bytes:
    """A file with a row group for each table."""
    file = io.BytesIO()
    output = VectorFile(file, schema or tables[0].schema, lambda _: options)
    for table in tables:
        output.write_table(table.combine_chunks())
    output.close({b"about": b"told"})
    return file.getvalue()


def read(data: bytes) -> pa.Table:
    return pq.ParquetFile(pa.BufferReader(data)).read()


@pytest.mark.parametrize("kind", NUMBERS)
@pytest.mark.parametrize("width", [1, 3, 8, 64])
def test_vectors_are_read_as_written(kind: pa.DataType, width: int) -> None:
    table = pa.table({"key": pa.array(range(1000)), "embedding": vectors(1000, width, kind)})

    data = written([table])

    assert read(data).equals(table)
    assert read(data).schema.equals(table.schema)


@settings(max_examples=50, deadline=None)
@given(
    rows=st.lists(st.integers(1, 700), min_size=1, max_size=3),
    width=st.integers(1, 1500),
    kind=st.sampled_from(NUMBERS),
)
def test_any_size_is_read_as_written(rows: list[int], width: int, kind: pa.DataType) -> None:
    """Of pages that end anywhere in a byte of levels."""
    tables = [pa.table({"embedding": vectors(count, width, kind)}) for count in rows]

    assert read(written(tables)).equals(pa.concat_tables(tables))


@pytest.mark.parametrize("width", [7, 640, PAGE])
def test_rows_of_several_pages_and_of_more_than_one(width: int) -> None:
    rows = 3 * PAGE // (4 * width) + 2
    table = pa.table({"key": pa.array(range(rows)), "embedding": vectors(rows, width)})

    data = written([table])

    assert read(data).equals(table)
    # As many rows as the reader asks for, whatever lies on one page.
    batches = pq.ParquetFile(pa.BufferReader(data)).iter_batches(10)
    assert pa.Table.from_batches(batches).equals(table)


@pytest.mark.parametrize("width", [1, 4, 16, 31, 64, 1001, 1280])
def test_levels_take_no_more_bytes_than_arrows(width: int) -> None:
    rows = 2 * PAGE // (4 * width)
    table = pa.table({"embedding": vectors(rows, width)})
    arrows = io.BytesIO()
    pq.write_table(table, arrows, use_dictionary=False, write_statistics=False, compression="none")

    assert len(written([table])) <= 1.001 * len(arrows.getvalue())


def mixed(rows: int, first: int = 0) -> pa.Table:
    """Columns of many kinds, of which two are vectors, and names that a path of Parquet might be cut at."""
    ids = range(first, first + rows)
    tensor = pa.fixed_shape_tensor(pa.float32(), [2, 3])
    columns = {
        "key": pa.array([f"k{n}" for n in ids]),
        "a.b": vectors(rows, 5, pa.int64()),
        "tags": pa.array([["x"] * (n % 3) if n % 4 else None for n in ids]),
        "map": pa.ExtensionArray.from_storage(tensor, vectors(rows, 6)),
        "box": pa.array([{"label": str(n), "list": [n]} for n in ids]),
        "weight": pa.array([n / 7 if n % 5 else None for n in ids], pa.float32()),
    }
    return pa.table(columns)


def test_other_columns_are_arrows(tmp_path: Any) -> None:
    tables = [mixed(300), mixed(200, 300)]
    options = {"compression": "zstd", "use_dictionary": ["tags.list.element"], "write_statistics": True}

    data = written(tables, **options)

    assert read(data).equals(pa.concat_tables(tables))
    ours, arrows = pq.ParquetFile(pa.BufferReader(data)), pa.BufferOutputStream()
    with pq.ParquetWriter(arrows, tables[0].schema, **options) as writer:
        for table in tables:
            writer.write_table(table)
    theirs = pq.ParquetFile(pa.BufferReader(arrows.getvalue()))
    for group in range(2):
        for number in range(ours.metadata.num_columns):
            mine, other = ours.metadata.row_group(group).column(number), theirs.metadata.row_group(group).column(number)
            assert (mine.path_in_schema, mine.physical_type) == (other.path_in_schema, other.physical_type)
            if not mine.path_in_schema.startswith(("a.b", "map")):
                # But for where it lies.
                told = (mine.statistics, mine.encodings, mine.compression, mine.total_compressed_size, mine.num_values)
                assert told == (
                    other.statistics,
                    other.encodings,
                    other.compression,
                    other.total_compressed_size,
                    other.num_values,
                )


def test_the_footer_adds_up() -> None:
    tables = [mixed(300), mixed(200, 300)]

    data = written(tables)

    metadata = pq.ParquetFile(pa.BufferReader(data)).metadata
    assert (metadata.num_rows, metadata.num_row_groups, metadata.metadata[b"about"]) == (500, 2, b"told")
    ends = 4
    for group in (metadata.row_group(number) for number in range(2)):
        columns = [group.column(number) for number in range(group.num_columns)]
        assert group.total_byte_size == sum(each.total_uncompressed_size for each in columns)
        # The chunks lie one after the other, without a gap.
        spans = sorted(
            (min(filter(None, (each.dictionary_page_offset, each.data_page_offset))), each.total_compressed_size)
            for each in columns
        )
        for start, size in spans:
            assert start == ends
            ends += size
    assert ends == len(data) - 8 - metadata.serialized_size


def test_numbers_that_are_null_are_left_to_arrow() -> None:
    whole = pa.table({"key": [1, 2], "embedding": vectors(2, 2)})
    holed = pa.table({"key": [3, 4], "embedding": pa.array([[1.0, None], [None, 2.0]], pa.list_(pa.float32(), 2))})

    assert read(written([whole, holed, whole])).equals(pa.concat_tables([whole, holed, whole]))


@pytest.mark.parametrize("nullable", [(False, False), (False, True), (True, False)])
def test_columns_that_are_never_null(nullable: tuple[bool, bool]) -> None:
    kind = pa.list_(pa.field("element", pa.float32(), nullable[1]), 3)
    field = pa.field("embedding", kind, nullable[0], metadata={"identity": "m"})
    column = pa.FixedSizeListArray.from_arrays(pa.array(np.arange(30, dtype=np.float32)), type=kind)
    table = pa.table([column], pa.schema([field]))

    found = read(written([table]))

    assert found.equals(table)
    assert found.schema.field(0).metadata == {b"identity": b"m"}


def test_slices_are_written_as_they_are_seen() -> None:
    table = pa.table({"embedding": vectors(100, 3)}).slice(10, 50)

    assert read(written([table])).equals(table)


@pytest.mark.parametrize("cut", [1, 700, 2000])
def test_pieces_of_memory_make_no_difference(cut: int) -> None:
    """Pages end in them, and have several."""
    table = mixed(5000)
    rows = PAGE // (8 * 5) + 5000
    wide = pa.table({"key": pa.array(range(rows)), "embedding": vectors(rows, 5, pa.int64())})

    for whole in (table, wide) if cut > 1 else (table,):
        cuts = [whole.slice(start, cut) for start in range(0, whole.num_rows, cut)]
        file = io.BytesIO()
        output = VectorFile(file, whole.schema, lambda _: {})
        output.write_table(pa.concat_tables(cuts))
        output.close({b"about": b"told"})
        assert file.getvalue() == written([whole])


def test_a_file_without_rows() -> None:
    schema = mixed(1).schema

    assert read(written([], schema)).schema.equals(schema)


def test_a_table_without_rows_makes_no_row_group() -> None:
    table = mixed(3)

    assert written([table.slice(0, 0), table, table.slice(3)]) == written([table])


def test_what_arrow_writes_is_not_held() -> None:
    """Of kept columns a row group has 32 MB: their pages go on one by one."""
    images = np.random.default_rng(0).bytes(32_000_000)
    kept = pa.array([images[place : place + 2000] for place in range(0, len(images), 2000)])
    table = pa.table({"image": kept, "v": vectors(16_000, 64)})
    before = pa.total_allocated_bytes()
    held = list[int]()

    class Watched(io.BytesIO):
        def write(self, data: Any) -> int:
            held.append(pa.total_allocated_bytes() - before)
            return super().write(data)

    file = Watched()
    output = VectorFile(file, table.schema, lambda _: {"use_dictionary": False, "compression": "zstd"})
    output.write_table(table)
    output.close({})

    assert max(held) < len(images) / 4
    assert read(file.getvalue()).equals(table)


def test_programs_that_know_nothing_of_arrow(tmp_path: Any) -> None:
    tables = [mixed(9000), mixed(200, 9000)]
    path = tmp_path / "a.parquet"
    path.write_bytes(written(tables))
    wanted = pa.concat_tables(tables)

    found = duckdb.sql(f"select key, \"a.b\", weight from read_parquet('{path}')").to_arrow_table()
    assert found.to_pylist() == wanted.select(["key", "a.b", "weight"]).to_pylist()
    assert pl.read_parquet(path).select("key", "a.b", "weight").to_dicts() == found.to_pylist()


def test_which_columns_are_vectors() -> None:
    assert all(is_vector(pa.list_(kind, 3)) for kind in NUMBERS)
    assert is_vector(pa.fixed_shape_tensor(pa.float32(), [2, 2]))
    # What Parquet stores otherwise than memory has it, or in more than one level of lists.
    assert is_vector(pa.list_(FLOAT, MOST_BYTES // 4))
    others = [
        # More than a page may have.
        pa.list_(FLOAT, MOST_BYTES // 4 + 1),
        pa.float32(),
        pa.list_(pa.float32()),
        pa.list_(pa.int8(), 3),
        pa.list_(pa.bool_(), 3),
        pa.list_(pa.string(), 3),
    ]
    assert not any(map(is_vector, [*others, pa.list_(pa.list_(pa.float32(), 2), 2), pa.list_(pa.float32(), 0)]))
