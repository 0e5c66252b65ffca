from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beamhub.corpus.format import Wanted
from beamhub.corpus.formats import infer_schema, reader_for
from beamhub.corpus.listing import list_corpus
from beamhub.corpus.payload import payload
from beamhub.corpus.shards import Shard
from beamhub.errors import CorpusError, UsageError
from tests.corpora import columns, read, read_parquet, write_parquet

NESTED = pa.array([{"b": 1, "c": {"d": "x"}}, None, {"b": None, "c": None}, {"b": 4, "c": {"d": None}}])


def test_fields_of_structs_are_columns_and_dictionaries_what_they_hold(tmp_path: Path) -> None:
    words = pa.array(["u", "v", None, "u"])
    lists = pa.array([["u"], None, [], ["v", "u"]])
    dictionaries = pa.list_(pa.dictionary(pa.int32(), pa.string()))
    path = write_parquet(
        tmp_path / "x.parquet",
        {
            "a": NESTED,
            "w": words.dictionary_encode(),
            "l": lists.cast(dictionaries),
            "s": words.cast(pa.large_string()),
        },
    )
    corpus = list_corpus(path)

    schema = infer_schema(corpus)

    assert dict(zip(schema.names, schema.types, strict=True)) == {
        "a": pa.struct({"b": pa.int64(), "c": pa.struct({"d": pa.string()})}),
        "w": pa.string(),
        "l": pa.list_(pa.field("element", pa.string())),
        "s": pa.large_string(),
        "a.b": pa.int64(),
        "a.c": pa.struct({"d": pa.string()}),
        "a.c.d": pa.string(),
    }
    (chunk,) = read(corpus, schema)
    assert chunk.columns.schema == schema
    assert chunk.columns.to_pydict() == {
        "a": NESTED.to_pylist(),
        "w": words.to_pylist(),
        "l": lists.to_pylist(),
        "s": words.to_pylist(),
        "a.b": [1, None, None, 4],
        "a.c": [{"d": "x"}, None, None, {"d": None}],
        "a.c.d": ["x", None, None, None],
    }
    assert chunk.records is None
    assert chunk.addresses.tolist() == [0, 1, 2, 3]


def test_views_are_read_as_what_a_table_can_hold(tmp_path: Path) -> None:
    words = ["u", "a longer one, kept apart", None]
    table = {
        "t": pa.array(words, pa.string_view()),
        "b": pa.array([b"\xff", b"", None], pa.binary_view()),
        "l": pa.array([words, [], None], pa.list_(pa.string_view())),
    }
    corpus = list_corpus(write_parquet(tmp_path / "x.parquet", table))

    schema = infer_schema(corpus)

    assert schema.types[:2] == [pa.large_string(), pa.large_binary()]
    assert schema.types[2].value_type == pa.large_string()
    (chunk,) = read(corpus, schema)
    assert chunk.columns.to_pydict() == {name: column.to_pylist() for name, column in table.items()}


def test_a_name_with_a_dot_comes_before_a_field_of_that_name(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "x.parquet", {"a": NESTED, "a.b": ["n", "a", "m", "e"]})

    schema = infer_schema(list_corpus(path))

    assert schema.field("a.b").type == pa.string()
    assert columns(read_parquet(path, pa.schema([schema.field("a.b")]))) == {"a.b": ["n", "a", "m", "e"]}
    assert columns(read_parquet(path, pa.schema([schema.field("a.c.d")]))) == {"a.c.d": ["x", None, None, None]}


def test_a_field_of_a_column_whose_name_has_a_dot(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "x.parquet", {"p.q": NESTED})

    assert columns(read_parquet(path, pa.schema({"p.q.b": pa.int64()}))) == {"p.q.b": [1, None, None, 4]}


