"""TensorFlow's parser beside the decoder that knows every reason: batches give the same, whichever has read them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from beamhub.corpus.decoding import ExampleDecoder
from beamhub.corpus.framing import Frames
from beamhub.corpus.shards import Chunk

SCHEMA = pa.schema([("id", pa.int64()), ("weight", pa.float32()), ("text", pa.string()), ("image", pa.binary())])


KINDS = {int: "int64_list", float: "float_list", bytes: "bytes_list"}


def example(**features: object) -> bytes:
    """A serialized Example; a feature's kind is that of its first value, None leaves it out."""
    made = tf.train.Example()
    for name, value in features.items():
        values = value if isinstance(value, list) else [value]
        if value is not None:
            getattr(made.features.feature[name], KINDS[type(values[0])]).value.extend(values)
    return bytes(made.SerializeToString())


def frames(records: list[bytes]) -> Frames:
    return Frames(records, np.arange(len(records), dtype=np.int64) * 1000)


def rows(chunk: Chunk) -> list[dict[str, object]]:
    """The rows of a chunk, texts and images as bytes, wherever the columns are."""
    columns = {name: chunk.columns.column(name).to_pylist() for name in chunk.columns.schema.names}
    columns |= {name: list(strings.array) for name, strings in chunk.tensors.items()}
    made = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return [{name: v.encode() if isinstance(v, str) else v for name, v in sorted(row.items())} for row in made]


SINGLE = {"id": 1, "weight": 0.5, "text": "é".encode(), "image": b"\xff\x00"}
ODD = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(width=32, allow_nan=False),
    st.binary(max_size=8),
    st.lists(st.integers(0, 3), min_size=2, max_size=3),
)
GOOD = st.fixed_dictionaries(
    {
        "id": st.integers(-(2**63), 2**63 - 1),
        "weight": st.floats(width=32, allow_nan=False),
        "text": st.text(max_size=8).map(str.encode),
        "image": st.binary(max_size=8),
        "other": ODD,
    }
)
BAD = st.tuples(GOOD, st.sampled_from([*SINGLE, "other"]), ODD).map(lambda drawn: {**drawn[0], drawn[1]: drawn[2]})


@settings(max_examples=150, deadline=None)
@given(st.one_of(st.lists(GOOD, min_size=1, max_size=6), st.lists(BAD, min_size=1, max_size=6)))
def test_both_ways_give_the_same(features: list[dict[str, object]]) -> None:
    records = [example(**each) for each in features]

    quick = ExampleDecoder(SCHEMA, ["text", "image"]).decode(frames(records))
    plain = ExampleDecoder(SCHEMA).decode(frames(records))

    assert rows(quick) == rows(plain)
    assert quick.unread == plain.unread
    assert list(quick.addresses) == list(plain.addresses)
    assert quick.records == plain.records


def test_flawless_records_come_as_tensors() -> None:
    chunk = ExampleDecoder(SCHEMA, ["text"]).decode(frames([example(**SINGLE)] * 3))

    assert chunk.columns.schema.names == ["id", "weight", "image"]
    assert chunk.tensors["text"].take(np.arange(3)).numpy().tolist() == ["é".encode()] * 3
    assert list(chunk.tensors["text"].take(np.array([2, 0]))) == ["é".encode()] * 2


@pytest.mark.parametrize("texts", [[b"\xc3", b"\xa9"], [b"\xff"], [b"a", b"\xc3"]])
def test_text_that_is_none_is_told_by_the_decoder(texts: list[bytes]) -> None:
    chunk = ExampleDecoder(SCHEMA, ["text"]).decode(frames([example(**{**SINGLE, "text": each}) for each in texts]))

    assert {each.reason for each in chunk.unread} == {"feature 'text' is not UTF-8 text"}
    assert chunk.rows == sum(each.isascii() for each in texts)


def test_damage_in_another_feature_is_no_matter_whoever_is_in_the_batch() -> None:
    good = example(**SINGLE)
    # A map entry, field 1 of Features: in its value, of two bytes, a list claims to have five.
    entry = b"\x0a\x05other\x12\x02\x1a\x05"
    damaged = b"\x0a" + bytes([len(good) - 2 + len(entry) + 2]) + good[2:] + b"\x0a" + bytes([len(entry)]) + entry
    with pytest.raises(DecodeError):
        tf.train.Example.FromString(damaged)
    decoder = ExampleDecoder(SCHEMA, ["text"])

    alone = decoder.decode(frames([damaged]))
    beside = decoder.decode(frames([good, damaged, b"\xff"]))

    assert rows(alone) == [SINGLE]
    assert rows(beside) == rows(alone) * 2
    assert [each.address for each in beside.unread] == [2000]
