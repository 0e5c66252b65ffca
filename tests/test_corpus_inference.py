from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from beamhub.corpus.columns import select
from beamhub.corpus.formats import infer_schema
from beamhub.corpus.listing import Corpus, list_corpus
from beamhub.errors import CorpusError
from tests.corpora import columns, example, read, write_tfrecord
from tests.shared import shared


def corpus_of(tmp_path: Path, *files: list[bytes]) -> Corpus:
    for number, records in enumerate(files):
        write_tfrecord(tmp_path / f"part-{number}", records)
    return list_corpus(f"{tmp_path}/part-*")


def types(schema: pa.Schema) -> dict[str, pa.DataType]:
    return dict(zip(schema.names, schema.types, strict=True))


def test_types_by_what_the_records_hold(tmp_path: Path) -> None:
    corpus = corpus_of(
        tmp_path,
        [
            example(i=[1], f=[0.5], t=["a\tb\né".encode()], b=[b"\x89PNG"], z=[b"a\0b"], n=[1], words=[b"a", b"b"]),
            example(i=[2], f=[0.5], t=[b""], b=[b"text"], n=[1, 2]),
        ],
    )

    assert types(infer_schema(corpus)) == {
        "b": pa.binary(),
        "f": pa.float32(),
        "i": pa.int64(),
        "n": pa.list_(pa.int64()),
        "t": pa.string(),
        "words": pa.list_(pa.string()),
        "z": pa.binary(),
    }


def test_a_feature_that_only_some_records_have_is_a_scalar(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path, [b"", example(a=[1]), b""])

    assert types(infer_schema(corpus)) == {"a": pa.int64()}


def test_the_next_files_are_looked_into_where_the_first_are_short(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path, [], [example(a=[1])], [example(b=[1])], [example(c=[1])])

    assert infer_schema(corpus, sample=2).names == ["a", "b"]


def test_most_records_decide_about_the_kind_and_bad_ones_do_not_count(tmp_path: Path) -> None:
    records = [example(a=[0.5]), b"\xff", example(a=[1]), example(a=[2]), example(a=[3]), b"\xff"]
    corpus = corpus_of(tmp_path, records)

    schema = infer_schema(corpus)

    assert types(schema) == {"a": pa.int64()}
    (chunk,) = read(corpus, schema)
    assert chunk.columns.to_pydict() == {"a": [1, 2, 3]}
    assert [unread.payload for unread in chunk.unread] == [records[0], b"\xff", b"\xff"]


def test_a_corpus_of_no_examples_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="none of the first 2 records is a "):
        infer_schema(corpus_of(tmp_path, [b"\xff", b"\xfe"]))


def test_an_unseen_feature_is_an_error_that_names_the_way_out(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path, [example(company=[1])] * 3 + [example(tips=[1])])
    schema = infer_schema(corpus, sample=3)

    assert select(schema, ["company"]) == pa.schema({"company": pa.int64()})
    with pytest.raises(
        CorpusError,
        match="no column 'compny' in the 3 records looked at: did you mean company\\? columns are company; "
        "declare a column that is rarer than that with --schema",
    ):
        select(schema, ["compny"])


def test_a_schema_gives_rare_features(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path, [example(a=[1])] * 3 + [example(a=[1], rare=[b"x"])])
    declared = b"""
        feature { name: "rare" type: BYTES shape {} string_domain { value: "x" } }
        feature { name: "a" type: INT value_count { min: 1 max: 1 } }
    """

    schema = infer_schema(corpus, declared, sample=3)

    assert types(schema) == {"rare": pa.string(), "a": pa.int64()}
    assert columns(read(corpus, schema)) == {"rare": [None, None, None, "x"], "a": [1, 1, 1, 1]}


@pytest.mark.parametrize(
    ("feature", "expected"),
    [
        ("type: INT", pa.list_(pa.int64())),
        ("type: INT shape {}", pa.int64()),
        ("type: FLOAT shape { dim { size: 1 } }", pa.float32()),
        ("type: FLOAT shape { dim { size: 3 } }", pa.list_(pa.float32())),
        ("type: FLOAT value_count { min: 0 max: 1 }", pa.float32()),
        ("type: FLOAT value_count { min: 1 }", pa.list_(pa.float32())),
        ('type: BYTES shape {} domain: "words"', pa.string()),
        ("type: BYTES shape {} natural_language_domain {}", pa.string()),
        ("type: BYTES shape {} image_domain {}", pa.binary()),
        # Without a domain the sample decides; "x" below is text, a feature without values is bytes.
        ("type: BYTES shape {}", pa.string()),
    ],
)
def test_what_a_schema_says_of_a_feature(tmp_path: Path, feature: str, expected: pa.DataType) -> None:
    corpus = corpus_of(tmp_path, [example(x=[b"text"])])

    assert types(infer_schema(corpus, f'feature {{ name: "x" {feature} }}'.encode())) == {"x": expected}


def test_bytes_that_neither_schema_nor_sample_know_are_binary(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path, [b""])

    assert types(infer_schema(corpus, b'feature { name: "x" type: BYTES shape {} }')) == {"x": pa.binary()}


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        (b"{ no schema", "the schema is no text of a TFMD Schema: 1:1 "),
        (b"\xff\xfe", "the schema is no text of a TFMD Schema: 'utf-8' codec"),
        (b'feature { name: "s" type: STRUCT }', "feature 's' of the schema has no type INT, FLOAT or BYTES"),
    ],
)
def test_a_schema_that_is_none_is_one_line(tmp_path: Path, declared: bytes, message: str) -> None:
    with pytest.raises(CorpusError, match=message) as caught:
        infer_schema(corpus_of(tmp_path, [b""]), declared)
    assert "\n" not in str(caught.value)


@pytest.mark.shared
def test_real_taxi_trips() -> None:
    schema = types(infer_schema(list_corpus(shared("data/chicago_taxi/tfrecord") + "/*.gz")))

    assert schema["company"] == pa.string()
    assert schema["fare"] == pa.float32()
    assert schema["trip_start_hour"] == pa.int64()