@pytest.mark.parametrize("compression", ["NONE", "SNAPPY", "GZIP", "ZSTD", "BROTLI", "LZ4"])
def test_any_compression(tmp_path: Path, compression: str) -> None:
    path = write_parquet(tmp_path / "x.parquet", {"a": list(range(1000))}, compression=compression)

    assert columns(read_parquet(path, pa.schema({"a": pa.int64()}))) == {"a": list(range(1000))}


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        (pa.array([1, None], pa.int32()), pa.int64()),
        (pa.array([1, None], pa.uint32()), pa.int64()),
        (pa.array([1.5, None], pa.float32()), pa.float64()),
        (pa.array(["x", None]), pa.large_string()),
        (pa.array(["x", None], pa.large_string()), pa.string()),
        (pa.array(["x", None]).dictionary_encode(), pa.large_string()),
        (pa.array([[1], None], pa.large_list(pa.int32())), pa.list_(pa.int64())),
        (pa.array([[1.0, 2.0]], pa.list_(pa.float32(), 2)), pa.list_(pa.float32())),
        (pa.nulls(2), pa.int64()),
    ],
)
def test_another_type_is_cast_where_nothing_is_lost(tmp_path: Path, values: pa.Array, wanted: pa.DataType) -> None:
    path = write_parquet(tmp_path / "x.parquet", {"a": values})

    (chunk,) = read_parquet(path, pa.schema({"a": wanted}))

    assert chunk.columns.schema == pa.schema({"a": wanted})
    assert chunk.columns.column(0).to_pylist() == values.to_pylist()


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        (pa.array([1]), pa.int32()),
        (pa.array([1]), pa.float64()),
        (pa.array([1], pa.int32()), pa.uint64()),
        (pa.array([1], pa.uint64()), pa.int64()),
        (pa.array([1.5]), pa.float32()),
        (pa.array([b"x"]), pa.string()),
        (pa.array(["1"]), pa.int64()),
        (pa.array([[1]]), pa.int64()),
        (pa.array([[1]]), pa.list_(pa.int64(), 1)),
    ],
)
def test_another_type_is_refused_where_something_may_be_lost(
    tmp_path: Path, values: pa.Array, wanted: pa.DataType
) -> None:
    path = write_parquet(tmp_path / "x.parquet", {"a": values})

    with pytest.raises(CorpusError) as caught:
        read_parquet(path, pa.schema({"a": wanted}))
    assert f"x.parquet: column 'a' is {pq.read_schema(path).field('a').type}, wanted {wanted} as in" in str(
        caught.value
    )


def test_a_tensor_column_stays_one(tmp_path: Path) -> None:
    tensors = pa.FixedShapeTensorArray.from_numpy_ndarray(np.arange(12, dtype=np.float32).reshape(2, 3, 2))
    path = write_parquet(tmp_path / "x.parquet", {"a": tensors})

    (chunk,) = read_parquet(path, infer_schema(list_corpus(path)))

    np.testing.assert_array_equal(chunk.columns.column(0).to_numpy_ndarray(), tensors.to_numpy_ndarray())


def test_a_missing_column_names_the_nearest(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "x.parquet", {"company": [1], "fare": [1]})

    with pytest.raises(
        CorpusError, match=r"x\.parquet: no column 'compny': did you mean company\? columns are company, fare"
    ):
        read_parquet(path, pa.schema({"compny": pa.int64()}))


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"]), tmp_path / "x.parquet")

    with pytest.raises(CorpusError, match="several columns are called 'a'; rename"):
        read_parquet(str(tmp_path / "x.parquet"), pa.schema({"a": pa.int64()}))


def test_chunks_cross_row_groups(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "x.parquet", {"a": list(range(50))}, row_group_size=7)

    whole = read_parquet(path, pa.schema({"a": pa.int64()}), rows=20)
    assert [chunk.addresses.tolist() for chunk in whole] == [
        list(range(20)),
        list(range(20, 40)),
        list(range(40, 50)),
    ]
    assert [chunk.columns.column(0).to_pylist() for chunk in whole] == [c.addresses.tolist() for c in whole]


def test_no_columns_still_have_rows(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "x.parquet", {"a": list(range(50))})

    assert [chunk.rows for chunk in read_parquet(path, pa.schema([]), rows=30)] == [30, 20]


def test_density_is_that_of_the_file_however_much_it_is_compressed(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "x.parquet", {"a": ["same"] * 5000})

    density = reader_for("parquet").density(Shard(path, "x.parquet", 0, ""))

    assert density == 5000 / Path(path).stat().st_size


