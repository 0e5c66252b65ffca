from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf

from beamhub.corpus import decoding
from beamhub.corpus.format import Wanted
from beamhub.corpus.formats import infer_schema, reader_for
from beamhub.corpus.listing import list_corpus
from beamhub.corpus.payload import payload
from beamhub.corpus.shards import Chunk
from beamhub.errors import CorpusError
from tests.corpora import columns, example, read, write_tfrecord
from tests.shared import shared


def read_records(tmp_path: Path, records: list[bytes], *fields: tuple[str, pa.DataType]) -> Chunk:
    path = write_tfrecord(tmp_path / "file", records)
    (chunk,) = read(list_corpus(path), pa.schema(list(fields)))
    return chunk


def test_gives_the_columns_asked_for_in_their_order_and_types(tmp_path: Path) -> None:
    records = [example(a=[1], t=["é".encode()], v=[0.5, 1.5]), example(a=[2], t=[b""], v=[2.5])]
    schema = pa.schema({"v": pa.large_list(pa.float32()), "t": pa.large_string(), "a": pa.int64()})

    chunk = read_records(tmp_path, records, *[(field.name, field.type) for field in schema])

    assert chunk.columns.schema == schema
    assert chunk.columns.to_pydict() == {"v": [[0.5, 1.5], [2.5]], "t": ["é", ""], "a": [1, 2]}
    assert list(chunk.records) == records
    assert chunk.addresses.tolist() == [0, len(records[0]) + 16]
    assert payload(chunk, 1) == records[1]


def test_a_missing_feature_is_null(tmp_path: Path) -> None:
    empty = tf.train.Example()
    empty.features.feature["a"].int64_list.SetInParent()
    empty.features.feature["v"].float_list.SetInParent()
    no_kind = tf.train.Example()
    no_kind.features.feature["a"].SetInParent()
    records = [b"", empty.SerializeToString(), no_kind.SerializeToString(), example(a=[7], v=[1.0])]

    chunk = read_records(tmp_path, records, ("a", pa.int64()), ("v", pa.list_(pa.float32())))

    # A list without values is one; a scalar without a value is none.
    assert chunk.columns.to_pydict() == {"a": [None, None, None, 7], "v": [None, [], None, [1.0]]}


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (b"\xff\xff", "Unable to parse example"),
        (example(a=[1, 2]), "feature 'a' has 2 values, wanted one"),
        (example(a=[0.5]), 'Feature had wrong type, expected int64_list, found float_list for feature "a"'),
        (example(t=[b"\xff"]), "feature 't' is not UTF-8 text"),
        (example(l=[b"x", b"\xc3"]), "feature 'l' is not UTF-8 text"),
    ],
)
def test_a_bad_record_is_unread_and_no_neighbour_with_it(tmp_path: Path, bad: bytes, reason: str) -> None:
    good = [example(a=[n], t=[b"t%d" % n], l=[b"l"] * n) for n in range(1, 10)]
    offset = sum(len(record) + 16 for record in good[:4])

    chunk = read_records(
        tmp_path,
        [*good[:4], bad, *good[4:]],
        ("a", pa.int64()),
        ("t", pa.string()),
        ("l", pa.list_(pa.string())),
    )

    (unread,) = chunk.unread
    assert (unread.address, unread.reason, unread.payload) == (offset, reason, bad)
    assert chunk.columns.to_pydict() == {
        "a": list(range(1, 10)),
        "t": [f"t{n}" for n in range(1, 10)],
        "l": [["l"] * n for n in range(1, 10)],
    }
    assert list(chunk.records) == good
    assert len(chunk.addresses) == 9
    assert offset not in chunk.addresses


def test_every_bad_record_of_many_is_found(tmp_path: Path) -> None:
    records = [b"\xff" if n % 3 == 0 else example(a=[n] * (1 + (n % 5 == 0))) for n in range(100)]

    chunk = read_records(tmp_path, records, ("a", pa.int64()))

    assert chunk.columns.column("a").to_pylist() == [n for n in range(100) if n % 3 and n % 5]
    assert [unread.payload for unread in chunk.unread] == [records[n] for n in range(100) if not (n % 3 and n % 5)]


def test_one_bad_record_of_many_costs_few_decodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    real = decoding._decoder
    monkeypatch.setattr(decoding, "_decoder", lambda declared: made.append(1) or real(declared))

    chunk = read_records(tmp_path, [example(a=[1])] * 700 + [b"\xff"] + [example(a=[1])] * 323, ("a", pa.int64()))

    assert (chunk.rows, len(chunk.unread)) == (1023, 1)
    # One to begin with, and a new one after each of the 11 halvings of 1024.
    assert len(made) == 12


def test_all_records_bad(tmp_path: Path) -> None:
    chunk = read_records(tmp_path, [b"\xff"] * 5, ("a", pa.int64()), ("t", pa.list_(pa.string())))

    assert (chunk.rows, len(chunk.unread)) == (0, 5)


def test_without_columns_nothing_is_decoded(tmp_path: Path) -> None:
    chunk = read_records(tmp_path, [b"no example", b""])

    assert (chunk.rows, chunk.columns.num_columns, chunk.unread) == (2, 0, ())
    assert list(chunk.records) == [b"no example", b""]


def test_the_same_feature_set_in_two_threads_at_once(tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    path = write_tfrecord(tmp_path / "file", [example(a=[n]) for n in range(20_000)])
    corpus = list_corpus(path)

    def total(_: int) -> int:
        return sum(sum(chunk.columns.column(0).to_pylist()) for chunk in read(corpus, pa.schema({"a": pa.int64()})))

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(total, range(4))) == {20_000 * 19_999 // 2}


def test_an_empty_file_has_no_records(tmp_path: Path) -> None:
    path = write_tfrecord(tmp_path / "file", [])

    assert Path(path).stat().st_size == 0
    assert read(list_corpus(path), pa.schema({"a": pa.int64()})) == []


def test_a_first_record_that_looks_like_gzip_is_read(tmp_path: Path) -> None:
    # 0x8b1f bytes: the file begins 1f 8b, as gzip does.
    path = write_tfrecord(tmp_path / "file", [b"x" * 0x8B1F])
    assert Path(path).read_bytes()[:2] == b"\x1f\x8b"

    (chunk,) = read(list_corpus(path), pa.schema([]))

    assert list(chunk.records) == [b"x" * 0x8B1F]


def test_a_file_that_became_another_is_named(tmp_path: Path) -> None:
    path = write_tfrecord(tmp_path / "file", [b""])
    corpus = list_corpus(path)
    Path(path).write_bytes(b"hello world, hello")

    with pytest.raises(CorpusError, match="file: not TFRecord, or damaged: it begins with b'hello world,'; write"):
        read(corpus, pa.schema([]))
    Path(path).unlink()
    with pytest.raises(CorpusError, match="file: there is no such file any more"):
        read(corpus, pa.schema([]))


def test_a_type_that_an_example_cannot_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="column 'a' cannot be read as int32 from TFRecord"):
        read_records(tmp_path, [b""], ("a", pa.int32()))


def values_by_tensorflow(path: str, schema: pa.Schema) -> dict[str, list[object]]:
    """The columns as TensorFlow reads the file and the protocol buffer parses each record."""
    found: dict[str, list[object]] = {name: [] for name in schema.names}
    for record in tf.data.TFRecordDataset(path, compression_type="GZIP" if path.endswith(".gz") else ""):
        features = tf.train.Example.FromString(record.numpy()).features.feature
        for field in schema:
            feature = features.get(field.name)
            kind = feature.WhichOneof("kind") if feature is not None else None
            values = list(getattr(feature, kind).value) if kind else None
            if values and isinstance(values[0], bytes):
                values = [value.decode() for value in values]
            if not pa.types.is_list(field.type) and values is not None:
                assert len(values) < 2
                values = values[0] if values else None
            found[field.name].append(values)
    return found


@pytest.mark.shared
@pytest.mark.parametrize(
    ("pattern", "records", "nulls"),
    [
        ("data/chicago_taxi/tfrecord", 15_000, True),
        ("data/chicago_taxi/tfrecord_sequence", 15_000, True),
        ("data/mnist_tfrecord", 1_000, False),
    ],
)
def test_real_corpora_value_by_value(pattern: str, records: int, nulls: bool) -> None:
    corpus = list_corpus(shared(pattern))
    schema = infer_schema(corpus)

    total = 0
    for shard in corpus.shards:
        expected = values_by_tensorflow(shard.path, schema)
        chunks = list(reader_for("tfrecord").read(shard, schema, Wanted(999, 1 << 20)))
        assert not any(chunk.unread for chunk in chunks)
        assert columns(chunks) == expected
        assert any(None in values for values in expected.values()) == nulls
        total += sum(chunk.rows for chunk in chunks)
    assert total == records


@pytest.mark.shared
def test_real_images_as_tensorflow_parses_them() -> None:
    corpus = list_corpus(shared("data/mnist_tfrecord/mnist.tfrecord"))
    (chunk,) = read(corpus, pa.schema({"image_floats": pa.list_(pa.float32())}), rows=1000, max_bytes=1 << 30)

    parsed = tf.io.parse_example(list(chunk.records), {"image_floats": tf.io.FixedLenFeature([784], tf.float32)})

    np.testing.assert_array_equal(
        chunk.columns.column(0).flatten().to_numpy().reshape(-1, 784), parsed["image_floats"].numpy()
    )