@pytest.mark.parametrize(("rows", "max_bytes", "usual"), [(256, 1 << 20, 256), (1000, 8 * 700, 500)])
def test_chunks_end_where_calls_do(tmp_path: Path, rows: int, max_bytes: int, usual: int) -> None:
    """A batch that has to be joined of two costs a copy of every row."""
    path = write_parquet(tmp_path / "x.parquet", {"a": list(range(3000))}, row_group_size=1100)

    chunks = read_parquet(path, pa.schema({"a": pa.int64()}), rows, max_bytes)

    ends = np.cumsum([chunk.rows for chunk in chunks])
    assert set(range(usual, 3000, usual)) <= set(ends.tolist())
    # Each row group begins with 64 rows, then 512 are allowed; and it ends where it ends.
    assert len(chunks) <= 3000 // usual + 1 + 3 * 3


@pytest.mark.parametrize("once", [False, True], ids=["each its own", "one for all"])
def test_chunks_are_bounded_in_bytes(tmp_path: Path, once: bool) -> None:
    # 30 kB a row; one value for all rows is stored once, so that the footer does not tell how large it is in memory.
    images = [random.Random(0 if once else n).randbytes(30_000) for n in range(400)]
    path = write_parquet(tmp_path / "x.parquet", {"a": images, "other": [0] * 400})

    chunks = read_parquet(path, pa.schema({"a": pa.binary()}), max_bytes=300_000)

    assert [image for chunk in chunks for image in chunk.columns.column(0).to_pylist()] == images
    assert max(chunk.rows for chunk in chunks) > 1
    # Nor are they cut from something larger that stays in memory. The first rows of a row group tell how large the others
    # are.
    sizes = [chunk.columns.get_total_buffer_size() for chunk in chunks]
    assert max(sizes[1:]) < 3 * 300_000
    assert sizes[0] < 3 * (64 * 30_000 if once else 300_000)
    assert np.concatenate([chunk.addresses for chunk in chunks]).tolist() == list(range(400))


def test_text_that_is_not_utf8_is_unread_and_no_neighbour_with_it(tmp_path: Path) -> None:
    data = pa.array([b"a", b"\xff", b"c", None]).view(pa.string())
    lists = pa.array([[b"a"], [], [b"\xff"], None]).view(pa.list_(pa.string()))
    path = write_parquet(tmp_path / "x.parquet", {"t": data, "l": lists, "n": [0, 1, 2, 3]})

    (chunk,) = read_parquet(path, infer_schema(list_corpus(path)))

    assert chunk.columns.select(["t", "n"]).to_pydict() == {"t": ["a", None], "n": [0, 3]}
    assert chunk.addresses.tolist() == [0, 3]
    assert [(each.address, each.reason) for each in chunk.unread] == [
        (1, "column 't' is not UTF-8 text"),
        (2, "column 'l' is not UTF-8 text"),
    ]
    saved = pa.ipc.open_stream(chunk.unread[0].payload).read_all()
    assert saved.column("n").to_pylist() == [1]
    assert saved.column("t").chunk(0).view(pa.binary()).to_pylist() == [b"\xff"]


def test_a_payload_gives_the_row_back(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "x.parquet", {"t": ["x" * 1000, "y", "z"], "n": [1, 2, 3]})
    (chunk,) = read_parquet(path, infer_schema(list_corpus(path)))

    saved = payload(chunk, 1)

    assert pa.ipc.open_stream(saved).read_all().to_pydict() == {"t": ["y"], "n": [2]}
    assert len(saved) < 1000


def test_serialized_records_and_a_declared_schema_are_refused(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "x.parquet", {"a": [1]})

    with pytest.raises(CorpusError, match=r"x\.parquet: Parquet has no serialized records"):
        next(reader_for("parquet").read(Shard(path, "", 0, ""), pa.schema([]), Wanted(1, 1, records=True)))
    with pytest.raises(UsageError, match="a schema was given for a Parquet corpus"):
        infer_schema(list_corpus(path), b"")
